"""Logs: events with fields, one line each, as JSON or as text.

    {"timestamp": "2024-01-15T10:30:00.000Z", "level": "INFO", "target": "kora.server", "message": "ready",
     "fields": {"port": 6379}}

A level holds for a target and what is below it: `info` for all, `kora.store=debug` for one part.

What goes wrong a thousand times a second must not fill the disk: of lines that say the same, some are written, and then
one that tells how many more there were.
"""

import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from kora.clock import Clock
from kora.config import log_levels

# structlog imports rich where that is installed, for tracebacks in colours: a fifth of all the time that a server takes
# to start, for what no line of a log has.
_has_no_rich = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]

import structlog  # noqa: E402

if _has_no_rich:
    del sys.modules["rich"]

# How long lines that say the same are counted together.
REPEATS_S: Final = 10.0
_REPEATS_NS: Final = int(REPEATS_S * 1e9)

# Numbers as in the standard library, with TRACE below DEBUG.
_NUMBERS: Final = {"trace": 5, "debug": 10, "info": 20, "warning": 30, "error": 40}
# What the log line calls a level.
_NAMES: Final = {"trace": "TRACE", "debug": "DEBUG", "info": "INFO", "warning": "WARN", "error": "ERROR"}

Event = MutableMapping[str, Any]


def logger(target: str) -> Any:
    """A logger of a part of Kora: `logger("kora.server").info("ready", port=6379)`."""
    return structlog.get_logger(target=target)


@dataclass
class _Window:
    """Lines that say the same: the same level, target and message."""

    started_ns: int
    written: int = 0
    repeated: int = 0  # that were not


class Log:
    """Where the lines of this process go, and which: there is one, from when it is made."""

    def __init__(
        self, path: str = "", as_json: bool = True, stream: TextIO = sys.stdout, clock: Clock | None = None
    ) -> None:
        """To a file if there is a path, or else to the stream.  Raises OSError where the file cannot be opened."""
        self._path = path
        self._clock = clock or Clock()
        self._stream = stream
        self._file = _open(path) if path else stream
        self._threshold_of = _Levels("info")
        # By what they say; 0: all lines are written.
        self.repeats_max = 0
        self._windows: dict[tuple[str, str, str], _Window] = {}
        self.lost = 0  # lines that could not be written
        structlog.configure(
            processors=[
                self._drop_quiet,
                self._drop_repeated,
                structlog.processors.format_exc_info,
                _shape,
                _as_json if as_json else _as_text,
            ],
            # With any level as a method; the usual one knows of no trace.
            wrapper_class=structlog.BoundLogger,
            logger_factory=self._factory,
            cache_logger_on_first_use=False,
        )

    def set_levels(self, levels: str) -> None:
        """As the setting log-level gives them."""
        self._threshold_of = _Levels(levels)

    def reopen(self) -> None:
        """Go on in a new file, if somebody has moved the old one away.  Raises OSError, and then stays where it is."""
        if not self._path:
            return
        file = _open(self._path)
        former, self._file = self._file, file
        former.close()

    def tell_repeats(self, at_once: bool = False) -> None:
        """Write how many lines there were that were not written, once they are counted; to be called now and then."""
        now_ns = self._clock.monotonic_ns()
        over = [key for key, window in self._windows.items() if at_once or now_ns - window.started_ns >= _REPEATS_NS]
        for method, target, message in over:
            window = self._windows.pop((method, target, message))
            if window.repeated:
                getattr(structlog.get_logger(target=target), method)(message, repeated=window.repeated)

    def close(self) -> None:
        """What is logged from now on goes to the stream."""
        self.tell_repeats(at_once=True)
        if self._path:
            self._file.close()
            self._file = self._stream

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # For structlog

    def _factory(self, *_: object) -> "Log":
        return self

    def msg(self, line: str) -> None:
        """Write a line.  A full disk or a pipe that nobody reads is no reason to fail at what is logged."""
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except (OSError, ValueError):
            self.lost += 1

    trace = debug = info = warning = error = msg

    def _drop_quiet(self, _: Any, method: str, event: Event) -> Event:
        if _NUMBERS[method] < self._threshold_of(event.get("target", "kora")):
            raise structlog.DropEvent
        return event

    def _drop_repeated(self, _: Any, method: str, event: Event) -> Event:
        if not self.repeats_max or "repeated" in event:
            return event
        self.tell_repeats()
        key = (method, event.get("target", "kora"), event["event"])
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(self._clock.monotonic_ns())
        if window.written >= self.repeats_max:
            window.repeated += 1
            raise structlog.DropEvent
        window.written += 1
        return event


def _open(path: str) -> TextIO:
    return open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)


class _Levels:
    """The level number of a target: that of the longest prefix with a level of its own."""

    def __init__(self, text: str) -> None:
        self._numbers = {prefix: _NUMBERS[level] for prefix, level in log_levels(text).items()}

    def __call__(self, target: str) -> int:
        while target:
            if target in self._numbers:
                return self._numbers[target]
            target = target.rpartition(".")[0]
        return self._numbers.get("", _NUMBERS["info"])


def _shape(_: Any, method: str, event: Event) -> Event:
    """The shape of a line; everything that was not named otherwise is a field."""
    message, target = event.pop("event"), event.pop("target", "kora")
    now = datetime.now(timezone.utc)
    return {
        "timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z",
        "level": _NAMES[method],
        "target": target,
        "message": message,
        "fields": dict(event),
    }


_render_json = structlog.processors.JSONRenderer(default=str)


def _as_json(logger: Any, method: str, event: Event) -> str:
    return str(_render_json(logger, method, event))


def _as_text(_: Any, method: str, event: Event) -> str:
    fields = event["fields"]
    exception = fields.pop("exception", "")
    words = [f"{name}={value}" for name, value in fields.items()]
    line = " ".join([event["timestamp"], f"{event['level']:5}", event["target"], event["message"], *words])
    return f"{line}\n{exception}" if exception else line
