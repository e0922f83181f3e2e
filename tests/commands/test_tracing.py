"""Which requests leave spans, what is in these, and who is told of their traces."""

import contextlib
from typing import Any

import pytest

from kora.engine.client import Client
from kora.errors import CommandError
from kora.observe.traces import Span
from tests.conftest import encode_request

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"


def attribute(*pairs: str) -> bytes:
    return b"|%d\r\n" % (len(pairs) // 2) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in pairs)


def execute(client: Client, data: bytes) -> bytes:
    """All turns that some bytes take."""
    reply = client.engine.execute(client, data)
    while client.more:
        reply += client.engine.resume(client)
    return reply


@pytest.fixture
def trace(run, engine):
    """Tracing, without any that is chosen by chance: trace() gives what was kept since the last time."""
    run("CONFIG", "SET", "tracing-sample-ratio", "0")
    run("CONFIG", "SET", "tracing-enabled", "yes")

    def taken() -> list[Span]:
        engine.tick()
        spans = engine.tracing.newest(1000)
        found = [span for one in spans[::-1] for span in (engine.tracing.spans_of(one.trace_id))]
        run("TRACE", "RESET")
        return list({span.span_id: span for span in found}.values())

    return taken


def test_nothing_is_traced_unless_it_is_asked_for(run, engine):
    with pytest.raises(CommandError):
        run("NOPE")
    run("CLIENT", "TRACE", SAMPLED)
    run("PING")
    assert run("TRACE", "LIST") == []
    assert run("TRACE", "STATUS")[:4] == [b"enabled", 0, b"exporting", 0]


def test_a_request_belongs_to_the_trace_of_its_client(run, engine, trace):
    run("CLIENT", "TRACE", SAMPLED)
    run("SET", "k", "v")
    run("GET", "k")
    run("CLIENT", "TRACE", "OFF")
    run("GET", "k")
    first, second = trace()
    assert (first.trace_id, first.parent_id) == (int(TRACE_ID, 16), int(PARENT_ID, 16))
    assert (first.name, first.operation, first.database, first.status) == ("kora.request", "SET", 0, "")
    assert (second.operation, second.reason, second.trace_id) == ("GET", "parent", int(TRACE_ID, 16))
    assert first.span_id != second.span_id


def test_once_is_for_the_next_request(run, trace):
    assert run("CLIENT", "TRACE", SAMPLED, "ONCE") == "OK"
    run("PING")
    run("PING")
    assert [span.operation for span in trace()] == ["PING"]


def test_once_comes_before_what_is_said_of_all_and_is_seen_by_nobody_but_its_request(run, connect, trace):
    """With a monitor, and a slow log of everything, each request is looked at."""
    run("CONFIG", "SET", "slowlog-log-slower-than", "0")
    connect().send("MONITOR")
    run("CLIENT", "TRACE", SAMPLED)
    run("CLIENT", "TRACE", f"00-{TRACE_ID}-{'1' * 16}-01", "ONCE")
    run("PING")
    run("PING")
    run("CLIENT", "TRACE", "OFF")
    assert [(span.operation, span.parent_id) for span in trace()] == [
        ("PING", int("1" * 16, 16)), ("PING", int(PARENT_ID, 16)),
    ]  # fmt: skip


def test_reset_ends_it(run, trace):
    run("CLIENT", "TRACE", SAMPLED)
    run("RESET")
    run("PING")
    assert trace() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it must be 2, 32, 16 and 2 lowercase hexadecimal digits with '-' between them"),
        (SAMPLED.upper(), "it must be 2, 32, 16 and 2 lowercase hexadecimal digits with '-' between them"),
        (SAMPLED[:-1], "it must be 2, 32, 16 and 2 lowercase hexadecimal digits with '-' between them"),
        ("ff" + SAMPLED[2:], "version ff is not allowed"),
        (SAMPLED + "-x", "there is more behind the flags"),
        ("01" + SAMPLED[2:] + "x", "there is more behind the flags"),
        (f"00-{'0' * 32}-{PARENT_ID}-01", "the trace id must not be all zeroes"),
        (f"00-{TRACE_ID}-{'0' * 16}-01", "the parent id must not be all zeroes"),
        ("01" + SAMPLED[2:] + "-" + "x" * 1000, "it is too long"),
    ],
)
def test_what_is_no_traceparent_is_refused_and_changes_nothing(run, client, text, reason):
    run("CLIENT", "TRACE", SAMPLED)
    with pytest.raises(CommandError) as error:
        run("CLIENT", "TRACE", text)
    assert error.value.message == f"ERR invalid traceparent: {reason}"
    assert client.context.trace_id == int(TRACE_ID, 16)
    with pytest.raises(CommandError, match="syntax error"):
        run("CLIENT", "TRACE", SAMPLED, "TWICE")


def test_a_later_version_may_say_more(run):
    assert run("CLIENT", "TRACE", "cc" + SAMPLED[2:] + "-what-the-future-will-be-like") == "OK"


def test_an_attribute_before_a_request_says_its_trace(engine, client, trace):
    get = encode_request(("GET", "k"))
    data = attribute("traceparent", SAMPLED) + get + get + attribute("Other", "x", "TraceParent", SAMPLED) + get
    assert execute(client, data) == b"$-1\r\n" * 3
    assert [span.parent_id for span in trace()] == [int(PARENT_ID, 16)] * 2


def test_an_attribute_has_no_reply_whoever_sends_it(run, engine, trace):
    said = attribute("traceparent", SAMPLED)
    run("CONFIG", "SET", "requirepass", "secret")
    stranger = engine.connect()
    assert execute(stranger, said + encode_request(("GET", "k"))).startswith(b"-NOAUTH")
    data = said + encode_request(("AUTH", "secret")) + said + encode_request(("MULTI",))
    assert execute(stranger, data) == b"+OK\r\n+OK\r\n"
    data = said + encode_request(("PING",)) + said + encode_request(("EXEC",))
    assert execute(stranger, data) == b"+QUEUED\r\n*1\r\n+PONG\r\n"
    assert execute(stranger, said) == b""
    assert execute(stranger, encode_request(("NOPE",))).startswith(b"-ERR unknown command")
    spans = trace()
    assert {span.trace_id for span in spans} == {int(TRACE_ID, 16)}
    assert [(span.operation, span.status) for span in spans if span.name == "kora.request"] == [
        ("GET", "NOAUTH"), ("AUTH", ""), ("MULTI", ""), ("EXEC", ""), ("", "ERR"),
    ]  # fmt: skip
    assert "secret" not in repr(spans)


def test_an_attribute_that_is_no_traceparent_is_counted_and_does_no_harm(engine, client, run, trace):
    data = attribute("traceparent", "nonsense") + encode_request(("PING",))
    assert execute(client, data) == b"+PONG\r\n"
    assert trace() == []
    assert engine.tracing.contexts_invalid == 1


def test_a_trace_that_is_not_kept_is_not_kept_here_but_for_errors(run, engine, trace):
    run("CONFIG", "SET", "tracing-sample-ratio", "1")
    run("CLIENT", "TRACE", UNSAMPLED)
    trace()
    run("SET", "k", "v")
    with pytest.raises(CommandError):
        run("LPUSH", "k", "v")
    run("CLIENT", "TRACE", "OFF")
    (span,) = [span for span in trace() if span.trace_id == int(TRACE_ID, 16)]
    assert (span.status, span.reason, span.parent_id) == ("WRONGTYPE", "error", int(PARENT_ID, 16))


def test_all_requests_are_kept_at_a_ratio_of_one_and_about_a_part_of_them_below(run, engine, client, trace):
    run("CONFIG", "SET", "tracing-sample-ratio", "1")
    trace()
    data = encode_request(("SET", "k", "v")) * 100
    execute(client, data)
    assert len([span for span in trace() if span.operation == "SET"]) == 100
    run("CONFIG", "SET", "tracing-sample-ratio", "0.1")
    for _ in range(50):
        execute(client, data)
    engine.tick()
    assert 250 < engine.tracing.kept["sampled"] < 1000


def test_what_fails_is_kept_at_a_ratio_of_zero(run, trace):
    for words in (("NOPE", "secret"), ("GET",), ("INCR", "list"), ("CONFIG", "SET", "nope", "secret")):
        run("DEL", "list")
        run("RPUSH", "list", "a")
        with pytest.raises(CommandError):
            run(*words)
    spans = trace()
    assert [(span.operation, span.status, span.reason) for span in spans] == [
        ("", "ERR", "error"), ("GET", "ERR", "error"), ("INCR", "WRONGTYPE", "error"), ("CONFIG SET", "ERR", "error"),
    ]  # fmt: skip
    assert "secret" not in repr(spans)


def test_what_is_slow_is_kept_at_a_ratio_of_zero(run, trace):
    run("DEBUG", "SLEEP", "0.2")
    run("CONFIG", "SET", "tracing-slow-ms", "1000")
    run("DEBUG", "SLEEP", "0.2")
    (span,) = trace()
    assert (span.operation, span.reason) == ("DEBUG", "slow")
    assert span.stop_ns - span.start_ns == 200_000_000


def test_what_has_waited_for_long_is_kept_as_well(engine, client, clock, trace):
    """Its own work is a matter of microseconds."""
    other = engine.connect()
    clock.advance_ms(1000)
    engine.service.prepared(clock.monotonic_ns())
    engine.execute(client, encode_request(("DEBUG", "SLEEP", "0.5")))
    engine.execute(other, encode_request(("PING",)))
    engine.execute(other, encode_request(("PING",)))
    spans = [span for span in trace() if span.operation == "PING"]
    assert [(span.reason, next(name for name, _ in span.events)) for span in spans] == [("slow", "wait")]
    assert spans[0].stop_ns - spans[0].start_ns >= 100_000_000


def test_phases_are_in_order_and_within_the_span(engine, client, clock, trace):
    data = encode_request(("CLIENT", "TRACE", SAMPLED)) + encode_request(("DEBUG", "SLEEP", "0.02")) * 2
    engine.execute(client, data, lambda _: clock.advance_ms(5))
    for span in trace():
        times = [span.start_ns, *(time_ns for _, time_ns in span.events), span.stop_ns]
        assert times == sorted(times)
        assert [name for name, _ in span.events if name in ("execute", "flush")] == ["execute", "flush"]
        assert dict(span.events)["flush"] - dict(span.events)["execute"] == 20_000_000
    assert span.stop_ns - dict(span.events)["flush"] == 5_000_000


def test_a_transaction_is_a_part_of_its_request(run, trace):
    run("MULTI")
    run("SET", "k", "v")
    run("INCR", "k")
    run("EXEC")
    request, transaction = sorted(trace(), key=lambda span: span.parent_id)
    assert (request.operation, request.status, request.reason) == ("EXEC", "ERR", "error")
    assert (transaction.name, transaction.parent_id) == ("kora.transaction", request.span_id)
    assert transaction.attributes == request.attributes == {"db.operation.batch.size": 2}
    assert request.start_ns <= transaction.start_ns <= transaction.stop_ns <= request.stop_ns


def test_a_script_is_a_part_of_its_request_and_may_see_to_its_errors_itself(run, trace):
    pytest.importorskip("lupa")
    run("SET", "k", "v")
    run("EVAL", "redis.pcall('LPUSH', 'k', 'v') return 1", "0")
    assert trace() == []
    with pytest.raises(CommandError):
        run("EVAL", "return redis.call('LPUSH', 'k', 'v')", "0")
    with pytest.raises(CommandError):
        run("EVAL", "return redis.pcall('LPUSH', 'k', 'v')", "0")
    spans = trace()
    requests = [span for span in spans if span.name == "kora.request"]
    assert [span.status for span in requests] == ["WRONGTYPE", "WRONGTYPE"]
    assert {span.parent_id for span in spans if span.name == "kora.script"} == {span.span_id for span in requests}


def test_who_waits_has_a_span_once_it_is_answered(run, connect, clock, trace):
    waiter = connect()
    waiter.send("CLIENT", "TRACE", SAMPLED, "ONCE")
    assert waiter.send("BLPOP", "list", "0") == []
    assert trace() == []
    clock.advance_ms(300)
    run("RPUSH", "list", "a")
    waiter.send("BLPOP", "list", "0")
    (span,) = trace()
    assert (span.operation, span.trace_id, span.status) == ("BLPOP", int(TRACE_ID, 16), "")
    assert span.stop_ns - span.start_ns == 300_000_000
    run("CLIENT", "UNBLOCK", str(waiter.client.id), "ERROR")
    (span,) = trace()
    assert (span.operation, span.status) == ("BLPOP", "UNBLOCKED")


def test_making_room_is_a_part_of_the_request_that_needs_it(run, trace):
    for number in range(50):
        run("SET", f"k{number}", "x" * 1000)
    run("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    run("CONFIG", "SET", "maxmemory", "30000")
    run("CLIENT", "TRACE", SAMPLED)
    trace()
    run("SET", "k", "v")
    run("CLIENT", "TRACE", "OFF")
    names = {span.name: span for span in trace()}
    assert names.keys() >= {"kora.request"}


def test_arguments_are_told_only_if_that_is_wanted_and_never_passwords(run, trace):
    def text_of(*words: str) -> str:
        run("CLIENT", "TRACE", SAMPLED, "ONCE")
        with contextlib.suppress(CommandError):
            run(*words)
        return next(iter(trace()[-1].attributes.values()), "")

    assert text_of("SET", "key", "value") == ""
    run("CONFIG", "SET", "tracing-arguments", "keys")
    assert text_of("SET", "key", "value") == "SET key ?"
    assert text_of("MSET", "a", "1", "b", "2") == "MSET a ? b ?"
    assert text_of("CONFIG", "GET", "maxmemory") == "CONFIG GET ?"
    run("CONFIG", "SET", "tracing-arguments", "all")
    assert text_of("SET", "key", "a\x00b") == "SET key a\\x00b"
    assert text_of("SET", "key", "x" * 100) == "SET key " + "x" * 64 + "..."
    for words in (
        ("AUTH", "hunter2"),
        ("ACL", "SETUSER", "u", ">hunter2"),
        ("CONFIG", "SET", "requirepass", "hunter2"),
    ):
        assert "hunter2" not in text_of(*words)


def test_arguments_are_told_of_requests_that_are_chosen(run, engine, trace):
    run("CONFIG", "SET", "tracing-arguments", "keys", "tracing-sample-ratio", "1")
    trace()
    run("SET", "key", "value")
    run("LPUSH", "list", "value")
    texts = [span.attributes.get("db.query.text") for span in trace()]
    assert {"SET key ?", "LPUSH list ?"} <= set(texts)


def test_the_slow_log_and_the_log_know_the_trace(run, engine, trace):
    lines: list[Any] = []
    engine.log = lambda level, message, **fields: lines.append((message, fields))
    run("CONFIG", "SET", "slowlog-log-slower-than", "10000", "slowlog-extended", "yes")
    run("CLIENT", "TRACE", SAMPLED, "ONCE")
    run("DEBUG", "SLEEP", "0.05")
    run("DEBUG", "SLEEP", "0.05")
    assert [entry[8] for entry in run("SLOWLOG", "GET")] == [b"", TRACE_ID.encode()]
    assert [fields.get("trace_id") for message, fields in lines if message == "slow command"] == [TRACE_ID, None]


def test_internal_errors_are_logged_with_their_trace(run, engine, client, trace, monkeypatch):
    lines: list[Any] = []
    engine.log = lambda level, message, **fields: lines.append((message, fields))

    def broken(client: Any, argv: list[bytes]) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(engine.commands[b"SORT_RO"], "handler", broken)
    with pytest.raises(CommandError):
        run("SORT_RO", "x")
    (span,) = trace()
    assert [fields["trace_id"] for message, fields in lines if message == "internal error"] == [f"{span.trace_id:032x}"]


def test_trace_get_shows_a_trace_as_a_tree(run, trace):
    run("CLIENT", "TRACE", SAMPLED)
    run("MULTI")
    run("PING")
    run("EXEC")
    run("CLIENT", "TRACE", "OFF")
    requests = [dict(zip(span[::2], span[1::2], strict=True)) for span in run("TRACE", "GET", TRACE_ID)]
    assert [request[b"command"] for request in requests] == [b"MULTI", b"EXEC"]
    assert requests[0][b"parent_id"] == PARENT_ID.encode()
    (child,) = requests[1][b"children"]
    assert child[5] == b"kora.transaction"
    assert run("TRACE", "GET", "f" * 32) == []
    for words, fault in (
        (("GET", "x"), "a trace id is 32 hexadecimal digits"),
        (("LIST", "0"), "count must be between 1 and 10000"),
        (("LIST", "x"), "value is not an integer or out of range"),
    ):
        with pytest.raises(CommandError, match=fault):
            run("TRACE", *words)


def test_trace_get_finds_what_was_chosen(run, engine, trace):
    run("CONFIG", "SET", "tracing-sample-ratio", "1")
    run("SET", "k", "v")
    listed = [dict(zip(span[::2], span[1::2], strict=True)) for span in run("TRACE", "LIST")]
    found = next(span for span in listed if span[b"command"] == b"SET")
    (span,) = run("TRACE", "GET", found[b"trace_id"])
    assert span[11] == b"SET"
    assert span[5] == b"kora.request"


def test_what_waits_is_bounded_and_the_rest_is_counted(run, engine, client, trace):
    taken: list[Any] = []
    engine.tracing.ship = lambda spans, packed, shift_ns: bool(taken)
    run("CONFIG", "SET", "tracing-queue-max", "64", "tracing-sample-ratio", "1")
    assert run("TRACE", "STATUS")[2:4] == [b"exporting", 1]
    execute(client, encode_request(("SET", "k", "v")) * 500 + encode_request(("NOPE",)) * 500)
    engine.tick()
    numbers = engine.tracing.numbers()
    assert numbers["waiting"] <= 64
    taken.append(True)
    engine.tick()
    numbers = engine.tracing.numbers()
    assert numbers["waiting"] == 0
    kept = sum(numbers[name] for name in numbers if name.startswith("kept_"))
    assert kept >= 1000
    assert kept - 128 <= numbers["dropped"] <= kept


def test_without_the_packages_it_cannot_be_turned_on(run, engine, monkeypatch):
    monkeypatch.setattr("kora.engine.tracing._is_installed", lambda package: False)
    with pytest.raises(CommandError, match=r"pip install 'kora-server\[tracing\]'"):
        run("CONFIG", "SET", "tracing-enabled", "yes")
    assert not engine.config.tracing_enabled
    run("SET", "k", "v")
