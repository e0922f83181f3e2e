"""`kora`, the operator's tool.

    kora docs [settings | commands | metrics | example]   the reference tables, in Markdown; `example` is TOML
    kora docs --write                                     the same into README.md and kora.toml.example
    kora export NAME                                      a configuration for Prometheus, Grafana …
    kora top [URL] [--interval SECONDS] [--once] [--json] what a server does, in this terminal
    kora track KEY [VALUE]                                count something
    kora read KEY [TYPE] [--last 6h] [--chart]            what was counted
    kora check FILE [--fix]                               examine a snapshot or a journal; --fix writes a good copy
    kora audit verify [FILE|DIR]                          whether the audit log is as it was written
    kora audit export --start 2024-01-01 --end 2024-12-31 --format json|csv --output FILE
    kora import URL [--to URL]                            copy the keys of a running Redis into a running Kora
    kora export rdb FILE [URL]                            write the keys of a running server to an RDB file
    kora profile [URL] [-o FILE] [--flame FILE]           where a server spends CPU time, and what is in its memory
    kora version

Every table is rendered from the one that the server itself uses, so that none can fall behind it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from kora import REDIS_VERSION, __version__
from kora.cli import audit, check, events, exporting, importing, profile, top
from kora.cli.export import ASSETS

README: Final = "README.md"
EXAMPLE: Final = "kora.toml.example"


class DocsError(Exception):
    """The documents cannot be written; the text is one line that says why."""


def main() -> None:
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # `kora docs | head` has seen enough.  What is still buffered goes nowhere, or exiting would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def run(argv: Sequence[str], directory: str = ".") -> int:
    """The exit code; `directory` is where --write finds the documents."""
    options = _parser().parse_args(argv)
    if options.tool == "version":
        python = ".".join(str(number) for number in sys.version_info[:3])
        print(f"kora {__version__}, follows Redis {REDIS_VERSION}, Python {python}")
        return 0
    if options.tool in _TOOLS:
        return _TOOLS[options.tool](options)
    return _docs(options, directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kora", description="Tools for operators of Kora.", allow_abbrev=False)
    tools = parser.add_subparsers(dest="tool", metavar="TOOL", required=True)
    docs = tools.add_parser("docs", help="print the reference tables", allow_abbrev=False)
    docs.add_argument(
        "table", nargs="?", choices=tuple(TABLES), help="one of %(choices)s; all but the last if left out"
    )
    docs.add_argument("--write", action="store_true", help=f"bring {README} and {EXAMPLE} in this folder up to date")
    top.add_arguments(tools.add_parser("top", help="show what a server does, in this terminal", allow_abbrev=False))
    events.add_track_arguments(tools.add_parser("track", help="count something", allow_abbrev=False))
    about = "show what was counted, as numbers or as a chart"
    events.add_read_arguments(tools.add_parser("read", help=about, allow_abbrev=False))
    about = "examine a snapshot or a journal, and write a copy without what is wrong"
    check.add_arguments(tools.add_parser("check", help=about, allow_abbrev=False))
    about = "verify an audit log, or export its records of some days"
    audit.add_arguments(tools.add_parser("audit", help=about, allow_abbrev=False))
    about = "copy the keys of a running Redis into a running Kora"
    importing.add_arguments(tools.add_parser("import", help=about, allow_abbrev=False))
    about = "print a configuration for another program, or write the keys of a running server to a file"
    export = tools.add_parser("export", help=about, allow_abbrev=False).add_subparsers(dest="asset", metavar="NAME")
    for name, (_, what) in ASSETS.items():
        export.add_parser(name, help=what, allow_abbrev=False)
    exporting.add_arguments(export.add_parser("rdb", help="the keys of a server, as an RDB file", allow_abbrev=False))
    about = "where a server spends CPU time, and what is in its memory"
    profile.add_arguments(tools.add_parser("profile", help=about, allow_abbrev=False))
    tools.add_parser("version", help="print the version")
    return parser


def _export(options: argparse.Namespace) -> int:
    if options.asset == "rdb":
        return exporting.run(options)
    if options.asset is not None:
        print(ASSETS[options.asset][0](), end="")
        return 0
    for asset, (_, what) in ASSETS.items():
        print(f"{asset:12}{what}")
    return 0


def _docs(options: argparse.Namespace, directory: str) -> int:
    if options.write:
        try:
            changed = write(directory, [options.table] if options.table else list(TABLES))
        except (DocsError, OSError) as error:
            print(f"kora docs: {error}", file=sys.stderr)
            return 1
        print(f"written: {', '.join(changed)}" if changed else "nothing has changed")
        return 0
    if options.table:
        print(TABLES[options.table](), end="")
        return 0
    print("\n\n".join(f"## {name.capitalize()}\n\n{TABLES[name]()}".rstrip("\n") for name in IN_README))
    return 0


def write(directory: str, names: Iterable[str]) -> list[str]:
    """Bring the documents up to date with some tables; returns the files that changed.

    Raises DocsError where the README has no place for one, and OSError where a file cannot be read or written.
    """
    changed: dict[str, str] = {}
    readme = os.path.join(directory, README)
    for name in names:
        if name == "example":
            changed[os.path.join(directory, EXAMPLE)] = TABLES[name]()
        else:
            changed[readme] = with_block(changed.get(readme) or _read(readme), name, TABLES[name]())
    written = []
    for path, text in changed.items():
        if not os.path.exists(path) or _read(path) != text:
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            written.append(os.path.basename(path))
    return written


def with_block(document: str, name: str, content: str) -> str:
    """The document with new content between `<!-- generated: name -->` and the `<!-- end -->` that follows."""
    start, stop = _block(document, name)
    return f"{document[:start]}\n{content}\n{document[stop:]}"


def block(document: str, name: str) -> str:
    """What stands in the document between the two marks.  Raises DocsError where they are missing."""
    start, stop = _block(document, name)
    return document[start:stop].strip("\n") + "\n"


def _block(document: str, name: str) -> tuple[int, int]:
    opening, closing = f"<!-- generated: {name} -->\n", "<!-- end -->"
    start = document.find(opening) + len(opening)
    stop = document.find(closing, start)
    if document.count(opening) != 1 or stop < 0:
        raise DocsError(f"{README} needs one line `{opening.strip()}` and after it `{closing}`")
    return start, stop


def _read(path: str) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


# The tables.  Each imports what it shows: `kora version` should not wait for a metrics library.


def settings() -> str:
    from kora.config import reference_table

    return reference_table()


def commands() -> str:
    """A table per group, by name; `fast` as COMMAND INFO flags it."""
    from kora.commands import make_registry

    rows: dict[str, list[tuple[str, str]]] = {}
    for command in make_registry().slots:
        usage = _cell(f"`{command.usage}`")
        speed = "fast" if command.fast else "slow"
        cells = (usage, command.since, speed, _cell(command.complexity.rstrip(".")), _cell(command.summary))
        rows.setdefault(command.group, []).append((command.name, _row(cells)))
    heading = _heading("command", "since", "speed", "time", "what it does")
    tables = [
        "\n".join((f"**{group.capitalize()}**", "", *heading, *(row for _, row in sorted(rows[group]))))
        for group in rows
    ]
    return "\n\n".join(tables) + "\n"


def metrics() -> str:
    from kora.sidecar.metrics import METRICS

    lines = [*_heading("metric", "type", "labels", "meaning")]
    for family in METRICS:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(_row((f"`{family.name}`", family.kind, labels, _cell(family.help))))
    return "\n".join(lines) + "\n"


def example() -> str:
    from kora.config import example_toml

    return example_toml()


_TOOLS: Final = {
    "audit": audit.run,
    "check": check.run,
    "export": _export,
    "import": importing.run,
    "profile": profile.run,
    "read": events.read,
    "top": top.run,
    "track": events.track,
}

TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "settings": settings,
    "commands": commands,
    "metrics": metrics,
    "example": example,
}
IN_README: Final = ("settings", "commands", "metrics")


def _heading(*titles: str) -> tuple[str, str]:
    return _row(titles), _row(["---"] * len(titles))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    # GitHub's tables end a cell at every other `|`, even inside code.
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
