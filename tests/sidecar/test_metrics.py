"""The contract of /metrics: what METRICS declares is there, filled and well formed, and nothing else is."""

import re
import subprocess
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kora.config import Config
from kora.engine import snapshot
from kora.engine.engine import Engine
from kora.engine.snapshot import Snapshot
from kora.errors import CommandError
from kora.observe import histogram
from kora.observe.loop_stats import JobStats
from kora.observe.spikes import FED
from kora.observe.tracked_ring import TrackedRing
from kora.server.feed import SHOWN
from kora.sidecar import exposition
from kora.sidecar.events import Events
from kora.sidecar.exposition import View, wants_openmetrics
from kora.sidecar.metrics import METRICS
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.settings import Settings
from tests.e2e.certificates import make_authority
from tests.peers import peer

Run = Callable[..., Any]

SETTINGS = Settings(
    *(["127.0.0.1"], 9090, 1000, 1_700_000_000_000),
    version="1.2.3",
    kernel="python",
    config=Config().get(*SHOWN),
)

# The first seed's, to the letter.
PROMISED = {
    "kora_commands_total": "counter",
    "kora_keys_total": "gauge",
    "kora_memory_used_bytes": "gauge",
    "kora_bytes_in_total": "counter",
    "kora_bytes_out_total": "counter",
    "kora_command_duration_seconds": "histogram",
}
# Prometheus' own; a target that sends them finds them renamed to exported_*.
RESERVED = {"job", "instance", "namespace", "pod"}


def render(view: View, as_openmetrics: bool = False) -> bytes:
    return exposition.render(view, METRICS, as_openmetrics)


def workload(engine: Engine, run: Run) -> None:
    """Something of everything that is counted."""
    engine.jobs.setdefault("expire", JobStats()).record(1_500_000)
    engine.loop.record_lag(250_000)
    for number in range(20):
        run("SET", f"k{number}", "v" * number)
        run("GET", f"k{number}")
        run("GET", f"missing{number}")
    run("EXPIRE", "k1", "100")
    run("CONFIG", "GET", "maxmemory")
    run("CONFIG", "SET", "latency-monitor-threshold", "1", "slowlog-log-slower-than", "1000")
    run("DEBUG", "SLEEP", "0.002")
    for wrong in (("GET",), ("INCR", "k3"), ("NO-SUCH-COMMAND",)):
        with pytest.raises(CommandError):
            run(*wrong)


def view_of(shown: Snapshot | None) -> View:
    # Its counts are wanted, and it is asked nothing.
    own = OwnStats(Events(cast(Any, None), TrackedRing.shared(), cast(Any, None)))
    own.scrapes = 1
    own.record_scrape(3_000_000)
    own.record_request("/health/live", 200)
    return View(shown, 1_000_000 if shown else None, SETTINGS, own, 0)


def take(engine: Engine) -> Snapshot:
    """As the sidecar has it: through plain values."""
    return Snapshot.from_plain(snapshot.take(engine).to_plain())


def families(page: bytes) -> dict[str, Metric]:
    return {family.name: family for family in parse_text(page.decode())}


def declared_types(page: bytes) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page.decode(), re.MULTILINE))


def series(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Each sample by its name, as it is written, and its labels."""
    found = {}
    for line in page.decode().split("\n"):
        if line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:{(.*?)})? (\S+)(?: # .*)?", line).groups()  # type: ignore[union-attr]
            key = name, tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
            assert key not in found, key
            found[key] = float(value)
    return found


@pytest.fixture
def page(engine: Engine, run: Run) -> bytes:
    workload(engine, run)
    return render(view_of(take(engine)))


def test_the_families_of_the_first_seed_have_their_names_and_types(page: bytes) -> None:
    types = declared_types(page)
    assert {name: types.get(name) for name in PROMISED} == PROMISED


def test_what_is_declared_is_there_with_its_type_and_nothing_else_is(page: bytes) -> None:
    types = declared_types(page)
    declared = {family.name: {"info": "gauge"}.get(family.kind, family.kind) for family in METRICS}
    assert len(declared) == len(METRICS), "a family is declared twice"
    optional = {family.name for family in METRICS if family.is_optional}
    assert {name: types[name] for name in types} == {name: declared.get(name) for name in types}
    assert set(declared) - set(types) <= optional
    empty = [family.name for family in families(page).values() if not family.samples]
    assert not empty, f"declared in METRICS but never filled: {empty}"


def test_what_is_optional_is_there_as_soon_as_info_has_it(engine: Engine) -> None:
    view = view_of(take(engine))
    optional = [family for family in METRICS if family.is_optional and family.help.startswith("INFO's ")]
    for family in optional:
        field = family.help.removeprefix("INFO's ").removesuffix(".")
        view.info[field] = "ok" if field.endswith("status") else "7"
    types = declared_types(render(view))
    assert {family.name: types.get(family.name) for family in optional} == {f.name: f.kind for f in optional}


def test_every_family_is_announced_before_anything_happened(engine: Engine) -> None:
    required = {family.name for family in METRICS if not family.is_optional}
    for view in (view_of(take(engine)), view_of(None)):
        page = render(view)
        assert required <= set(declared_types(page))
        assert page.count(b"# HELP ") == page.count(b"# TYPE ")


def test_labels_are_the_declared_ones_and_leave_those_of_prometheus_alone(page: bytes) -> None:
    labels_of = {name: {label for label, _ in labels} - {"le", "quantile"} for name, labels in series(page)}
    seen = set()
    for family in METRICS:
        assert not RESERVED & set(family.labels), family.name
        for name in (family.names - {family.base_name} | {family.name}) & labels_of.keys():
            assert labels_of[name] == set(family.labels), name
            seen.add(name)
    assert seen == set(labels_of)


def test_histograms_are_cumulative_and_end_with_their_count(page: bytes) -> None:
    seen = 0
    for family in families(page).values():
        if family.type != "histogram":
            continue
        series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        values = {}
        for sample in family.samples:
            labels = tuple(sorted((name, text) for name, text in sample.labels.items() if name != "le"))
            if sample.name.endswith("_bucket"):
                series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            else:
                values[sample.name.removeprefix(family.name), labels] = sample.value
        for labels, buckets in series.items():
            seen += 1
            assert buckets == sorted(buckets), (family.name, labels)
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            assert buckets[-1] == (float("inf"), values["_count", labels])
            assert values["_sum", labels] >= 0
    assert seen > 5


def test_bucket_edges_are_plain_decimals_from_a_microsecond_to_ten_seconds(page: bytes) -> None:
    edges = re.findall(rb'kora_command_duration_seconds_bucket\{cmd="get",le="([^"]*)"\}', page)
    assert edges[0] == b"0.000001"
    assert edges[-3:] == [b"5.0", b"10.0", b"+Inf"]
    assert all(re.fullmatch(rb"\d+\.\d+", edge) for edge in edges[:-1])
    assert b'le="0.0001"' in page
    assert b'le="0.0025"' in page


def test_a_duration_is_counted_in_its_bucket(engine: Engine) -> None:
    slot = [command.name for command in engine.registry.slots].index("get")
    engine.shards[0].stats.commands[slot].record(40_000)
    engine.shards[1].stats.commands[slot].record(3_000_000)
    page = render(view_of(take(engine))).decode()
    buckets = dict(re.findall(r'kora_command_duration_seconds_bucket\{cmd="get",le="([^"]*)"\} (\S+)', page))
    assert [float(buckets[le]) for le in ("0.000025", "0.00005", "0.0025", "0.005", "+Inf")] == [0, 1, 1, 2, 2]
    assert 'kora_command_duration_seconds_sum{cmd="get"} 0.00304\n' in page
    assert 'kora_command_duration_seconds_count{cmd="get"} 2.0\n' in page


def test_subcommands_are_named_as_in_redis_cmdstat(page: bytes) -> None:
    assert b'kora_commands_total{cmd="config|get"} 1.0\n' in page


def test_commands_that_were_never_called_have_no_series(page: bytes) -> None:
    assert b'cmd="append"' not in page


def test_numbers_are_what_the_workload_did(page: bytes) -> None:
    for line in (
        b'kora_commands_total{cmd="set"} 20.0',
        b'kora_commands_total{cmd="get"} 40.0',
        b"kora_keys_total 20.0",
        b"kora_keyspace_hits_total 20.0",
        b"kora_keyspace_misses_total 20.0",
        b'kora_command_errors_total{cmd="get",kind="rejected"} 1.0',
        b'kora_command_errors_total{cmd="incr",kind="failed"} 1.0',
        b'kora_errors_total{prefix="ERR"} 3.0',
        b'kora_database_keys{db="db0"} 20.0',
        b'kora_database_expires{db="db0"} 1.0',
        b'kora_database_keys_by_length{at_least="8",db="db0",type="string"} 8.0',
        b'kora_job_runs_total{worker="expire"} 1.0',
        b'kora_job_seconds_total{worker="expire"} 0.0015',
        b"kora_loop_lag_max_seconds 0.00025",
        b"kora_process_start_time_seconds 1.7e+09",
    ):
        assert line + b"\n" in page, line.decode()
    shards = re.findall(rb'kora_shard_keys\{shard="(\d+)"\} (\S+)', page)
    assert len(shards) == 4
    assert sum(float(keys) for _, keys in shards) == 20
    assert re.search(rb'kora_build_info\{kernel="python",python="3\.\d+\.\d+",version="1\.2\.3"\} 1\.0\n', page)


def test_no_key_name_reaches_a_label(engine: Engine, run: Run) -> None:
    for _ in range(200):
        run("SET", "secret-customer", "1")
    assert b"secret-customer" not in render(view_of(take(engine)))


def test_counters_never_fall(engine: Engine, run: Run) -> None:
    pages = []
    for _ in range(3):
        workload(engine, run)
        pages.append(render(view_of(take(engine))))
    for earlier, later in pairwise(pages):
        after = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families(later).values()
            for sample in family.samples
        }
        for family in families(earlier).values():
            for sample in family.samples:
                if family.type in ("counter", "histogram"):
                    assert after[sample.name, tuple(sorted(sample.labels.items()))] >= sample.value, sample


def test_openmetrics_has_the_same_families_and_parses_strictly(engine: Engine, run: Run, page: bytes) -> None:
    other = render(view_of(take(engine)), as_openmetrics=True)
    assert other.endswith(b"# EOF\n")
    found = {family.name: family for family in parse_openmetrics(other.decode())}  # type: ignore[no-untyped-call]
    summaries = [family.name for family in METRICS if family.kind == "summary" and not family.is_optional]
    expected = {family.base_name for family in METRICS if not family.is_optional}
    assert expected | {f"{name}{part}" for name in summaries for part in ("_sum", "_count")} <= set(found)
    assert found["kora_keys_total"].type == "gauge"
    assert found["kora_commands"].type == "counter"
    # What OpenMetrics would have by another name.
    for name in ("redis_total_error_replies", *summaries):
        assert found[name].type == "unknown"
    # The same series whichever format Prometheus asks for.
    assert series(other).keys() == series(page).keys()


def test_promtool_finds_nothing_to_say_but_about_the_name_that_the_seed_wants(page: bytes) -> None:
    checked = subprocess.run([peer("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    complaints = (checked.stdout + checked.stderr).decode().splitlines()
    allowed = 'kora_keys_total non-counter metrics should not have "_total" suffix'
    # redis_exporter's names are not ours to choose.
    assert [line for line in complaints if line and line != allowed and not line.startswith("redis_")] == []
    # 3 says that there were remarks; 1 that the page cannot be parsed.
    assert checked.returncode in (0, 3)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2,*/*;q=0.1", True),
        ("application/openmetrics-text;q=0.1,text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
        # Prometheus 2.42.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;q=0.75,text/plain;q=0.5,*/*;q=0.1",
            True,
        ),
    ],
)
def test_openmetrics_is_given_to_who_prefers_it(accept: str, expected: bool) -> None:
    assert wants_openmetrics(accept) is expected


def with_many_commands(engine: Engine, commands: int) -> Snapshot:
    """A snapshot in which every shard has run that many commands, with durations from 1 µs to 100 ms."""
    random = Random(7)
    counts = array("Q")
    histogram.grow(counts, histogram.index_of(100_000_000))
    for _ in range(300):
        counts[histogram.index_of(int(10 ** random.uniform(3, 8)))] += random.randrange(1, 1000)
    row = [sum(counts), 12_345_678_901, 3, 4, counts.tobytes()]
    shown = take(engine)
    return replace(
        shown,
        slot_names=[f"command{number}" for number in range(commands)],
        shards=[{**shard, "commands": dict.fromkeys(range(commands), row)} for shard in shown.shards],
    )


@pytest.mark.parametrize("as_openmetrics", [False, True])
def test_a_page_of_200_commands_shows_each_of_them_once(engine: Engine, as_openmetrics: bool) -> None:
    plain = with_many_commands(engine, 200).to_plain()
    view = view_of(Snapshot.from_plain(plain))
    view.settings = replace(SETTINGS, metrics_series_max=100_000)
    page = render(view, as_openmetrics)
    assert page.count(b"kora_command_duration_seconds_count{") == 200
    assert page.count(b"redis_commands_latencies_usec_count{") == 200
    assert page.count(b'kora_commands_total{cmd="') == 200


def test_no_page_has_more_series_than_allowed_and_what_was_shown_once_stays(engine: Engine) -> None:
    taken = with_many_commands(engine, 200)
    view = view_of(taken)
    page = render(view)
    shown = series(page)
    assert len(shown) <= SETTINGS.metrics_series_max == 6000
    assert len(shown) == shown["kora_sidecar_series", ()]
    # Every command has its calls, and some all details: those called most.
    assert sum(name == "kora_commands_total" for name, _ in shown) == 200
    detailed = {labels for name, labels in shown if name == "kora_command_duration_seconds_count"}
    assert detailed == {labels for name, labels in shown if name == "redis_commands_latencies_usec_count"}
    assert 50 < len(detailed) < 200
    details = [family for family in METRICS if family.is_detail]
    assert shown["kora_sidecar_rows_left_out", ()] == (200 - len(detailed)) * len(details)
    # A command that is called more later pushes nobody out.
    for shard in taken.shards:
        shard["commands"][199] = [10**9, *shard["commands"][199][1:]]
    later = replace(view, snapshot=Snapshot.from_plain(taken.to_plain()), settings=SETTINGS)
    again = series(render(later))
    assert detailed == {labels for name, labels in again if name == "kora_command_duration_seconds_count"}


def test_pages_are_the_same_for_the_same_numbers(engine: Engine, run: Run) -> None:
    workload(engine, run)
    taken = take(engine)
    changing = (b"kora_sidecar_cpu", b"kora_sidecar_resident", b"kora_process_open_fds")
    first, second = (
        [line for line in render(view_of(taken)).splitlines() if not line.startswith(changing)] for _ in range(2)
    )
    assert first == second


def test_a_page_of_some_families_by_name(engine: Engine, run: Run) -> None:
    workload(engine, run)
    names = ["kora_keys_total", "kora_command_duration_seconds_bucket", "redis_commands", "no_such_family"]
    page = exposition.render(view_of(take(engine)), METRICS, names=names)
    assert set(declared_types(page)) == {"kora_keys_total", "kora_command_duration_seconds", "redis_commands_total"}


def test_exemplars_lead_to_the_slow_log(engine: Engine, run: Run) -> None:
    workload(engine, run)
    [entry] = run("SLOWLOG", "GET")
    text = render(view_of(take(engine)), as_openmetrics=True).decode()
    found = {family.name: family for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    samples = [sample for family in found.values() for sample in family.samples if sample.exemplar]
    assert [(sample.name, sample.labels["cmd"]) for sample in samples] == [
        ("kora_command_duration_seconds_bucket", "debug")
    ]
    [sample] = samples
    assert sample.exemplar.labels == {"slowlog_id": str(entry[0])}
    assert sample.exemplar.value == entry[2] / 1e6 <= float(sample.labels["le"])
    assert b"slowlog_id" not in render(view_of(take(engine))), "the text format has no exemplars"
    run("SLOWLOG", "RESET")
    assert b"slowlog_id" not in render(view_of(take(engine)), as_openmetrics=True), "it would lead nowhere"


def test_a_certificates_end_is_shown_where_there_is_one(engine: Engine, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    view = view_of(take(engine))
    view.settings = replace(SETTINGS, tls_cert_file=authority.server.cert)
    [(_, not_after_s)] = [
        item for item in series(render(view)).items() if item[0][0] == "kora_tls_certificate_expiry_timestamp_seconds"
    ]
    assert 1.9 * 86_400 < not_after_s - time.time() < 2.1 * 86_400
    for text in ("", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"):
        (tmp_path / "broken.crt").write_text(text)
        view.settings = replace(SETTINGS, tls_cert_file=str(tmp_path / "broken.crt"))
        assert b"kora_tls_certificate" not in render(view)


HOSTILE = ['q"uote', "back\\slash", "new\nline", "\udcff\udc80", "a" * 10_000, "#:{}=,", "\u2028"]


def test_whatever_clients_make_up_the_page_stays_valid_and_small(engine: Engine, run: Run) -> None:
    run("CONFIG", "SET", "slowlog-log-slower-than", "0")
    for text in HOSTILE:
        name = text.encode("utf-8", "surrogateescape")
        engine.count_error(text)
        for words in ((name,), (name, "x"), ("CLIENT", name), ("CLIENT", "SETNAME", name), ("AUTH", name, name)):
            with suppress(CommandError):
                run(*words)
        run("ACL", "SETUSER", name.replace(b"\n", b""), "on")
        run("SET", name, name)
        run("PUBLISH", name, name)
    before = len(series(render(view_of(take(engine)))))
    for number in range(1_000):
        engine.count_error(f"E{number}")
        with pytest.raises(CommandError):
            run(f"no-such-command-{number}")
    view = view_of(take(engine))
    text, openmetrics = render(view), render(view, as_openmetrics=True)
    assert len(series(text)) - before < 2 * 130
    assert len(text) < 200_000
    assert set(families(text))
    assert list(parse_openmetrics(openmetrics.decode()))  # type: ignore[no-untyped-call]
    checked = subprocess.run([peer("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert b"error while linting" not in checked.stderr, checked.stderr
    values = {
        labels["prefix"] for labels in (dict(labels) for name, labels in series(text) if name == "kora_errors_total")
    }
    assert {'q\\"uote', "back\\\\slash", "new\\nline", "\\\\udcff\\\\udc80", "OTHER"} <= values


def test_what_took_long_is_shown_by_log_and_by_event(engine: Engine, run: Run) -> None:
    run("DEBUG", "SLEEP", "0.25")
    run("SET", "k", "x" * (1 << 20))
    found = families(render(view_of(take(engine))))

    def values(name: str) -> dict[str, float]:
        return {next(iter(sample.labels.values())): sample.value for sample in found[name].samples}

    assert values("kora_commandlog_entries") == {"slow": 1, "large-request": 1, "large-reply": 0}
    assert values("kora_commandlog_recorded") == values("kora_commandlog_entries")
    assert found["kora_slowlog_last_seconds"].samples[0].value == 0.25
    assert list(values("kora_latency_spikes")) == list(FED), "every event, so that the first spike is an increase"
    for name, value in (("kora_latency_spikes", 1), ("kora_latency_spike_seconds", 0.25)):
        assert values(name)["command"] == value and values(name)["gc"] == 0
    run("LATENCY", "RESET")
    found = families(render(view_of(take(engine))))
    assert values("kora_latency_spikes")["command"] == 1, "a counter never falls"
    assert values("kora_latency_spike_max_seconds")["command"] == 0
