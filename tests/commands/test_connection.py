"""AUTH to CLIENT UNBLOCK, as one client or several see them."""

import pytest

from kora import REDIS_VERSION
from kora.errors import CommandError
from tests.conftest import encode_request, runner
from tests.resp_reader import read_replies

NO_AUTH = "NOAUTH Authentication required."
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
BAD_NAME = "ERR Client names cannot contain spaces, newlines or special characters."


def error_of(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


def send(client, *requests):
    """The replies to a pipeline, each request a line of words."""
    return read_replies(
        client.engine.execute(client, b"".join(encode_request(tuple(line.split())) for line in requests))
    )


def fields_of(line):
    return dict(word.split("=", 1) for word in line.decode().rstrip("\n").split(" "))


def ids_of(listing):
    return [int(fields_of(line)["id"]) for line in listing.splitlines()]


@pytest.fixture
def other(engine):
    return engine.connect("10.0.0.9:1234", "10.0.0.1:6379")


@pytest.fixture
def run_other(other):
    return runner(other)


@pytest.fixture
def locked(make_engine):
    """A client of a server with a password."""
    return make_engine("--requirepass", "secret").connect("127.0.0.1:50000", "127.0.0.1:6379")


# AUTH


def test_auth_with_the_password_lets_a_client_in(locked):
    run = runner(locked)
    assert error_of(run, "GET", "k") == NO_AUTH
    assert run("AUTH", "secret") == "OK"
    assert run("GET", "k") is None


def test_auth_with_user_and_password_lets_a_client_in(locked):
    run = runner(locked)
    assert run("AUTH", "default", "secret") == "OK"
    assert run("PING") == "PONG"


@pytest.mark.parametrize("words", [("wrong",), ("default", "wrong"), ("other", "secret"), ("DEFAULT", "secret"), ("",)])
def test_auth_with_anything_else_does_not(locked, words):
    run = runner(locked)
    assert error_of(run, "AUTH", *words) == WRONG_PASSWORD
    assert error_of(run, "PING") == NO_AUTH


def test_a_password_may_have_any_letters(make_engine):
    run = runner(make_engine("--requirepass", "pä55 wörd").connect())
    assert run("AUTH", "pä55 wörd".encode()) == "OK"


def test_a_client_that_is_in_stays_in_after_a_wrong_password(locked):
    run = runner(locked)
    run("AUTH", "secret")
    assert error_of(run, "AUTH", "wrong") == WRONG_PASSWORD
    assert run("PING") == "PONG"


def test_auth_without_a_password_set_asks_whether_the_settings_are_right(run):
    assert error_of(run, "AUTH", "secret") == (
        "ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?"
    )


def test_auth_as_default_works_with_any_password_where_none_is_set(run):
    assert run("AUTH", "default", "whatever") == "OK"
    assert error_of(run, "AUTH", "other", "whatever") == WRONG_PASSWORD


def test_auth_takes_one_or_two_words(run):
    assert error_of(run, "AUTH") == "ERR wrong number of arguments for 'auth' command"
    assert error_of(run, "AUTH", "a", "b", "c") == "ERR syntax error"


@pytest.mark.parametrize("words", [("PING",), ("GET", "k"), ("CLIENT", "ID"), ("CLIENT", "HELP"), ("SELECT", "0")])
def test_before_auth_only_the_handshake_is_allowed(locked, words):
    assert error_of(runner(locked), *words) == NO_AUTH


def test_before_auth_reset_and_quit_are_allowed(locked):
    run = runner(locked)
    assert run("RESET") == "RESET"
    assert run("QUIT") == "OK"
    assert locked.closing


def test_before_auth_mistakes_are_told_before_noauth(locked):
    run = runner(locked)
    assert error_of(run, "NOSUCH").startswith("ERR unknown command 'NOSUCH'")
    assert error_of(run, "GET") == "ERR wrong number of arguments for 'get' command"
    assert error_of(run, "CLIENT", "FOO") == "ERR unknown subcommand 'FOO'. Try CLIENT HELP."


def test_a_pipeline_after_auth_runs_in_the_same_read(locked):
    data = b"".join(encode_request(words) for words in [("PING",), ("AUTH", "secret"), ("PING",), ("PING",)])
    reply = locked.engine.execute(locked, data)
    while locked.more:
        reply += locked.engine.resume(locked)
    refused, *rest = read_replies(reply)
    assert refused.message == NO_AUTH
    assert rest == ["OK", "PONG", "PONG"]


# HELLO


def test_hello_tells_about_the_server(run, client):
    reply = run("HELLO")
    assert dict(zip(reply[::2], reply[1::2], strict=True)) == {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": 2,
        b"id": client.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
    assert reply[::2] == [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"]


def test_hello_3_answers_in_resp3_and_so_does_what_follows(run):
    assert run("HELLO", "3")[b"proto"] == 3
    assert run("CLIENT", "TRACKINGINFO") == {b"flags": {b"off"}, b"redirect": -1, b"prefixes": []}
    assert run("HELLO")[b"proto"] == 3
    assert isinstance(run("HELLO", "2"), list)
    assert isinstance(run("CLIENT", "TRACKINGINFO"), list)


def test_hello_3_changes_null(client):
    assert client.engine.execute(client, encode_request(("GET", "k"))) == b"$-1\r\n"
    runner(client)("HELLO", "3")
    assert client.engine.execute(client, encode_request(("GET", "k"))) == b"_\r\n"


@pytest.mark.parametrize("version", ["1", "4", "0", "-3"])
def test_hello_with_another_version_is_refused(run, version):
    assert error_of(run, "HELLO", version) == "NOPROTO unsupported protocol version"


def test_hello_with_something_else_than_a_version_is_refused(run):
    assert error_of(run, "HELLO", "three") == "ERR Protocol version is not an integer or out of range"


def test_hello_logs_in_and_sets_the_name(locked):
    run = runner(locked)
    assert run("HELLO", "3", "SETNAME", "foo", "auth", "default", "secret")[b"proto"] == 3
    assert run("CLIENT", "GETNAME") == b"foo"


@pytest.mark.parametrize("words", [(), ("2",), ("3", "SETNAME", "foo")])
def test_hello_before_auth_says_how_to_log_in(locked, words):
    assert error_of(runner(locked), "HELLO", *words) == (
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
        "option can be used to authenticate the client and select the RESP protocol version at the same time"
    )
    assert locked.protocol == 2


def test_hello_with_a_wrong_password_changes_nothing(locked):
    run = runner(locked)
    assert error_of(run, "HELLO", "3", "AUTH", "default", "wrong", "SETNAME", "foo") == WRONG_PASSWORD
    assert (locked.protocol, locked.name) == (2, b"")


def test_hello_before_auth_with_another_version_is_refused_for_that(locked):
    assert error_of(runner(locked), "HELLO", "4") == "NOPROTO unsupported protocol version"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("AUTH",), "AUTH"),
        (("AUTH", "default"), "AUTH"),
        (("AUTH", "default", "SETNAME", "x"), "x"),
        (("SETNAME",), "SETNAME"),
        (("foo",), "foo"),
        (("SETNAME", "x", b"\xff"), "\udcff"),
    ],
)
def test_hello_names_the_option_it_does_not_understand(run, words, option):
    assert error_of(run, "HELLO", "2", *words) == f"ERR Syntax error in HELLO option '{option}'"


def test_hello_refuses_a_name_with_a_space(run):
    assert error_of(run, "HELLO", "2", "SETNAME", "a b") == BAD_NAME


# RESET, QUIT, PING, ECHO, SELECT


def test_reset_makes_a_connection_as_new(run, client):
    for words in [
        ("HELLO", "3"),
        ("SELECT", "3"),
        ("CLIENT", "SETNAME", "foo"),
        ("CLIENT", "SETINFO", "LIB-NAME", "x"),
    ]:
        run(*words)
    assert run("RESET") == "RESET"
    assert (client.protocol, client.db.index, client.name, client.lib_name) == (2, 0, b"", b"x")


def test_reset_logs_out(locked):
    run = runner(locked)
    run("AUTH", "secret")
    run("RESET")
    assert error_of(run, "PING") == NO_AUTH


def test_quit_answers_and_runs_nothing_more(client):
    assert send(client, "PING", "QUIT", "SET k v") == ["PONG", "OK"]
    assert client.closing
    assert client.db.find(b"k") is None
    assert send(client, "PING") == []


def test_quit_does_not_mind_arguments(run):
    assert run("QUIT", "a", "b") == "OK"


def test_ping_answers_pong_or_the_message(run):
    assert run("PING") == "PONG"
    assert run("PING", "hello") == b"hello"
    assert error_of(run, "PING", "a", "b") == "ERR wrong number of arguments for 'ping' command"


def test_ping_in_resp3_is_the_same(run):
    run("HELLO", "3")
    assert run("PING") == "PONG"
    assert run("PING", "hello") == b"hello"


def test_echo_answers_its_bytes(run):
    assert run("ECHO", b"\x00\r\n\xff") == b"\x00\r\n\xff"


def test_select_keeps_databases_apart(run):
    run("SET", "k", "zero")
    assert run("SELECT", "1") == "OK"
    assert run("GET", "k") is None
    run("SELECT", "0")
    assert run("GET", "k") == b"zero"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("16", "ERR DB index is out of range"),
        ("-1", "ERR DB index is out of range"),
        ("x", "ERR value is not an integer or out of range"),
        ("1.0", "ERR value is not an integer or out of range"),
        ("2147483648", "ERR value is out of range, value must between -2147483648 and 2147483647"),
    ],
)
def test_select_refuses_what_is_no_database(run, client, index, message):
    run("SELECT", "2")
    assert error_of(run, "SELECT", index) == message
    assert client.db.index == 2


# CLIENT: about oneself


def test_client_ids_count_up(run, run_other):
    assert run_other("CLIENT", "ID") == run("CLIENT", "ID") + 1


def test_client_setname_is_seen_by_getname_and_taken_away_by_nothing(run):
    assert run("CLIENT", "GETNAME") is None
    assert run("CLIENT", "SETNAME", "a~!") == "OK"
    assert run("CLIENT", "GETNAME") == b"a~!"
    assert run("CLIENT", "SETNAME", "") == "OK"
    assert run("CLIENT", "GETNAME") is None


@pytest.mark.parametrize("name", [b"a b", b"a\n", b"\x7f", b"\xc3\xa4", b"\x00"])
def test_client_setname_refuses_what_would_break_the_list(run, name):
    assert error_of(run, "CLIENT", "SETNAME", name) == BAD_NAME
    assert run("CLIENT", "GETNAME") is None


def test_client_setinfo_is_seen_in_client_info(run):
    assert run("CLIENT", "SETINFO", "lib-name", "redis-py") == "OK"
    assert run("CLIENT", "SETINFO", "LIB-VER", "5.0.1") == "OK"
    assert run("CLIENT", "INFO").endswith(b" lib-name=redis-py lib-ver=5.0.1\n")


def test_client_setinfo_refuses_other_options_and_spaces(run):
    assert error_of(run, "CLIENT", "SETINFO", "lib-x", "y") == "ERR Unrecognized option 'lib-x'"
    assert error_of(run, "CLIENT", "SETINFO", "lib-name", "a b") == (
        "ERR lib-name cannot contain spaces, newlines or special characters."
    )


def test_client_reply_off_is_silent_until_on(client):
    assert send(client, "CLIENT REPLY OFF", "PING", "NOSUCH", "CLIENT REPLY SKIP", "PING") == []
    assert send(client, "CLIENT REPLY ON", "PING") == ["OK", "PONG"]


def test_client_reply_skip_swallows_itself_and_one_more(client):
    assert send(client, "CLIENT REPLY SKIP", "PING one", "PING two") == [b"two"]


def test_client_reply_skip_swallows_errors_too(client):
    assert send(client, "CLIENT REPLY SKIP", "NOSUCH", "PING") == ["PONG"]
    assert send(client, "CLIENT REPLY SKIP", "CLIENT REPLY FOO", "PING") == ["PONG"]


def test_client_reply_skip_again_swallows_one_more(client):
    assert send(client, "CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING one", "PING two") == [b"two"]


def test_client_reply_on_ends_a_skip(client):
    assert send(client, "CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING") == ["OK", "PONG"]


def test_hello_after_skip_is_swallowed_and_yet_heard(client):
    assert send(client, "CLIENT REPLY SKIP", "HELLO 3", "CLIENT GETNAME") == [None]
    assert client.protocol == 3


def test_hello_in_silence_does_not_end_it(client):
    assert send(client, "CLIENT REPLY OFF", "HELLO 3") == []
    assert client.engine.execute(client, encode_request(("CLIENT", "REPLY", "ON"))) == b"+OK\r\n"
    assert client.engine.execute(client, encode_request(("GET", "k"))) == b"_\r\n"


def test_reset_ends_silence(client):
    assert send(client, "CLIENT REPLY OFF", "RESET", "PING") == ["RESET", "PONG"]


def test_quit_in_silence_closes_without_a_word(client):
    assert send(client, "CLIENT REPLY OFF", "QUIT") == []
    assert client.closing


def test_client_reply_takes_three_words_only(run):
    assert error_of(run, "CLIENT", "REPLY", "FOO") == "ERR syntax error"


def test_tracking_is_off(run):
    assert run("CLIENT", "GETREDIR") == -1
    assert run("CLIENT", "TRACKINGINFO") == [b"flags", [b"off"], b"redirect", -1, b"prefixes", []]
    assert error_of(run, "CLIENT", "CACHING", "YES") == (
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
    )


def test_client_help_shows_every_subcommand(run, engine):
    lines = run("CLIENT", "HELP")
    assert lines[0] == "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    shown = {line.split()[0].lower() for line in lines[1:] if not line.startswith(" ")}
    assert shown == {name.decode() for name in engine.registry.commands["client"].subcommands}


# CLIENT INFO and LIST


def test_client_info_has_the_fields_of_redis_in_its_order(run, client, clock):
    run("CLIENT", "SETNAME", "me")
    run("SELECT", "3")
    clock.advance_ms(61_000)
    assert (
        run("CLIENT", "INFO")
        == (
            f"id={client.id} addr=127.0.0.1:50000 laddr=127.0.0.1:6379 fd=-1 name=me age=61 idle=0 flags=N db=3 "
            "sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=10 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 "
            "tot-mem=3360 events=r cmd=client|info user=default redir=-1 resp=2 lib-name= lib-ver=\n"
        ).encode()
    )


def test_client_list_has_a_line_for_each_client(run, client, other, run_other, clock):
    run_other("HELLO", "3")
    run_other("GET", "k")
    clock.advance_ms(5_000)
    own, foreign = map(fields_of, run("CLIENT", "LIST").splitlines())
    assert (own["id"], own["cmd"], own["idle"], own["resp"]) == (str(client.id), "client|list", "0", "2")
    assert (foreign["id"], foreign["cmd"], foreign["idle"], foreign["resp"]) == (str(other.id), "get", "5", "3")
    assert foreign["addr"] == "10.0.0.9:1234"


def test_client_list_shows_what_has_not_been_read_and_sent(run, other):
    other.engine.execute(other, b"*2\r\n$3\r\nGET\r\n$100\r\nabc")
    other.output_bytes = lambda: 4096
    foreign = fields_of(run("CLIENT", "LIST").splitlines()[1])
    assert int(foreign["qbuf"]) == len(b"*2\r\n$3\r\nGET\r\n$100\r\nabc")
    assert (foreign["omem"], foreign["oll"], foreign["events"]) == ("4096", "1", "rw")
    assert int(foreign["tot-mem"]) > 4096
    assert foreign["cmd"] == "NULL"


def test_client_list_marks_clients_of_a_unix_socket(run, engine):
    client = engine.connect("/run/kora.sock:0", "/run/kora.sock:0")
    assert fields_of(run("CLIENT", "LIST", "ID", client.id))["flags"] == "U"


def test_client_list_is_verbatim_in_resp3(client):
    runner(client)("HELLO", "3")
    assert client.engine.execute(client, encode_request(("CLIENT", "LIST"))).startswith(b"=")


@pytest.mark.parametrize("kind", ["normal", "NORMAL"])
def test_client_list_of_a_type(run, client, other, kind):
    assert ids_of(run("CLIENT", "LIST", "TYPE", kind)) == [client.id, other.id]


@pytest.mark.parametrize("kind", ["master", "replica", "slave", "pubsub"])
def test_client_list_of_types_that_nobody_is(run, kind):
    assert run("CLIENT", "LIST", "TYPE", kind) == b""


def test_client_list_of_ids_keeps_their_order(run, client, other):
    assert ids_of(run("CLIENT", "LIST", "ID", other.id, "999", "-1", client.id)) == [other.id, client.id]
    assert run("CLIENT", "LIST", "ID", "999") == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("FOO",), "ERR syntax error"),
        (("TYPE",), "ERR syntax error"),
        (("TYPE", "normal", "x"), "ERR syntax error"),
        (("TYPE", "foo"), "ERR Unknown client type 'foo'"),
        (("ID",), "ERR syntax error"),
        (("ID", "1", "x"), "ERR Invalid client ID"),
    ],
)
def test_client_list_refuses_other_filters(run, words, message):
    assert error_of(run, "CLIENT", "LIST", *words) == message


# CLIENT KILL


@pytest.fixture
def closed(other):
    """What has been disconnected: True once the other client has."""
    calls = []
    other.disconnect = lambda: calls.append(True)
    return calls


def test_client_kill_of_an_address_closes_its_connection(run, engine, other, closed):
    assert run("CLIENT", "KILL", "10.0.0.9:1234") == "OK"
    assert closed == [True]
    assert other.id not in engine.clients
    assert send(other, "SET k v") == []
    assert run("GET", "k") is None


def test_client_kill_of_an_unknown_address_is_an_error(run):
    assert error_of(run, "CLIENT", "KILL", "1.2.3.4:5") == "ERR No such client"


def test_client_kill_of_ones_own_address_answers_first(client):
    assert send(client, "CLIENT KILL 127.0.0.1:50000", "PING") == ["OK"]
    assert client.closing


@pytest.mark.parametrize(
    "words",
    [
        ("ID", "2"),
        ("TYPE", "normal"),
        ("USER", "default"),
        ("ADDR", "10.0.0.9:1234"),
        ("laddr", "10.0.0.1:6379"),
        ("SKIPME", "yes"),
        ("ID", "1", "ID", "2", "TYPE", "normal", "ADDR", "10.0.0.9:1234", "SKIPME", "no"),
    ],
)
def test_client_kill_closes_those_that_match_everything(run, client, closed, words):
    assert run("CLIENT", "KILL", *words) == 1
    assert closed == [True]
    assert not client.closing


@pytest.mark.parametrize(
    "words",
    [("ID", "99"), ("TYPE", "pubsub"), ("TYPE", "master"), ("ADDR", "1.2.3.4:5"), ("ID", "2", "LADDR", "1.2.3.4:5")],
)
def test_client_kill_leaves_the_rest(run, closed, words):
    assert run("CLIENT", "KILL", *words) == 0
    assert closed == []


def test_client_kill_spares_the_one_that_asks_unless_told_not_to(run, client, closed):
    assert run("CLIENT", "KILL", "ID", client.id) == 0
    assert run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "NO") == 2
    assert client.closing
    assert closed == [True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ID", "0"), "ERR client-id should be greater than 0"),
        (("ID", "-1"), "ERR client-id should be greater than 0"),
        (("ID", "x"), "ERR client-id should be greater than 0"),
        (("ID", "9", "ADDR"), "ERR syntax error"),
        (("ID", "9", "FOO", "x"), "ERR syntax error"),
        (("TYPE", "foo"), "ERR Unknown client type 'foo'"),
        (("USER", "nobody"), "ERR No such user 'nobody'"),
        (("SKIPME", "maybe"), "ERR syntax error"),
    ],
)
def test_client_kill_refuses_other_filters(run, closed, words, message):
    assert error_of(run, "CLIENT", "KILL", *words) == message
    assert closed == []


# CLIENT PAUSE


@pytest.fixture
def kicked(other):
    """The replies that the other client gets once it may run again."""
    replies = []

    def kick():
        while not other.parked:
            replies.extend(read_replies(other.engine.resume(other)))
            if not other.more:
                break

    other.kick = kick
    return replies


def test_client_pause_lets_others_wait_and_unpause_ends_it(run, client, other, kicked):
    assert run("CLIENT", "PAUSE", "1000") == "OK"
    assert send(other, "SET k v", "GET k", "PING") == []
    assert other.parked
    assert send(other, "ECHO later") == []
    assert run("CLIENT", "UNPAUSE") == "OK"
    assert kicked == ["OK", b"v", "PONG", b"later"]
    assert send(other, "PING") == ["PONG"]


def test_client_pause_ends_by_itself(run, engine, other, kicked, clock):
    run("CLIENT", "PAUSE", "1000")
    assert send(other, "PING") == []
    clock.advance_ms(999)
    engine.tick()
    assert kicked == []
    clock.advance_ms(1)
    engine.tick()
    assert kicked == ["PONG"]
    assert not engine.gated


def test_client_pause_of_writes_lets_others_read(run, other, kicked):
    run("SET", "k", "old")
    assert run("CLIENT", "PAUSE", "1000", "write") == "OK"
    assert send(other, "GET k", "PING", "SET k new", "GET k") == [b"old", "PONG"]
    assert run("GET", "k") == b"old"
    run("CLIENT", "UNPAUSE")
    assert kicked == ["OK", b"new"]


def test_client_pause_is_for_the_one_that_asked_as_well(client):
    replies = send(client, "CLIENT PAUSE 1000", "PING")
    assert replies == ["OK"]
    assert client.parked


def test_client_unpause_from_a_client_that_waits_for_nothing_helps_all(engine, client, other, kicked):
    send(client, "CLIENT PAUSE 1000", "PING")
    assert send(other, "CLIENT UNPAUSE") == ["OK"]
    assert not client.parked
    assert read_replies(client.engine.resume(client)) == ["PONG"]


def test_mistakes_are_answered_during_a_pause(run, other):
    run("CLIENT", "PAUSE", "1000")
    unknown, arity = send(other, "NOSUCH", "GET")
    assert unknown.message.startswith("ERR unknown command")
    assert arity.message == "ERR wrong number of arguments for 'get' command"


def test_a_client_without_a_password_is_refused_during_a_pause(make_engine):
    engine = make_engine("--requirepass", "secret")
    run = runner(engine.connect())
    run("AUTH", "secret")
    run("CLIENT", "PAUSE", "1000")
    assert error_of(runner(engine.connect()), "PING") == NO_AUTH


def test_a_second_pause_does_not_shorten_the_first(run, engine, other, kicked, clock):
    run("CLIENT", "PAUSE", "1000", "WRITE")
    run("CLIENT", "PAUSE", "10", "WRITE")
    send(other, "SET k v")
    clock.advance_ms(500)
    engine.tick()
    assert kicked == []
    clock.advance_ms(500)
    engine.tick()
    assert kicked == ["OK"]


def test_a_second_pause_may_be_longer_and_of_more(run, other, clock):
    run("CLIENT", "PAUSE", "10", "WRITE")
    run("CLIENT", "PAUSE", "1000", "ALL")
    clock.advance_ms(500)
    assert send(other, "GET k") == []


def test_a_client_that_is_parked_again_goes_on_where_it_was(run, engine, client, other):
    replies = []
    other.kick = lambda: replies.extend(read_replies(other.engine.resume(other)))
    requests = [f"SET k {number}" for number in range(5)]
    run("CLIENT", "PAUSE", "1000", "WRITE")
    send(other, *requests)
    for _ in range(50):  # each pause comes before the other client has had its turn
        engine.pause(engine.clock.wall_ms() + 1000, writes_only=True)
        other.parked = False
        assert other.engine.resume(other) == b""
    run("CLIENT", "UNPAUSE")
    assert replies == ["OK"] * 5


def test_client_list_marks_a_client_that_waits(run, other):
    run("CLIENT", "PAUSE", "1000", "WRITE")
    send(other, "SET k v")
    assert fields_of(run("CLIENT", "LIST", "ID", other.id))["flags"] == "b"


def test_a_client_that_waits_can_be_killed(run, other):
    run("CLIENT", "PAUSE", "1000", "WRITE")
    send(other, "SET k v")
    assert run("CLIENT", "KILL", "ID", other.id) == 1
    run("CLIENT", "UNPAUSE")
    assert other.engine.resume(other) == b""
    assert run("GET", "k") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x",), "ERR timeout is not an integer or out of range"),
        (("99999999999999999999",), "ERR timeout is not an integer or out of range"),
        (("9223372036854775807",), "ERR timeout is out of range"),
        (("-1",), "ERR timeout is negative"),
        (("1", "FOO"), "ERR CLIENT PAUSE mode must be WRITE or ALL"),
        (("x", "FOO"), "ERR CLIENT PAUSE mode must be WRITE or ALL"),
        (("1", "ALL", "x"), "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP."),
    ],
)
def test_client_pause_refuses_other_words(run, engine, words, message):
    assert error_of(run, "CLIENT", "PAUSE", *words) == message
    assert not engine.gated


# CLIENT UNBLOCK


def test_client_unblock_finds_nobody_to_unblock(run, other):
    assert run("CLIENT", "UNBLOCK", other.id) == 0
    assert run("CLIENT", "UNBLOCK", "999", "timeout") == 0
    assert run("CLIENT", "UNBLOCK", "-1", "ERROR") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x",), "ERR value is not an integer or out of range"),
        (("x", "FOO"), "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        (("1", "ERROR", "x"), "ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP."),
    ],
)
def test_client_unblock_refuses_other_words(run, words, message):
    assert error_of(run, "CLIENT", "UNBLOCK", *words) == message


# What COMMAND tells


@pytest.mark.parametrize(
    ("name", "arity"),
    [("auth", -2), ("hello", -1), ("quit", -1), ("reset", 1), ("ping", -1), ("echo", 2), ("select", 2)],
)
def test_arities_are_those_of_redis(engine, name, arity):
    assert engine.registry.commands[name].arity == arity


@pytest.mark.parametrize(
    ("name", "arity"), [("list", -2), ("kill", -3), ("pause", -3), ("unblock", -3), ("reply", 3), ("setinfo", 4)]
)
def test_arities_of_subcommands_are_those_of_redis(engine, name, arity):
    assert engine.registry.commands["client"].subcommands[name.encode()].arity == arity


def test_commands_of_a_client_that_does_not_touch_leave_idle_times_as_they_are(run, clock, engine):
    run("SET", "k", "v")
    run("RPUSH", "l", "a")
    clock.advance_ms(10_000)
    engine.tick()
    run("CLIENT", "NO-TOUCH", "ON")
    run("GET", "k")
    run("LPUSH", "l", "b")
    run("MULTI")
    run("GET", "k")
    run("EXEC")
    assert run("OBJECT", "IDLETIME", "k") == run("OBJECT", "IDLETIME", "l") == 10
    run("TOUCH", "l")
    assert run("OBJECT", "IDLETIME", "l") == 0
    run("CLIENT", "NO-TOUCH", "OFF")
    run("GET", "k")
    assert run("OBJECT", "IDLETIME", "k") == 0


def test_commands_of_a_client_that_does_not_touch_leave_frequencies_as_they_are(make_engine):
    engine = make_engine("--maxmemory-policy", "allkeys-lfu", "--hotkey-sampling-ratio", "1")
    run = runner(engine.connect())
    run("SET", "k", "v")
    run("CLIENT", "NO-TOUCH", "ON")
    before = run("OBJECT", "FREQ", "k")
    for _ in range(50):
        run("GET", "k")
        run("EVAL", "return redis.call('GET', KEYS[1])", 1, "k")
    run("MULTI")
    run("GET", "k")
    run("EXEC")
    assert run("OBJECT", "FREQ", "k") == before
    assert engine.hot_keys.recorder.recorded > 100
    for _ in range(50):
        run("TOUCH", "k")
    assert run("OBJECT", "FREQ", "k") > before
