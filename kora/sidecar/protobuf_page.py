"""The page as protobuf, which is how Prometheus takes native histograms: kora_command_duration_seconds has one.

A native histogram is one series, whose buckets are as many as there are values: here each is 9 % wider than the one
before.  Prometheus asks for this format where it runs with --enable-feature=native-histograms; kora-server needs the
extra `native-histograms`.  Messages: io/prometheus/client/metrics.proto of prometheus/client_model, as far as needed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from prometheus_client.samples import Sample

from kora.observe import histogram
from kora.sidecar.exposition import Filled, View

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError:
    descriptor_pb2 = None

CONTENT_TYPE: Final = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
NATIVE: Final = "kora_command_duration_seconds"
INSTALL: Final = "pip install 'kora-server[native-histograms]'"

# Message → its fields: number, name and type; a `*` is for any number of them.
_MESSAGES: Final = {
    "LabelPair": "1 name string, 2 value string",
    "Timestamp": "1 seconds int64, 2 nanos int32",
    "Exemplar": "1 label LabelPair*, 2 value double, 3 timestamp Timestamp",
    "Number": "1 value double, 2 exemplar Exemplar",
    "Quantile": "1 quantile double, 2 value double",
    "Summary": "1 sample_count uint64, 2 sample_sum double, 3 quantile Quantile*",
    "Bucket": "1 cumulative_count uint64, 2 upper_bound double, 3 exemplar Exemplar",
    "BucketSpan": "1 offset sint32, 2 length uint32",
    "Histogram": "1 sample_count uint64, 2 sample_sum double, 3 bucket Bucket*, 5 schema sint32, "
    "6 zero_threshold double, 7 zero_count uint64, 12 positive_span BucketSpan*, 13 positive_delta sint64*",
    "Metric": "1 label LabelPair*, 2 gauge Number, 3 counter Number, 4 summary Summary, 7 histogram Histogram",
    "MetricFamily": "1 name string, 2 help string, 3 type int32, 4 metric Metric*",
}
_TYPES: Final = {"counter": 0, "gauge": 1, "info": 1, "summary": 2, "histogram": 4}

# Each power of two has 8 buckets.  Bucket n ends at 2^(n/8) seconds; what is 0 ns long has a place of its own.
_SCHEMA: Final = 3
_FIRST: Final = -30 * 8  # ends at 0.93 ns
_LAST: Final = 6 * 8  # at 64 s
_ZERO_THRESHOLD: Final = 2.0**-128
# Where in a histogram the last value of each of these buckets is.
_PLACES: Final = [
    histogram.index_of(int(2 ** (number / 8) * 1e9)) if number < _LAST else histogram.BUCKETS - 1
    for number in range(_FIRST, _LAST + 1)
]


def is_available() -> bool:
    return descriptor_pb2 is not None


def _make_class() -> Any:
    """The class of a family, made of the table above; there is no other way without a generated file."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="kora_metrics.proto", package="io.prometheus.client")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for text in fields.split(", "):
            number, name, kind = text.split()
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = described.field.add(name=name, number=int(number), label=label)
            if kind in _MESSAGES:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".io.prometheus.client.{kind}"
            else:
                added.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("io.prometheus.client.MetricFamily"))


MetricFamily: Any = _make_class() if descriptor_pb2 is not None else None


def render(view: View, filled: Iterable[Filled]) -> bytes:
    running = {command.name: command for command in view.commands}
    parts = []
    for one in filled:
        if not one.samples and one.family.is_optional:
            continue
        message = MetricFamily(name=one.family.name, help=one.family.help, type=_TYPES[one.family.kind])
        for labels, samples in _by_labels(one.samples):
            metric = message.metric.add(label=[{"name": name, "value": labels[name]} for name in sorted(labels)])
            _FILL[one.family.kind](metric, samples)
            if one.family.name == NATIVE:
                _add_native(metric.histogram, running[labels["cmd"]].running)
        body = message.SerializeToString()
        parts += [_varint(len(body)), body]
    return b"".join(parts)


def _by_labels(samples: Sequence[Sample]) -> Iterable[tuple[dict[str, str], list[Sample]]]:
    """Samples of one value stand together."""
    found: list[Sample] = []
    labels: dict[str, str] = {}
    for sample in samples:
        own = {name: text for name, text in sample.labels.items() if name not in ("le", "quantile")}
        if found and own != labels:
            yield labels, found
            found = []
        labels = own
        found.append(sample)
    if found:
        yield labels, found


def _fill_gauge(metric: Any, samples: Sequence[Sample]) -> None:
    metric.gauge.value = samples[0].value


def _fill_counter(metric: Any, samples: Sequence[Sample]) -> None:
    metric.counter.value = samples[0].value


def _fill_summary(metric: Any, samples: Sequence[Sample]) -> None:
    *quantiles, count, total = samples
    metric.summary.sample_count, metric.summary.sample_sum = int(count.value), total.value
    for sample in quantiles:
        metric.summary.quantile.add(quantile=float(sample.labels["quantile"]), value=sample.value)


def _fill_histogram(metric: Any, samples: Sequence[Sample]) -> None:
    *buckets, count, total = samples
    metric.histogram.sample_count, metric.histogram.sample_sum = int(count.value), total.value
    for sample in buckets:
        bucket = metric.histogram.bucket.add(cumulative_count=int(sample.value), upper_bound=float(sample.labels["le"]))
        if sample.exemplar is not None:
            bucket.exemplar.value = sample.exemplar.value
            bucket.exemplar.timestamp.seconds = int(sample.exemplar.timestamp)  # type: ignore[arg-type]
            for name, value in sample.exemplar.labels.items():
                bucket.exemplar.label.add(name=name, value=value)


_FILL: Final[dict[str, Callable[[Any, Sequence[Sample]], None]]] = {
    "gauge": _fill_gauge,
    "info": _fill_gauge,
    "counter": _fill_counter,
    "summary": _fill_summary,
    "histogram": _fill_histogram,
}


def _add_native(message: Any, running: Sequence[int]) -> None:
    """Spans of buckets that hold something, each count as the difference to the one before it (metrics.proto)."""
    message.schema, message.zero_threshold, message.zero_count = _SCHEMA, _ZERO_THRESHOLD, running[0]
    size = len(running)
    before, last_count, expected = running[0], 0, 0
    span: Any = None
    for number, place in enumerate(_PLACES, _FIRST):
        now = running[place] if place < size else running[-1]
        count = now - before
        before = now
        if not count:
            span = None
            continue
        if span is None:
            span = message.positive_span.add(offset=number - expected, length=0)
        span.length += 1
        expected = number + 1
        message.positive_delta.append(count - last_count)
        last_count = count


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
