"""What happens to a request: execute() takes bytes and gives replies, call() is where each command is measured.

One clock reading per command: the end of one is the start of the next, so that every nanosecond of a turn, the encoding
of replies included, is charged to the command that spent it; the first pays for parsing.
"""

from collections.abc import Callable, Iterable, Sequence
from random import random
from typing import TYPE_CHECKING, Final, TypeAlias

from kora.errors import (
    AuthRequired,
    CommandError,
    MonitorsOnly,
    OutOfMemory,
    ProtocolError,
    StillLoading,
    SubscribersOnly,
    busy,
    wrong_arity,
)
from kora.observe.board import CLIENT
from kora.observe.commandlog import WORD_BYTES_MAX
from kora.observe.hotkeys import HEAVY_BYTES_BITS, HEAVY_NS_BITS
from kora.observe.recent import ERRORS
from kora.observe.service import NOTABLE_NS, RUN_MAX
from kora.observe.spikes import NOBODY, Offender
from kora.resp.parser import Attributes
from kora.resp.reply import Reply, encode_error
from kora.store.slots import slot_of

from .client import TURN_BYTES_MAX, Client
from .registry import Command
from .slowness import first_key
from .tracing import NEVER
from .transactions import QUEUED

if TYPE_CHECKING:
    from kora.store.keyspace import Keyspace

    from .engine import Engine

Send: TypeAlias = Callable[[bytes], object]  # hands replies over to the socket

_BIG_REPLY_BYTES = 1 << 14
# What is recorded for hot keys always.
HEAVY_NS: Final = 1 << HEAVY_NS_BITS
HEAVY_BYTES: Final = 1 << HEAVY_BYTES_BITS
# A turn of so many commands, behind which there are more, is part of a large pipeline.
FULL_TURN: Final = 256
# How long a command may take part in making room: Redis' limit at its default tenacity (evictionTimeLimitUs, evict.c).
EVICTION_BUDGET_NS = 500_000


def execute(client: Client, data: bytes, send: Send | None = None) -> bytes:
    """Run the requests that some bytes complete, send the replies, encoded, in order, and return them.

    A turn ends early (client.more) when it has run enough commands or made enough replies; the caller comes back with
    resume() after others had theirs.  When client.closing is set, the replies are the last.
    """
    if client.more:
        client.db.stats.bytes_in += len(data)
        client.parser.feed(data)
        return resume(client, send)
    engine = client.engine
    started_ns = engine.now_ns = engine.monotonic_ns()
    service = engine.service if engine.observing else None
    if service is not None:
        service.begin(client, started_ns)
        if started_ns - client.arrived_ns >= engine.tracing.slow_ns:
            engine.tracing.begin_late()
    client.last_ns = started_ns
    reply = _run_read(client, data, started_ns)
    if reply and send is not None:
        send(reply)
    if service is not None:
        service.end(client, engine.monotonic_ns())
        engine.tracing.end_late()
    return reply


def _run_read(client: Client, data: bytes, started_ns: int) -> bytes:
    engine = client.engine
    is_heavy = len(data) + client.parser.buffered_bytes >= engine.large_request_bytes
    try:
        requests = client.parser.read(data)
    except ProtocolError as error:
        client.db.stats.bytes_in += len(data)
        return refuse(client, error)
    turn = _heavy_turn if is_heavy else _turn
    reply = turn(client, requests, started_ns) if requests else b""
    stats = client.db.stats
    stats.bytes_in += len(data)
    stats.bytes_out += len(reply)
    return reply


def resume(client: Client, send: Send | None = None) -> bytes:
    """One turn over what the client has sent and what has not been run yet; as execute()."""
    if client.parked or client.closing:
        return b""
    engine = client.engine
    started_ns = engine.now_ns = engine.monotonic_ns()
    service = engine.service if engine.observing else None
    if service is not None:
        service.go_on(client, started_ns)
    reply = _run_rest(client, started_ns)
    if reply and send is not None:
        send(reply)
    if service is not None:
        service.end(client, engine.monotonic_ns())
    return reply


def _run_rest(client: Client, started_ns: int) -> bytes:
    requests, client.backlog = client.backlog, []
    is_heavy = client.has_heavy_backlog
    if not requests:
        is_heavy = client.parser.buffered_bytes >= client.engine.large_request_bytes
        try:
            requests = client.parser.take()
        except ProtocolError as error:
            return refuse(client, error)
    turn = _heavy_turn if is_heavy else _turn
    reply = turn(client, requests, started_ns)
    client.db.stats.bytes_out += len(reply)
    return reply


def _heavy_turn(client: Client, requests: list[list[bytes]], started_ns: int) -> bytes:
    """A turn for so many bytes that there may be a large request among them."""
    slowness = client.engine.slowness
    slowness.weigh(True)
    try:
        return _turn(client, requests, started_ns)
    finally:
        slowness.weigh(False)
        client.has_heavy_backlog = bool(client.backlog)


def _turn(client: Client, requests: list[list[bytes]], started_ns: int) -> bytes:
    """Run requests for as long as the turn lasts; what is left is in client.backlog and client.parser."""
    engine = client.engine
    later: list[list[bytes]] = []
    if engine.cache is not None:
        if not client.fetched and engine.cache.hold(client, requests):
            client.backlog = requests
            client.more = True
            return b""
        if client.fetched:
            requests, later = requests[: client.fetched], requests[client.fetched :]
    engine.board.words[CLIENT] = client.id
    outer = engine.implementation.running
    engine.implementation.running = client
    client.more = client.parser.more
    out: list[bytes] = []
    call_sampled(client, requests, out)
    engine.implementation.running = outer
    client.fetched = 0
    if client.halted or later:
        client.halted = False
        client.backlog = requests[len(out) :] + later  # one reply each
        client.more = True
    client.last_ns = engine.now_ns
    elapsed_ns = engine.now_ns - started_ns
    if elapsed_ns > engine.loop.turn_max_ns:
        engine.loop.turn_max_ns = elapsed_ns
    if len(requests) >= FULL_TURN and client.more:
        engine.note_full_turn(client, elapsed_ns)
    return out[0] if len(out) == 1 else b"".join(out)


def call_sampled(client: Client, requests: Sequence[list[bytes]], out: list[bytes]) -> None:
    """As call(); but each request whose turn it is to be recorded for hot keys is run, and measured, by itself.

    So is each that is chosen to be traced, unless it is a part of another.
    """
    engine = client.engine
    hot_keys, tracing = engine.hot_keys, engine.tracing
    if not engine.observing:
        call(client, requests, out)
        return
    traced_left = NEVER if engine.nested else tracing.samples_left
    if hot_keys.samples_left > len(requests) and traced_left > len(requests):
        hot_keys.samples_left -= len(requests)
        if not engine.nested:
            tracing.samples_left -= len(requests)
        call(client, requests, out)
        return
    start = 0
    sent_bytes = 0
    while start < len(requests):
        traced_left = NEVER if engine.nested else tracing.samples_left
        count = min(hot_keys.samples_left, traced_left, len(requests) - start)
        is_hot, is_traced = count == hot_keys.samples_left, count == traced_left
        is_due = is_hot or is_traced
        stop = start + count - is_due
        first = len(out)
        if stop > start:
            call(client, requests[start:stop], out)
            # A transaction has counted as well, and a turn that ended early has less to count.
            _pass_over(engine, len(out) - first)
        if is_due and not client.halted:
            _pass_over(engine, 1)
            if is_traced:
                tracing.choose()
            if is_hot:
                _call_measured(client, requests[stop], out)
            else:
                call(client, (requests[stop],), out)
        # What call() counts begins anew each time.
        sent_bytes += sum([len(data) for data in out[first:]])
        if sent_bytes > TURN_BYTES_MAX:
            client.halted = True
        if client.halted:
            return
        start += count


def _pass_over(engine: "Engine", count: int) -> None:
    """So many requests have run, or are about to, of which none is sampled."""
    engine.hot_keys.samples_left = max(1, engine.hot_keys.samples_left - count)
    if not engine.nested:
        engine.tracing.samples_left = max(1, engine.tracing.samples_left - count)


def _call_measured(client: Client, argv: list[bytes], out: list[bytes]) -> None:
    engine = client.engine
    hot_keys = engine.hot_keys
    ratio = hot_keys.ratio
    hot_keys.samples_left = hot_keys.step()
    replies, before, started_ns = len(out), client.command, engine.now_ns
    client.command = None
    call(client, (argv,), out)
    if client.command is None:  # it did not run: queued, refused, unknown
        client.command = before
        return
    elapsed_ns = engine.now_ns - started_ns
    reply_bytes = len(out[-1]) if len(out) > replies else 0
    if elapsed_ns >= HEAVY_NS or reply_bytes >= HEAVY_BYTES:
        return  # recorded already
    note_access(client, engine.registry.find(argv), argv, ratio, elapsed_ns, request_bytes(argv) + reply_bytes)


def call(client: Client, requests: Iterable[list[bytes]], out: list[bytes]) -> None:
    """Run commands one after another and append their replies, encoded, one each: look up, admit, run, settle.

    Nothing escapes but what ends the process: a client's mistake becomes an error reply, a handler's bug becomes
    `-ERR internal error`, logged once with its traceback.  Stops after a command that sets client.halted.
    """
    engine = client.engine
    effects = engine.implementation.effects
    table = engine.commands
    monotonic_ns = engine.monotonic_ns
    audit = engine.audit
    started_ns = engine.now_ns
    big_bytes = 0
    # The same command again and again: see kora/observe/service.py.
    run_slot, run_count, run_start_ns, run_last_ns = -1, 0, 0, 0
    for argv in requests:
        # Look up.
        command = table.get(argv[0])
        if command is None or len(argv) != command.argc_usual:
            if command is None or command.subcommands is not None:
                if type(argv) is Attributes:
                    engine.tracing.follow_attributes(client, argv)
                    out.append(b"")
                    continue
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
        if (client.gated or engine.gated) and not client.is_script:
            admit = _admit_inside if engine.nested else _admit
            answer = admit(engine, client, command, argv)
            if answer is not None:
                if isinstance(answer, CommandError):
                    _reject(client, command, answer, argv, out)
                else:
                    out.append(client.encode(answer))
                continue
            if client.parked:
                client.halted = True
                break
        # Run.
        client.command = command
        if command.lengthy:
            key = argv[command.first_key] if 0 < command.first_key < len(argv) else b""
            engine.board.begin_command(started_ns, command.board_name, client.board_address, key)
        try:
            if effects.on:
                reply = call_journaled(client, command, argv)
            else:
                reply = command.handler(client, argv)
            data = client.encode(reply)  # looked up only now: HELLO may have changed it
        except Exception as error:
            data = failed(client, command, error, argv)
        audited = audit.slots
        if audited is not None and audited[command.slot]:
            audit.note(client, command, argv, data)
        if engine.errands:
            data = run_errands(client, data)
        out.append(data)
        # Settle.
        now_ns = engine.now_ns = monotonic_ns()
        if command.lengthy:
            engine.board.end_command()
        elapsed_ns = now_ns - started_ns
        if engine.observing:
            slot = command.slot
            client.db.stats.commands[slot].record(elapsed_ns)
            if slot != run_slot or run_count == RUN_MAX or elapsed_ns >= NOTABLE_NS:
                run_count = _end_run(engine, run_slot, run_start_ns, run_last_ns, run_count)
                run_slot, run_start_ns = slot, started_ns
            run_count += 1
            run_last_ns = started_ns
            if elapsed_ns >= HEAVY_NS:
                note_access(client, command, argv, 1, elapsed_ns, request_bytes(argv) + len(data))
                if elapsed_ns >= NOTABLE_NS:
                    engine.service.note(client, slot, first_key(command, argv), started_ns, now_ns)
                    run_count = _end_run(engine, run_slot, run_start_ns, run_last_ns, run_count)
                    run_slot = -1
        if elapsed_ns >= engine.slow_ns or len(data) >= engine.large_reply_bytes:
            engine.slowness.note(client, command, argv, elapsed_ns, len(data))
            now_ns = engine.now_ns = monotonic_ns()
        started_ns = now_ns
        if len(data) > _BIG_REPLY_BYTES:
            if len(data) >= HEAVY_BYTES and engine.observing and elapsed_ns < HEAVY_NS:
                note_access(client, command, argv, 1, elapsed_ns, request_bytes(argv) + len(data))
            big_bytes += len(data)
            if big_bytes > TURN_BYTES_MAX:
                client.halted = True
        if client.halted:
            break
    _end_run(engine, run_slot, run_start_ns, run_last_ns, run_count)


def _end_run(engine: "Engine", slot: int, start_ns: int, last_ns: int, count: int) -> int:
    """So many of a command ran one after the other; what runs inside another is a part of that.  Returns 0."""
    if count and not engine.nested:
        engine.service.ran(slot, (start_ns + last_ns) // 2, count)
    return 0


def call_journaled(client: Client, command: Command, argv: list[bytes]) -> Reply:
    """Run a command by its handler, and have the journal know what it has changed."""
    journal = client.engine.journal
    changes = journal.enter()
    try:
        reply = command.handler(client, argv)
    except BaseException:
        journal.leave()
        raise
    journal.settle(client, command, argv, changes)
    return reply


def run_inside(client: Client, requests: list[list[bytes]], size_bytes: int) -> list[bytes]:
    """Run the requests of a transaction, from within the handler of EXEC: all of them, and nobody else's meanwhile."""
    engine = client.engine
    halted, client.halted = client.halted, False
    is_heavy = size_bytes >= engine.large_request_bytes
    if is_heavy:
        engine.slowness.weigh(True)
    engine.nested += 1
    out: list[bytes] = []
    try:
        while len(out) < len(requests):
            call_sampled(client, requests[len(out) :], out)
            halted |= client.closing
            client.halted = False
    finally:
        engine.nested -= 1
        client.halted = halted
        if is_heavy:
            engine.slowness.weigh(False)
    return out


def run_errands(client: Client, data: bytes = b"") -> bytes:
    """What a command has left to do behind itself; returns its reply, with what was pushed to its client meanwhile.

    A message comes behind the reply of the command that sent it, as in Redis 7.2; in a transaction or a script all this
    waits for the end of that, whoever else is attended to meanwhile.
    """
    engine = client.engine
    tracking = engine.tracking
    tracking.settle()
    while engine.untouched:
        keyspace, key, idle_s = engine.untouched.pop()
        keyspace.set_idle(key, idle_s)
    if engine.nested or engine.busy_script:
        return data
    # Those who wait learn that their copies are old before they are served, as in Redis.
    tracking.serve()
    engine.blocking.serve()
    tracking.serve()
    tracking.broadcast()
    engine.errands = False
    if client.pushed:
        data += b"".join(client.pushed)
        client.pushed.clear()
    return data


def run_again(client: Client, command: Command, argv: list[bytes]) -> bytes:
    """Run a command that was waiting for its keys, and return its reply.

    Its client is not the one whose turn it is, and its call was counted when it came.
    """
    latest, client.command = client.command, command
    wish = client.tracking
    engine = client.engine
    if wish is not None:
        engine.tracking.admit(client, wish, command, argv)
    started_ns = engine.monotonic_ns()
    run = call_journaled if engine.journal.on else _call_plainly
    try:
        data = client.encode(run(client, command, argv))
    except Exception as error:
        data = failed(client, command, error, argv)
    finally:
        client.command = latest
        engine.tracking.settle()
    if client.waiting is None:
        if engine.audit.slots is not None and engine.audit.slots[command.slot]:
            engine.audit.note(client, command, argv, data)
        elapsed_ns = engine.monotonic_ns() - started_ns
        if elapsed_ns >= engine.slow_ns or len(data) >= engine.large_reply_bytes:
            engine.slowness.note_unblocked(client, command, argv, elapsed_ns, len(data))
    return data


def _call_plainly(client: Client, command: Command, argv: list[bytes]) -> Reply:
    return command.handler(client, argv)


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
    if command is not None and command.name == "exec":
        client.end_transaction()
        error = CommandError(f"EXECABORT Transaction discarded because of: {error.message.removeprefix('ERR ')}")
    elif client.transaction is not None:
        client.transaction.is_broken = True
    _note_error(client, "" if command is None else command.name, _first_key(command, argv), error.prefix)
    if engine.tracing.is_on:
        engine.tracing.rejected(client, command, error.prefix)
    engine.audit.rejected(client, command, argv, error.prefix)
    out.append(client.encode(error))


def _cut_off_http(engine: "Engine", client: Client) -> None:
    engine.protocol_errors += 1
    client.closing = True
    now_ms = engine.clock.wall_ms()
    # A page that is reloaded does this again and again: once a minute says it as well.
    if now_ms - engine.http_logged_ms > 60_000:
        engine.http_logged_ms = now_ms
        engine.log("warning", "HTTP on the RESP port: connection closed, possibly an attack", client=client.address)


def _admit(engine: "Engine", client: Client, command: Command, argv: list[bytes]) -> Reply:
    """Look closer at a request: None if it may run now, else what it is answered instead.

    Parks the client if it may run later.
    """
    flags = command.flags
    transaction = client.transaction
    ending = transaction if command.name == "exec" else None  # it does whatever was queued
    if not client.authenticated and "no_auth" not in flags:
        return AuthRequired()
    if transaction is not None and "no_multi" in flags:
        return CommandError("ERR Command not allowed inside a transaction")
    denial = _denial(engine, client, command, argv)
    if denial is not None:
        return denial
    needs_memory = "denyoom" in flags or (ending is not None and ending.needs_memory)
    # As in Redis, whatever is on its way takes part in making room; what is over the limit by a little is let be.
    if engine.config.maxmemory and not engine.make_room(EVICTION_BUDGET_NS) and needs_memory:
        return OutOfMemory()
    if engine.audit.is_holding and engine.audit.holds(command):
        client.parked = True
        return None
    if engine.disk_faults:
        # PING, too: a server that cannot keep what it is told is not well.
        changes = "write" in flags or (ending is not None and ending.writes) or command.name == "ping"
        if changes:
            return engine.disk_fault
    if client.listens_only and command.name not in _OF_SUBSCRIBERS:
        return SubscribersOnly(command.name)
    if engine.loading is not None and "loading" not in flags:
        return StillLoading()
    if engine.busy_script and "allow_busy" not in flags:
        return busy(engine.busy_script)
    if client.is_monitor and not flags.isdisjoint(_OF_THE_KEYSPACE):
        return MonitorsOnly()
    writes = "write" in flags or command.name in _AS_GOOD_AS_WRITING or (ending is not None and ending.writes)
    # Redis lets CLIENT UNPAUSE wait like the rest, so that nobody can end a pause of all before its time.
    if engine.paused_until_ms and (writes or not engine.paused_writes_only) and command.name != "client|unpause":
        client.parked = True
        return None
    if engine.writes_wait and writes:
        client.parked = True
        return None
    if transaction is not None and command.name not in _OUTSIDE_TRANSACTIONS:
        transaction.add(argv, needs_memory, writes)
        if transaction.size_bytes > engine.config.client_query_buffer_limit:
            engine.log("warning", "transaction over the limit of query buffers", client=client.address)
            client.closing = True
        return QUEUED
    _note(engine, client, command, argv)
    return None


def _admit_inside(engine: "Engine", client: Client, command: Command, argv: list[bytes]) -> Reply:
    """As _admit(), for what EXEC has begun: only the user's rights may have changed since."""
    denial = _denial(engine, client, command, argv)
    if denial is None:
        _note(engine, client, command, argv)
    return denial


def _note(engine: "Engine", client: Client, command: Command, argv: list[bytes]) -> None:
    """What a request is to leave behind, before it runs: see run_errands()."""
    if client.tracking is not None:
        engine.tracking.admit(client, client.tracking, command, argv)
    if client.never_touches and command.name != "touch":
        keep_untouched(engine, client.db, command, argv)
    if client.context is not None and engine.tracing.is_on and not engine.nested:
        engine.tracing.attend()


def keep_untouched(engine: "Engine", keyspace: "Keyspace", command: Command, argv: list[bytes]) -> None:
    """Have the keys of a request look as if they were last used when they are now."""
    keys = [key for key in command.keys(argv) if keyspace.has_quietly(key)]
    if keys:
        engine.untouched += [(keyspace, key, keyspace.idle_s(key)) for key in keys]
        engine.interrupt()


def _denial(engine: "Engine", client: Client, command: Command, argv: list[bytes]) -> CommandError | None:
    return None if client.user.may_do_all else engine.acl.denial(client, command, argv)


# What a client that is shown what others do may not do itself, by its flags.
_OF_THE_KEYSPACE: Final = frozenset(("write", "readonly", "may_replicate"))
# What a client that listens to channels may say in RESP2, where replies and messages could not be told apart.
_OF_SUBSCRIBERS: Final = frozenset(
    ("ping", "subscribe", "ssubscribe", "psubscribe", "unsubscribe", "sunsubscribe", "punsubscribe", "quit", "reset")
)
# What replicas would be told of besides writes, so that CLIENT PAUSE WRITE holds it up as well.
_AS_GOOD_AS_WRITING: Final = frozenset(("publish", "spublish", "pfcount", "eval", "evalsha", "fcall"))
# What runs at once although MULTI has begun.
_OUTSIDE_TRANSACTIONS: Final = frozenset(("exec", "discard", "multi", "watch", "quit", "reset"))


def failed(client: Client, command: Command, error: Exception, argv: Sequence[bytes] = ()) -> bytes:
    """The reply to a command that ran and raised: the client's mistake, or no more than that it was ours."""
    engine = client.engine
    tracing = engine.tracing
    if tracing.is_on:
        tracing.failed(client, error.prefix if isinstance(error, CommandError) else "ERR")
    if not isinstance(error, CommandError):
        fields = tracing.log_fields(client)
        error = engine.note_bug(error, command=command.name, client=client.address, client_id=client.id, **fields)
    client.db.stats.commands[command.slot].failed += 1
    engine.audit.failed(client, argv, error.prefix)
    _note_error(client, command.name, _first_key(command, argv), error.prefix)
    return client.encode(error)


def _note_error(client: Client, command: str, key: bytes, prefix: str) -> None:
    engine = client.engine
    engine.count_error(prefix)
    deed = engine.recent.note(ERRORS, f"{prefix} {command}")
    if deed.offender is NOBODY:
        if client.is_script and engine.scripting is not None:
            client = engine.scripting.caller
        deed.offender = Offender(command, key[:WORD_BYTES_MAX], client.address, client.name)


def _first_key(command: Command | None, argv: Sequence[bytes]) -> bytes:
    """Of a request that may not have all its words."""
    return argv[command.first_key] if command is not None and 0 < command.first_key < len(argv) else b""


def note_script_call(client: Client, command: Command, argv: list[bytes], reply: Reply, elapsed_ns: int) -> None:
    """Record what a script called for hot keys, because it is its turn or it took long."""
    hot_keys = client.engine.hot_keys
    if hot_keys.samples_left <= 0:
        hot_keys.samples_left = hot_keys.step()
    weight = 1 if elapsed_ns >= HEAVY_NS else hot_keys.ratio
    # It is not encoded; what it would take as an array or a number is not worth it.
    reply_bytes = len(reply) if type(reply) is bytes else 0
    note_access(client, command, argv, weight, elapsed_ns, request_bytes(argv) + reply_bytes)


def note_access(
    client: Client, command: Command, argv: list[bytes], weight: int, elapsed_ns: int, net_bytes: int
) -> None:
    """Record the keys of a request that ran for hot keys; it stands for `weight` like it."""
    hot_keys = client.engine.hot_keys
    if not hot_keys.ratio or not command.names_keys:
        return
    keys = command.keys(argv)
    if not keys:
        return
    share_ns, share_bytes = elapsed_ns // len(keys), net_bytes // len(keys)
    if hot_keys.ratio > 1 and len(keys) > 1:
        # One key stands for all of the command's, or MGET of a thousand would pay for a thousand.
        weight *= len(keys)
        keys = [keys[int(random() * len(keys))]]
    is_write = "write" in command.flags
    # Who does not touch is listed like everybody else, but makes no key look used to eviction.
    weighs = not client.never_touches or command.name == "touch"
    for key in keys:
        hot_keys.recorder.record(
            key, slot_of(key), client.db.index, is_write, client.id, weight, share_ns, share_bytes, weighs
        )


def request_bytes(argv: list[bytes]) -> int:
    """Of a request as it came, had it not come inline."""
    return 3 + len(str(len(argv))) + sum([5 + len(str(len(word))) + len(word) for word in argv])
