"""`kora`, the operator's tool: the reference tables, printed and written, and the version."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kora import REDIS_VERSION, __version__
from kora.cli import operator
from kora.cli.operator import DocsError, block, run, with_block, write
from kora.config import example_toml, reference_table
from tests.e2e.kora_process import clean_environ

pytestmark = pytest.mark.once

Capture = pytest.CaptureFixture[str]

DOCUMENT = """\
# Title

<!-- generated: settings -->
old
<!-- end -->

Between.

<!-- generated: commands -->
<!-- end -->

<!-- generated: metrics -->
old
and older
<!-- end -->
The end.
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(DOCUMENT)
    (tmp_path / "kora.toml.example").write_text("old")
    return tmp_path


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's lines, without its heading."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_docs_settings_are_the_table_of_the_settings(capsys: Capture) -> None:
    assert run(["docs", "settings"]) == 0
    assert capsys.readouterr() == (reference_table(), "")


def test_docs_example_is_the_example_file(capsys: Capture) -> None:
    assert run(["docs", "example"]) == 0
    assert capsys.readouterr() == (example_toml(), "")


def test_docs_commands_show_usage_since_speed_time_and_summary(capsys: Capture) -> None:
    assert run(["docs", "commands"]) == 0
    out = capsys.readouterr().out
    assert "**String**" in out
    assert "\n| `GET key` | 1.0.0 | fast | O(1) | Returns the string value of a key. |\n" in out
    assert "| `EXPIRE key seconds [NX \\| XX \\| GT \\| LT]` |" in out


def test_docs_metrics_show_name_type_labels_and_help(capsys: Capture) -> None:
    assert run(["docs", "metrics"]) == 0
    out = capsys.readouterr().out
    assert "\n| `kora_commands_total` | counter | `cmd` | Total commands processed by type. |\n" in out
    assert "\n| `kora_command_errors_total` | counter | `cmd`, `kind` | " in out


@pytest.mark.parametrize("name", operator.IN_README)
def test_every_row_of_a_table_has_as_many_cells_as_its_heading(name: str) -> None:
    table = operator.TABLES[name]()
    heading = next(line for line in table.splitlines() if line.startswith("|"))
    assert {len(row) for row in rows(table) if row[0] != "---"} == {heading.count("|") - 1}


def test_docs_without_a_name_prints_all_of_them_under_headings(capsys: Capture) -> None:
    assert run(["docs"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^## (.*)$", out, flags=re.MULTILINE) == ["Settings", "Commands", "Metrics"]
    assert all(operator.TABLES[name]() in out for name in operator.IN_README)


def test_docs_of_something_unknown_is_a_mistake(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(["docs", "poems"])
    assert "poems" in capsys.readouterr().err


def test_without_a_tool_the_tools_are_listed(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run([])
    assert "usage: kora" in capsys.readouterr().err


def test_write_brings_the_blocks_up_to_date_and_leaves_the_rest(tree: Path, capsys: Capture) -> None:
    assert run(["docs", "--write"], str(tree)) == 0
    assert capsys.readouterr().out == "written: README.md, kora.toml.example\n"
    text = (tree / "README.md").read_text()
    for name in operator.IN_README:
        assert block(text, name) == operator.TABLES[name]()
    without = re.sub(r"(<!-- generated: \w+ -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.DOTALL)
    assert without == re.sub(r"old\n(and older\n)?", "", DOCUMENT)
    assert (tree / "kora.toml.example").read_text() == example_toml()


def test_write_a_second_time_changes_nothing(tree: Path, capsys: Capture) -> None:
    write(str(tree), operator.TABLES)
    before = {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in tree.iterdir()}
    assert run(["docs", "--write"], str(tree)) == 0
    assert capsys.readouterr().out == "nothing has changed\n"
    assert {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in tree.iterdir()} == before


def test_write_of_one_table_leaves_the_others(tree: Path) -> None:
    assert run(["docs", "settings", "--write"], str(tree)) == 0
    text = (tree / "README.md").read_text()
    assert block(text, "settings") == reference_table()
    assert block(text, "metrics") == "old\nand older\n"
    assert (tree / "kora.toml.example").read_text() == "old"


def test_write_where_there_is_no_readme_is_one_line_and_exit_code_1(tmp_path: Path, capsys: Capture) -> None:
    assert run(["docs", "--write"], str(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kora docs: ") and "README.md" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "document",
    [
        "",
        "<!-- generated: settings -->\nnever ends\n",
        "<!-- end -->\n<!-- generated: settings -->\n",
        "<!-- generated: settings -->\n<!-- end -->\n" * 2,
    ],
)
def test_a_readme_without_its_marks_is_refused(document: str) -> None:
    with pytest.raises(DocsError, match="needs one line `<!-- generated: settings -->`"):
        with_block(document, "settings", "content\n")


def test_version_names_kora_redis_and_python(capsys: Capture) -> None:
    assert run(["version"]) == 0
    python = ".".join(map(str, sys.version_info[:3]))
    assert capsys.readouterr().out == f"kora {__version__}, follows Redis {REDIS_VERSION}, Python {python}\n"


def test_version_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from kora.cli.operator import run; run(['version']);"
        "print(sorted({'uvloop', 'aiohttp', 'asyncio', 'prometheus_client', 'kora.commands'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=clean_environ(), check=True
    )
    assert done.stdout.splitlines()[1:] == ["[]"]


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "kora.cli.operator", "docs"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=clean_environ(),
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
