"""Commands that took long, asked for much or gave much: who wants to know of them, and what is written down.

The slow log, the logs of large requests and replies, the latency monitor and MONITOR have one door: call(), or the
kernel, compares what it has measured anyway with engine.slow_ns and engine.large_reply_bytes, the lowest threshold that
anybody has, and comes here only above it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kora.engine.monitors import Monitors
from kora.engine.redaction import redacted
from kora.observe.commandlog import WORD_BYTES_MAX, WORDS_MAX, CommandLog, Entry, cut_word, cut_words
from kora.observe.spikes import NEVER_NS, Offender, Spikes

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.registry import Command

# The logs by the names that COMMANDLOG has for them.
SLOW: Final = "slow"
LARGE_REQUEST: Final = "large-request"
LARGE_REPLY: Final = "large-reply"
LOGS: Final = (SLOW, LARGE_REQUEST, LARGE_REPLY)
_NEVER_BYTES: Final = NEVER_NS
# Lines of the log about slow commands in a second; the next line says how many more there were.
_LINES_PER_S: Final = 5
_KEY_LOGGED_MAX: Final = 64


class Slowness:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.spikes = Spikes()
        self.logs = {name: CommandLog() for name in LOGS}
        self.last_slow: dict[
            str, list[int]
        ] = {}  # by command: [id, µs, Unix time, trace] of its last entry in the slow log
        self.monitors = Monitors(engine)
        # From where on it is written down.
        self._slow_ns = self._request_bytes = self._reply_bytes = 0
        self._usual_ns = NEVER_NS  # the lowest of all that somebody wants to know of
        self._weighing = 0  # how many turns run whose requests may be large
        self._attended = False  # the request that runs is to be noted in any case: see engine/tracing.py
        # Lines of the log in this second, and those left out.
        self._line_s = 0
        self._lines = 0
        self._lines_left_out = 0
        config = engine.config
        for name in (
            "slowlog-log-slower-than",
            "commandlog-request-larger-than",
            "commandlog-reply-larger-than",
            "latency-monitor-threshold",
        ):
            config.on_change(name, lambda _: self.update())
        for log, name in zip(
            LOGS,
            ("slowlog-max-len", "commandlog-large-request-max-len", "commandlog-large-reply-max-len"),
            strict=True,
        ):
            config.on_change(name, self.logs[log].set_max)
        self.logs[SLOW].set_max(config.slowlog_max_len)
        self.logs[LARGE_REQUEST].set_max(config.commandlog_large_request_max_len)
        self.logs[LARGE_REPLY].set_max(config.commandlog_large_reply_max_len)

    def last_kept(self) -> dict[str, list[int]]:
        """Of `last_slow` those entries that SLOWLOG GET still has."""
        entries = self.logs[SLOW].entries
        oldest_id = entries[-1].id if entries else NEVER_NS
        return {name: entry for name, entry in self.last_slow.items() if entry[0] >= oldest_id}

    def update(self) -> None:
        """Work out from where on note() is to be called."""
        engine, config = self._engine, self._engine.config
        slower_us = config.slowlog_log_slower_than
        self._slow_ns = NEVER_NS if slower_us < 0 else min(slower_us * 1_000, NEVER_NS)
        self._request_bytes = _bytes_from(config.commandlog_request_larger_than)
        self._reply_bytes = _bytes_from(config.commandlog_reply_larger_than)
        self.spikes.set_threshold(config.latency_monitor_threshold)
        slow_ns = min(self._slow_ns, self.spikes.threshold_ns, engine.tracing.slow_ns)
        # Without observation nothing is timed, but monitors are shown everything.
        if not engine.observing:
            slow_ns = self._slow_ns = self._request_bytes = self._reply_bytes = NEVER_NS
        self._usual_ns = 0 if self.monitors or self._weighing else slow_ns
        engine.large_reply_bytes = self._reply_bytes
        engine.large_request_bytes = self._request_bytes
        self.attend(self._attended)

    def attend(self, is_attended: bool) -> None:
        """Have note() called for the request that runs whatever it takes, or no more."""
        self._attended = is_attended
        engine = self._engine
        engine.slow_ns = 0 if is_attended else self._usual_ns
        engine.implementation.set_slow(engine.slow_ns, self._reply_bytes, self._request_bytes)

    def weigh(self, is_heavy: bool) -> None:
        """A turn begins, or ends, in which there may be a large request: only note() knows how large each is."""
        self._weighing += 1 if is_heavy else -1
        self.update()

    def note(
        self, client: "Client", command: "Command", argv: Sequence[bytes], elapsed_ns: int, reply_bytes: int
    ) -> None:
        """A command has run that reached a threshold, or runs while there are monitors."""
        if self.monitors and command.flags.isdisjoint(_UNSHOWN):
            self.monitors.show(client, redacted(command, argv))
        tracing = self._engine.tracing
        trace_id = tracing.settle(client, command, argv, len(argv), elapsed_ns) if tracing.is_on else ""
        self._record(client, command, argv, elapsed_ns, reply_bytes, trace_id)

    def _record(
        self,
        client: "Client",
        command: "Command",
        argv: Sequence[bytes],
        elapsed_ns: int,
        reply_bytes: int,
        trace_id: str,
    ) -> None:
        words = [cut_word(word) for word in argv[:WORDS_MAX]]
        key = first_key(command, argv)
        self._record_cut(client, command, words, len(argv), key, elapsed_ns, _bytes_of(argv), reply_bytes, trace_id)

    def note_cut(
        self,
        client: "Client",
        command: "Command",
        words: Sequence[bytes],
        argc: int,
        key: bytes,
        elapsed_ns: int,
        request_bytes: int,
        reply_bytes: int,
    ) -> None:
        """As note(), for a request of which only the first words are there, each cut by cut_word()."""
        tracing = self._engine.tracing
        trace_id = tracing.settle(client, command, words, argc, elapsed_ns) if tracing.is_on else ""
        self._record_cut(client, command, words, argc, key, elapsed_ns, request_bytes, reply_bytes, trace_id)

    def _record_cut(
        self,
        client: "Client",
        command: "Command",
        words: Sequence[bytes],
        argc: int,
        key: bytes,
        elapsed_ns: int,
        request_bytes: int,
        reply_bytes: int,
        trace_id: str,
    ) -> None:
        is_slow = elapsed_ns >= self._slow_ns
        is_spike = elapsed_ns >= self.spikes.threshold_ns and self._engine.observing
        is_large = request_bytes >= self._request_bytes or reply_bytes >= self._reply_bytes
        if not (is_slow or is_spike or is_large):
            return
        if client.is_script and self._engine.scripting is not None:
            client = self._engine.scripting.caller
        time_s = self._engine.clock.wall_ms() // 1_000
        slowlog_id = -1
        # Who waits is not done yet: it is logged when it gets what it waits for.
        if client.waiting is None and "skip_slowlog" not in command.flags:
            shown = cut_words(redacted(command, words), argc)
            logged = client.address, client.name
            entries = []
            if is_slow:
                entries.append(self.logs[SLOW].add(time_s, elapsed_ns // 1_000, shown, *logged))
                slowlog_id = entries[0].id
                trace = int(trace_id, 16) if trace_id else 0
                self.last_slow[command.name] = [slowlog_id, elapsed_ns // 1_000, time_s, trace]
            if request_bytes >= self._request_bytes:
                entries.append(self.logs[LARGE_REQUEST].add(time_s, request_bytes, shown, *logged))
            if reply_bytes >= self._reply_bytes:
                entries.append(self.logs[LARGE_REPLY].add(time_s, reply_bytes, shown, *logged))
            for entry in entries:
                entry.trace_id = trace_id
            self._time_service(client, entries, elapsed_ns)
        offender = Offender(command.name, key[:WORD_BYTES_MAX], client.address, client.name, slowlog_id)
        if slowlog_id >= 0:
            self._log(time_s, offender, elapsed_ns, trace_id)
        if is_spike:
            self.spikes.note("fast-command" if command.fast else "command", elapsed_ns, time_s, offender)
            if command.group == "scripting" and "skip_monitor" in command.flags:
                self.spikes.note("script", elapsed_ns, time_s, offender)

    def _time_service(self, client: "Client", entries: Sequence[Entry], elapsed_ns: int) -> None:
        engine = self._engine
        for entry in entries:
            entry.service_us = elapsed_ns // 1_000
            # Who was waiting for keys is answered in the middle of what another asked for.
            if client is engine.implementation.running:
                engine.service.write_down(entry, engine.monotonic_ns() - elapsed_ns)

    def note_unblocked(
        self, client: "Client", command: "Command", argv: Sequence[bytes], elapsed_ns: int, reply_bytes: int
    ) -> None:
        """A command that waited for its keys has got them: it ran once more, and so long."""
        if elapsed_ns >= self.spikes.threshold_ns:
            key = first_key(command, argv)
            self._note_spike("command-unblocking", elapsed_ns, Offender(command.name, key, client.address, client.name))
        self._record(client, command, argv, elapsed_ns, reply_bytes, self._engine.tracing.waiting_id(client))

    def note_event(self, event: str, elapsed_ns: int, key: bytes = b"") -> None:
        """Something that is no command took so long, which may be nothing to speak of."""
        if self._engine.tracing.is_on:
            self._engine.tracing.note_event(event, elapsed_ns)
        if elapsed_ns >= self.spikes.threshold_ns:
            self._note_spike(event, elapsed_ns, Offender(key=key))

    def note_flush(self, client: "Client", elapsed_ns: int) -> None:
        """A reply did not go out at once, and took so long until it had."""
        if elapsed_ns >= self.spikes.threshold_ns:
            offender = Offender(client.last_command, address=client.address, client_name=client.name)
            self._note_spike("client-flush", elapsed_ns, offender)

    def _note_spike(self, event: str, elapsed_ns: int, offender: Offender) -> None:
        self.spikes.note(event, elapsed_ns, self._engine.clock.wall_ms() // 1_000, offender)

    def note_lag(self, lag_ns: int) -> None:
        """The loop was late: whoever was slow since it was not is to blame."""
        culprit = self.spikes.take_culprit()
        if lag_ns >= self.spikes.threshold_ns:
            self._note_spike("loop-lag", lag_ns, culprit)

    def _log(self, time_s: int, offender: Offender, elapsed_ns: int, trace_id: str) -> None:
        """One line a slow command, without the words of the request: values are nobody's business."""
        if time_s != self._line_s:
            self._line_s, self._lines = time_s, 0
        if self._lines >= _LINES_PER_S:
            self._lines_left_out += 1
            return
        self._lines += 1
        self._engine.log(
            "warning",
            "slow command",
            command=offender.command,
            key=offender.key[:_KEY_LOGGED_MAX].decode("utf-8", "backslashreplace"),
            client=offender.address,
            client_name=offender.client_name.decode("utf-8", "backslashreplace"),
            elapsed_us=elapsed_ns // 1_000,
            slowlog_id=offender.slowlog_id,
            left_out=self._lines_left_out,
            **({"trace_id": trace_id} if trace_id else {}),
        )
        self._lines_left_out = 0


# Commands that MONITOR does not show: they are an operator's affair, or show themselves (call(), server.c).
_UNSHOWN: Final = frozenset(("admin", "skip_monitor"))


def _bytes_from(setting: int) -> int:
    return setting if setting >= 0 else _NEVER_BYTES


def _bytes_of(argv: Sequence[bytes]) -> int:
    """What a request takes on the wire."""
    return len(str(len(argv))) + 3 + sum([len(word) + len(str(len(word))) + 5 for word in argv])


def first_key(command: "Command", argv: Sequence[bytes]) -> bytes:
    """Of a request that has the words that its command asks for."""
    if 0 < command.first_key < len(argv):
        return argv[command.first_key]
    keys = command.keys(argv) if command.key_specs else []
    return keys[0] if keys else b""
