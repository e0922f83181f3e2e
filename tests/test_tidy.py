"""House rules that no tool knows: who may import whom, what may be where, and what a file is called.

Each rule looks at syntax trees and says what is wrong as `file:line: what; remedy`.  Each is also shown an example of
what it is there to catch, since a rule that never fires is no rule.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.once

ROOT: Final = Path(__file__).resolve().parents[1]

# Who may import whom: a room, which is a module of kora/ or a folder, imports from itself and from lower floors.
FLOORS: Final = {
    "errors": 0, "clock": 0, "glob": 0, "": 0,  # "" is kora/__init__.py
    "config": 1, "resp": 1, "types": 1, "observe": 1,
    "audit": 2, "log": 2, "store": 2, "kernel": 2,
    "engine": 3,
    "commands": 4, "persist": 4, "engines": 4,
    "server": 5, "sidecar": 5,
    "app": 6,
    "cli": 7,
    "__main__": 8,
}  # fmt: skip
# The sidecar is another process: of what knows live objects it takes only what describes plain data.
SIDECAR_FROM: Final = (
    "kora.log", "kora.engine.snapshot", "kora.engine.info", "kora.audit.ring", "kora.audit.chain", "kora.audit.files",
    "kora.audit",
)  # fmt: skip

# Where a library may be imported, and what to do elsewhere.
_SIDECAR_ONLY: Final = (
    "the data process does not load what only the sidecar needs; render and aggregate in kora/sidecar"
)
_SOCKETS: Final = "below the sockets everything is synchronous and is fed bytes and numbers; move this to kora/server"
_TOOLS_ONLY: Final = "the server has no use for it: what operators run lives in kora/cli"
LIBRARIES: Final = {
    "aiohttp": ({"sidecar"}, _SIDECAR_ONLY),
    "httptools": ({"sidecar"}, _SIDECAR_ONLY),
    "prometheus_client": ({"sidecar"}, _SIDECAR_ONLY),
    "hdrh": ({"sidecar"}, _SIDECAR_ONLY),
    "opentelemetry": ({"sidecar"}, _SIDECAR_ONLY),
    "asyncio": ({"server", "sidecar", "app", "cli"}, _SOCKETS),
    "socket": ({"server", "sidecar"}, _SOCKETS),
    "ssl": ({"server"}, _SOCKETS),
    "subprocess": ({"server"}, _SOCKETS),
    "uvloop": ({"app", "sidecar"}, "which loop runs is for those to know who start a process"),
    "time": (
        {"audit", "clock", "server", "sidecar", "cli"},
        "take a kora.clock.Clock, or the time itself, as an argument",
    ),
    "datetime": ({"log"}, "take a kora.clock.Clock, or the time itself, as an argument"),
    "hiredis": ({"resp"}, "only kora/resp knows the wire"),
    "redis": ({"cli"}, _TOOLS_ONLY),
    "textual": ({"cli"}, _TOOLS_ONLY),
    "rich": ({"cli"}, _TOOLS_ONLY),
    "plotext": ({"cli"}, _TOOLS_ONLY),
    "numpy": ({"types"}, "vectors are computed with in kora/types, and only there is it loaded, when it is needed"),
    "usearch": ({"types"}, "graphs of vectors are kora/types/vector_rows.py's business"),
    "rocksdict": ({"engines"}, "only the store knows RocksDB"),
    "structlog": ({"log"}, "import `logger` from kora.log"),
    "logging": ({"log", "sidecar"}, "import `logger` from kora.log"),
    "argparse": ({"cli"}, "settings come from kora/config.py; tools with options of their own live in kora/cli"),
}

NAMES_FORBIDDEN: Final = {"utils", "util", "helpers", "helper", "common", "manager", "base", "impl"}
# Folders of tests that are not about one room.
TEST_FOLDERS: Final = {"compat", "faults", "bench", "e2e", "e2e/applications", "fuzz"}
# Test files beside tests/conftest.py that are about the tree as a whole.
TESTS_OF_THE_TREE: Final = {"test_tidy.py", "test_docs.py"}

CONTAINERS: Final = {
    "list", "dict", "set", "bytearray", "array", "deque", "defaultdict", "OrderedDict", "Counter",
    "WeakValueDictionary", "WeakKeyDictionary", "WeakSet",
}  # fmt: skip
CHANGES: Final = {
    "append", "appendleft", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "popleft", "remove",
    "discard", "clear", "sort", "reverse", "__setitem__",
}  # fmt: skip
# Containers that are empty where they are made, and why they may be.
EMPTY_ON_PURPOSE: Final = {
    ("kora/store/table.py", "EMPTY"): "stands for every table without keys; writers replace it and never change it",
    ("kora/commands/debug.py", "_SUBCOMMANDS"): "a table that decorators fill while the file is read, as a Family is",
}


@dataclass(frozen=True)
class Source:
    path: str  # below ROOT
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        """`kora.store.table`; a package is called by its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        return self.module if self.path.endswith("/__init__.py") else self.module.rpartition(".")[0]

    def at(self, node: ast.AST, text: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {text}"


def sources(folder: str) -> list[Source]:
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


KORA: Final = sources("kora")
TESTS: Final = sources("tests")
MODULES: Final = frozenset(source.module for source in KORA)


def room_of(module: str) -> str:
    """kora.store.table → store, kora.app → app, kora → ''."""
    return module.split(".")[1] if "." in module else ""


# --- What a file imports ---


def imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Each import that is carried out, with the module's whole name; those for type checkers only are left out."""
    for statement in _carried_out(source.tree):
        if isinstance(statement, ast.Import):
            for name in statement.names:
                yield statement, name.name
        elif isinstance(statement, ast.ImportFrom):
            start = statement.module or ""
            if statement.level:
                above = source.package.split(".")
                start = ".".join([*above[: len(above) - statement.level + 1], *filter(None, [start])])
            for name in statement.names:
                # `from kora import glob` names a module, `from kora import __version__` does not.
                yield statement, whole if (whole := f"{start}.{name.name}") in MODULES else start


def _carried_out(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _carried_out(other)
            continue
        yield child
        yield from _carried_out(child)


# --- The rules: each yields what is wrong with a file ---


def climbing_imports(source: Source) -> Iterator[str]:
    room = room_of(source.module)
    if room not in FLOORS:
        yield source.at(source.tree, f"kora/{room} has no floor; give it one in FLOORS of {Path(__file__).name}")
        return
    for node, module in imports(source):
        if module.split(".")[0] != "kora" or (target := room_of(module)) == room:
            continue
        if target not in FLOORS:
            yield source.at(node, f"{module} has no floor; give kora/{target} one in FLOORS of {Path(__file__).name}")
        elif FLOORS[target] >= FLOORS[room]:
            way = "sideways" if FLOORS[target] == FLOORS[room] else "upwards"
            yield source.at(
                node,
                f"{source.module} (floor {FLOORS[room]}) imports {way} from {module} (floor {FLOORS[target]}); "
                "have what it needs passed in as an argument, or move what both need to a lower floor",
            )
        elif room == "sidecar" and FLOORS[target] > 1 and module not in SIDECAR_FROM:
            yield source.at(
                node,
                f"the sidecar imports {module}, and it shares only plain data with the data process; "
                "add what it shows to kora/engine/snapshot.py, or send it over the feed",
            )


def misplaced_libraries(source: Source) -> Iterator[str]:
    room = room_of(source.module)
    for node, module in imports(source):
        library = module.split(".")[0]
        if library in LIBRARIES and room not in LIBRARIES[library][0]:
            rooms = ", ".join(f"kora/{name}" for name in sorted(LIBRARIES[library][0]))
            yield source.at(node, f"{library} is for {rooms} only; {LIBRARIES[library][1]}")


def swallowed_errors(source: Source) -> Iterator[str]:
    remedy = "catch what the world can do (OSError, …), handle and count it, and let bugs show"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_anything(node.type) and all(map(_does_nothing, node.body)):
            yield source.at(node, f"an error of any kind is swallowed; {remedy}")
        elif isinstance(node, ast.Call) and _last_name(node.func) == "suppress" and any(map(_is_anything, node.args)):
            yield source.at(node, f"suppress() of any error; {remedy}")


def _is_anything(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(map(_is_anything, node.elts))
    return node is None or _last_name(node) in ("Exception", "BaseException")


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Pass, ast.Continue)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def module_state(source: Source) -> Iterator[str]:
    """A container of a module or a class must be a table: filled where it is made, never changed, and marked as one."""
    remedy = "what changes is an argument or hangs on the engine, so that tests make as many engines as they like"
    tables: set[str] = set()
    bodies = [source.tree, *(node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef))]
    for body in bodies:
        for node, name, value in _assignments(body.body):
            if not _is_container(value) or name.startswith("__"):
                continue
            if not (name.isupper() or _is_final(node)):
                yield source.at(
                    node, f"{name} is mutable and belongs to nobody; {remedy}; a table is Final or in CAPITALS"
                )
            elif _is_empty(value) and (source.path, name) not in EMPTY_ON_PURPOSE:
                yield source.at(node, f"{name} is empty, so that somebody is to fill it; {remedy}")
            if (source.path, name) not in EMPTY_ON_PURPOSE:
                tables.add(name)
    for inner in ast.walk(source.tree):
        if isinstance(inner, ast.Global):
            yield source.at(inner, f"global {', '.join(inner.names)}; {remedy}")
        elif (changed := _changed(inner)) in tables:
            yield source.at(inner, f"{changed} is a table and is changed here; {remedy}")


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[ast.Assign | ast.AnnAssign, str, ast.expr]]:
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if (
                isinstance(node, (ast.Assign, ast.AnnAssign))
                and isinstance(target, ast.Name)
                and node.value is not None
            ):
                yield node, target.id, node.value


def _is_container(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return _last_name(value.func) in CONTAINERS
    return isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp))


def _is_final(node: ast.Assign | ast.AnnAssign) -> bool:
    return isinstance(node, ast.AnnAssign) and bool(
        re.match(r"(typing\.)?(Final|ClassVar)\b", ast.unparse(node.annotation))
    )


def _is_empty(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return not value.args and not value.keywords
    return (isinstance(value, ast.List) and not value.elts) or (isinstance(value, ast.Dict) and not value.keys)


def _changed(node: ast.AST) -> str:
    """The name of what a node changes in place: x[…] = …, del x[…], x += …, x.append(…)."""
    target: ast.expr | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        target = node.value
    elif isinstance(node, ast.AugAssign):
        target = node.target
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        target = node.func.value
    return target.id if isinstance(target, ast.Name) else ""


def names_that_say_nothing(source: Source) -> Iterator[str]:
    for part in Path(source.path).with_suffix("").parts:
        if NAMES_FORBIDDEN & set(part.split("_")):
            yield f"{source.path}: {part!r} says nothing; name the thing, or put it into the module that uses it"


def missing_docstring(source: Source) -> Iterator[str]:
    """Test files may do without: their tests are sentences."""
    if not ast.get_docstring(source.tree) and not re.match(r"tests/(.*/)?(test_|conftest)", source.path):
        yield f"{source.path}:1: no docstring; say in one to five lines what the file is for, in the user's terms"


def misplaced_tests(source: Source) -> Iterator[str]:
    """tests/store/test_table.py is about kora/store; tests/test_glob.py about kora/glob.py."""
    folder, name = source.path.removeprefix("tests/").rpartition("/")[::2]
    has_tests = any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in ast.walk(source.tree)
    )
    is_test = name.startswith("test_")
    if has_tests and not is_test:
        yield f"{source.path}: has tests that pytest does not collect; name the file test_*.py"
    if folder and folder not in TEST_FOLDERS and not (ROOT / "kora" / folder).is_dir():
        known = ", ".join(sorted(TEST_FOLDERS))
        yield f"{source.path}: there is no kora/{folder}; put it into the folder of what it is about, or one of {known}"
    if not folder and is_test and name not in TESTS_OF_THE_TREE and f"kora.{name[5:-3]}" not in MODULES:
        yield f"{source.path}: there is no kora/{name[5:]}; put it into the folder of what it tests"


Rule = Callable[[Source], Iterator[str]]

RULES_OF_KORA: Final[tuple[Rule, ...]] = (
    climbing_imports,
    misplaced_libraries,
    swallowed_errors,
    module_state,
    names_that_say_nothing,
    missing_docstring,
)
RULES_OF_TESTS: Final[tuple[Rule, ...]] = (
    swallowed_errors,
    names_that_say_nothing,
    missing_docstring,
    misplaced_tests,
)


@pytest.mark.parametrize("rule", RULES_OF_KORA, ids=lambda rule: rule.__name__)
def test_kora_keeps_the_rule(rule: Rule) -> None:
    wrong = [text for source in KORA for text in rule(source)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("rule", RULES_OF_TESTS, ids=lambda rule: rule.__name__)
def test_the_tests_keep_the_rule(rule: Rule) -> None:
    wrong = [text for source in TESTS for text in rule(source)]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("rule", "path", "text", "part"),
    [
        (climbing_imports, "kora/store/shard.py", "from kora.engine.call import call", "(floor 2) imports upwards"),
        (climbing_imports, "kora/observe/board.py", "from kora.resp import reply", "sideways from kora.resp.reply"),
        (climbing_imports, "kora/store/shard.py", "def f():\n  import kora.app", "kora/store/shard.py:2: "),
        (climbing_imports, "kora/engine/call.py", "from ..app import serve", "upwards from kora.app (floor 6)"),
        (climbing_imports, "kora/glob.py", "from kora import config", "upwards from kora.config"),
        (climbing_imports, "kora/server/feed.py", "import kora.sidecar.web", "sideways from kora.sidecar.web"),
        (climbing_imports, "kora/sidecar/web.py", "from kora.store.keyspace import Keyspace", "only plain data"),
        (climbing_imports, "kora/cellar/wine.py", "", "kora/cellar has no floor"),
        (climbing_imports, "kora/app.py", "import kora.cellar", "kora.cellar has no floor"),
        (misplaced_libraries, "kora/engine/call.py", "import asyncio.events", "kora/server"),
        (misplaced_libraries, "kora/server/feed.py", "from aiohttp import web", "aiohttp is for kora/sidecar only"),
        (misplaced_libraries, "kora/store/expiry.py", "from time import time", "take a kora.clock.Clock"),
        (swallowed_errors, "kora/app.py", "try: f()\nexcept Exception: pass", "kora/app.py:2: an error of any kind"),
        (swallowed_errors, "kora/app.py", "for x in y:\n try: f()\n except: continue", "swallowed"),
        (swallowed_errors, "kora/app.py", "try: f()\nexcept (OSError, BaseException): ...", "swallowed"),
        (swallowed_errors, "kora/app.py", "with contextlib.suppress(Exception): f()", "suppress()"),
        (module_state, "kora/app.py", "seen = {}", "seen is mutable"),
        (module_state, "kora/app.py", "cache: Final = dict()", "cache is empty"),
        (module_state, "kora/app.py", "class A:\n  seen = [1]", "seen is mutable"),
        (module_state, "kora/app.py", "SEEN = [1]\ndef f(): SEEN.append(2)", "kora/app.py:2: SEEN is a table"),
        (module_state, "kora/app.py", "SEEN = {1: 2}\nSEEN[2] = 3", "SEEN is a table"),
        (module_state, "kora/app.py", "count = 0\ndef f():\n  global count\n  count += 1", "global count"),
        (names_that_say_nothing, "kora/utils.py", "", "'utils' says nothing"),
        (names_that_say_nothing, "kora/store/shard_manager.py", "", "'shard_manager' says nothing"),
        (missing_docstring, "kora/app.py", "import os", "no docstring"),
        (misplaced_tests, "tests/cellar/test_wine.py", "", "there is no kora/cellar"),
        (misplaced_tests, "tests/test_keyspace.py", "", "there is no kora/keyspace.py"),
        (misplaced_tests, "tests/store/tables.py", "def test_x(): ...", "name the file test_*.py"),
    ],
)
def test_a_rule_catches_what_it_is_there_for(rule: Rule, path: str, text: str, part: str) -> None:
    wrong = list(rule(Source(path, text)))
    assert len(wrong) == 1, wrong
    assert part in wrong[0]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (climbing_imports, "kora/store/shard.py", "if TYPE_CHECKING:\n  from kora.engine.engine import Engine"),
        (climbing_imports, "kora/store/shard.py", "from kora.store.table import Table\nfrom kora.clock import Clock"),
        (climbing_imports, "kora/engine/call.py", "from .client import Client\nfrom kora import __version__"),
        (climbing_imports, "kora/sidecar/web.py", "from kora.engine.snapshot import Snapshot"),
        (misplaced_libraries, "kora/store/shard.py", "if TYPE_CHECKING:\n  import asyncio"),
        (swallowed_errors, "kora/app.py", "try: f()\nexcept OSError: pass\nexcept Exception as error: log(error)"),
        (module_state, "kora/app.py", "TABLE = {1: 2}\nnames: Final = [1]\nAlias = list[int]\n__all__ = ['x']"),
    ],
)
def test_a_rule_lets_through_what_is_right(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_exceptions_to_the_rules_are_still_needed() -> None:
    assigned = {(source.path, name) for source in KORA for _, name, _ in _assignments(source.tree.body)}
    gone = EMPTY_ON_PURPOSE.keys() - assigned
    assert not gone, f"not there any more: delete from EMPTY_ON_PURPOSE: {gone}"


def test_text_files_end_with_one_newline_and_have_no_blanks_at_line_ends() -> None:
    kept = [ROOT / name for name in ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "Dockerfile", ".dockerignore")]
    kept += [ROOT / "pyproject.toml", ROOT / "kora.toml.example", ROOT / ".ci" / "run"]
    kept += [ROOT / source.path for source in (*KORA, *TESTS)]
    for path in kept:
        data = path.read_bytes()
        if data:
            assert data.endswith(b"\n") and not data.endswith(b"\n\n"), f"{path}: end it with one newline"
        assert b"\r" not in data, f"{path}: has carriage returns; save it with Unix line ends"
        blanks = [number for number, line in enumerate(data.split(b"\n"), 1) if line != line.rstrip()]
        assert not blanks, f"{path}: blanks at the end of lines {blanks}; delete them"
