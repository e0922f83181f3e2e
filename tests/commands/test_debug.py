import re

import pytest

from kora.commands.debug import is_local
from kora.errors import CommandError
from tests.conftest import encode_request, runner


def refused(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


NOT_ALLOWED = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local '
    "connection, otherwise you need to set this option in the configuration file, and then restart the server."
)


@pytest.mark.parametrize(
    ("setting", "address", "allowed"),
    [
        ("local", "127.0.0.1:50000", True),
        ("local", "[::1]:50000", True),
        ("local", "/run/kora.sock:0", True),
        ("local", "10.0.0.7:50000", False),
        ("yes", "10.0.0.7:50000", True),
        ("no", "127.0.0.1:50000", False),
    ],
)
def test_debug_is_for_those_whom_the_setting_allows(make_engine, setting, address, allowed):
    run = runner(make_engine("--enable-debug-command", setting).connect(address))
    if allowed:
        assert run("DEBUG", "JMAP") == "OK"
    else:
        assert refused(run, "DEBUG", "JMAP") == NOT_ALLOWED
        assert refused(run, "DEBUG", "HELP") == NOT_ALLOWED


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.1.2.3:1", True),
        ("::1:50000", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("[::ffff:10.0.0.1]:1", False),
        ("[fe80::1%eth0]:1", False),
        ("", False),
        ("localhost:1", False),
    ],
)
def test_local_is_loopback_or_a_unix_socket(address, local):
    assert is_local(address) == local


@pytest.mark.parametrize("words", [("NOSUCH",), ("SLEEP",), ("SLEEP", "1", "2"), ("JMAP", "x"), ("POPULATE",)])
def test_debug_knows_its_subcommands_and_their_arguments(run, words):
    expected = f"ERR unknown subcommand or wrong number of arguments for '{words[0]}'. Try DEBUG HELP."
    assert refused(run, "DEBUG", *words) == expected


def test_sleep_stops_the_clock_of_everybody(run, clock):
    before_ns = clock.monotonic_ns()
    assert run("DEBUG", "SLEEP", "0.25") == "OK"
    assert clock.monotonic_ns() - before_ns == 250_000_000
    assert run("DEBUG", "SLEEP", "-1") == "OK"
    assert refused(run, "DEBUG", "SLEEP", "long") == "ERR value is not a valid float"


@pytest.mark.parametrize(
    ("value", "encoding", "serialized"),
    [
        ("hello", "embstr", 6),
        ("12", "int", 2),
        ("-129", "int", 3),
        ("70000", "int", 5),
        ("12345678901", "int", 12),
        ("".join(map(chr, range(33, 78))), "raw", 46),
        ("".join(map(chr, range(33, 97))), "raw", 66),
        ("x" * 45, "raw", 8),
    ],
)
def test_object_tells_how_a_string_is_held(run, clock, value, encoding, serialized):
    run("SET", "k", value)
    clock.advance_ms(7_000)
    text = run("DEBUG", "OBJECT", "k")
    found = re.fullmatch(
        r"Value at:0x[0-9a-f]+ refcount:\d+ encoding:(\w+) serializedlength:(\d+) lru:\d+ lru_seconds_idle:(\d+)", text
    )
    assert found, text
    assert found.groups() == (encoding, str(serialized), "7")


def test_object_of_a_missing_key_is_an_error(run):
    assert refused(run, "DEBUG", "OBJECT", "k") == "ERR no such key"


def test_set_active_expire_turns_the_expire_cycle_off_and_on(run, engine):
    run("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    assert not engine.active_expire
    run("DEBUG", "SET-ACTIVE-EXPIRE", "1")
    assert engine.active_expire


def test_error_replies_with_its_text(run):
    assert refused(run, "DEBUG", "ERROR", "WRONGPASS not this one") == "WRONGPASS not this one"


def test_log_writes_to_the_log_of_the_server(run, engine):
    messages = []
    engine.log = lambda level, message, **fields: messages.append(fields["text"])
    assert run("DEBUG", "LOG", b"hello \xff") == "OK"
    assert messages == ["hello \ufffd"]


def test_stringmatch_tells_whether_a_pattern_matches(run):
    assert run("DEBUG", "STRINGMATCH-LEN", "a*", "abc") == 1
    assert run("DEBUG", "STRINGMATCH-LEN", "b*", "abc") == 0


def test_populate_creates_strings(run):
    run("SET", "key:1", "mine")
    assert run("DEBUG", "POPULATE", "3") == "OK"
    assert run("MGET", "key:0", "key:1", "key:2", "key:3") == [b"value:0", b"mine", b"value:2", None]


def test_populate_cuts_and_fills_values_to_a_size(run):
    run("DEBUG", "POPULATE", "1", "long", "10")
    run("DEBUG", "POPULATE", "1", "short", "3")
    assert run("MGET", "long:0", "short:0") == [b"value:0\0\0\0", b"val"]


@pytest.mark.parametrize("words", [("x",), ("-1",), ("1", "k", "x")])
def test_populate_wants_natural_numbers(run, words):
    assert refused(run, "DEBUG", "POPULATE", *words) == "ERR value is out of range, must be positive"


def test_populate_refuses_values_beyond_the_limit(run):
    message = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    assert refused(run, "DEBUG", "POPULATE", "1", "k", "9223372036854775807") == message


def test_protocol_has_a_sample_of_each_type(client):
    client.set_protocol(3)
    for kind, expected in {
        "double": b",3.141\r\n",
        "bignum": b"(1234567999999999999999999999999999999\r\n",
        "set": b"~3\r\n:0\r\n:1\r\n:2\r\n",
        "map": b"%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
        "push": b">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n$40\r\nSome real reply following the push reply\r\n",
    }.items():
        assert client.engine.execute(client, encode_request(("DEBUG", "PROTOCOL", kind))) == expected


def test_protocol_has_no_push_in_resp2(run):
    assert refused(run, "DEBUG", "PROTOCOL", "push") == "ERR RESP2 is not supported by this command"


def test_help_lists_the_subcommands(run):
    lines = run("DEBUG", "HELP")
    assert {"SLEEP seconds", "OBJECT key", "POPULATE count [prefix] [size]"} <= set(lines)


def test_digests_tell_of_values_and_names_and_that_keys_end(run):
    """What they are is compared with redis-server in tests/compat/test_dumping.py; here, what they depend on."""
    assert run("DEBUG", "DIGEST") == "0" * 40
    assert run("DEBUG", "DIGEST-VALUE", "nosuch") == ["0" * 40]
    run("RPUSH", "l", "a", "1")
    run("XADD", "x", "5-1", "f", "v")
    run("VECSET", "v", 2, 1, 2)
    first = run("DEBUG", "DIGEST-VALUE", "l", "x", "v")
    whole = run("DEBUG", "DIGEST")
    assert "0" * 40 not in first and len(set(first)) == 3
    run("EXPIRE", "l", 100)
    assert run("DEBUG", "DIGEST-VALUE", "l") != first[:1]
    run("PERSIST", "l")
    assert (run("DEBUG", "DIGEST-VALUE", "l", "x", "v"), run("DEBUG", "DIGEST")) == (first, whole)
    run("RENAME", "l", "k")
    assert run("DEBUG", "DIGEST-VALUE", "k") == first[:1]
    assert run("DEBUG", "DIGEST") != whole
