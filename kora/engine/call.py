"""What happens to a request: execute() takes bytes and gives replies, call() is where each command is measured.

One clock reading per command: the end of one is the start of the next, so that every nanosecond of a turn, the encoding
of replies included, is charged to the command that spent it; the first pays for parsing.
"""

from collections.abc import Iterable
from random import random
from typing import TYPE_CHECKING

from kora.errors import AuthRequired, CommandError, InternalError, OutOfMemory, ProtocolError, busy, wrong_arity
from kora.observe.board import CLIENT
from kora.resp.reply import encode_error

from .client import TURN_BYTES_MAX, Client
from .registry import Command

if TYPE_CHECKING:
    from .engine import Engine

_BIG_REPLY_BYTES = 1 << 14


def execute(client: Client, data: bytes) -> bytes:
    """Run the requests that some bytes complete, and return the replies, encoded, in order.

    A turn ends early (client.more) when it has run enough commands or made enough replies; the caller comes back with
    resume() after others had theirs.  When client.closing is set, the replies are the last.
    """
    if client.more:
        client.db.stats.bytes_in += len(data)
        client.parser.feed(data)
        return resume(client)
    engine = client.engine
    started_ns = engine.now_ns = client.last_ns = engine.monotonic_ns()
    try:
        requests = client.parser.read(data)
    except ProtocolError as error:
        client.db.stats.bytes_in += len(data)
        return refuse(client, error)
    reply = _turn(client, requests, started_ns) if requests else b""
    stats = client.db.stats
    stats.bytes_in += len(data)
    stats.bytes_out += len(reply)
    return reply


def resume(client: Client) -> bytes:
    """One turn over what the client has sent and what has not been run yet."""
    if client.parked or client.closing:
        return b""
    started_ns = client.engine.now_ns = client.engine.monotonic_ns()
    requests, client.backlog = client.backlog, []
    if not requests:
        try:
            requests = client.parser.take()
        except ProtocolError as error:
            return refuse(client, error)
    reply = _turn(client, requests, started_ns)
    client.db.stats.bytes_out += len(reply)
    return reply


def _turn(client: Client, requests: list[list[bytes]], started_ns: int) -> bytes:
    """Run requests for as long as the turn lasts; what is left is in client.backlog and client.parser."""
    engine = client.engine
    engine.board.words[CLIENT] = client.id
    client.more = client.parser.more
    out: list[bytes] = []
    call(client, requests, out)
    if client.halted:
        client.halted = False
        client.backlog = requests[len(out) :]  # one reply each
        client.more = True
    engine.samples_left -= len(requests)
    if engine.samples_left <= 0 and engine.observing:
        _sample_keys(engine, client, requests)
    client.last_ns = engine.now_ns
    elapsed_ns = engine.now_ns - started_ns
    if elapsed_ns > engine.loop.turn_max_ns:
        engine.loop.turn_max_ns = elapsed_ns
    return out[0] if len(out) == 1 else b"".join(out)


def call(client: Client, requests: Iterable[list[bytes]], out: list[bytes]) -> None:
    """Run commands one after another and append their replies, encoded, one each: look up, admit, run, settle.

    Nothing escapes but what ends the process: a client's mistake becomes an error reply, a handler's bug becomes
    `-ERR internal error`, logged once with its traceback.  Stops after a command that sets client.halted.
    """
    engine = client.engine
    table = engine.commands
    monotonic_ns = engine.monotonic_ns
    started_ns = engine.now_ns
    big_bytes = 0
    for argv in requests:
        # Look up.
        command = table.get(argv[0])
        if command is None or len(argv) != command.argc_usual:
            if command is None or command.subcommands is not None:
                try:
                    command = engine.registry.find(argv)
                except CommandError as error:
                    _reject(client, table.get(argv[0].lower()), error, argv, out)
                    if client.halted:
                        break
                    continue
            if not command.argc_min <= len(argv) <= command.argc_max:
                _reject(client, command, wrong_arity(command.name), argv, out)
                continue
        # Admit.
        if client.gated or engine.gated:
            refusal = _refusal(engine, client, command)
            if refusal is not None:
                _reject(client, command, refusal, argv, out)
                continue
            if client.parked:
                client.halted = True
                break
        # Run.
        client.command = command
        if command.lengthy:
            key = argv[command.first_key] if command.first_key else b""
            engine.board.begin_command(started_ns, command.board_name, client.board_address, key)
        try:
            reply = command.handler(client, argv)
            data = client.encode(reply)  # looked up only now: HELLO may have changed it
        except Exception as error:
            data = failed(client, command, error)
        out.append(data)
        # Settle.
        now_ns = engine.now_ns = monotonic_ns()
        if command.lengthy:
            engine.board.end_command()
        if engine.observing:
            client.db.stats.commands[command.slot].record(now_ns - started_ns)
        started_ns = now_ns
        if len(data) > _BIG_REPLY_BYTES:
            big_bytes += len(data)
            if big_bytes > TURN_BYTES_MAX:
                client.halted = True
        if client.halted:
            break


def refuse(client: Client, error: ProtocolError) -> bytes:
    """What came is not RESP: say so, and be done with this client."""
    client.engine.protocol_errors += 1
    client.engine.count_error("ERR")
    client.closing = client.more = True
    reply = encode_error(f"ERR Protocol error: {error}")
    client.db.stats.bytes_out += len(reply)
    return reply


def _reject(client: Client, command: Command | None, error: CommandError, argv: list[bytes], out: list[bytes]) -> None:
    """Answer a request that is not run; `command` is what it names, if that is known."""
    engine = client.engine
    if command is None and argv[0].lower() in (b"post", b"host:"):
        # A browser was led to send HTTP to this port, and every line of its body would be a request.
        _cut_off_http(engine, client)
        return
    if command is not None and command.slot >= 0:
        client.db.stats.commands[command.slot].rejected += 1
    engine.count_error(error.prefix)
    out.append(client.encode(error))


def _cut_off_http(engine: "Engine", client: Client) -> None:
    engine.protocol_errors += 1
    client.closing = True
    now_ms = engine.clock.wall_ms()
    # A page that is reloaded does this again and again: once a minute says it as well.
    if now_ms - engine.http_logged_ms > 60_000:
        engine.http_logged_ms = now_ms
        engine.log("warning", "HTTP on the RESP port: connection closed, possibly an attack", client=client.address)


def _refusal(engine: "Engine", client: Client, command: Command) -> CommandError | None:
    """Why a command must not run now; None if it may.  Parks the client if it may later."""
    if client.is_script:
        return None
    flags = command.flags
    if engine.busy_script and "allow_busy" not in flags:
        return busy(engine.busy_script)
    if not client.authenticated and "no_auth" not in flags:
        return AuthRequired()
    if "denyoom" in flags and 0 < engine.config.maxmemory < engine.memory_bytes:
        return OutOfMemory()
    is_paused = engine.paused_until_ms and ("write" in flags or not engine.paused_writes_only)
    # Redis lets CLIENT UNPAUSE wait like the rest, so that nobody can end a pause of all before its time.
    if is_paused and command.name != "client|unpause":
        client.parked = True
    return None


def failed(client: Client, command: Command, error: Exception) -> bytes:
    """The reply to a command that ran and raised: the client's mistake, or no more than that it was ours."""
    engine = client.engine
    if not isinstance(error, CommandError):
        engine.internal_errors += 1
        engine.log("error", "internal error", command=command.name, exc_info=error)
        error = InternalError()
    client.db.stats.commands[command.slot].failed += 1
    engine.count_error(error.prefix)
    return client.encode(error)


def _sample_keys(engine: "Engine", client: Client, requests: list[list[bytes]]) -> None:
    """Record one key of this turn as hot, for all that were passed over since the last sample."""
    ratio = engine.config.hotkey_sampling_ratio
    while engine.samples_left <= 0:
        # A random step with the ratio as its mean: an even one would beat with pipelines of a similar length.
        engine.samples_left += 1 + int(random() * (2 * ratio - 1))
        argv = requests[int(random() * len(requests))]
        command = engine.commands.get(argv[0].upper())
        if command is not None and command.first_key and len(argv) >= command.argc_min:
            # One key stands for all of the command's, or MGET of a thousand would pay for a thousand.
            keys = command.keys(argv)
            key = keys[int(random() * len(keys))]
            client.db.stats_of(key).hot_keys.record(key, ratio * len(keys))
