"""A glance: what the dashboard's tables show beside the numbers of a snapshot, as plain data that JSON can carry.

Asked for once a second while somebody looks, and never otherwise; bounded, however many clients and keys there are.
"""

import heapq
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from kora.engine.client_memory import memory_bytes
from kora.engine.slowness import SLOW
from kora.observe.blame import Inflicted
from kora.observe.commandlog import Entry
from kora.observe.hot_windows import HotKey, Ranking
from kora.observe.spikes import Series

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

_HOT_KEYS_MAX: Final = 20
_HOT_KEYS_WINDOW_S: Final = 10
_CLIENTS_MAX: Final = 50
_ENTRIES_MAX: Final = 20
_CULPRITS_MAX: Final = 10
_BLAME_WINDOW_S: Final = 60


def take(engine: "Engine") -> dict[str, Any]:
    ranking = engine.hot_keys.last(_HOT_KEYS_WINDOW_S, b"ACCESSES")
    spikes = engine.slowness.spikes
    return {
        "hot_keys": [_hot_key(engine, key, ranking) for key in ranking.keys[:_HOT_KEYS_MAX]],
        "clients": [_client(client) for client in _active_last(engine)],
        "clients_total": len(engine.clients),
        "slow_log": [_entry(entry) for entry in list(engine.slowness.logs[SLOW].entries)[:_ENTRIES_MAX]],
        "blame": [_culprit(row) for row in engine.blame.top(_BLAME_WINDOW_S, _CULPRITS_MAX)],
        "latency_events": [_event(name, spikes.series[name]) for name in spikes.names()],
    }


def _hot_key(engine: "Engine", key: HotKey, ranking: Ranking) -> dict[str, Any]:
    elapsed_s = max(ranking.elapsed_ns, 1) / 1e9
    user = engine.clients.get(key.client)
    return {
        "key": _text(key.shown_name),
        "db": key.database,
        "reads_per_s": key.reads / elapsed_s,
        "writes_per_s": key.writes / elapsed_s,
        "share": key.accesses / max(ranking.recorded, 1),
        "cpu_share": key.cpu_ns / max(ranking.elapsed_ns, 1),
        "net_bytes_per_s": key.net_bytes / elapsed_s,
        "client": user.address if user is not None else "",
    }


def _active_last(engine: "Engine") -> "list[Client]":
    return heapq.nlargest(_CLIENTS_MAX, engine.clients.values(), key=attrgetter("last_ns"))


def _client(client: "Client") -> dict[str, Any]:
    engine = client.engine
    return {
        "id": client.id,
        "address": client.address,
        "name": _text(client.name),
        "user": _text(client.user.name),
        "db": client.db.index,
        "age_s": max(0, engine.clock.wall_ms() - client.connected_ms) // 1000,
        "idle_s": client.idle_ns // 1_000_000_000,
        "command": client.last_command,
        "memory_bytes": memory_bytes(client),
        "output_bytes": client.output_bytes(),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "time_s": entry.time_s,
        "elapsed_us": entry.value,
        "words": [_text(word) for word in entry.words],
        "client": entry.address,
        "client_name": _text(entry.client_name),
    }


def _culprit(row: Inflicted) -> dict[str, Any]:
    return {
        "name": row.culprit.name,
        "key_prefix": _text(row.culprit.key_prefix),
        "client": _text(row.culprit.client_name) or row.culprit.address,
        "victims": row.victims,
        "waited_s": row.waited_ns / 1e9,
        "waited_s_min": row.waited_ns_min / 1e9,
        "waited_s_max": row.waited_ns_max / 1e9,
        "share": row.share,
    }


def _event(name: str, series: Series) -> dict[str, Any]:
    return {
        "name": name,
        "count": series.count,
        "max_ms": series.latency_ms_max,
        "worst": {"command": series.worst.command, "key": _text(series.worst.key), "client": series.worst.address},
        "samples": [[sample.time_s, sample.latency_ms] for sample in series.samples],
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
