"""ACL: users and their rules, what they may do, and the log of what they may not."""

import os

import pytest

from kora.errors import CommandError
from tests.conftest import runner

OPEN = b"user default on nopass sanitize-payload ~* &* +@all"
DIGEST = b"5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"  # of `password`


@pytest.fixture
def as_user(engine, run):
    """as_user("+get", "~a*"): a client that is logged in as a user with these rules."""

    def connect(*rules, name="alice"):
        run("ACL", "SETUSER", name, "on", "nopass", *rules)
        theirs = runner(engine.connect("127.0.0.1:50002", "127.0.0.1:6379"))
        assert theirs("AUTH", name, "x") == "OK"
        return theirs

    return connect


def rules_of(run, name="alice"):
    [line] = [line for line in run("ACL", "LIST") if line.startswith(b"user %b " % name.encode())]
    return line.split(b" ", 2)[2].decode()


def test_there_is_one_user_at_first(run):
    assert run("ACL", "USERS") == [b"default"]
    assert run("ACL", "LIST") == [OPEN]
    assert run("ACL", "WHOAMI") == b"default"


def test_a_new_user_may_do_nothing(run):
    assert run("ACL", "SETUSER", "alice") == "OK"
    assert rules_of(run) == "off sanitize-payload resetchannels -@all"


@pytest.mark.parametrize(
    ("rules", "described"),
    [
        (["on"], "on sanitize-payload resetchannels -@all"),
        (["nopass"], "off nopass sanitize-payload resetchannels -@all"),
        (["skip-sanitize-payload"], "off skip-sanitize-payload resetchannels -@all"),
        ([">password"], f"off sanitize-payload #{DIGEST.decode()} resetchannels -@all"),
        ([b"#" + DIGEST], f"off sanitize-payload #{DIGEST.decode()} resetchannels -@all"),
        ([">password", ">password"], f"off sanitize-payload #{DIGEST.decode()} resetchannels -@all"),
        ([">password", "<password"], "off sanitize-payload resetchannels -@all"),
        ([">password", b"!" + DIGEST], "off sanitize-payload resetchannels -@all"),
        (["nopass", ">password"], f"off sanitize-payload #{DIGEST.decode()} resetchannels -@all"),
        (["nopass", "resetpass"], "off sanitize-payload resetchannels -@all"),
        (["allkeys", "allchannels", "allcommands"], "off sanitize-payload ~* &* +@all"),
        (["~a", "%R~b", "%w~b", "%W~c", "%RW~d"], "off sanitize-payload ~a ~b %W~c ~d resetchannels -@all"),
        (["~a", "resetkeys", "%R~b"], "off sanitize-payload %R~b resetchannels -@all"),
        (["&a", "&b", "&a"], "off sanitize-payload resetchannels &a &b -@all"),
        (["+@all", "-GET"], "off sanitize-payload resetchannels +@all -get"),
        (["+get", "-get", "+set"], "off sanitize-payload resetchannels -@all -get +set"),
        (["+config|get", "-config"], "off sanitize-payload resetchannels -@all -config"),
        (["+config", "-config|get"], "off sanitize-payload resetchannels -@all +config -config|get"),
        (["+select|1", "+select|2"], "off sanitize-payload resetchannels -@all +select|1 +select|2"),
        (["+@read", "-@Read"], "off sanitize-payload resetchannels -@all -@read"),
        (["+get", "+@all"], "off sanitize-payload resetchannels +@all"),
        (["(+get ~a)"], "off sanitize-payload resetchannels -@all (~a resetchannels -@all +get)"),
        (["(+get", "~a)"], "off sanitize-payload resetchannels -@all (~a resetchannels -@all +get)"),
        (["(+get)", "clearselectors"], "off sanitize-payload resetchannels -@all"),
        (["on", "nopass", "~a", "+get", "(+set)", "reset"], "off sanitize-payload resetchannels -@all"),
        ([""], "off sanitize-payload resetchannels -@all"),
    ],
)
def test_rules_are_described_as_they_were_given(run, rules, described):
    run("ACL", "SETUSER", "alice", *rules)
    assert rules_of(run) == described


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("nonsense", "Syntax error"),
        ("+nonsense", "Unknown command or category name in ACL"),
        ("-nonsense", "Unknown command or category name in ACL"),
        ("+@nonsense", "Unknown command or category name in ACL"),
        ("+config|nonsense", "Unknown command or category name in ACL"),
        ("-get|a", "Unknown command or category name in ACL"),
        ("+get|", "Syntax error"),
        ("+config|get|a", "Allowing first-arg of a subcommand is not supported"),
        ("%~a", "Syntax error"),
        ("%RR~a", "Syntax error"),
        ("%X~a", "Syntax error"),
        ("%a", "Syntax error"),
        ("~a b", "Syntax error"),
        ("&a b", "Syntax error"),
        ("(on)", "Syntax error"),
        ("<nonsense", "The password you are trying to remove from the user does not exist"),
        ("#12", "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"),
    ],
)
def test_a_wrong_rule_changes_nothing(run, rule, reason):
    run("ACL", "SETUSER", "alice", "+get", "~k")
    with pytest.raises(CommandError) as caught:
        run("ACL", "SETUSER", "alice", "+set", rule)
    assert str(caught.value) == f"ERR Error in ACL SETUSER modifier '{rule}': {reason}"
    assert rules_of(run) == "off sanitize-payload ~k resetchannels -@all +get"


def test_patterns_after_all_of_them_are_refused(run):
    with pytest.raises(CommandError, match="'allkeys' flag"):
        run("ACL", "SETUSER", "alice", "allkeys", "~a")
    with pytest.raises(CommandError, match="'allchannels' flag"):
        run("ACL", "SETUSER", "alice", "&*", "&a")


def test_an_open_parenthesis_is_refused(run):
    with pytest.raises(CommandError, match=r"ERR Unmatched parenthesis in acl selector starting at '\(\+get'."):
        run("ACL", "SETUSER", "alice", "(+get", "~a")


def test_names_have_no_blanks(run):
    with pytest.raises(CommandError, match="ERR Usernames can't contain spaces or null characters"):
        run("ACL", "SETUSER", "a b")


def test_getuser_of_nobody_is_null(run):
    assert run("ACL", "GETUSER", "nobody") is None


def test_getuser_tells_all_rules(run):
    run("HELLO", "3")
    run("ACL", "SETUSER", "alice", "on", ">password", "%R~a", "&c", "+@read", "-get", "(+set ~b)")
    user = run("ACL", "GETUSER", "alice")
    assert sorted(user[b"flags"]) == [b"on", b"sanitize-payload"]
    assert user[b"passwords"] == [DIGEST]
    assert (user[b"commands"], user[b"keys"], user[b"channels"]) == (b"-@all +@read -get", b"%R~a", b"&c")
    assert user[b"selectors"] == [{b"commands": b"-@all +set", b"keys": b"~b", b"channels": b""}]


def test_acl_pubsub_default_is_what_new_users_get(run):
    run("CONFIG", "SET", "acl-pubsub-default", "allchannels")
    run("ACL", "SETUSER", "alice", "(+get)")
    assert rules_of(run) == "off sanitize-payload &* -@all (&* -@all +get)"


def test_a_command_that_is_not_allowed_is_refused(as_user):
    theirs = as_user("+get", "~*")
    assert theirs("GET", "k") is None
    with pytest.raises(CommandError) as caught:
        theirs("SET", "k", "v")
    assert str(caught.value) == "NOPERM User alice has no permissions to run the 'set' command"
    with pytest.raises(CommandError, match=r"NOPERM User alice has no permissions to run the 'config\|get' command"):
        theirs("CONFIG", "GET", "*")


def test_subcommands_are_allowed_one_by_one_or_all(as_user):
    theirs = as_user("+config|get", "+client", "-client|list")
    theirs("CONFIG", "GET", "maxmemory")
    theirs("CLIENT", "ID")
    for words in (("CONFIG", "SET", "maxmemory", "0"), ("CLIENT", "LIST")):
        with pytest.raises(CommandError, match="NOPERM"):
            theirs(*words)


def test_a_first_argument_can_be_allowed(as_user):
    theirs = as_user("+select|1")
    assert theirs("SELECT", "1") == "OK"
    with pytest.raises(CommandError, match="NOPERM"):
        theirs("SELECT", "0")


def test_who_may_do_nothing_may_still_log_in(as_user):
    theirs = as_user()
    assert theirs("AUTH", "default", "x") == "OK"
    assert theirs("PING") == "PONG"


def test_keys_are_allowed_for_reading_or_for_writing(as_user):
    theirs = as_user("+@all", "%R~r*", "%W~w*")
    assert theirs("SET", "w1", "v") == "OK"
    assert theirs("GET", "r1") is None
    assert theirs("COPY", "r1", "w1") == 0
    assert theirs("EXISTS", "w1", "r1") == 1  # it tells nothing of the value, so that either will do
    for words in (("GET", "w1"), ("SET", "r1", "v"), ("SET", "w1", "v", "GET"), ("INCR", "w1"), ("EXISTS", "x")):
        with pytest.raises(CommandError) as caught:
            theirs(*words)
        assert str(caught.value) == "NOPERM No permissions to access a key", words


def test_one_pattern_has_to_give_all_that_is_needed(as_user):
    theirs = as_user("+@all", "%R~a*", "%W~*b")
    with pytest.raises(CommandError, match="NOPERM"):
        theirs("INCR", "ab")


def test_channels_are_allowed_by_patterns(as_user):
    theirs = as_user("+@all", "&news.*")
    assert theirs("PUBLISH", "news.a", "m") == 0
    assert theirs("SPUBLISH", "news.a", "m") == 0
    assert theirs("SUBSCRIBE", "news.a") == [b"subscribe", b"news.a", 1]
    assert theirs("PSUBSCRIBE", "news.*") == [b"psubscribe", b"news.*", 2]
    for words in (("SUBSCRIBE", "other"), ("PSUBSCRIBE", "news.a*"), ("SSUBSCRIBE", "other")):
        with pytest.raises(CommandError) as caught:
            theirs(*words)
        assert str(caught.value) == "NOPERM No permissions to access a channel"
    assert theirs("UNSUBSCRIBE", "other") == [b"unsubscribe", b"other", 2]


def test_one_selector_has_to_allow_everything(as_user):
    theirs = as_user("+get", "~a*", "(+set ~b*)")
    assert theirs("GET", "a1") is None
    assert theirs("SET", "b1", "v") == "OK"
    for words in (("GET", "b1"), ("SET", "a1", "v")):
        with pytest.raises(CommandError, match="NOPERM No permissions to access a key"):
            theirs(*words)


def test_a_change_of_rules_counts_at_once(run, as_user):
    theirs = as_user("+@all", "~*", "&*")
    assert theirs("SET", "k", "v") == "OK"
    run("ACL", "SETUSER", "alice", "-set")
    with pytest.raises(CommandError, match="NOPERM"):
        theirs("SET", "k", "v")
    run("ACL", "SETUSER", "alice", "+set")
    assert theirs("SET", "k", "v") == "OK"


def test_queueing_is_refused_and_aborts_the_transaction(as_user):
    theirs = as_user("+@all", "-set", "~*")
    theirs("MULTI")
    with pytest.raises(CommandError, match="NOPERM"):
        theirs("SET", "k", "v")
    with pytest.raises(CommandError, match="EXECABORT"):
        theirs("EXEC")


def test_exec_looks_again(run, as_user):
    theirs = as_user("+@all", "~*")
    theirs("MULTI")
    theirs("SET", "k", "v")
    theirs("PING")
    run("ACL", "SETUSER", "alice", "-set")
    error, pong = theirs("EXEC")
    assert str(error) == (
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
        "This command is no longer allowed for the following reason: "
        "no permission to execute the command or subcommand"
    )
    assert pong == "PONG"


def test_a_deleted_user_is_disconnected(engine, run, connect):
    run("ACL", "SETUSER", "alice", "on", "nopass", "+@all")
    session = connect()
    session.send("AUTH", "alice", "x")
    gone = []
    session.client.disconnect = lambda: gone.append(True)
    assert run("ACL", "DELUSER", "alice", "nobody") == 1
    assert gone
    assert session.client.id not in engine.clients
    with pytest.raises(CommandError, match="ERR The 'default' user cannot be removed"):
        run("ACL", "DELUSER", "default")


def test_who_loses_a_channel_is_disconnected(run, connect):
    run("ACL", "SETUSER", "alice", "on", "nopass", "+@all", "allchannels")
    session = connect()
    session.send("AUTH", "alice", "x")
    session.send("SUBSCRIBE", "a")
    gone = []
    session.client.disconnect = lambda: gone.append(True)
    run("ACL", "SETUSER", "alice", "resetchannels", "&a*")
    assert not gone
    run("ACL", "SETUSER", "alice", "resetchannels")
    assert gone


def test_a_password_lets_its_user_in_and_no_other(engine, run):
    run("ACL", "SETUSER", "alice", "on", ">one", ">two", "+@all")
    run("ACL", "SETUSER", "bob", "off", "nopass", "+@all")
    theirs = runner(engine.connect())
    assert theirs("AUTH", "alice", "two") == "OK"
    assert theirs("ACL", "WHOAMI") == b"alice"
    for name, password in (("alice", "three"), ("bob", "one"), ("carol", "one")):
        with pytest.raises(CommandError, match="WRONGPASS"):
            theirs("AUTH", name, password)
    assert theirs("ACL", "WHOAMI") == b"alice"
    theirs("HELLO", "3", "AUTH", "alice", "one")
    theirs("RESET")
    assert theirs("ACL", "WHOAMI") == b"default"


def test_requirepass_is_the_password_of_the_default_user(engine, run):
    run("CONFIG", "SET", "requirepass", "password")
    assert run("ACL", "GETUSER", "default")[3] == [DIGEST]
    assert run("PING") == "PONG"  # who is in stays in
    theirs = runner(engine.connect())
    with pytest.raises(CommandError, match="NOAUTH"):
        theirs("PING")
    assert theirs("AUTH", "password") == "OK"
    run("CONFIG", "SET", "requirepass", "")
    assert b"nopass" in run("ACL", "GETUSER", "default")[1]
    assert runner(engine.connect())("PING") == "PONG"


def test_a_default_user_that_is_off_lets_nobody_in(engine, run):
    run("ACL", "SETUSER", "admin", "on", ">p", "+@all", "~*", "&*")
    run("ACL", "SETUSER", "default", "off")
    theirs = runner(engine.connect())
    with pytest.raises(CommandError, match="NOAUTH"):
        theirs("PING")
    assert theirs("AUTH", "admin", "p") == "OK"
    assert theirs("PING") == "PONG"


def test_categories_and_their_commands(run):
    categories = run("ACL", "CAT")
    assert {b"read", b"write", b"string", b"dangerous"} <= set(categories)
    names = run("ACL", "CAT", "String")
    assert b"get" in names
    assert b"del" not in names
    assert b"config|get" in run("ACL", "CAT", "admin")
    with pytest.raises(CommandError, match="ERR Unknown category 'nope'"):
        run("ACL", "CAT", "nope")


@pytest.mark.parametrize(("bits", "digits"), [((), 64), ((4,), 1), ((5,), 2), ((4096,), 1024)])
def test_genpass_makes_as_many_digits_as_asked(run, bits, digits):
    assert len(run("ACL", "GENPASS", *bits)) == digits
    assert int(run("ACL", "GENPASS", *bits), 16) >= 0


def test_genpass_takes_a_sane_number(run):
    for bits in (0, 4097):
        with pytest.raises(CommandError, match="a positive number up to 4096"):
            run("ACL", "GENPASS", bits)


def test_dryrun_tells_what_would_happen(run):
    run("ACL", "SETUSER", "alice", "+@all", "-set", "%R~a", "&c")
    assert run("ACL", "DRYRUN", "alice", "GET", "a") == "OK"
    assert run("ACL", "DRYRUN", "alice", "SET", "a", "v") == b"User alice has no permissions to run the 'set' command"
    assert run("ACL", "DRYRUN", "alice", "GET", "b") == b"User alice has no permissions to access the 'b' key"
    denied = run("ACL", "DRYRUN", "alice", "PUBLISH", "d", "m")
    assert denied == b"User alice has no permissions to access the 'd' channel"
    for words, text in (
        (("nobody", "GET", "a"), "ERR User 'nobody' not found"),
        (("alice", "nope"), "ERR Command 'nope' not found"),
        (("alice", "GET"), "ERR wrong number of arguments for 'get' command"),
    ):
        with pytest.raises(CommandError, match=text):
            run("ACL", "DRYRUN", *words)


def test_the_log_has_every_denial(run, as_user, clock):
    theirs = as_user("+@all", "-set", "~a", "&c")
    for words in (("SET", "a", "v"), ("GET", "b"), ("PUBLISH", "d", "m"), ("AUTH", "bob", "x"), ("GET", "b")):
        with pytest.raises(CommandError):
            theirs(*words)
    clock.advance_ms(1500)
    run("HELLO", "3")
    entries = run("ACL", "LOG")
    assert [(entry[b"reason"], entry[b"object"], entry[b"username"], entry[b"count"]) for entry in entries] == [
        (b"key", b"b", b"alice", 2),
        (b"auth", b"AUTH", b"bob", 1),
        (b"channel", b"d", b"alice", 1),
        (b"command", b"set", b"alice", 1),
    ]
    newest = entries[0]
    assert newest[b"age-seconds"] == 1.5
    assert newest[b"entry-id"] == 1
    assert b"user=alice" in newest[b"client-info"]
    assert newest[b"timestamp-created"] <= newest[b"timestamp-last-updated"]
    assert len(run("ACL", "LOG", "2")) == 2
    assert run("ACL", "LOG", "RESET") == "OK"
    assert run("ACL", "LOG") == []


def test_denials_of_another_minute_or_context_are_another_entry(run, as_user, clock):
    theirs = as_user("+@all", "-set")
    with pytest.raises(CommandError):
        theirs("SET", "a", "v")
    clock.advance_ms(60_001)
    with pytest.raises(CommandError):
        theirs("SET", "a", "v")
    theirs("MULTI")
    with pytest.raises(CommandError):
        theirs("SET", "a", "v")
    run("HELLO", "3")
    assert [entry[b"context"] for entry in run("ACL", "LOG")] == [b"multi", b"toplevel", b"toplevel"]


def test_the_log_is_not_longer_than_it_may_be(run, as_user):
    theirs = as_user("+@all")
    run("CONFIG", "SET", "acllog-max-len", "2")
    for key in ("a", "b", "c"):
        with pytest.raises(CommandError):
            theirs("GET", key)
    run("HELLO", "3")
    assert [entry[b"object"] for entry in run("ACL", "LOG")] == [b"c", b"b"]
    run("CONFIG", "SET", "acllog-max-len", "0")
    assert run("ACL", "LOG") == []


def test_denials_are_counted_in_info(run, as_user):
    theirs = as_user("+get")
    for words in (("SET", "a", "v"), ("GET", "a"), ("AUTH", "a", "b")):
        with pytest.raises(CommandError):
            theirs(*words)
    stats = run("INFO", "stats").decode()
    assert "acl_access_denied_auth:1\r\nacl_access_denied_cmd:1\r\nacl_access_denied_key:1\r\n" in stats


def test_without_a_file_there_is_nothing_to_load_or_save(run):
    for word in ("LOAD", "SAVE"):
        with pytest.raises(CommandError, match="ERR This Redis instance is not configured to use an ACL file"):
            run("ACL", word)


@pytest.fixture
def acl_file(tmp_path):
    return tmp_path / "users.acl"


def test_users_survive_in_the_file(make_engine, acl_file):
    run = runner(make_engine("--aclfile", str(acl_file)).connect())
    run("ACL", "SETUSER", "alice", "on", ">password", "~a", "%R~b", "&c", "+@read", "-get", "(+set ~d)")
    users = run("ACL", "LIST")
    assert run("ACL", "SAVE") == "OK"
    assert acl_file.read_bytes().splitlines() == users
    assert os.listdir(acl_file.parent) == [acl_file.name]
    other = make_engine("--aclfile", str(acl_file))
    other.acl.load()
    assert runner(other.connect())("ACL", "LIST") == users


def test_load_replaces_all_users(make_engine, acl_file):
    engine = make_engine("--aclfile", str(acl_file))
    run = runner(engine.connect())
    run("ACL", "SETUSER", "bob", "on", "nopass")
    theirs = engine.connect()
    runner(theirs)("AUTH", "bob", "")
    acl_file.write_text("user alice on nopass ~* +@all\n\nuser default on nopass ~* &* +@all -flushall\n")
    assert run("ACL", "LOAD") == "OK"
    assert run("ACL", "USERS") == [b"alice", b"default"]
    assert theirs.id not in engine.clients
    with pytest.raises(CommandError, match="NOPERM"):
        run("FLUSHALL")


def test_a_wrong_file_changes_nothing(make_engine, acl_file):
    run = runner(make_engine("--aclfile", str(acl_file)).connect())
    with pytest.raises(CommandError, match="ERR Error loading ACLs, opening file"):
        run("ACL", "LOAD")
    acl_file.write_text("user alice on +nope\nalice\nuser bob\nuser bob\nuser carol (+get\n")
    with pytest.raises(CommandError) as caught:
        run("ACL", "LOAD")
    text = str(caught.value)
    assert f"{acl_file}:1: Unknown command or category name in ACL. " in text
    assert f"{acl_file}:4: Duplicate user found. A user can only be defined once in config files. " in text
    assert text.endswith("WARNING: ACL errors detected, no change to the previously active ACL rules was performed")
    assert run("ACL", "USERS") == [b"default"]


def test_a_file_that_cannot_be_written_is_said_and_logged(make_engine, tmp_path):
    engine = make_engine("--aclfile", str(tmp_path / "missing" / "users.acl"))
    logged = []
    engine.log = lambda level, message, **fields: logged.append(message)
    with pytest.raises(CommandError, match="ERR There was an error trying to save the ACLs"):
        runner(engine.connect())("ACL", "SAVE")
    assert logged == ["acl file not saved"]


def test_client_list_and_kill_know_users(engine, run, as_user):
    theirs = as_user("+@all", "~*", "&*")
    assert b"user=alice" in theirs("CLIENT", "INFO")
    assert run("CLIENT", "KILL", "USER", "alice") == 1
    assert len(engine.clients) == 1
