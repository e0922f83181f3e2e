import pytest

from kora.commands import make_registry
from kora.engine.redaction import redacted

REGISTRY = make_registry()


@pytest.mark.parametrize(
    ("request_text", "shown"),
    [
        ("GET requirepass", "GET requirepass"),
        ("AUTH p", "AUTH (redacted)"),
        ("AUTH u p", "AUTH (redacted) (redacted)"),
        ("HELLO 3", "HELLO 3"),
        ("HELLO 3 auth u p SETNAME n", "HELLO 3 auth (redacted) (redacted) SETNAME n"),
        ("HELLO 3 AUTH u", "HELLO 3 AUTH (redacted)"),
        ("ACL SETUSER u on >p ~*", "ACL SETUSER (redacted) (redacted) (redacted) (redacted)"),
        ("ACL GETUSER u", "ACL GETUSER u"),
        ("CONFIG SET hz 5 requirepass p", "CONFIG SET hz 5 requirepass (redacted)"),
        ("CONFIG SET tls-key-file-pass p", "CONFIG SET tls-key-file-pass (redacted)"),
        ("CONFIG SET MasterAuth p masteruser u", "CONFIG SET MasterAuth (redacted) masteruser (redacted)"),
        ("CONFIG SET requirepass", "CONFIG SET requirepass"),
    ],
)
def test_secrets_are_replaced_and_nothing_else_is(request_text, shown):
    argv = request_text.encode().split()
    before = list(argv)
    assert b" ".join(redacted(REGISTRY.find(argv), argv)) == shown.encode()
    assert argv == before, "the request itself is still to be run"
