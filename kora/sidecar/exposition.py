"""How families become a page: Prometheus' text format, and OpenMetrics with exemplars.

A family is one row of METRICS (kora.sidecar.metrics): name, kind, unit, help, labels, and how to read it off a View.
prometheus_client writes the page; here is what it is given, and in which order: that of the table, and of the labels
within a family.  No page has more than `metrics-series-max` series.  What is told of each command in detail is left out
first, whole commands at a time, and a command that was shown once stays.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final, TypeAlias, cast

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar, Sample

from kora.engine import info
from kora.engine.snapshot import Snapshot
from kora.observe import histogram
from kora.sidecar.audit import AuditLog
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.settings import Settings

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST
_PROTOBUF: Final = "application/vnd.google.protobuf"
_FAMILY: Final = "proto=io.prometheus.client.metricfamily"
# Numbers are new when they come; those of a data process that does not answer are older than it is waited for.
_FRESH_NS: Final = 900_000_000


class Command:
    """One command that was called or rejected, over all shards."""

    def __init__(self, snapshot: Snapshot, slot: int) -> None:
        self._snapshot = snapshot
        self.slot = slot
        self.name = snapshot.slot_names[slot]
        self.stats = snapshot.totals.commands[slot]  # but for the histogram

    @cached_property
    def running(self) -> list[int]:
        """The histogram's counts, each with all before it: what every question about it is answered from."""
        return histogram.running(self._snapshot.histogram(self.slot))


@dataclass
class View:
    """What one rendering shows."""

    snapshot: Snapshot | None  # None if the data process never gave one
    age_ns: int | None
    settings: Settings
    own: OwnStats
    timeouts: int
    audit: AuditLog | None = None  # where one is kept
    # Of the page that is being made.
    series: int = 0
    rows_left_out: int = 0

    @property
    def is_fresh(self) -> bool:
        """Whether the data process gave its numbers when it was asked for this page."""
        return self.age_ns is not None and self.age_ns < _FRESH_NS

    @cached_property
    def commands(self) -> list[Command]:
        """Those that were used, in the registry's order."""
        if self.snapshot is None:
            return []
        rows = enumerate(self.snapshot.totals.commands)
        return [Command(self.snapshot, slot) for slot, stats in rows if stats.is_used]

    @cached_property
    def info(self) -> dict[str, object]:
        """INFO's fields by name, of the sections that have each but once."""
        return info.fields(self.snapshot) if self.snapshot is not None else {}


@dataclass(frozen=True)
class Distribution:
    """A histogram's value: how many were at most each edge, how many in all, and their sum."""

    les: Sequence[str]
    cumulative: Sequence[int]
    count: int
    sum: float
    exemplars: Sequence[Exemplar] = ()  # each goes with its bucket, a later one in place of an earlier


@dataclass(frozen=True)
class Summary:
    """A summary's value: what was measured at some quantiles, by the label that the quantile has."""

    quantiles: Mapping[str, float]
    count: int
    sum: float


Value: TypeAlias = "int | float | Distribution | Summary"
Rows: TypeAlias = "Iterable[tuple[tuple[str, ...], Value]]"
# A family without labels may be read as its one value; None leaves it out of this page.
Read: TypeAlias = "Callable[[View], Rows | Value | None]"
ReadCommand: TypeAlias = "Callable[[View, Command], Distribution | Summary | None]"


@dataclass(frozen=True)
class Family:
    name: str
    kind: str  # counter, gauge, histogram, summary or info
    unit: str  # "" for plain numbers
    help: str
    # A detail is read for one command after another, each with several series, and is left out first.
    read: "Read | ReadCommand"
    labels: tuple[str, ...] = ()
    is_detail: bool = False
    # Announced only where it has something to show: what it is about may not be there at all.
    is_optional: bool = False

    @property
    def base_name(self) -> str:
        """The name without what the format itself adds, as OpenMetrics names families."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return self.name.removesuffix(suffix) if suffix else self.name

    @property
    def is_bare_counter(self) -> bool:
        """A counter of redis_exporter whose name does not say so."""
        return self.kind == "counter" and not self.name.endswith("_total")

    @property
    def names(self) -> frozenset[str]:
        """What `name[]=` may call it."""
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(self.kind, ())
        return frozenset((self.name, self.base_name, *(self.name + suffix for suffix in suffixes)))

    def rows(self, view: View) -> Rows:
        found = cast(Read, self.read)(view)
        if found is None:
            return ()
        if isinstance(found, (int, float, Distribution, Summary)):
            return (((), found),)
        return found

    def samples(self, values: tuple[str, ...], value: Value) -> list[Sample]:
        labels = dict(zip(self.labels, values, strict=True))
        if isinstance(value, Distribution):
            bucket = f"{self.name}_bucket"
            samples = [
                Sample(bucket, {**labels, "le": le}, count)
                for le, count in zip(value.les, value.cumulative, strict=True)
            ]
            samples.append(Sample(bucket, {**labels, "le": "+Inf"}, value.count))
            for exemplar in value.exemplars:
                edge = next((at for at, le in enumerate(value.les) if exemplar.value <= float(le)), len(value.les))
                samples[edge] = samples[edge]._replace(exemplar=exemplar)
        elif isinstance(value, Summary):
            samples = [
                Sample(self.name, {**labels, "quantile": quantile}, number)
                for quantile, number in value.quantiles.items()
            ]
        else:
            return [Sample(self.name, labels, value)]
        samples.append(Sample(f"{self.name}_count", labels, value.count))
        samples.append(Sample(f"{self.name}_sum", labels, value.sum))
        return samples


@dataclass
class Filled:
    """A family and what it shows on one page."""

    family: Family
    samples: list[Sample]


def render(view: View, families: Sequence[Family], as_openmetrics: bool = False, names: Collection[str] = ()) -> bytes:
    """The page of some families; where there are `names`, of those alone."""
    # A registry of its own: prometheus_client's default one adds families of the sidecar process, unprefixed.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(fill(view, families, names), as_openmetrics))
    # The names are plain, and need no escaping; told so, prometheus_client is twice as fast.
    generate = openmetrics.generate_latest if as_openmetrics else generate_latest
    return generate(registry, escaping=openmetrics.ALLOWUTF8)


def fill(view: View, families: Sequence[Family], names: Collection[str] = ()) -> list[Filled]:
    """Read the families, within the limit of series; `view` then knows how many there are."""
    chosen = [family for family in families if not names or not family.names.isdisjoint(names)]
    filled = {family.name: Filled(family, []) for family in chosen}
    room = view.settings.metrics_series_max - len(PAGE)
    left_out = 0
    for family in chosen:
        if not family.is_detail and family not in PAGE:
            samples = [sample for row in family.rows(view) for sample in family.samples(*row)]
            left_out += max(0, len(samples) - room)
            filled[family.name].samples = samples[:room]
            room -= len(filled[family.name].samples)
    details = [filled[family.name] for family in chosen if family.is_detail]
    room, missing = _fill_details(view, details, room)
    view.series = view.settings.metrics_series_max - room
    view.rows_left_out = left_out + missing
    for family in PAGE:
        if family.name in filled:
            filled[family.name].samples = [sample for row in family.rows(view) for sample in family.samples(*row)]
    return list(filled.values())


def _fill_details(view: View, details: Sequence[Filled], room: int) -> tuple[int, int]:
    """Read the details of one command after another until they take too much; returns what room and how many are left.

    Those of a command that is not shown are not even added up, which would take as long as showing them.
    """
    shown: dict[str, list[list[Sample]]] = {}
    ranked = view.own.ranked(view.commands)
    for command in ranked:
        found: list[list[Sample]] = []
        for one in details:
            value = cast(ReadCommand, one.family.read)(view, command)
            found.append(one.family.samples((command.name,), value) if value is not None else [])
        count = sum(map(len, found))
        if count > room:
            break
        room -= count
        shown[command.name] = found
    for command in view.commands:
        for one, samples in zip(details, shown.get(command.name, ()), strict=False):
            one.samples += samples
    return room, (len(ranked) - len(shown)) * len(details)


# What tells of the page itself, which is known when the rest of it is.
PAGE: Final = (
    Family("kora_sidecar_series", "gauge", "", "Series on this page.", lambda view: view.series),
    Family(
        "kora_sidecar_rows_left_out",
        "gauge",
        "",
        "Values and histograms that this page does without to stay within metrics-series-max: first of all those of "
        "the commands that are called least.",
        lambda view: view.rows_left_out,
    ),
)


class _Collector:
    def __init__(self, filled: Sequence[Filled], as_openmetrics: bool) -> None:
        self._filled = filled
        self._metrics = _openmetrics if as_openmetrics else _text

    def collect(self) -> Iterator[Metric]:
        for one in self._filled:
            if one.samples or not one.family.is_optional:
                yield from self._metrics(one.family, one.samples)


class _Bare(str):
    """A type that prometheus_client writes as it is, without adding to the name what it adds for that type."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


def _text(family: Family, samples: list[Sample]) -> Iterator[Metric]:
    metric = Metric(family.base_name, family.help, "gauge" if family.is_bare_counter else family.kind)
    if family.is_bare_counter:
        metric.type = _Bare("counter")
    metric.samples = samples
    yield metric


def _openmetrics(family: Family, samples: list[Sample]) -> Iterator[Metric]:
    """The same series under types that OpenMetrics allows.

    A counter must end in `_total`, and quantiles are parts of one: who has neither is of unknown type.
    """
    if family.kind == "summary":
        for name in (family.name, f"{family.name}_count", f"{family.name}_sum"):
            metric = Metric(name, family.help, "unknown")
            metric.samples = [sample for sample in samples if sample.name == name]
            yield metric
        return
    base = family.base_name
    # OpenMetrics has a unit only where the name ends with it, and prometheus_client would append it.
    unit = family.unit if family.unit and base.endswith(f"_{family.unit}") else ""
    metric = Metric(base, family.help, "unknown" if family.is_bare_counter else family.kind, unit)
    metric.samples = samples
    yield metric


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics to the text format."""
    weights = _weights(accept)
    wanted = weights.get("application/openmetrics-text", 0.0)
    return wanted > 0 and wanted >= weights.get("text/plain", 0.0)


def wants_protobuf(accept: str) -> bool:
    """Whether it prefers Prometheus' messages to both."""
    weights = _weights(accept)
    wanted = weights.pop(_PROTOBUF, 0.0)
    return wanted > 0 and wanted >= max(weights.values(), default=0.0)


def _weights(accept: str) -> dict[str, float]:
    """What an Accept header says of each type (RFC 9110, 12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if name == _PROTOBUF and not {"encoding=delimited", _FAMILY} <= set(parameters):
            continue  # other messages, or in another form
        weights[name] = max(weight, weights.get(name, 0.0))
    return weights


# What rows of the tables are made of


def of_snapshot(read: "Callable[[Snapshot], Rows | Value | None]") -> Read:
    """Read off the snapshot, if there is one."""
    return lambda view: read(view.snapshot) if view.snapshot is not None else None


class Edges:
    """Upper edges of the buckets of a histogram, in ns, and their labels."""

    def __init__(self, edges_ns: Sequence[int], les: Sequence[str] = ()) -> None:
        self.les = tuple(les) or tuple(map(seconds_text, edges_ns))
        self._places = [histogram.index_of(edge_ns) for edge_ns in edges_ns]

    def distribution(self, running: Sequence[int], total: float, exemplars: Sequence[Exemplar] = ()) -> Distribution:
        """Of a histogram by its running counts; a bucket that an edge divides counts as below it (under 1 % wide)."""
        count = running[-1] if running else 0
        size = len(running)
        cumulative = [running[place] if place < size else count for place in self._places]
        return Distribution(self.les, cumulative, count, total, exemplars)


def seconds_text(edge_ns: int) -> str:
    """An edge in seconds as a plain decimal: 0.000001, 0.0025, 1.0."""
    text = format(Decimal(edge_ns).scaleb(-9).normalize(), "f")
    # Always with a point: Prometheus 3 and OpenMetrics would make "1" into "1.0", and that is another series.
    return text if "." in text else f"{text}.0"


def seconds(elapsed_ns: int) -> float:
    return elapsed_ns / 1e9


def label(text: str) -> str:
    """What clients can make up, such as an error's first word in a script, as text that every format can carry."""
    return text.encode("utf-8", "backslashreplace").decode()
