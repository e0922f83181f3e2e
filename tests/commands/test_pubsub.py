"""SUBSCRIBE to PUBSUB, as those who listen and those who speak see them."""

import pytest

from kora.errors import CommandError
from kora.resp.reply import Push
from tests.conftest import encode_request
from tests.resp_reader import read_replies


def messages(replies):
    return [reply.message if isinstance(reply, CommandError) else reply for reply in replies]


def pushed(replies):
    """Pushes as lists; anything else is none."""
    assert all(isinstance(reply, Push) for reply in replies), replies
    return [reply.items for reply in replies]


def pipeline(client, *lines):
    return client.engine.execute(client, b"".join(encode_request(tuple(line.split())) for line in lines))


@pytest.fixture
def listener(connect):
    return connect()


def test_each_channel_is_confirmed_with_a_count(listener):
    assert listener.send("SUBSCRIBE", "a", "b", "a") == [
        [b"subscribe", b"a", 1], [b"subscribe", b"b", 2], [b"subscribe", b"a", 2],
    ]  # fmt: skip
    assert listener.send("PSUBSCRIBE", "a*") == [[b"psubscribe", b"a*", 3]]
    assert listener.send("SSUBSCRIBE", "s") == [[b"ssubscribe", b"s", 1]]
    assert listener.send("UNSUBSCRIBE", "nosuch") == [[b"unsubscribe", b"nosuch", 3]]
    assert listener.send("UNSUBSCRIBE") == [[b"unsubscribe", b"a", 2], [b"unsubscribe", b"b", 1]]
    assert listener.send("PUNSUBSCRIBE", "a*") == [[b"punsubscribe", b"a*", 0]]
    assert listener.send("SUNSUBSCRIBE") == [[b"sunsubscribe", b"s", 0]]


@pytest.mark.parametrize("word", ["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"])
def test_leaving_nothing_is_confirmed(listener, word):
    assert listener.send(word) == [[word.lower().encode(), None, 0]]
    assert listener.send(word, "x", "y") == [[word.lower().encode(), name, 0] for name in (b"x", b"y")]


def test_a_message_reaches_all_who_listen_to_its_channel_or_a_pattern_of_it(run, connect):
    first, second, third = connect(), connect(), connect()
    first.send("SUBSCRIBE", "news", "other")
    second.send("PSUBSCRIBE", "n*", "*s", "x")
    third.send("SSUBSCRIBE", "news")
    assert run("PUBLISH", "news", "hello") == 3
    assert first.received() == [[b"message", b"news", b"hello"]]
    assert second.received() == [[b"pmessage", b"n*", b"news", b"hello"], [b"pmessage", b"*s", b"news", b"hello"]]
    assert third.received() == []
    assert run("SPUBLISH", "news", "") == 1
    assert first.received() == []
    assert third.received() == [[b"smessage", b"news", b""]]
    assert run("PUBLISH", "elsewhere", "hello") == 0


def test_a_client_that_listens_twice_over_gets_a_message_twice(run, listener):
    listener.send("SUBSCRIBE", "a")
    listener.send("PSUBSCRIBE", "*")
    assert run("PUBLISH", "a", "m") == 2
    assert listener.received() == [[b"message", b"a", b"m"], [b"pmessage", b"*", b"a", b"m"]]


def test_messages_are_pushes_in_resp3(run, listener):
    listener.send("HELLO", "3")
    assert pushed(listener.send("SUBSCRIBE", "a")) == [[b"subscribe", b"a", 1]]
    run("PUBLISH", "a", "m")
    assert pushed(listener.received()) == [[b"message", b"a", b"m"]]
    assert pushed(listener.send("UNSUBSCRIBE")) == [[b"unsubscribe", b"a", 0]]
    assert pushed(listener.send("UNSUBSCRIBE")) == [[b"unsubscribe", None, 0]]


def test_each_listener_gets_a_message_in_its_own_protocol(run, connect):
    old, new = connect(), connect()
    new.send("HELLO", "3")
    for one in (old, new):
        one.send("SUBSCRIBE", "a")
    run("PUBLISH", "a", "m")
    assert old.received() == [[b"message", b"a", b"m"]]
    assert pushed(new.received()) == [[b"message", b"a", b"m"]]


ONLY = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"


@pytest.mark.parametrize("join", [("SUBSCRIBE", "a"), ("PSUBSCRIBE", "a"), ("SSUBSCRIBE", "a")])
def test_who_listens_in_resp2_may_say_little_else(listener, join):
    listener.send(*join)
    assert messages(listener.send("GET", "k")) == [f"ERR Can't execute 'get': {ONLY}"]
    assert messages(listener.send("PUBLISH", "a", "m")) == [f"ERR Can't execute 'publish': {ONLY}"]
    assert messages(listener.send("CONFIG", "GET", "port")) == [f"ERR Can't execute 'config|get': {ONLY}"]
    assert messages(listener.send("MULTI")) == [f"ERR Can't execute 'multi': {ONLY}"]
    assert messages(listener.send("EXEC")) == [
        f"EXECABORT Transaction discarded because of: Can't execute 'exec': {ONLY}"
    ]
    assert messages(listener.send("GET")) == ["ERR wrong number of arguments for 'get' command"]
    assert messages(listener.send("SUBSCRIBE")) == ["ERR wrong number of arguments for 'subscribe' command"]
    assert messages(listener.send("NOSUCH"))[0].startswith("ERR unknown command 'NOSUCH'")
    assert listener.send("PING") == [[b"pong", b""]]
    assert listener.send("PING", "x") == [[b"pong", b"x"]]
    assert listener.send("RESET") == ["RESET"]
    assert listener.send("GET", "k") == [None]
    assert listener.send("PING") == ["PONG"]


def test_who_listens_in_resp3_may_say_anything(listener):
    listener.send("HELLO", "3")
    listener.send("SUBSCRIBE", "a")
    assert listener.send("GET", "k") == [None]
    assert listener.send("PING") == ["PONG"]


def test_hello_turns_a_listener_of_resp3_into_one_of_resp2(run, listener):
    listener.send("HELLO", "3")
    listener.send("SUBSCRIBE", "a")
    listener.send("HELLO", "2")
    assert messages(listener.send("GET", "k")) == [f"ERR Can't execute 'get': {ONLY}"]
    assert messages(listener.send("HELLO", "3")) == [f"ERR Can't execute 'hello': {ONLY}"]
    run("PUBLISH", "a", "m")
    assert listener.received() == [[b"message", b"a", b"m"]]
    listener.send("UNSUBSCRIBE")
    assert listener.send("GET", "k") == [None]


def test_a_message_to_oneself_comes_behind_the_reply_and_in_order(client):
    pipeline(client, "HELLO 3", "SUBSCRIBE a")
    data = pipeline(client, "PING", "PUBLISH a 1", "PUBLISH a 2", "GET k")
    replies = [reply.items if isinstance(reply, Push) else reply for reply in read_replies(data)]
    assert replies == ["PONG", 1, [b"message", b"a", b"1"], 1, [b"message", b"a", b"2"], None]


def test_messages_to_oneself_in_a_transaction_come_behind_its_reply(client):
    pipeline(client, "HELLO 3", "SUBSCRIBE a")
    data = pipeline(client, "MULTI", "PUBLISH a 1", "PING", "PUBLISH a 2", "EXEC", "PING")
    replies = [reply.items if isinstance(reply, Push) else reply for reply in read_replies(data)]
    assert replies == [
        "OK", "QUEUED", "QUEUED", "QUEUED", [1, "PONG", 1], [b"message", b"a", b"1"], [b"message", b"a", b"2"], "PONG",
    ]  # fmt: skip


def test_others_get_the_messages_of_a_transaction(run, listener):
    listener.send("SUBSCRIBE", "a")
    run("MULTI")
    run("PUBLISH", "a", "1")
    assert listener.received() == []
    run("EXEC")
    assert listener.received() == [[b"message", b"a", b"1"]]


def test_subscribe_works_in_a_transaction_and_ssubscribe_does_not(client):
    data = pipeline(client, "MULTI", "SUBSCRIBE a", "GET k", "SSUBSCRIBE s", "EXEC", "GET k", "UNSUBSCRIBE")
    replies = read_replies(data)
    assert replies[4][:2] == [[b"subscribe", b"a", 1], None]
    assert messages(replies[4][2:]) == ["ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"]
    assert messages(replies[5:6]) == [f"ERR Can't execute 'get': {ONLY}"]
    assert replies[6] == [b"unsubscribe", b"a", 0]


def test_subscribe_in_the_middle_of_a_pipeline(client):
    replies = read_replies(pipeline(client, "SET k v", "SUBSCRIBE a b", "GET k", "PING", "UNSUBSCRIBE", "GET k"))
    assert replies[:3] == ["OK", [b"subscribe", b"a", 1], [b"subscribe", b"b", 2]]
    assert messages(replies[3:4]) == [f"ERR Can't execute 'get': {ONLY}"]
    assert replies[4:] == [[b"pong", b""], [b"unsubscribe", b"a", 1], [b"unsubscribe", b"b", 0], b"v"]


def test_messages_and_confirmations_come_though_replies_are_off(run, listener):
    listener.send("CLIENT", "REPLY", "OFF")
    assert listener.send("SUBSCRIBE", "a", "b") == [[b"subscribe", b"a", 1], [b"subscribe", b"b", 2]]
    assert listener.send("PING") == []
    run("PUBLISH", "a", "m")
    assert listener.received() == [[b"message", b"a", b"m"]]
    assert listener.send("UNSUBSCRIBE") == [[b"unsubscribe", b"a", 1], [b"unsubscribe", b"b", 0]]
    assert listener.send("CLIENT", "REPLY", "ON") == ["OK"]
    listener.send("CLIENT", "REPLY", "SKIP")
    assert listener.send("SUBSCRIBE", "a") == [[b"subscribe", b"a", 1]]
    assert listener.send("PING") == [[b"pong", b""]]


def test_pubsub_tells_who_listens_to_what(run, connect):
    first, second = connect(), connect()
    first.send("SUBSCRIBE", "a", "ab", "b")
    second.send("SUBSCRIBE", "a")
    second.send("PSUBSCRIBE", "x*", "y*")
    first.send("PSUBSCRIBE", "x*")
    second.send("SSUBSCRIBE", "s")
    assert run("PUBSUB", "CHANNELS") == [b"a", b"ab", b"b"]
    assert run("PUBSUB", "CHANNELS", "a*") == [b"a", b"ab"]
    assert run("PUBSUB", "NUMSUB", "a", "b", "nosuch") == [b"a", 2, b"b", 1, b"nosuch", 0]
    assert run("PUBSUB", "NUMSUB") == []
    assert run("PUBSUB", "NUMPAT") == 2
    assert run("PUBSUB", "SHARDCHANNELS", "*") == [b"s"]
    assert run("PUBSUB", "SHARDNUMSUB", "s", "a") == [b"s", 1, b"a", 0]
    text = run("INFO", "stats").decode()
    assert "pubsub_channels:3\r\npubsub_patterns:2\r\npubsubshard_channels:1\r\n" in text


def test_mistakes_of_pubsub(run):
    for words, message in (
        (("PUBSUB",), "ERR wrong number of arguments for 'pubsub' command"),
        (("PUBSUB", "NOSUCH"), "ERR unknown subcommand 'NOSUCH'. Try PUBSUB HELP."),
        (("PUBSUB", "NUMPAT", "x"), "ERR wrong number of arguments for 'pubsub|numpat' command"),
        (
            ("PUBSUB", "channels", "a", "b"),
            "ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP.",
        ),
        (("PUBLISH", "a"), "ERR wrong number of arguments for 'publish' command"),
    ):
        with pytest.raises(CommandError) as caught:
            run(*words)
        assert caught.value.message == message


def test_client_list_tells_of_listeners(run, listener):
    listener.send("SUBSCRIBE", "a", "b")
    listener.send("PSUBSCRIBE", "a")
    listener.send("SSUBSCRIBE", "a", "b", "c")
    line = run("CLIENT", "LIST", "TYPE", "PUBSUB").decode()
    fields = dict(word.split("=", 1) for word in line.strip().split(" "))
    assert [fields[name] for name in ("flags", "sub", "psub", "ssub", "cmd")] == ["P", "2", "1", "3", "ssubscribe"]
    assert run("CLIENT", "KILL", "TYPE", "PUBSUB") == 1
    assert run("PUBSUB", "CHANNELS") == []


@pytest.mark.parametrize("leave", ["RESET", "forget"])
def test_who_leaves_listens_no_more(run, engine, listener, leave):
    listener.send("SUBSCRIBE", "a", "b")
    listener.send("PSUBSCRIBE", "a", "b")
    listener.send("SSUBSCRIBE", "a", "b")
    if leave == "RESET":
        listener.send("RESET")
    else:
        engine.forget(listener.client)
    for space in (engine.pubsub.channels, engine.pubsub.patterns, engine.pubsub.shard_channels):
        assert space.listeners == {}
    assert engine.pubsub._matchers == {}
    assert run("PUBLISH", "a", "m") == 0
    assert listener.received() == []


def test_any_bytes_are_a_channel_a_pattern_and_a_message(run, listener):
    name = b"\x00\r\n\xff"
    listener.send("SUBSCRIBE", name, "")
    listener.send("PSUBSCRIBE", b"\x00*")
    assert run("PUBLISH", name, name) == 2
    assert listener.received() == [[b"message", name, name], [b"pmessage", b"\x00*", name, name]]
    assert run("PUBLISH", "", "") == 1
    assert listener.received() == [[b"message", b"", b""]]


def test_one_pattern_and_thousands_of_channels(run, listener):
    listener.send("SUBSCRIBE", *(f"c{number}" for number in range(5_000)))
    assert run("PUBLISH", "c4999", "m") == 1
    assert len(listener.send("UNSUBSCRIBE")) == 5_000
    assert run("PUBSUB", "CHANNELS") == []
