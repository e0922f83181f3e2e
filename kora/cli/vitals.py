"""What `kora top` shows: read over RESP alone, from a Kora or, as far as it has the same, from a Redis.

read() asks the server, compare() makes the figures of what happened between two answers; neither knows of a terminal.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import redis

_ROWS_MAX: Final = 20
_HOT_KEYS_WINDOW_S: Final = 10


@dataclass(frozen=True)
class Reading:
    """The answers of one moment; None for what the server does not know or does not tell this user."""

    time_s: float  # of this machine's clock, for the time between two
    info: Mapping[str, Any]
    hot_keys: Mapping[str, Any] | None
    slow: Sequence[Mapping[str, Any]] | None
    events: Sequence[Sequence[Any]] | None
    clients: Sequence[Mapping[str, str]] | None


@dataclass(frozen=True)
class CommandRow:
    name: str
    calls_per_s: float
    busy: float  # share of the time between the readings
    mean_us: float
    p99_us: float | None  # since start
    failed_per_s: float


@dataclass(frozen=True)
class HotKeyRow:
    key: str
    per_s: float
    share: float  # of all accesses
    reads: int
    writes: int


@dataclass(frozen=True)
class SlowRow:
    id: int
    time_s: int
    elapsed_us: int
    request: str
    client: str


@dataclass(frozen=True)
class EventRow:
    name: str
    time_s: int
    last_ms: int
    max_ms: int


@dataclass(frozen=True)
class ClientRow:
    id: str
    address: str
    name: str
    user: str
    command: str
    idle_s: int
    memory_bytes: int


@dataclass(frozen=True)
class Vitals:
    server: str  # name and version
    uptime_s: int
    commands_per_s: float
    hit_ratio: float | None
    clients: int
    blocked: int
    keys: int
    used_bytes: int
    rss_bytes: int
    limit_bytes: int  # 0: none
    bytes_in_per_s: float
    bytes_out_per_s: float
    evicted_per_s: float
    expired_per_s: float
    errors_per_s: float
    cpu: float  # cores
    commands: list[CommandRow] = field(default_factory=list)  # the busiest first
    hot_keys: list[HotKeyRow] | None = None
    slow: list[SlowRow] | None = None
    events: list[EventRow] | None = None
    client_rows: list[ClientRow] | None = None  # those who take the most first

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read(client: "redis.Redis") -> Reading:
    return Reading(
        time_s=time.monotonic(),
        info=client.info("all"),  # not everything: its hot keys have a used_memory of their own
        hot_keys=_ask(client.execute_command, "HOTKEYS", "TOP", _ROWS_MAX, "LAST", _HOT_KEYS_WINDOW_S),
        slow=_ask(client.slowlog_get, _ROWS_MAX),
        events=_ask(client.latency_latest),
        clients=_ask(client.client_list),
    )


def compare(before: Reading, now: Reading) -> Vitals:
    info, elapsed_s = now.info, max(now.time_s - before.time_s, 1e-9)

    def rate(name: str) -> float:
        grown = _number(info, name) - _number(before.info, name)
        return (grown if grown >= 0 else _number(info, name)) / elapsed_s

    hits, misses = rate("keyspace_hits"), rate("keyspace_misses")
    is_kora = "kora_version" in info
    return Vitals(
        server=f"Kora {info['kora_version']}" if is_kora else f"Redis {info.get('redis_version', '?')}",
        uptime_s=int(_number(info, "uptime_in_seconds")),
        commands_per_s=rate("total_commands_processed"),
        hit_ratio=hits / (hits + misses) if hits + misses else None,
        clients=int(_number(info, "connected_clients")),
        blocked=int(_number(info, "blocked_clients")),
        keys=sum(int(row["keys"]) for name, row in info.items() if _is_database(name, row)),
        used_bytes=int(_number(info, "used_memory")),
        rss_bytes=int(_number(info, "used_memory_rss")),
        limit_bytes=int(_number(info, "maxmemory")),
        bytes_in_per_s=rate("total_net_input_bytes"),
        bytes_out_per_s=rate("total_net_output_bytes"),
        evicted_per_s=rate("evicted_keys"),
        expired_per_s=rate("expired_keys"),
        errors_per_s=rate("total_error_replies"),
        cpu=rate("used_cpu_user") + rate("used_cpu_sys"),
        commands=_commands(before.info, info, elapsed_s),
        hot_keys=_hot_keys(now.hot_keys),
        slow=None if now.slow is None else [_slow(row) for row in now.slow],
        events=None if now.events is None else [_event(row) for row in now.events],
        client_rows=None if now.clients is None else _clients(now.clients),
    )


def _ask(function: Callable[..., Any], *words: object) -> Any:
    import redis

    try:
        return function(*words)
    except redis.ResponseError:
        return None  # unknown to this server, or not for this user


def _number(info: Mapping[str, Any], name: str) -> float:
    value = info.get(name, 0)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _is_database(name: str, row: object) -> bool:
    return name.startswith("db") and name[2:].isdigit() and isinstance(row, Mapping) and "keys" in row


def _commands(before: Mapping[str, Any], now: Mapping[str, Any], elapsed_s: float) -> list[CommandRow]:
    rows = []
    for name, stats in now.items():
        if not name.startswith("cmdstat_") or not isinstance(stats, Mapping):
            continue
        old = before.get(name, {})
        if old and old["calls"] > stats["calls"]:
            old = {}  # CONFIG RESETSTAT
        calls = stats["calls"] - old.get("calls", 0)
        elapsed_us = stats["usec"] - old.get("usec", 0)
        if calls <= 0:
            continue
        command = name.removeprefix("cmdstat_")
        latency = now.get(f"latency_percentiles_usec_{command}", {})
        rows.append(
            CommandRow(
                name=command,
                calls_per_s=calls / elapsed_s,
                busy=elapsed_us / 1e6 / elapsed_s,
                mean_us=elapsed_us / calls,
                p99_us=float(latency["p99"]) if "p99" in latency else None,
                failed_per_s=(stats.get("failed_calls", 0) - old.get("failed_calls", 0)) / elapsed_s,
            )
        )
    return sorted(rows, key=lambda row: (-row.busy, row.name))


def _hot_keys(answer: Mapping[str, Any] | None) -> list[HotKeyRow] | None:
    if answer is None:
        return None
    rows = [_pairs(row) for row in _pairs(answer)["keys"]]
    return [
        HotKeyRow(
            key=_text(row["key"]),
            per_s=float(row["per-second"]),
            share=float(row["share"]),
            reads=int(row["reads"]),
            writes=int(row["writes"]),
        )
        for row in rows
    ]


def _slow(row: Mapping[str, Any]) -> SlowRow:
    request, address = _text(row["command"]), _text(row.get("client_address", b""))
    return SlowRow(
        row["id"], row["start_time"], row["duration"], request, _text(row.get("client_name", b"")) or address
    )


def _event(row: Sequence[Any]) -> EventRow:
    name, time_s, last_ms, max_ms = row[:4]
    return EventRow(_text(name), time_s, last_ms, max_ms)


def _clients(rows: Sequence[Mapping[str, str]]) -> list[ClientRow]:
    found = [
        ClientRow(
            id=row["id"],
            address=row["addr"],
            name=row.get("name", ""),
            user=row.get("user", ""),
            command=row.get("cmd", ""),
            idle_s=int(row["idle"]),
            memory_bytes=int(row.get("tot-mem", 0)),
        )
        for row in rows
    ]
    return sorted(found, key=lambda row: (-row.memory_bytes, row.idle_s, int(row.id)))[:_ROWS_MAX]


def _pairs(answer: Any) -> dict[str, Any]:
    """A map as either protocol has it."""
    if isinstance(answer, Mapping):
        return {_text(name): value for name, value in answer.items()}
    return {_text(name): value for name, value in zip(answer[::2], answer[1::2], strict=True)}


def _text(data: Any) -> str:
    return data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else str(data)
