"""The documents say what the tables say, and mention nothing that is not there."""

import os
import re
from pathlib import Path
from typing import Final

import pytest

from kora.cli import operator
from kora.commands import make_registry
from kora.config import ENVIRONMENT_ELSEWHERE, SETTINGS, lookup
from kora.sidecar.metrics import METRICS
from tests.test_tidy import FLOORS

pytestmark = pytest.mark.once

ROOT: Final = Path(__file__).resolve().parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
REMEDY: Final = "run: make docs"
# What people wrote: the README without its generated blocks.
PROSE: Final = re.sub(r"<!-- generated: .*?<!-- end -->", "", README, flags=re.DOTALL)

# The families that the first seed's page promises.
PROMISED: Final = {
    "kora_commands_total": "counter",
    "kora_keys_total": "gauge",
    "kora_memory_used_bytes": "gauge",
    "kora_bytes_in_total": "counter",
    "kora_bytes_out_total": "counter",
    "kora_command_duration_seconds": "histogram",
}
# Flags in the README that belong to other programs, that are no settings, or that are an example of a mistake.
OTHER_FLAGS: Final = {
    "alloc", "cacert", "chart", "config", "enable-feature", "end", "fix", "flame", "format", "heap", "help", "json",
    "latency", "maxmemroy", "no-healthcheck", "once", "only", "output", "quick", "seconds", "start", "tls",
}  # fmt: skip


def code_blocks(*languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PROSE, flags=re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


# --- Generated ---


@pytest.mark.parametrize("name", operator.IN_README)
def test_the_readme_has_the_table_as_it_is(name: str) -> None:
    assert operator.block(README, name) == operator.TABLES[name](), REMEDY


def test_the_example_file_is_what_is_generated() -> None:
    assert (ROOT / operator.EXAMPLE).read_text(encoding="utf-8") == operator.example(), REMEDY


def test_every_setting_is_documented() -> None:
    table = operator.block(README, "settings")
    missing = [setting.name for setting in SETTINGS if f"\n| `{setting.name}` |" not in table]
    assert not missing, REMEDY


def test_every_command_is_documented() -> None:
    table = operator.block(README, "commands").replace("\\|", "|")
    missing = [command.name for command in make_registry().slots if f"\n| `{command.usage}` |" not in table]
    assert not missing, REMEDY


def test_every_metric_is_documented() -> None:
    table = operator.block(README, "metrics")
    missing = [family.name for family in METRICS if f"\n| `{family.name}` | {family.kind} |" not in table]
    assert not missing, REMEDY


def test_every_command_says_all_that_its_row_shows() -> None:
    silent = [command.name for command in make_registry().slots if not (command.since and command.summary)]
    assert not silent, f"give these a `since` and a summary where they are declared: {silent}"


# --- Written by hand ---


def test_every_make_verb_that_is_mentioned_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|^)make ([a-z]+)", PROSE, flags=re.MULTILINE))
    assert mentioned
    assert mentioned <= verbs, f"not in the Makefile: {mentioned - verbs}"


def test_every_flag_that_is_mentioned_is_a_setting() -> None:
    flags = set(re.findall(r"(?<![\w<!-])--([a-z][a-z-]+)", PROSE))
    assert flags
    unknown = {flag for flag in flags - OTHER_FLAGS if lookup(flag) is None}
    assert not unknown, f"no settings: {unknown}; correct them, or add them to OTHER_FLAGS if another program has them"


def test_every_variable_that_is_mentioned_is_read() -> None:
    variables = {variable for setting in SETTINGS for variable in setting.variables} | set(ENVIRONMENT_ELSEWHERE)
    for name in ("README.md", "Dockerfile"):
        text = PROSE if name == "README.md" else (ROOT / name).read_text(encoding="utf-8")
        mentioned = set(re.findall(r"\bKORA_[A-Z_]+[A-Z]\b", text))
        assert mentioned
        assert mentioned <= variables, f"{name}: nobody reads {mentioned - variables}"


def test_every_metric_that_is_mentioned_exists() -> None:
    series = {
        name
        for family in METRICS
        for name in (family.name, *(f"{family.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")))
        if family.kind == "histogram" or name == family.name
    }
    mentioned = set(re.findall(r"\bkora_[a-z]+_[a-z_]+\b", PROSE))
    assert mentioned
    assert mentioned <= series, f"not in METRICS: {mentioned - series}"


def test_the_metrics_that_the_first_page_promised_are_there() -> None:
    kinds = {family.name: family.kind for family in METRICS}
    assert {name: kinds.get(name) for name in PROMISED} == PROMISED
    assert [name for name in PROMISED if name not in PROSE] == ["kora_bytes_in_total"]


def test_every_page_of_the_sidecar_that_is_mentioned_exists() -> None:
    site = (ROOT / "kora" / "sidecar" / "web.py").read_text(encoding="utf-8")
    paths = set(re.findall(r'Endpoint\("([^"]+)"', site))
    asked = set(re.findall(r"localhost:9090(/[a-z/]*)", PROSE))
    assert asked
    assert asked <= paths, f"no such pages: {asked - paths}"


def test_every_path_that_is_mentioned_exists() -> None:
    # In *Kora internals*: `engine/call.py` is below kora/, `tests/…` below the root.
    paths = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", PROSE))
    assert paths
    gone = {
        path for path in paths if not any((folder / path).exists() for folder in (ROOT, ROOT / "kora", ROOT / "tests"))
    }
    assert not gone, f"the README tells of files that are not there: {gone}"


def test_the_floors_of_the_readme_are_those_of_the_tree() -> None:
    rooms = {path.stem for path in (ROOT / "kora").glob("[!_]*") if path.is_dir() or path.suffix == ".py"} | {
        "__main__"
    }
    [floors] = [text for text in code_blocks("") if "__main__.py" in text]
    shown: dict[str, int] = {}
    number = ""
    for line in floors.splitlines():
        number, room = line[:1].strip() or number, re.split(r"\.py|/", line[1:].strip())[0]
        shown[room] = int(number)
    assert shown == {room: FLOORS[room] for room in rooms}, "bring the list under *Floors* up to date"


def test_links_inside_the_readme_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", PROSE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", PROSE):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / target).exists(), target


def test_blocks_of_code_are_closed_and_python_compiles() -> None:
    assert PROSE.count("\n```") % 2 == 0
    for text in code_blocks("python"):
        compile(text, "README.md", "exec")


def test_the_documents_name_no_machine() -> None:
    for name in ("README.md", "Dockerfile", "Makefile", "CHANGELOG.md", "pyproject.toml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert f"{ROOT}{os.sep}" not in text, f"{name}: has the path of this folder; nobody else has it there"


# --- The image ---


def test_the_image_is_built_from_what_the_package_needs() -> None:
    kept = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert kept == {"pyproject.toml", "kora", "README.md", "LICENSE"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'readme = "README.md"' in project and 'license-files = ["LICENSE"]' in project


def test_the_image_runs_as_somebody_harmless_and_is_reachable() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\d+)$", text, flags=re.MULTILINE) == ["10001"]
    ports = {lookup(name).default for name in ("port", "metrics-port", "events-port")}  # type: ignore[union-attr]
    [exposed] = re.findall(r"^EXPOSE (.+)$", text, flags=re.MULTILINE)
    assert set(map(int, exposed.split())) == ports
    assert 'ENTRYPOINT ["kora-server"]' in text
    assert "/health/live" in text
