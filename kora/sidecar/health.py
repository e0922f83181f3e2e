"""Is the server alive, and does it serve?  Read off the activity board alone: a stuck data loop cannot delay it."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from kora.observe.board import HEARTBEAT, HEARTBEAT_NS, Activity, Board

# The heart beats this often (kora.server.workers): younger than that, a beat is not late.
# What runs for less is not worth telling.
LONG_NS: Final = 10_000_000

OK: Final = "ok"
LOADING: Final = "loading"
SHUTTING_DOWN: Final = "shutting down"
BUSY: Final = "busy running a script"
STUCK: Final = "stuck"


_NOT_READY: Final = {"loading": LOADING, "busy": BUSY}


@dataclass(frozen=True)
class Running:
    """What the data loop has been busy with for long."""

    command: str | None  # None while it runs many requests of a client, or one that never should take long
    key_prefix: str | None
    client: str | None  # its address
    client_id: int
    elapsed_ms: float


@dataclass(frozen=True)
class Health:
    activity: Activity
    stuck_ns: int  # how late the heartbeat is
    stall_ms: int  # how late it may be

    @property
    def stuck(self) -> bool:
        return self._is_late and not self.scripting

    @property
    def scripting(self) -> bool:
        """Whether a script keeps the loop from turning, but will have clients attended to soon, and can be ended."""
        left_ns = self.activity.busy_left_ns
        return self._is_late and left_ns is not None and left_ns > -self.stall_ms * 1_000_000

    @property
    def _is_late(self) -> bool:
        return self.stuck_ns > self.stall_ms * 1_000_000

    @property
    def live(self) -> str:
        """OK, or why this process had better be restarted, or left alone while it ends."""
        if self.activity.state == "draining":
            return SHUTTING_DOWN
        return STUCK if self.stuck else OK

    @property
    def ready(self) -> str:
        """OK, or why clients had better go elsewhere."""
        if self.live != OK:
            return self.live
        return BUSY if self.scripting else _NOT_READY.get(self.activity.state, OK)

    @property
    def running(self) -> Running | None:
        activity = self.activity
        if activity.command and activity.command_elapsed_ns >= LONG_NS:
            return Running(
                command=activity.command,
                key_prefix=activity.key_prefix or None,
                client=activity.address or None,
                client_id=activity.client_id,
                elapsed_ms=_ms(activity.command_elapsed_ns),
            )
        if activity.turn_elapsed_ns >= LONG_NS:
            return Running(None, None, None, activity.client_id, _ms(activity.turn_elapsed_ns))
        return None

    @property
    def loading(self) -> dict[str, Any] | None:
        """How far the loading of the data has come, if it goes on."""
        total_bytes, loaded_bytes = self.activity.loading_bytes, self.activity.loaded_bytes
        if not total_bytes:
            return None
        percent = round(100 * loaded_bytes / total_bytes, 2)
        return {"total_bytes": total_bytes, "loaded_bytes": loaded_bytes, "percent": percent}

    def to_json(self, status: str) -> dict[str, Any]:
        running = self.running
        return {
            "status": status,
            "state": self.activity.state,
            "loop": {
                "stuck_ms": _ms(self.stuck_ns) if self.stuck else 0,
                "heartbeat_age_ms": _ms(self.activity.heartbeat_age_ns),
                "stall_ms": self.stall_ms,
            },
            "running": asdict(running) if running else None,
            "loading": self.loading,
        }


def examine(board: Board, stall_ms: int) -> Health:
    activity = board.read(time.monotonic_ns())
    # Before its first beat a loop has not started, and cannot be late.
    beating = board.words[HEARTBEAT] != 0
    stuck_ns = max(0, activity.heartbeat_age_ns - HEARTBEAT_NS) if beating else 0
    return Health(activity, stuck_ns, stall_ms)


def _ms(elapsed_ns: int) -> float:
    return round(elapsed_ns / 1e6, 1)
