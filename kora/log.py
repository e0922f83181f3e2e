"""Logs: events with fields, one line each, as JSON or as text.

    {"timestamp": "2024-01-15T10:30:00.000Z", "level": "INFO", "target": "kora.server", "message": "ready",
     "fields": {"port": 6379}}

A level holds for a target and what is below it: `info` for all, `kora.store=debug` for one part.
"""

import sys
from collections.abc import MutableMapping
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from kora.config import log_levels

# structlog imports rich where that is installed, for tracebacks in colours: a fifth of all the time that a server takes
# to start, for what no line of a log has.
_has_no_rich = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]

import structlog  # noqa: E402

if _has_no_rich:
    del sys.modules["rich"]

# Numbers as in the standard library, with TRACE below DEBUG.
_NUMBERS: Final = {"trace": 5, "debug": 10, "info": 20, "warning": 30, "error": 40}
# What the log line calls a level.
_NAMES: Final = {"trace": "TRACE", "debug": "DEBUG", "info": "INFO", "warning": "WARN", "error": "ERROR"}

Event = MutableMapping[str, Any]


def logger(target: str) -> Any:
    """A logger of a part of Kora: `logger("kora.server").info("ready", port=6379)`."""
    return structlog.get_logger(target=target)


def configure(levels: str, as_json: bool, file: TextIO = sys.stdout) -> None:
    """Set levels (as the setting log-level gives them), form and destination for the whole process."""
    threshold_of = _Levels(levels)

    def drop_quiet(_: Any, method: str, event: Event) -> Event:
        if _NUMBERS[_level(method)] < threshold_of(event.get("target", "kora")):
            raise structlog.DropEvent
        return event

    structlog.configure(
        processors=[drop_quiet, structlog.processors.format_exc_info, _shape, _as_json if as_json else _as_text],
        logger_factory=structlog.PrintLoggerFactory(file),
        cache_logger_on_first_use=False,
    )


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


def _level(method: str) -> str:
    return {"warn": "warning", "exception": "error", "critical": "error", "fatal": "error"}.get(method, method)


def _shape(_: Any, method: str, event: Event) -> Event:
    """The shape of a line; everything that was not named otherwise is a field."""
    message, target = event.pop("event"), event.pop("target", "kora")
    now = datetime.now(timezone.utc)
    return {
        "timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z",
        "level": _NAMES[_level(method)],
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
