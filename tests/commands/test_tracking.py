"""CLIENT TRACKING: who keeps copies of keys is told when they are no longer what they were."""

import pytest

from kora.errors import CommandError
from kora.resp.reply import Push


def invalidate(*keys):
    return (b"invalidate", list(keys))


class Plain:
    """A Session whose pushes are tuples."""

    def __init__(self, session):
        self.session = session
        self.client = session.client

    def send(self, *words):
        return list(map(plain, self.session.send(*words)))

    def received(self):
        return list(map(plain, self.session.received()))


def plain(reply):
    return tuple(reply.items) if isinstance(reply, Push) else reply


@pytest.fixture
def connect(connect):
    return lambda: Plain(connect())


@pytest.fixture
def reader(connect):
    """A RESP3 client that tracks what it reads."""
    session = connect()
    session.send("HELLO", "3")
    assert session.send("CLIENT", "TRACKING", "ON") == ["OK"]
    return session


@pytest.fixture
def writer(connect):
    return connect()


def stats(session):
    [text] = session.send("INFO", "clients", "stats")
    fields = dict(line.split(b":") for line in text.split(b"\r\n") if b":" in line)
    return {name.decode(): int(value) for name, value in fields.items() if name.startswith(b"tracking_")}


def test_a_key_that_was_read_is_told_of_once(reader, writer):
    reader.send("GET", "k")
    writer.send("SET", "k", "1")
    assert reader.received() == [invalidate(b"k")]
    writer.send("SET", "k", "2")
    assert reader.received() == []
    reader.send("GET", "k")
    writer.send("DEL", "k")
    assert reader.received() == [invalidate(b"k")]


def test_keys_that_were_not_read_are_not_told_of(reader, writer):
    reader.send("SET", "k", "1")
    writer.send("SET", "k", "2")
    writer.send("SET", "other", "2")
    assert reader.received() == []


def test_what_a_script_reads_is_remembered_for_its_caller_in_the_database_that_it_chose(reader, writer):
    pytest.importorskip("lupa")
    reader.send("EVAL", "redis.call('GET', KEYS[1]) redis.call('SELECT', 3) return redis.call('GET', 'b')", 1, "a")
    writer.send("SET", "b", "1")
    assert reader.received() == []
    writer.send("SET", "a", "1")
    assert reader.received() == [invalidate(b"a")]
    writer.send("SELECT", 3)
    writer.send("SET", "b", "1")
    assert reader.received() == [invalidate(b"b")]


def test_every_key_of_a_command_is_remembered(reader, writer):
    reader.send("MGET", "a", "b")
    writer.send("MSET", "b", "1", "c", "1", "a", "1")
    assert reader.received() == [invalidate(b"b"), invalidate(b"a")]


def test_what_a_client_changes_itself_is_told_behind_the_reply(reader):
    reader.send("GET", "k")
    assert reader.send("SET", "k", "1") == ["OK", invalidate(b"k")]


def test_noloop_keeps_a_clients_own_changes_from_it(reader, writer):
    reader.send("CLIENT", "TRACKING", "ON", "NOLOOP")
    reader.send("GET", "k")
    assert reader.send("SET", "k", "1") == ["OK"]
    reader.send("GET", "k")
    writer.send("SET", "k", "2")
    assert reader.received() == [invalidate(b"k")]


def test_a_transaction_is_told_of_behind_its_replies(reader):
    reader.send("MULTI")
    reader.send("GET", "k")
    reader.send("SET", "k", "1")
    reader.send("SET", "k", "2")
    assert reader.send("EXEC") == [[None, "OK", "OK"], invalidate(b"k")]


def test_keys_that_end_are_told_of(reader, writer, clock):
    writer.send("SET", "k", "v", "PX", "10")
    reader.send("GET", "k")
    clock.advance_ms(20)
    writer.send("GET", "k")
    assert reader.received() == [invalidate(b"k")]


def test_a_flush_is_told_of_as_null(reader, writer, connect):
    idle = connect()
    reader.send("MGET", "a", "b")
    writer.send("MSET", "a", "1")
    reader.received()
    writer.send("FLUSHALL")
    assert reader.received() == [(b"invalidate", None)]
    assert idle.received() == []
    writer.send("SET", "b", "1")
    assert reader.received() == []
    assert reader.send("FLUSHDB") == ["OK", (b"invalidate", None)]


def test_off_ends_it(reader, writer):
    reader.send("GET", "k")
    assert reader.send("CLIENT", "TRACKING", "OFF") == ["OK"]
    writer.send("SET", "k", "1")
    assert reader.received() == []


def test_a_resp2_client_hears_by_another_one(connect, writer):
    reader, listener = connect(), connect()
    listener.send("SUBSCRIBE", "__redis__:invalidate")
    assert reader.send("CLIENT", "TRACKING", "ON", "REDIRECT", listener.client.id) == ["OK"]
    assert reader.send("CLIENT", "GETREDIR") == [listener.client.id]
    reader.send("GET", "k")
    writer.send("SET", "k", "1")
    assert reader.received() == []
    assert listener.received() == [[b"message", b"__redis__:invalidate", [b"k"]]]
    writer.send("FLUSHALL")
    assert listener.received() == [[b"message", b"__redis__:invalidate", None]]


def test_a_resp2_client_alone_hears_nothing(connect, writer):
    reader = connect()
    reader.send("CLIENT", "TRACKING", "ON")
    reader.send("GET", "k")
    writer.send("SET", "k", "1")
    assert reader.received() == []


def test_a_redirection_to_nobody_is_said(engine, reader, connect, writer):
    listener = connect()
    reader.send("CLIENT", "TRACKING", "ON", "REDIRECT", listener.client.id)
    engine.forget(listener.client)
    reader.send("GET", "k")
    writer.send("SET", "k", "1")
    assert reader.received() == [(b"tracking-redir-broken", listener.client.id)]
    [info] = reader.send("CLIENT", "TRACKINGINFO")
    assert b"broken_redirect" in info[b"flags"]


def test_broadcast_tells_of_every_change_under_its_prefixes(reader, connect, writer):
    listener = connect()
    listener.send("HELLO", "3")
    listener.send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a:", "PREFIX", "b:")
    writer.send("MSET", "a:2", "1", "a:1", "1", "b:1", "1", "c:1", "1")
    assert listener.received() == [invalidate(b"a:1", b"a:2"), invalidate(b"b:1")]
    assert listener.send("SET", "a:3", "1") == ["OK", invalidate(b"a:3")]
    assert listener.send("CLIENT", "TRACKING", "OFF") == ["OK"]
    writer.send("SET", "a:1", "2")
    assert listener.received() == []


def test_broadcast_without_a_prefix_tells_of_everything(connect, writer):
    listener = connect()
    listener.send("HELLO", "3")
    listener.send("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP")
    writer.send("SELECT", "3")
    writer.send("SET", "k", "1")
    assert listener.received() == [invalidate(b"k")]
    assert listener.send("SET", "k", "1") == ["OK"]


def test_optin_remembers_only_what_is_asked_for(reader, writer):
    reader.send("CLIENT", "TRACKING", "OFF")
    reader.send("CLIENT", "TRACKING", "ON", "OPTIN")
    reader.send("GET", "a")
    assert reader.send("CLIENT", "CACHING", "YES") == ["OK"]
    reader.send("CLIENT", "ID")
    reader.send("GET", "b")
    reader.send("GET", "c")
    writer.send("MSET", "a", "1", "b", "1", "c", "1")
    assert reader.received() == [invalidate(b"b")]


def test_optin_counts_for_a_whole_transaction(reader, writer):
    reader.send("CLIENT", "TRACKING", "OFF")
    reader.send("CLIENT", "TRACKING", "ON", "OPTIN")
    reader.send("CLIENT", "CACHING", "YES")
    for words in (("MULTI",), ("GET", "a"), ("GET", "b"), ("EXEC",), ("GET", "c")):
        reader.send(*words)
    writer.send("MSET", "a", "1", "b", "1", "c", "1")
    assert reader.received() == [invalidate(b"a"), invalidate(b"b")]


def test_optout_remembers_all_but_what_is_named(reader, writer):
    reader.send("CLIENT", "TRACKING", "OFF")
    reader.send("CLIENT", "TRACKING", "ON", "OPTOUT")
    reader.send("GET", "a")
    reader.send("CLIENT", "CACHING", "NO")
    reader.send("GET", "b")
    writer.send("MSET", "a", "1", "b", "1")
    assert reader.received() == [invalidate(b"a")]


def test_there_are_no_more_keys_than_allowed(reader, writer):
    writer.send("CONFIG", "SET", "tracking-table-max-keys", "2")
    reader.send("GET", "a")
    reader.send("GET", "b")
    assert reader.send("GET", "c") == [None, invalidate(b"a")]
    assert stats(writer)["tracking_total_keys"] == 2
    writer.send("CONFIG", "SET", "tracking-table-max-keys", "1")
    assert reader.received() == [invalidate(b"b")]


def test_info_counts_clients_keys_and_prefixes(reader, connect, writer):
    other, listener = connect(), connect()
    other.send("CLIENT", "TRACKING", "ON")
    listener.send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "b")
    reader.send("MGET", "a", "b")
    other.send("GET", "b")
    assert stats(writer) == {
        "tracking_clients": 3,
        "tracking_total_keys": 2,
        "tracking_total_items": 3,
        "tracking_total_prefixes": 2,
    }
    writer.send("SET", "b", "1")
    assert stats(writer)["tracking_total_items"] == 1


def test_a_client_that_goes_is_forgotten(engine, reader, connect, writer):
    listener = connect()
    listener.send("CLIENT", "TRACKING", "ON", "BCAST")
    reader.send("GET", "k")
    engine.forget(reader.client)
    engine.forget(listener.client)
    writer.send("SET", "k", "1")
    assert reader.received() == []
    assert stats(writer)["tracking_clients"] == stats(writer)["tracking_total_prefixes"] == 0


def test_reset_ends_tracking(reader, writer):
    reader.send("GET", "k")
    reader.send("RESET")
    assert reader.send("CLIENT", "GETREDIR") == [-1]
    writer.send("SET", "k", "1")
    assert reader.received() == []


def test_trackinginfo_tells_the_options(connect):
    session = connect()
    session.send("HELLO", "3")
    assert session.send("CLIENT", "TRACKINGINFO") == [{b"flags": {b"off"}, b"redirect": -1, b"prefixes": []}]
    session.send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b", "PREFIX", "a", "NOLOOP")
    [info] = session.send("CLIENT", "TRACKINGINFO")
    assert (set(info[b"flags"]), info[b"prefixes"]) == ({b"on", b"bcast", b"noloop"}, [b"a", b"b"])
    session.send("CLIENT", "TRACKING", "OFF")
    session.send("CLIENT", "TRACKING", "ON", "OPTIN")
    session.send("CLIENT", "CACHING", "YES")
    [info] = session.send("CLIENT", "TRACKINGINFO")
    assert set(info[b"flags"]) == {b"on", b"optin", b"caching-yes"}
    assert info[b"redirect"] == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("MAYBE",), "ERR syntax error"),
        (("ON", "NONSENSE"), "ERR syntax error"),
        (("ON", "REDIRECT"), "ERR syntax error"),
        (("ON", "REDIRECT", "999"), "ERR The client ID you want redirect to does not exist"),
        (("ON", "REDIRECT", "1", "REDIRECT", "1"), "ERR A client can only redirect to a single other client"),
        (("ON", "PREFIX", "a"), "ERR PREFIX option requires BCAST mode to be enabled"),
        (("ON", "BCAST", "OPTIN"), "ERR OPTIN and OPTOUT are not compatible with BCAST"),
        (("ON", "OPTOUT", "OPTIN"), "ERR You can't specify both OPTIN mode and OPTOUT mode"),
        (
            ("ON", "BCAST", "PREFIX", "ab", "PREFIX", "a"),
            "ERR Prefix 'ab' overlaps with another provided prefix 'a'. Prefixes for a single client must not overlap.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, words, text):
    with pytest.raises(CommandError) as caught:
        run("CLIENT", "TRACKING", *words)
    assert str(caught.value) == text


def test_modes_are_not_switched_on_the_way(run):
    run("CLIENT", "TRACKING", "ON", "OPTIN")
    with pytest.raises(CommandError, match="ERR You can't switch OPTIN/OPTOUT mode"):
        run("CLIENT", "TRACKING", "ON", "OPTOUT")
    with pytest.raises(CommandError, match="ERR You can't switch BCAST mode"):
        run("CLIENT", "TRACKING", "ON", "BCAST")
    with pytest.raises(CommandError, match="CACHING NO is only valid"):
        run("CLIENT", "CACHING", "NO")
    run("CLIENT", "TRACKING", "OFF")
    run("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a")
    with pytest.raises(CommandError, match="ERR Prefix 'ab' overlaps with an existing prefix 'a'"):
        run("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "ab")


def test_client_list_shows_it(run):
    run("CLIENT", "TRACKING", "ON", "BCAST")
    run("CLIENT", "NO-EVICT", "ON")
    run("CLIENT", "NO-TOUCH", "ON")
    assert b" flags=tBeT " in run("CLIENT", "INFO")
    assert b" redir=0 " in run("CLIENT", "INFO")
    run("CLIENT", "NO-EVICT", "OFF")
    run("CLIENT", "NO-TOUCH", "OFF")
    run("CLIENT", "TRACKING", "OFF")
    assert b" flags=N " in run("CLIENT", "INFO")
    with pytest.raises(CommandError, match="ERR syntax error"):
        run("CLIENT", "NO-EVICT", "MAYBE")
