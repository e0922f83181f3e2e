from kora.observe.spikes import NEVER_NS


def test_commands_are_looked_at_only_from_the_lowest_threshold_on(run, engine):
    assert engine.slow_ns == 10_000_000
    run("CONFIG", "SET", "slowlog-log-slower-than", "2000")
    assert engine.slow_ns == 2_000_000
    run("CONFIG", "SET", "latency-monitor-threshold", "1")
    assert engine.slow_ns == 1_000_000
    run("CONFIG", "SET", "slowlog-log-slower-than", "-1", "latency-monitor-threshold", "0")
    assert engine.slow_ns == NEVER_NS
    run("CONFIG", "SET", "slowlog-log-slower-than", "9223372036854775807")
    assert engine.slow_ns == NEVER_NS


def test_everything_is_looked_at_while_there_are_monitors(run, engine, connect):
    session = connect()
    session.send("MONITOR")
    assert engine.slow_ns == 0
    engine.forget(session.client)
    assert engine.slow_ns == 10_000_000


def test_nothing_is_looked_at_without_observation(run, engine):
    run("CONFIG", "SET", "observation", "no")
    assert engine.slow_ns == engine.large_reply_bytes == engine.large_request_bytes == NEVER_NS
    run("CONFIG", "SET", "observation", "yes")
    assert (engine.slow_ns, engine.large_reply_bytes, engine.large_request_bytes) == (10_000_000, 1 << 20, 1 << 20)


def test_a_large_request_makes_only_its_own_turn_looked_at(run, engine):
    run("SET", "k", "x" * (1 << 20))
    assert engine.slow_ns == 10_000_000
    assert run("SLOWLOG", "LEN") == 0 and run("COMMANDLOG", "LEN", "large-request") == 1


def test_a_large_reply_is_noted_whoever_runs_the_command(run):
    run("SET", "k", "x" * (1 << 20))
    run("GET", "k")  # the kernel, where there is one
    run("LCS", "k", "nope")
    run("EVAL", "return redis.call('GET', 'k')", "0")  # a handler
    run("MULTI")
    run("GET", "k")
    run("EXEC")
    names = [entry[3][0] for entry in run("COMMANDLOG", "GET", "-1", "large-reply")]
    assert names == [b"GET", b"EVAL", b"GET"]
