"""`kora import URL`: copies the keys of a running Redis, Valkey or Kora into a running Kora.

    kora import redis://user:password@host:port                 all databases, into redis://127.0.0.1:6379
    kora import rediss://host:port/3 --to redis://other:6380    one database, into another server

Values travel as DUMP and RESTORE have them, with their times to live; libraries of functions, too.  An import that was
broken off goes on where it was when the same command is given again: how far it has come is in a file.  At the end the
keys are counted on both sides, and some are compared.  Keys that change meanwhile may be copied as they were before;
what is not to be missed is copied when nobody writes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from kora.cli.walk import DEFAULT_URL, REMEDY, Batch, Found, Link, Progress, Refused, read, walk

_SAVE_S: Final = 1.0
_FAILURES_SHOWN: Final = 10
_NAME_BYTES_MAX: Final = 64
# With these the target says that it will not take any key, now.
_HOPELESS: Final = ("OOM", "MISCONF", "LOADING", "NOPERM", "READONLY", "BUSY ", "NOAUTH")


@dataclass
class State:
    """How far an import has come; what the file holds, as JSON."""

    source: str  # without the password
    target: str
    run_id: str  # of the source: cursors are good for as long as it runs
    database: int = -1
    cursor: str = "0"
    finished: list[int] = field(default_factory=list)
    copied: int = 0


class Broken(Exception):
    """The import cannot go on; the text says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="URL", help="the server to copy; with /N only its database N")
    parser.add_argument("--to", default=DEFAULT_URL, metavar="URL", help=f"where to; {DEFAULT_URL} if left out")
    parser.add_argument(
        "--replace", action="store_true", help="copy into databases that have keys, and replace those of the same names"
    )
    parser.add_argument("--restart", action="store_true", help="begin anew, whatever has been copied before")
    parser.add_argument("--sample", type=int, default=1000, help="keys to compare at the end; 1000 if left out")
    parser.add_argument("--state", metavar="FILE", help="where to keep how far it has come, until it is done")


def run(options: argparse.Namespace) -> int:
    """0 where everything was copied and is the same, else 1; 130 where it was interrupted."""
    try:
        import redis
    except ImportError:
        print(f"kora import: {REMEDY}", file=sys.stderr)
        return 1
    importer = None
    try:
        importer = Importer(options)
        return importer.run()
    except KeyboardInterrupt:
        print("kora import: interrupted", file=sys.stderr)
        code = 130
    except (Broken, Refused, redis.RedisError, OSError, ValueError) as error:
        print(f"kora import: {error}", file=sys.stderr)
        code = 1
    if importer is not None and importer.save():
        print("The same command again goes on from here.", file=sys.stderr)
    return code


class Importer:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._source = Link(options.source)
        self._target = Link(options.to)
        source_id, target_id = (link.info("server").get("run_id", "") for link in (self._source, self._target))
        if source_id and source_id == target_id:
            raise Broken("the source and the target are the same server")
        source, target = _place(options.source), _place(options.to)
        self._path = options.state or f"kora-import-{source.replace(':', '-').replace('/', '-')}.json"
        self._state = State(source, target, source_id)
        self._has_begun = False
        self._failures: list[str] = []
        self._failed = 0
        self._saved_s = 0.0
        self._since_cursor = 0  # keys copied since the cursor moved, which whoever goes on will copy again

    def run(self) -> int:
        self._resume()
        counts = self._source.counts()
        if self._source.info("cluster").get("cluster_enabled") == "1":
            print("the source is a node of a cluster: only its own keys are copied", file=sys.stderr)
        own = self._source.database
        databases = sorted(counts) if own is None else [own]
        self._expect_room(databases)
        self._has_begun = True
        self._copy_functions()
        progress = Progress(sum(counts.get(database, 0) for database in databases), self._state.copied)
        batch = Batch()
        for database in databases:
            if database not in self._state.finished:
                self._copy(database, progress, batch)
        progress.clear()
        print(f"{self._state.copied} keys copied, {self._failed} failed")
        for text in self._failures:
            print(f"  {text}")
        is_same = self._verify(databases)
        if is_same and not self._failed:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            return 0
        return 1

    # How far it has come

    def _resume(self) -> None:
        try:
            with open(self._path, encoding="utf-8") as file:
                kept = State(**json.load(file))
        except FileNotFoundError:
            return
        except (ValueError, TypeError):
            raise Broken(f"{self._path}: is not what an import has left; remove it") from None
        fresh = self._state
        if self._options.restart:
            return
        if (kept.source, kept.target) != (fresh.source, fresh.target):
            raise Broken(f"{self._path} is of an import from {kept.source} to {kept.target}; use another --state")
        if kept.run_id != fresh.run_id:
            print("the source was restarted since: the import begins anew", file=sys.stderr)
            # What was copied before is replaced.
            self._options.replace = True
            return
        print(f"going on behind the first {kept.copied} keys", file=sys.stderr)
        self._state = kept
        self._options.replace = True

    def save(self) -> bool:
        """Keep how far it has come; False where nothing has been done."""
        if not self._has_begun:
            return False
        making = self._path + ".new"
        with open(making, "w", encoding="utf-8") as file:
            json.dump(asdict(self._state), file)
        os.replace(making, self._path)
        self._saved_s = time.monotonic()
        return True

    # Copying

    def _expect_room(self, databases: list[int]) -> None:
        taken = self._target.counts()
        for database in databases:
            if taken.get(database) and not self._options.replace and not self._options.restart:
                raise Broken(f"database {database} of the target has {taken[database]} keys; see --replace")

    def _copy_functions(self) -> None:
        try:
            dump = self._source.do("FUNCTION", "DUMP")
        except Refused:
            return  # before Redis 7.0 there are none
        if len(dump) > _EMPTY_DUMP_BYTES:
            self._target.do("FUNCTION", "RESTORE", dump, "REPLACE")
            print("libraries of functions copied")

    def _copy(self, database: int, progress: Progress, batch: Batch) -> None:
        state = self._state
        if state.database != database:
            state.database, state.cursor = database, "0"
        try:
            self._target.do("SELECT", database)
        except Refused:
            raise Broken(f"the target has no database {database}: set its `databases` to more") from None
        # The source is asked for the next keys while the target restores the last ones.
        sent: tuple[bytes, list[Found]] | None = None
        for cursor, found in walk(self._source, database, state.cursor.encode(), "PTTL", batch):
            if sent is not None:
                self._settle(*sent, progress)
            self._target.send([("RESTORE", row.name, _ttl_ms(row), row.payload, "REPLACE") for row in found])
            sent = cursor, found
        if sent is not None:
            self._settle(*sent, progress)
        state.copied += self._since_cursor  # SCAN ends with the cursor that it begins with
        self._since_cursor = 0
        state.finished.append(database)
        self.save()

    def _settle(self, cursor: bytes, found: list[Found], progress: Progress) -> None:
        """See what has become of the keys that were sent, and note how far that was."""
        state = self._state
        for row, reply in zip(found, self._target.receive(len(found)), strict=True):
            if isinstance(reply, Exception):
                text = str(reply)
                if text.startswith(_HOPELESS):
                    raise Broken(f"the target refuses: {text}")
                self._failed += 1
                if len(self._failures) < _FAILURES_SHOWN:
                    self._failures.append(f"{_shown(row.name)}: {text}")
        self._since_cursor += len(found)
        if cursor.decode() != state.cursor:
            state.cursor = cursor.decode()
            state.copied += self._since_cursor
            self._since_cursor = 0
        progress.add(len(found), f"database {state.database}")
        if time.monotonic() - self._saved_s > _SAVE_S:
            self.save()

    # Verifying

    def _verify(self, databases: list[int]) -> bool:
        """Count the keys on both sides, and compare some; says what differs."""
        is_same = True
        counts, copies = self._source.counts(), self._target.counts()
        for database in databases:
            there, here = counts.get(database, 0), copies.get(database, 0)
            if there != here:
                is_same = False
                print(f"database {database}: {there} keys at the source, and {here} here")
        compared = 0
        for database, names in self._sample([database for database in databases if counts.get(database)]):
            for link in (self._source, self._target):
                link.do("SELECT", database)
            for name, difference in _differences(self._source, self._target, names):
                is_same = False
                print(f"database {database}: {_shown(name)} {difference}")
            compared += len(names)
        verdict = "and they are the same" if is_same else "and there are differences: has somebody written meanwhile?"
        print(f"verified: keys counted, {compared} of them compared, {verdict}")
        return is_same

    def _sample(self, databases: list[int]) -> Iterator[tuple[int, list[bytes]]]:
        for database in databases:
            self._source.do("SELECT", database)
            wanted = max(1, self._options.sample // len(databases)) if self._options.sample else 0
            replies = self._source.ask([("RANDOMKEY",)] * wanted)
            names = sorted({reply for reply in replies if isinstance(reply, bytes)})
            for place in range(0, len(names), 50):
                yield database, names[place : place + 50]


def _differences(source: Link, target: Link, names: list[bytes]) -> Iterator[tuple[bytes, str]]:
    there = {row.name: row for row in read(source, names, "PTTL")}
    here = {row.name: row for row in read(target, names, "PTTL")}
    for name in there:
        copy = here.get(name)
        if copy is None:
            yield name, "is missing"
        elif (copy.deadline < 0) != (there[name].deadline < 0):
            yield name, "has another time to live"
        elif copy.payload != there[name].payload and _digest(copy.payload) != _digest(there[name].payload):
            # Servers may write the same value in several ways.
            yield name, "has another value"


def _digest(payload: bytes) -> bytes:
    from kora.types.digest import digest_of
    from kora.types.limits import Limits
    from kora.types.rdb.payload import WrongFoot, restore
    from kora.types.rdb.reader import STRING_BYTES_MAX, Damaged

    limits = Limits()

    def make(kind: type) -> Any:
        return kind(limits)

    try:
        return digest_of(restore(payload, make, STRING_BYTES_MAX), False)
    except (WrongFoot, Damaged):
        return payload


def _ttl_ms(row: Found) -> int:
    # One of 0 ms is over at once, where RESTORE takes it for none.
    return 0 if row.deadline == -1 else max(1, row.deadline)


def _place(url: str) -> str:
    """Where a URL leads, without user and password."""
    parts = urlsplit(url)
    path = parts.path.strip("/")
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{f'/{path}' if path else ''}" or "local"


def _shown(name: bytes) -> str:
    text = repr(name[:_NAME_BYTES_MAX])[1:]
    return text + "…" if len(name) > _NAME_BYTES_MAX else text


# FUNCTION DUMP without libraries: version and checksum.
_EMPTY_DUMP_BYTES: Final = 10
