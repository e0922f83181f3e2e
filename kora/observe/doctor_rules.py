"""RULES: what DOCTOR finds, one row each.

A rule is a function of Facts.  `when` says from where on it finds something, and why from there: what a healthy server
does must stay below.  Commands that a rule proposes are exact, so that they can be pasted, and are run by tests.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import strerror
from typing import Final

from kora.observe.commandlog import Entry
from kora.observe.doctor import (
    CRITICAL,
    INFO,
    LITTLE_BYTES,
    WARNING,
    Facts,
    Finding,
    HotKeyFact,
    SlowRequest,
    ranked,
    shown_command,
    stolen_share,
)
from kora.observe.recent import CONNECTIONS, ENDED, ERRORS, LARGE_VALUES, LOGINS, TURNS
from kora.observe.spikes import EVENTS_BY_NAME, NOBODY, Offender, Sample
from kora.observe.units import human_bytes

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000

# Thresholds; the rows of RULES say why.
COSTLY_NS: Final = 50 * MS
COSTLY_MEAN_NS: Final = 2 * MS
COSTLY_ONCE_NS: Final = 100 * MS
CRITICAL_SHARE: Final = 0.25
HOT_SHARE: Final = 0.2
HOT_RATE: Final = 1_000
HUGE_BYTES: Final = 10 << 20
FAILURES: Final = 10
GUESSES: Final = 10
GUESSES_CRITICAL: Final = 100
CONNECTIONS_RATE: Final = 100
PIPELINE_TURNS: Final = 50
PIPELINE_SHARE: Final = 0.05
UNREAD_NS: Final = 2 * SECOND
EXPIRED: Final = 1_000
EXPIRED_SHARE: Final = 0.1
JOB_SHARE: Final = 0.1
STAY_S: Final = 100
EVICTED: Final = 100
DISK_NS: Final = 100 * MS
STOLEN_SHARE: Final = 0.2
PEAK_RATIO: Final = 1.5
RSS_RATIO: Final = 2.0
RSS_OF_NOTHING_BYTES: Final = 64 << 20
CLIENT_BYTES: Final = 200_000
CLIENTS_SHARE: Final = 0.9
STALLED_NS: Final = 100 * MS
COLD_SHARE: Final = 0.2
COLD_RATE: Final = 100
LEVEL0_FILES: Final = 12
PENDING_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class Rule:
    id: str
    area: str  # latency, persistence, memory, keys, clients, errors, security or machine
    when: str
    look: Callable[[Facts], Iterator[Finding]]


def examine(facts: Facts, areas: Sequence[str] = ()) -> list[Finding]:
    """What the rules of some areas, or of all, find."""
    found = [
        replace(finding, id=rule.id, area=rule.area)
        for rule in RULES
        if not areas or rule.area in areas
        for finding in rule.look(facts)
    ]
    return ranked(found, _ORDER)


def help_lines() -> list[str]:
    """What is found, and from where on."""
    return [line for rule in RULES for line in (f"    {rule.id}", f"        {rule.when}")]


# Commands that take long.

_SCRIPTS: Final = frozenset(("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"))
# Commands that may free all there is, and the setting that has it done in the background.  Others always have.
_LAZY: Final = {
    "flushall": "lazyfree-lazy-user-flush",
    "flushdb": "lazyfree-lazy-user-flush",
}
_INSTEAD: Final = {
    "keys": "SCAN gives the same keys in small steps.",
    "smembers": "SSCAN gives the members in small steps; SISMEMBER and SMISMEMBER ask for some.",
    "hgetall": "HSCAN gives the fields in small steps; HMGET asks for some.",
    "hkeys": "HSCAN gives the fields in small steps.",
    "hvals": "HSCAN gives the fields in small steps; HMGET asks for some.",
    "lrange": "Ask for a page at a time, and keep lists short with LTRIM.",
    "zrange": "Ask for a page at a time: a range of ranks, or LIMIT.",
    "sort": "Sort at the client, or keep a sorted set.",
    "del": "Delete some keys at a time: each takes its time, whatever its value.",
}
_SPLIT: Final = "Split large values, or ask for parts of them."


@dataclass(frozen=True)
class _Costly:
    """A command that took so much of the time that others felt it."""

    name: str
    calls: int
    elapsed_ns: int
    own_ns: int  # without what the machine took away
    longest_ns: int
    requests: list[SlowRequest]
    culprit: Offender
    addresses: set[str]  # who asked for it, as far as that is written down

    @property
    def mean_ns(self) -> int:
        return self.elapsed_ns // max(1, self.calls)


def _costly(facts: Facts, wanted: Callable[[str], bool]) -> Iterator[_Costly]:
    calls = facts.by_name("calls")
    for name, elapsed_ns in facts.by_name("elapsed_ns").items():
        count = calls.get(name, 0)
        if not wanted(name) or not count or elapsed_ns < COSTLY_NS or elapsed_ns // count < COSTLY_MEAN_NS:
            continue
        own_ns = facts.own_ns("elapsed_ns", name)
        if own_ns >= (COSTLY_NS if count > 1 else COSTLY_ONCE_NS):
            yield _describe(facts, name, count, elapsed_ns, own_ns)


def _describe(facts: Facts, name: str, calls: int, elapsed_ns: int, own_ns: int) -> _Costly:
    requests = [request for request in facts.slow if request.offender.command == name]
    samples = [
        sample
        for event in ("command", "command-unblocking", "script")
        for sample in facts.spikes.get(event, ())
        if sample.offender.command == name
    ]
    longest_ns = max(
        [elapsed_ns // calls, *(request.elapsed_ns for request in requests), *(s.latency_ms * MS for s in samples)]
    )
    culprit = _main_culprit(requests, samples) or Offender(name)
    if not culprit.address:
        # Each call was too short to be written down; but the keys that take most of the time are known.
        culprit = _by_hot_key(facts, name, elapsed_ns)
    addresses = {request.offender.address for request in requests} | {sample.offender.address for sample in samples}
    return _Costly(name, calls, elapsed_ns, own_ns, longest_ns, requests, culprit, addresses or {culprit.address})


def _main_culprit(requests: Sequence[SlowRequest], samples: Sequence[Sample]) -> Offender | None:
    """Of the pairs of a key and a client the one that took most, at its worst."""
    sums: dict[tuple[bytes, str], int] = {}
    worst: dict[tuple[bytes, str], tuple[int, Offender]] = {}
    told = [(request.elapsed_ns, request.offender) for request in requests]
    for elapsed_ns, offender in told or [(sample.latency_ms * MS, sample.offender) for sample in samples]:
        pair = offender.key, offender.address
        sums[pair] = sums.get(pair, 0) + elapsed_ns
        if pair not in worst or elapsed_ns > worst[pair][0]:
            worst[pair] = elapsed_ns, offender
    if not sums:
        return None
    return worst[max(sums, key=lambda pair: (sums[pair], pair))][1]


def _by_hot_key(facts: Facts, name: str, elapsed_ns: int) -> Offender:
    if facts.hot_by_cpu and facts.hot_by_cpu[0].cpu_ns >= elapsed_ns // 2:
        hot = facts.hot_by_cpu[0]
        return replace(hot.client, command=name, key=hot.name)
    return Offender(name)


def _severity_of(facts: Facts, costly: _Costly) -> str:
    is_severe = costly.own_ns >= CRITICAL_SHARE * facts.elapsed_ns or costly.longest_ns >= SECOND
    return CRITICAL if is_severe else WARNING


def _said(facts: Facts, costly: _Costly) -> tuple[str, dict[str, int | float]]:
    share = costly.elapsed_ns / facts.elapsed_ns
    text = (
        f"{shown_command(costly.name)} was called {_times(costly.calls)} and took {_time(costly.elapsed_ns)} in all, "
        f"{share:.0%} of the time: {_time(costly.mean_ns)} on average, {_time(costly.longest_ns)} at most."
    )
    if costly.own_ns < costly.elapsed_ns * 0.9:
        text += f" {_time(costly.elapsed_ns - costly.own_ns)} of it the machine gave to others."
    numbers: dict[str, int | float] = {
        "calls": costly.calls,
        "elapsed_ms": costly.elapsed_ns // MS,
        "share": round(share, 4),
        "mean_ms": round(costly.mean_ns / MS, 3),
        "longest_ms": round(costly.longest_ns / MS, 3),
    }
    blamed = [row for row in facts.blame if row.culprit.name == costly.name]
    if blamed:
        numbers["inflicted_ms"] = sum(row.waited_ns for row in blamed) // MS
        numbers["victims"] = sum(row.victims for row in blamed)
        waited = _time(sum(row.waited_ns for row in blamed))
        text += f" Others waited {waited} for it together, {_times(sum(row.victims for row in blamed))}."
    return text, numbers


def _stop_client(facts: Facts, costly: _Costly) -> tuple[str, bool]:
    """The command that ends it, where it is one client's doing."""
    if len(costly.addresses) == 1 and facts.is_connected(costly.culprit):
        return f"CLIENT KILL ADDR {costly.culprit.address}", True
    return "SLOWLOG GET 10", False


def _script(facts: Facts) -> Iterator[Finding]:
    running = facts.script
    if running is not None:
        yield Finding(
            CRITICAL,
            f"A script has been running for {_time(running.elapsed_ns)}, and goes on.",
            {"running_ms": running.elapsed_ns // MS},
            "Nobody else's commands are run meanwhile: they are answered BUSY.",
            f"{running.word} KILL",
            True,
            "PING is answered PONG.",
            "Have scripts do a bounded piece of work, and call them again for the next.",
            running.offender,
            running.elapsed_ns,
        )
        return
    for costly in _costly(facts, _SCRIPTS.__contains__):
        text, numbers = _said(facts, costly)
        run, cures = _stop_client(facts, costly)
        yield Finding(
            _severity_of(facts, costly),
            text,
            numbers,
            "A script runs in one piece: everybody else waits until it is done.",
            run,
            cures,
            f"SLOWLOG GET 1 is no newer {shown_command(costly.name)}.",
            "Have scripts do a bounded piece of work, and keep loops over many keys out of them.",
            costly.culprit,
            costly.own_ns,
        )


def _flush(facts: Facts) -> Iterator[Finding]:
    for costly in _costly(facts, lambda name: name in _LAZY and not facts.settings.get(_LAZY[name])):
        text, numbers = _said(facts, costly)
        yield Finding(
            _severity_of(facts, costly),
            text,
            numbers,
            "All keys and values are freed one by one, and everybody else waits until the last is gone.",
            f"CONFIG SET {_LAZY[costly.name]} yes",
            True,
            f"SLOWLOG GET 1 is no newer {shown_command(costly.name)}; lazyfree_pending_objects of INFO memory falls.",
            f"{shown_command(costly.name)} ASYNC does so whatever is set.",
            costly.culprit,
            costly.own_ns,
        )


def _slow_command(facts: Facts) -> Iterator[Finding]:
    def is_wanted(name: str) -> bool:
        is_lazy_off = name in _LAZY and not facts.settings.get(_LAZY[name])
        # Who looks again and again is not to find that.
        is_own = name.partition("|")[0] == "doctor"
        return not (name in facts.fast or name in _SCRIPTS or is_lazy_off or is_own)

    for costly in _costly(facts, is_wanted):
        text, numbers = _said(facts, costly)
        run, cures = _stop_client(facts, costly)
        complexity = facts.complexity.get(costly.name, "")
        yield Finding(
            _severity_of(facts, costly),
            text,
            numbers,
            "Commands run one after another: everybody else waits for this one."
            + (f" Its complexity: {complexity.rstrip('.')}." if complexity else ""),
            run,
            cures,
            f"SLOWLOG GET 1 is no newer {shown_command(costly.name)}.",
            _INSTEAD.get(costly.name, _SPLIT),
            costly.culprit,
            costly.own_ns,
        )


# What else keeps the loop busy.


def _pipeline(facts: Facts) -> Iterator[Finding]:
    for client_id, deed in facts.deeds(TURNS)[:1]:
        share = deed.elapsed_ns / facts.elapsed_ns
        if deed.count < PIPELINE_TURNS or share < PIPELINE_SHARE:
            return
        is_there = facts.is_connected(deed.offender)
        yield Finding(
            WARNING,
            f"One client had {deed.count:,} turns of hundreds of commands, each with more behind it; they took "
            f"{_time(deed.elapsed_ns)}, {share:.0%} of the time.",
            {"turns": deed.count, "elapsed_ms": deed.elapsed_ns // MS, "share": round(share, 4)},
            "Between two of its turns everybody else gets one, and so waits for as long as one of its turns takes.",
            f"CLIENT KILL ID {client_id}" if is_there else "CLIENT LIST TYPE normal",
            is_there,
            "CLIENT LIST TYPE normal has no client with a large qbuf.",
            "Send pipelines of some hundred commands, and read their replies before the next.",
            deed.offender,
            deed.elapsed_ns,
        )


def _expiry(facts: Facts) -> Iterator[Finding]:
    peaks = [
        (second.grown.get(("total", "expired"), 0), second.grown.get(("jobs", "expire-cycle"), 0), second)
        for second in facts.seconds
    ]
    found = [
        (expired, elapsed_ns, second)
        for expired, elapsed_ns, second in peaks
        if expired >= EXPIRED
        and (
            expired >= EXPIRED_SHARE * (second.keys + expired)
            or elapsed_ns * (1 - stolen_share(second)) >= JOB_SHARE * SECOND
        )
    ]
    if not found:
        return
    expired = sum(count for count, _, _ in found)
    elapsed_ns = sum(count for _, count, _ in found)
    most, _, second = max(found, key=lambda row: row[0])
    sampled = facts.deeds(ENDED)
    prefix = sampled[0][0] if sampled else ""
    yield Finding(
        WARNING,
        f"{expired:,} keys ended in {len(found)} s, {most:,} of {second.keys + most:,} in one second; deleting them "
        f"took {_time(elapsed_ns)}.",
        {"expired": expired, "expired_per_second_max": most, "elapsed_ms": elapsed_ns // MS},
        "Whoever needs these keys misses them all at once, and the work of making them again comes at once as well.",
        "INFO keyspace",
        False,
        "expired_keys of INFO stats grows slowly and evenly.",
        "Give deadlines that were set together a random part, of a tenth or more.",
        Offender(key=prefix.encode("utf-8", "surrogateescape")),
        elapsed_ns,
    )


def _eviction(facts: Facts) -> Iterator[Finding]:
    evicted, keys = facts.total("total", "evicted"), facts.numbers.get("keys", 0)
    hits, misses = facts.total("total", "hits"), facts.total("total", "misses")
    is_short = evicted * STAY_S >= keys * facts.elapsed_s
    if evicted < EVICTED or not is_short:
        return
    stay_s = keys * facts.elapsed_s / evicted
    writers = sorted(((calls, name) for name, calls in facts.by_name("writes").items()), reverse=True)
    yield Finding(
        WARNING,
        f"{evicted:,} keys were evicted, {evicted / facts.elapsed_s:,.0f} per second, while {keys:,} are kept: a key "
        f"stays {stay_s:.1f} s on average. {hits:,} reads found their key, {misses:,} did not.",
        {
            "evicted": evicted,
            "keys": keys,
            "stay_seconds": round(stay_s, 1),
            "hits": hits,
            "misses": misses,
            "maxmemory_bytes": facts.numbers.get("maxmemory_bytes", 0),
        },
        "Keys go before they are of use: time is spent on storing and evicting, and reads miss.",
        *_more_memory(facts),
        verify="evicted_keys of INFO stats stays as it is.",
        advice="Store less: shorter deadlines, smaller values, or maxmemory-policy allkeys-lfu, which keeps what is "
        "used often.",
        culprit=Offender(writers[0][1]) if writers else NOBODY,
    )


def _more_memory(facts: Facts) -> tuple[str, bool]:
    """Twice as much, where the machine has it."""
    wanted_bytes = 2 * facts.numbers.get("maxmemory_bytes", 0)
    if 0 < wanted_bytes <= 0.75 * facts.numbers.get("system_bytes", 0):
        return f"CONFIG SET maxmemory {wanted_bytes}", True
    return "MEMORY STATS", False


def _out_of_memory(facts: Facts) -> Iterator[Finding]:
    refused = facts.total("errors", "OOM")
    if not refused:
        return
    run, cures = _more_memory(facts)
    deeds = [(name, deed) for name, deed in facts.deeds(ERRORS) if name.startswith("OOM ")]
    used, limit = facts.numbers.get("used_bytes", 0), facts.numbers.get("maxmemory_bytes", 0)
    yield Finding(
        CRITICAL,
        f"{_times(refused)} a write was refused: the data takes {human_bytes(used)}, "
        f"maxmemory is {human_bytes(limit)}, and the policy is {facts.settings.get('maxmemory-policy', '')}.",
        {"refused": refused, "used_bytes": used, "maxmemory_bytes": limit},
        "What was to be written is lost unless the client tries again.",
        run,
        cures,
        "errorstat_OOM of INFO errorstats stays as it is.",
        "Choose a policy that evicts (CONFIG SET maxmemory-policy allkeys-lru), or store less.",
        deeds[0][1].offender if deeds else NOBODY,
    )


def _hot_key(facts: Facts) -> Iterator[Finding]:
    for hot in facts.hot[:1]:
        if hot.share < HOT_SHARE or hot.rate < HOT_RATE or hot.accesses < HOT_RATE:
            return
        yield _of_hot_key(hot)


def _of_hot_key(hot: HotKeyFact) -> Finding:
    is_one = hot.client_share > 0.5 and hot.client_id > 0
    text = f"{hot.share:.0%} of all accesses go to one key: {hot.rate:,.0f} per second."
    if is_one:
        text += f" {hot.client_share:.0%} of them come from one client."
    return Finding(
        WARNING,
        text,
        {
            "share": round(hot.share, 4),
            "accesses_per_second": round(hot.rate),
            "client_share": round(hot.client_share, 4),
        },
        "One key lives in one place: however the data is spread, this load stays in one piece, and grows with its "
        "users.",
        f"CLIENT KILL ID {hot.client_id}" if is_one else "HOTKEYS TOP 10 LAST 10",
        is_one,
        "HOTKEYS TOP 1 LAST 1 shows a share below 0.2.",
        "Keep a copy at the clients (CLIENT TRACKING), or spread a counter over several keys. A queue's list may be "
        "meant to be so.",
        replace(hot.client if is_one else NOBODY, key=hot.name),
    )


def _huge_values(facts: Facts) -> Iterator[Finding]:
    for log, entries in (("large-request", facts.large_requests), ("large-reply", facts.large_replies)):
        size_bytes = sum(entry.value for entry in entries)
        if size_bytes < HUGE_BYTES:
            continue
        sums: dict[tuple[bytes, str], int] = {}
        for entry in entries:
            pair = _key_of(entry), entry.address
            sums[pair] = sums.get(pair, 0) + entry.value
        most = max(sums, key=lambda pair: (sums[pair], pair))
        worst = max(
            (entry for entry in entries if (_key_of(entry), entry.address) == most), key=lambda entry: entry.value
        )
        kind = "requests" if log == "large-request" else "replies"
        yield Finding(
            WARNING,
            f"{len(entries)} {kind} of a megabyte or more took {human_bytes(size_bytes)} together, the largest "
            f"{human_bytes(max(entry.value for entry in entries))}.",
            {"count": len(entries), "size_bytes": size_bytes, "largest_bytes": max(entry.value for entry in entries)},
            "While such a value is copied and sent, others wait: 10 MB fill a line of 1 Gbit/s for 80 ms.",
            f"COMMANDLOG GET 10 {log}",
            False,
            f"COMMANDLOG GET 1 {log} has no newer entry.",
            "Split values, compress them, or keep them elsewhere and their address here.",
            Offender(
                worst.words[0].decode("utf-8", "backslashreplace").lower(),
                _key_of(worst),
                worst.address,
                worst.client_name,
            ),
        )


def _key_of(entry: Entry) -> bytes:
    return entry.words[1] if len(entry.words) > 1 else b""


# Clients.


def _not_reading(facts: Facts) -> Iterator[Finding]:
    for reader in sorted(facts.readers, key=lambda reader: (-reader.waiting_bytes, reader.client_id)):
        if reader.stuck_ns >= UNREAD_NS:
            yield Finding(
                WARNING,
                f"For {_time(reader.stuck_ns)} a client has not taken any of the {human_bytes(reader.waiting_bytes)} "
                "of replies and messages that wait for it.",
                {"waiting_bytes": reader.waiting_bytes, "stuck_ms": reader.stuck_ns // MS},
                "What waits takes memory, more with every message; and the client itself has stopped, or is cut off.",
                f"CLIENT KILL ID {reader.client_id}",
                True,
                "CLIENT LIST shows no omem that stays.",
                "Read replies while sending requests; client-output-buffer-limit bounds what waits for listeners.",
                reader.offender,
            )
            return


def _storm(facts: Facts) -> Iterator[Finding]:
    connections = facts.total("total", "connections")
    # Who has just started sees all clients connect, once.
    rate = connections / max(facts.elapsed_s, facts.wanted_s)
    if rate < CONNECTIONS_RATE or connections < CONNECTIONS_RATE:
        return
    deeds = facts.deeds(CONNECTIONS)
    host, count = (deeds[0][0], deeds[0][1].count) if deeds else ("", 0)
    yield Finding(
        WARNING,
        f"{connections:,} connections were opened, {rate:,.0f} per second, {count:,} of them from {host}; "
        f"{facts.numbers.get('clients', 0):,} are open.",
        {"connections": connections, "connections_per_second": round(rate), "from_host": count},
        "To open and close a connection takes as long as a hundred GETs, and twice as long at the client.",
        "CLIENT LIST TYPE normal",
        False,
        "total_connections_received of INFO stats grows by few per second.",
        "Use a pool of connections in the client, and keep it for the life of the process.",
        Offender(address=host),
    )


def _turned_away(facts: Facts) -> Iterator[Finding]:
    rejected = facts.total("total", "rejected")
    limit = facts.numbers.get("clients_max", 0)
    clients = facts.numbers.get("clients", 0)
    if not rejected and clients < max(1, CLIENTS_SHARE * limit):
        return
    deeds = facts.deeds(CONNECTIONS)
    yield Finding(
        CRITICAL if rejected else WARNING,
        f"{rejected:,} connections were turned away; {clients:,} of {limit:,} are open.",
        {"rejected": rejected, "clients": clients, "clients_max": limit},
        "Whoever comes beyond maxclients is not served at all.",
        f"CONFIG SET maxclients {2 * limit}",
        True,
        "rejected_connections of INFO stats stays as it is.",
        "CLIENT LIST shows whose connections are idle: a pool that is too large, or connections that are never "
        "closed. CONFIG SET timeout closes those.",
        Offender(address=deeds[0][0]) if deeds else NOBODY,
    )


def _monitor(facts: Facts) -> Iterator[Finding]:
    for client_id, offender in facts.monitors[:1]:
        yield Finding(
            WARNING,
            f"{_number(len(facts.monitors), 'client')} in MONITOR {'is' if len(facts.monitors) == 1 else 'are'} shown "
            "every request.",
            {"monitors": len(facts.monitors)},
            "Each request is written down and sent once more for each of them: the server does about half as much.",
            f"CLIENT KILL ID {client_id}",
            True,
            "CLIENT LIST shows no flags=O.",
            "SLOWLOG, COMMANDLOG and HOTKEYS tell the same of what matters, and cost nothing.",
            offender,
        )


# Errors, and who is not let in.

# What healthy applications do as well: ask for a script that is not there yet, make a group that is, begin before AUTH.
_USUAL: Final = frozenset(("NOSCRIPT", "BUSYGROUP", "NOAUTH", "LOADING", "BUSY", "EXECABORT", "UNBLOCKED", "BUSYKEY"))
_ELSEWHERE: Final = frozenset(("OOM", "WRONGPASS", "NOPERM", "MISCONF"))


def _failures(facts: Facts) -> Iterator[Finding]:
    for name, deed in facts.deeds(ERRORS):
        prefix, _, command = name.partition(" ")
        calls = facts.by_name("calls").get(command, 0) + facts.by_name("rejected").get(command, 0)
        is_always_wrong = prefix == "WRONGTYPE"
        if (
            prefix in _USUAL | _ELSEWHERE
            or deed.count < FAILURES
            or deed.count < facts.elapsed_s
            or not (is_always_wrong or deed.count * 20 >= calls)
        ):
            continue
        key = deed.offender.key
        of_calls = f" of {calls:,} calls" if calls >= deed.count else ""
        yield Finding(
            WARNING,
            f"{shown_command(command) or 'A request'} was answered {prefix} {_times(deed.count)}{of_calls}, "
            f"{deed.count / facts.elapsed_s:,.1f} per second.",
            {"errors": deed.count, "calls": calls, "errors_per_second": round(deed.count / facts.elapsed_s, 1)},
            "The key holds another type than the command is for: two programs, or two versions of one, use the same "
            "key in different ways."
            if is_always_wrong
            else "What the clients wanted to be done was not done.",
            f"TYPE {argument(key)}" if is_always_wrong and key else "INFO errorstats",
            False,
            f"errorstat_{prefix} of INFO errorstats stays as it is.",
            "Roll back what was deployed last, or give the new version keys of its own.",
            deed.offender if deed.offender is not NOBODY else Offender(command),
        )


def _write_refusals(facts: Facts) -> Iterator[Finding]:
    refused = facts.total("errors", "MISCONF")
    if refused:
        deeds = [deed for name, deed in facts.deeds(ERRORS) if name.startswith("MISCONF ")]
        yield Finding(
            CRITICAL,
            f"{_times(refused)} a write was refused, because the last save or write to the journal failed.",
            {"refused": refused},
            "Nothing is written until the disk takes it again.",
            "INFO persistence",
            False,
            "errorstat_MISCONF of INFO errorstats stays as it is.",
            "Look at the log for the reason: a full disk, rights, or a failing device.",
            deeds[0].offender if deeds else NOBODY,
        )


def _failed_save(facts: Facts) -> Iterator[Finding]:
    if facts.numbers.get("save_failed"):
        changes = facts.numbers.get("changes_unsaved", 0)
        yield Finding(
            CRITICAL,
            f"The last save failed; {_number(changes, 'change')} {'is' if changes == 1 else 'are'} not saved.",
            {"changes": changes},
            "What was changed since the last save is lost if the server ends.",
            "BGSAVE",
            True,
            "rdb_last_bgsave_status of INFO persistence is ok.",
            "Look at the log for the reason: a full disk, rights, or a failing device.",
        )


def _audit_log(facts: Facts) -> Iterator[Finding]:
    dropped = facts.total("total", "audit_dropped")
    fault, waits = facts.numbers.get("audit_fault", 0), facts.numbers.get("audit_clients_wait", 0)
    queued_bytes, limit_bytes = facts.numbers.get("audit_queue_bytes", 0), facts.numbers.get("audit_limit_bytes", 1)
    if not (dropped or fault or waits):
        return
    evidence = "More is recorded than can be written"
    if fault:
        evidence = f"The audit log cannot be written ({strerror(fault)})"
    if waits:
        evidence += ", and clients that want what is recorded wait."
    elif dropped:
        evidence += f": {_number(dropped, 'record')} of the audit log {'was' if dropped == 1 else 'were'} dropped."
    else:
        evidence += f"; its queue is full to {queued_bytes / limit_bytes:.0%}."
    yield Finding(
        CRITICAL,
        evidence,
        {"dropped": dropped, "errno": fault, "clients_wait": waits, "queue_bytes": queued_bytes},
        "Nobody will know who did what meanwhile." if not waits else "The server stands still for whoever is recorded.",
        "CONFIG SET audit-on-full drop" if waits else "AUDIT STATUS",
        bool(waits),
        "AUDIT STATUS has no fault, and dropped stays as it is.",
        "Make room on the disk, or have it written elsewhere; record less (audit-categories), or let more wait "
        "(audit-queue-size).",
    )


def _events_behind(facts: Facts) -> Iterator[Finding]:
    behind_ms, dropped = facts.numbers.get("tracked_behind_ms", 0), facts.total("total", "tracked_dropped")
    if not (behind_ms or dropped):
        return
    waiting = facts.numbers.get("tracked_waiting", 0)
    evidence = f"{_number(waiting, 'sum')} of tracked values {'waits' if waiting == 1 else 'wait'} in memory"
    if behind_ms:
        evidence += f", the oldest of which should have been written {behind_ms // 1_000} s ago"
    if dropped:
        evidence += f"; {_number(dropped, 'value')} {'was' if dropped == 1 else 'were'} dropped for want of room"
    yield Finding(
        CRITICAL if dropped else WARNING,
        f"{evidence}.",
        {"behind_ms": behind_ms, "waiting": waiting, "dropped": dropped},
        "Counts that are only in memory are lost with the process, and when there are too many new ones are refused.",
        "INFO events",
        False,
        "events_lag_ms of INFO events falls to 0, and events_dropped stays as it is.",
        "/health of the events port tells the reason: too little memory, a disk that takes no writes, or a server that "
        "has no time for it.",
    )


def _internal_errors(facts: Facts) -> Iterator[Finding]:
    count = facts.total("total", "internal_errors")
    if count:
        yield Finding(
            CRITICAL,
            f"{_times(count)} a command ended in an error of the server's own.",
            {"errors": count},
            "This is a bug in Kora: the command was not carried out, or not wholly.",
            "INFO errorstats",
            False,
            "internal_errors of INFO stats stays as it is.",
            "The log has a traceback of each; please report it.",
        )


def _guesses(facts: Facts) -> Iterator[Finding]:
    wrong = facts.total("total", "denied_auth")
    if wrong < GUESSES:
        return
    deeds = facts.deeds(LOGINS)
    host, deed = deeds[0] if deeds else ("", None)
    offender = deed.offender if deed is not None else NOBODY
    is_there = facts.is_connected(offender)
    count = deed.count if deed is not None else 0
    yield Finding(
        CRITICAL if wrong >= GUESSES_CRITICAL else WARNING,
        f"{_times(wrong)} a login failed, {wrong / facts.elapsed_s:,.1f} per second; {count:,} of them came from "
        f"{host}.",
        {"failures": wrong, "failures_per_second": round(wrong / facts.elapsed_s, 1), "from_host": count},
        "Somebody guesses passwords, or a program has an old one and tries it over and over.",
        f"CLIENT KILL ADDR {offender.address}" if is_there else "ACL LOG 10",
        is_there,
        "acl_access_denied_auth of INFO stats stays as it is.",
        "Let in only those networks that need it (bind, a firewall), and have long passwords (ACL GENPASS).",
        offender,
    )


def _denials(facts: Facts) -> Iterator[Finding]:
    denied = sum(facts.total("total", f"denied_{reason}") for reason in ("command", "key", "channel"))
    if denied < FAILURES:
        return
    deeds = [deed for name, deed in facts.deeds(ERRORS) if name.startswith("NOPERM ")]
    yield Finding(
        WARNING,
        f"{_times(denied)} a user was denied what it asked for, {denied / facts.elapsed_s:,.1f} per second.",
        {"denied": denied, "denied_per_second": round(denied / facts.elapsed_s, 1)},
        "A program has not the rights that it needs, or somebody tries what is not allowed.",
        "ACL LOG 10",
        False,
        "acl_access_denied_cmd, _key and _channel of INFO stats stay as they are.",
        "ACL DRYRUN tells what a user may do, ACL SETUSER gives more.",
        deeds[0].offender if deeds else NOBODY,
    )


# Events of the latency monitor that are no commands.

_EVICTION_EVENTS: Final = ("eviction-cycle", "eviction-del")
_ON_DISK: Final = (
    "The disk took too long, and what waits for it waits as well: with appendfsync always every reply to a write."
)
_DISK_ADVICE: Final = "A local disk or SSD, which nothing else keeps busy."


def _disk(facts: Facts) -> Iterator[Finding]:
    for event, samples in sorted(facts.spikes.items()):
        if not event.startswith(("aof-", "rdb-")) or not samples:
            continue
        longest_ms = max(sample.latency_ms for sample in samples)
        sum_ms = sum(sample.latency_ms for sample in samples)
        if sum_ms * MS < DISK_NS:
            continue
        times = EVENTS_BY_NAME[event].times if event in EVENTS_BY_NAME else ""
        run, cures = "INFO persistence", False
        if event == "aof-fsync-always" and facts.settings.get("appendfsync", "always") == "always":
            run, cures = "CONFIG SET appendfsync everysec", True
        elif event == "aof-write-active-child" and facts.settings.get("no-appendfsync-on-rewrite") is False:
            run, cures = "CONFIG SET no-appendfsync-on-rewrite yes", True
        yield Finding(
            CRITICAL if longest_ms >= 1_000 else WARNING,
            f"{event} took {longest_ms} ms at most, {sum_ms} ms in all, in {_number(len(samples), 'second')}."
            + (f" {times}" if times else ""),
            {"longest_ms": longest_ms, "elapsed_ms": sum_ms, "seconds": len(samples)},
            _ON_DISK,
            run,
            cures,
            f"LATENCY HISTORY {event} has no newer entry.",
            _DISK_ADVICE,
            max(samples, key=lambda sample: sample.latency_ms).offender,
            sum_ms * MS,
        )


def _slow_eviction(facts: Facts) -> Iterator[Finding]:
    samples = [sample for event in _EVICTION_EVENTS for sample in facts.spikes.get(event, ())]
    sum_ns = sum(sample.latency_ms for sample in samples) * MS
    if sum_ns * (1 - _stolen(facts)) < COSTLY_NS:
        return
    worst = max(samples, key=lambda sample: (bool(sample.offender.key), sample.latency_ms))
    yield Finding(
        WARNING,
        f"Making room took {_time(sum_ns)} in {_number(len(samples), 'second')}.",
        {"elapsed_ms": sum_ns // MS},
        "The command that needs room waits until there is: many keys go for one that is large.",
        *_more_memory(facts),
        verify="LATENCY HISTORY eviction-cycle has no newer entry.",
        advice="Store less, or write more slowly.",
        culprit=worst.offender,
        cost_ns=sum_ns,
    )


# The engine under the keys.


def _storage_errors(facts: Facts) -> Iterator[Finding]:
    counts = {name: facts.total("storage", source) for name, source in _STORAGE_FAULTS.items()}
    counts["corruptions"] += facts.total("storage", "footer.corruption.count")
    if not any(counts.values()):
        return
    told = ", ".join(_number(count, name.replace("_", " ")[:-1]) for name, count in counts.items() if count)
    yield Finding(
        CRITICAL,
        f"RocksDB: {told}.",
        counts,
        "Keys may not be readable, and what is written may not be kept.",
        "INFO rocksdb",
        False,
        "number-file-errors-total and background-errors of INFO rocksdb stay as they are.",
        "The server's log, and RocksDB's own beside its files, have the file's name and the reason: a full or failing "
        "disk. What is corrupt has to be restored from a copy.",
    )


# By names of counts in kora/engine/doctor.py.
_STORAGE_FAULTS: Final = {
    "background_errors": "background-errors",
    "failed_commits": "commit_errors",
    "file_errors": "no.file.errors",
    "corruptions": "block.checksum.mismatch.count",
}


def _storage_stall(facts: Facts) -> Iterator[Finding]:
    by_cause = facts.by_name("stalled_us")
    stalled_ns = 1_000 * sum(by_cause.values())
    stopped = facts.numbers.get("is-write-stopped", 0)
    if stalled_ns < STALLED_NS and not stopped:
        return
    cause = max(by_cause, key=lambda name: by_cause[name]) if by_cause else ""
    share = stalled_ns / facts.elapsed_ns
    why, advice = _STALLS.get(cause, _STALLS[""])
    yield Finding(
        CRITICAL if stopped or share >= CRITICAL_SHARE else WARNING,
        f"RocksDB held up writes for {_time(stalled_ns)}, {share:.0%} of the time"
        + (f", most of it because of its {cause.replace('-', ' ')}" if cause in _STALLS else "")
        + (f"; {_number(stopped, 'shard')} cannot write at all right now." if stopped else "."),
        {"stalled_ms": stalled_ns // MS, "share": round(share, 4), "shards_stopped": stopped},
        f"{why} Changes gather in memory meanwhile, and then writers have to wait.",
        "INFO rocksdb",
        False,
        "write-stall-duration-total of INFO rocksdb stays as it is.",
        advice,
        cost_ns=stalled_ns,
    )


_COMPACT_MORE: Final = "Write less, or more evenly; give it a faster disk, or more processors."
_STALLS: Final = {
    "memtables": (
        "More is written than is flushed to files.",
        "Raise rocksdb-write-buffer-bytes for bursts; if it goes on, the disk is too slow for what is written.",
    ),
    "level0-files": ("More files are flushed than compactions merge.", _COMPACT_MORE),
    "pending-compaction": ("Compactions do not keep up with what is written.", _COMPACT_MORE),
    "write-buffer-manager": (
        "All shards together have more in memory than rocksdb-write-buffer-bytes.",
        "Raise rocksdb-write-buffer-bytes.",
    ),
    "": ("Flushes and compactions do not keep up with what is written.", _COMPACT_MORE),
}


def _compaction_behind(facts: Facts) -> Iterator[Finding]:
    files, shards = facts.numbers.get("level0_files", 0), max(1, facts.numbers.get("shards", 1))
    pending = facts.numbers.get("estimate-pending-compaction-bytes", 0)
    live = facts.numbers.get("live-sst-files-size", 0)
    if files < LEVEL0_FILES * shards and not (pending >= PENDING_BYTES and pending >= live / 2):
        return
    yield Finding(
        WARNING,
        f"Compaction is behind: {_number(files, 'file')} in level 0 of {_number(shards, 'shard')}, and about "
        f"{human_bytes(pending)} of {human_bytes(live)} to be compacted.",
        {"level0_files": files, "shards": shards, "pending_bytes": pending, "live_bytes": live},
        "Reads look through more files, and writes are held up if it goes on.",
        "INFO rocksdb",
        False,
        "estimate-pending-compaction-bytes and level0 of INFO rocksdb fall.",
        _COMPACT_MORE,
    )


def _cache_small(facts: Facts) -> Iterator[Finding]:
    cold = facts.total("storage", "cold_fetches") + facts.total("storage", "sync_fetches")
    hits, dropped = facts.total("storage", "hits"), facts.total("storage", "dropped")
    # While it fills, as after a start, nothing has to leave.
    if cold < COLD_SHARE * (hits + cold) or cold < COLD_RATE * facts.elapsed_s or 2 * dropped < cold:
        return
    cache_bytes = facts.numbers.get("cache_bytes", 0)
    is_room = 0 < 2 * cache_bytes <= 0.5 * facts.numbers.get("system_bytes", 0)
    yield Finding(
        WARNING,
        f"{cold:,} keys had to be fetched from RocksDB, {cold / (hits + cold):.0%} of those that were looked for, and "
        f"{dropped:,} had to leave for them: {human_bytes(cache_bytes)} are too little for what is in use.",
        {"fetched": cold, "hits": hits, "dropped": dropped, "cache_bytes": cache_bytes},
        "Each of them makes its client wait for a read from the disk.",
        f"CONFIG SET rocksdb-cache-bytes {2 * cache_bytes}" if is_room else "INFO rocksdb",
        is_room,
        "dropped of INFO rocksdb grows slowly.",
        "Give more memory to rocksdb-cache-bytes, or read fewer keys that were not used for long.",
    )


def _large_values(facts: Facts) -> Iterator[Finding]:
    count, size_bytes = facts.total("storage", "large_values"), facts.total("storage", "large_bytes")
    # Once it is written as every value is.
    if count < 2:
        return
    beyond = facts.settings.get("rocksdb-large-value-bytes", 0)
    deeds = facts.deeds(LARGE_VALUES)
    culprit = deeds[0][1].offender if deeds else NOBODY
    yield Finding(
        WARNING if size_bytes >= HUGE_BYTES else INFO,
        f"Values beyond {human_bytes(beyond)} were written to RocksDB {_times(count)}, {human_bytes(size_bytes)} in "
        "all.",
        {"values": count, "bytes": size_bytes},
        "A value is written as a whole, however little of it has changed, and read as a whole.",
        f"MEMORY USAGE {argument(culprit.key)}" if culprit.key else "INFO rocksdb",
        False,
        "large_values of INFO rocksdb stays as it is.",
        "Split large collections over several keys, by a part of the field or the member.",
        culprit,
    )


def _garbage(facts: Facts) -> Iterator[Finding]:
    elapsed_ns = facts.own_ns("jobs", "gc")
    if elapsed_ns >= PIPELINE_SHARE * facts.elapsed_ns and elapsed_ns >= COSTLY_NS:
        yield Finding(
            WARNING,
            f"Garbage collections took {_time(elapsed_ns)}, {elapsed_ns / facts.elapsed_ns:.0%} of the time.",
            {"elapsed_ms": elapsed_ns // MS, "share": round(elapsed_ns / facts.elapsed_ns, 4)},
            "A collection looks at every object of the interpreter's own, and everybody waits for it.",
            "LATENCY HISTORY gc",
            False,
            "LATENCY HISTORY gc has no newer entry.",
            "Many clients with large transactions or many subscriptions make many objects.",
            cost_ns=elapsed_ns,
        )


def _late_loop(facts: Facts) -> Iterator[Finding]:
    samples = [sample for sample in facts.spikes.get("loop-lag", ()) if not sample.offender.command]
    late_ms = sum(sample.latency_ms for sample in samples)
    if late_ms * MS * (1 - _stolen(facts)) >= DISK_NS:
        yield Finding(
            INFO,
            f"The event loop was late in {_number(len(samples), 'second')}, {late_ms} ms in all, and no command took "
            "long.",
            {"seconds": len(samples), "late_ms": late_ms},
            "Everybody waited for so long.",
            "LATENCY HISTORY loop-lag",
            False,
            "LATENCY HISTORY loop-lag has no newer entry.",
            "Many clients at once make turns of many short commands: another processor, or a second server.",
            cost_ns=late_ms * MS,
        )


def _stolen(facts: Facts) -> float:
    waited_ns, ran_ns = facts.total("total", "processor_wait_ns"), facts.total("total", "processor_ns")
    return waited_ns / max(1, waited_ns + ran_ns)


def _machine(facts: Facts) -> Iterator[Finding]:
    waited_ns = facts.total("total", "processor_wait_ns")
    share = waited_ns / facts.elapsed_ns
    if share >= STOLEN_SHARE:
        yield Finding(
            WARNING,
            f"The server was ready to run and waited for a processor for {_time(waited_ns)}, {share:.0%} of the time.",
            {"waited_ms": waited_ns // MS, "share": round(share, 4)},
            "Others on this machine use its processors: every command takes longer, whatever it does.",
            "LATENCY DOCTOR",
            False,
            "This finding is gone.",
            "Give the server a processor of its own (taskset, cpusets, resource limits), or move the others.",
        )


def _unobserved(facts: Facts) -> Iterator[Finding]:
    if facts.settings.get("observation") is False:
        setting, what = "observation yes", "Observation is off: commands are not timed, and most rules find nothing."
    elif not facts.settings.get("latency-monitor-threshold", 1):
        setting, what = "latency-monitor-threshold 10", "The latency monitor is off: spikes have no culprits."
    else:
        return
    yield Finding(
        INFO,
        what,
        {},
        "What is not measured cannot be found.",
        f"CONFIG SET {setting}",
        True,
        "This finding is gone.",
    )


# Memory.


def _beyond_limit(facts: Facts) -> Iterator[Finding]:
    used, limit = facts.numbers.get("used_bytes", 0), facts.numbers.get("maxmemory_bytes", 0)
    if limit and used > limit * 1.02:
        yield Finding(
            WARNING,
            f"Limit: the data takes {human_bytes(used)}, and maxmemory is {human_bytes(limit)}; the policy is "
            f"{facts.settings.get('maxmemory-policy', '')}.",
            {"used_bytes": used, "maxmemory_bytes": limit},
            "Nothing more can be written where the policy does not evict; where it does, it does not keep up.",
            *_more_memory(facts),
            verify="used_memory of INFO memory is below maxmemory.",
            advice="Choose a policy that evicts, or store less.",
        )


def _peak(facts: Facts) -> Iterator[Finding]:
    used, peak = facts.numbers.get("used_bytes", 0), facts.numbers.get("peak_bytes", 0)
    if used >= LITTLE_BYTES and peak > used * PEAK_RATIO:
        yield Finding(
            INFO,
            f"Peak: there were {human_bytes(peak)} of data, and are {human_bytes(used)}.",
            {"used_bytes": used, "peak_bytes": peak},
            "What was freed may still be held by the process, for the next time.",
            "MEMORY PURGE",
            False,
            "used_memory_rss of INFO memory has fallen.",
        )


def _resident(facts: Facts) -> Iterator[Finding]:
    # What the engine under the keys takes has settings of its own.
    rss = facts.numbers.get("rss_bytes", 0) - facts.numbers.get("storage_bytes", 0)
    used = facts.numbers.get("used_bytes", 0)
    if used >= LITTLE_BYTES and rss > used * RSS_RATIO + RSS_OF_NOTHING_BYTES:
        yield Finding(
            INFO,
            f"Resident memory: the process takes {human_bytes(rss)} for {human_bytes(used)} of data.",
            {"used_bytes": used, "rss_bytes": rss, "ratio": round(rss / used, 2)},
            "Either it held more before, or clients' buffers and background work take it.",
            "MEMORY PURGE",
            False,
            "mem_fragmentation_ratio of INFO memory has fallen.",
            "A restart gives back what a purge does not.",
        )


def _client_memory(facts: Facts) -> Iterator[Finding]:
    clients, taken = facts.numbers.get("clients", 0), facts.numbers.get("clients_bytes", 0)
    if clients and taken > clients * CLIENT_BYTES and taken >= HUGE_BYTES:
        yield Finding(
            INFO,
            f"Clients: {clients:,} connections take {human_bytes(taken)}.",
            {"clients": clients, "clients_bytes": taken},
            "What waits for clients, and what they have sent of a request, takes memory beside the data.",
            "CLIENT LIST",
            False,
            "mem_clients_normal of INFO memory has fallen.",
            "Look at tot-mem in CLIENT LIST; client-output-buffer-limit and maxmemory-clients set limits.",
        )


# Words.


def argument(data: bytes) -> str:
    """A key as redis-cli takes it: in quotes, with escapes, where it is not plain."""
    text = data.decode("latin-1")
    if data and all(character.isascii() and (character.isalnum() or character in _PLAIN) for character in text):
        return text
    return '"' + "".join(_escaped(byte) for byte in data) + '"'


_PLAIN: Final = "-_.:/@{}*+,="


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


def _time(elapsed_ns: int) -> str:
    if elapsed_ns >= 10 * SECOND:
        return f"{elapsed_ns / SECOND:.0f} s"
    if elapsed_ns >= SECOND:
        return f"{elapsed_ns / SECOND:.1f} s"
    return f"{elapsed_ns / MS:.0f} ms" if elapsed_ns >= 10 * MS else f"{elapsed_ns / MS:.1f} ms"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


_COMMAND_WHEN: Final = (
    "Calls took 50 ms or more together, 2 ms or more on average, and a single one 100 ms, without what the machine "
    "took away. That is a half per cent of ten seconds: less is lost among others' waiting, and shorter commands do no "
    "harm. Critical from a quarter of the time, or a second at once."
)

# Causes before what follows from them: among findings that are equally bad, and took as long, the first comes first.
RULES: Final = (
    Rule("internal-errors", "errors", "Any. There should be none.", _internal_errors),
    Rule("writes-refused", "persistence", "Any: data is not being kept.", _write_refusals),
    Rule("audit-log", "security", "Any: what is to be recorded is not, or holds others up.", _audit_log),
    Rule("failed-save", "persistence", "The last save failed: data is not being kept.", _failed_save),
    Rule(
        "storage-errors",
        "persistence",
        "RocksDB could not open, read or write a file, or read something else than was written. There should be none.",
        _storage_errors,
    ),
    Rule("out-of-memory", "memory", "Any: data is not being kept.", _out_of_memory),
    Rule(
        "events-behind",
        "persistence",
        "What was tracked waits three intervals longer than it should, as health says as well: one is late whenever a "
        "command takes long.  Critical where values were dropped.",
        _events_behind,
    ),
    Rule(
        "connections-rejected",
        "clients",
        "Any, or nine tenths of maxclients are in use: a restart of the clients opens as many again at once.",
        _turned_away,
    ),
    Rule(
        "failed-logins",
        "security",
        "10 or more: people mistype once or twice.  Critical from 100, which no program does that has only an old "
        "password.",
        _guesses,
    ),
    Rule("long-script", "latency", f"One runs past busy-reply-threshold, or: {_COMMAND_WHEN}", _script),
    Rule("slow-flush", "latency", f"FLUSHALL or FLUSHDB, in the foreground. {_COMMAND_WHEN}", _flush),
    Rule("slow-command", "latency", f"A command that is not flagged fast. {_COMMAND_WHEN}", _slow_command),
    Rule(
        "slow-disk",
        "persistence",
        "aof- and rdb- events of the latency monitor take 100 ms or more: ten times what a disk of today needs for an "
        "fsync. Critical from a second.",
        _disk,
    ),
    Rule(
        "storage-stall",
        "latency",
        "RocksDB held up writes for 100 ms or more, or does so right now: it does so when it does not keep up.  "
        "Critical from a quarter of the time, or where it writes nothing at all.",
        _storage_stall,
    ),
    Rule(
        "slow-eviction",
        "latency",
        "eviction- events of the latency monitor take 50 ms or more together, as for commands.",
        _slow_eviction,
    ),
    Rule(
        "client-not-reading",
        "clients",
        "More waits for a client than its socket holds, and for 2 s it has taken none of it: a slow one takes some in "
        "that time.",
        _not_reading,
    ),
    Rule(
        "large-pipeline",
        "clients",
        "A client had 50 turns of 256 commands or more with more behind them, and they took 5 % of the time: pipelines "
        "of some hundred commands, the largest that are of use, are done in a turn.",
        _pipeline,
    ),
    Rule(
        "huge-values",
        "latency",
        "Requests or replies of a megabyte or more (commandlog-request-larger-than, commandlog-reply-larger-than) are "
        "10 MB together: 1 MB/s of such, when most values are a thousand times smaller.",
        _huge_values,
    ),
    Rule(
        "failing-commands",
        "errors",
        "A command was answered with the same error 10 times, once a second or more: every WRONGTYPE, or another error "
        "in 5 % of the calls.  Errors that healthy programs see, as NOSCRIPT, do not count.",
        _failures,
    ),
    Rule("denied-commands", "security", "10 or more: people try once or twice.", _denials),
    Rule(
        "eviction-thrash",
        "memory",
        "100 keys or more were evicted, and at this rate all that are kept are gone within 100 s: a cache whose keys "
        "stay for less has little use.",
        _eviction,
    ),
    Rule(
        "storage-cache-small",
        "memory",
        "A fifth of the keys that were looked for, and 100 a second, had to be fetched from RocksDB, while half as "
        "many had to leave memory: what is in use does not fit.",
        _cache_small,
    ),
    Rule(
        "compaction-behind",
        "persistence",
        "Shards have 12 files in level 0 each, of 20 from which on RocksDB holds up writes, and 4 that it begins to "
        "compact at; or half of all files, and 1 GB, are to be compacted.",
        _compaction_behind,
    ),
    Rule(
        "large-values",
        "keys",
        "Values beyond rocksdb-large-value-bytes were written to RocksDB twice or more: each is written as a whole.",
        _large_values,
    ),
    Rule(
        "mass-expiry",
        "keys",
        "In a second 1000 keys or more ended that were a tenth of all, or deleting them took a tenth of it: deadlines "
        "that are spread out end a tenth of all keys in a second only where keys live for ten.",
        _expiry,
    ),
    Rule(
        "connection-storm",
        "clients",
        "100 connections a second over the whole time: whoever keeps connections opens them once.",
        _storm,
    ),
    Rule("monitor", "clients", "Any client in MONITOR.", _monitor),
    Rule(
        "hot-key",
        "keys",
        "A key has a fifth of all accesses, and 1000 per second: the hottest of a thousand keys has an eighth with "
        "the usual skew (Zipf, 0.99), and below a thousand per second no key is a burden.",
        _hot_key,
    ),
    Rule("garbage", "latency", "Collections took 5 % of the time: they take less than 1 % of it.", _garbage),
    Rule(
        "busy-machine",
        "machine",
        "The server waited for a processor for a fifth of the time: with one of its own it never does.",
        _machine,
    ),
    Rule(
        "over-limit",
        "memory",
        "The data takes 2 % more than maxmemory, which background work takes off.",
        _beyond_limit,
    ),
    Rule("late-loop", "latency", "The event loop was 100 ms late in all, and no command had been slow.", _late_loop),
    Rule("memory-peak", "memory", "There were one and a half times as many data, and 5 MB are left.", _peak),
    Rule(
        "resident-memory",
        "memory",
        "The process takes twice its data and 64 MB: without data it takes about 50.",
        _resident,
    ),
    Rule(
        "client-memory",
        "memory",
        "Connections take 200 KB each on average, and 10 MB in all: an idle one takes 2.4 KB.",
        _client_memory,
    ),
    Rule("not-observed", "latency", "What the rules look at is turned off.", _unobserved),
)
_ORDER: Final = {rule.id: place for place, rule in enumerate(RULES)}
