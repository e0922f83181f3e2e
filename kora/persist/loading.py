"""Loading a snapshot: an RDB file of any version up to 12, whether Kora, Redis or Valkey wrote it.

load_rdb() is a generator that stops every few milliseconds for others to have their turn; run() takes it to its end.
What the kernel knows it takes straight from the window of bytes that is in memory, record after record; the rest is
read here, and so is whatever the kernel found strange, so that every fault is told in the same words.

A file is either loaded in full or refused: a fault raises CorruptFile, with the offset, and what Kora cannot know
(a newer format, more databases, other people's modules) raises CannotLoad.  What has been loaded by then stays in the
databases: whoever called throws it away, or ends.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from kora.engine.loading import Loading
from kora.engine.scripting import runtime
from kora.errors import CommandError
from kora.types.kinds import type_name
from kora.types.rdb.file_reader import WINDOW_BYTES, FileReader
from kora.types.rdb.reader import STRING_BYTES_MAX, Damaged, NoElements, UnknownModule, module_name
from kora.types.rdb.values import NEWEST, read

if TYPE_CHECKING:
    from kora.engine.engine import Engine

# RDB_OPCODE_… (rdb.h): everything below is the type of a value.
_SLOT_INFO: Final = 244
_FUNCTION: Final = 245
_FUNCTION_EARLY: Final = 246  # of Redis 7.0's release candidates
_MODULE_AUX: Final = 247
_IDLE: Final = 248
_FREQUENCY: Final = 249
_AUX: Final = 250
_RESIZE: Final = 251
_DEADLINE_MS: Final = 252
_DEADLINE_S: Final = 253
_SELECT: Final = 254
_END: Final = 255

_MODULE_EARLY: Final = 6  # a type: of a release candidate of Redis 4; where its values end cannot be told

_MAGIC: Final = b"REDIS"
_CHECKSUM_SINCE: Final = 5  # version

# RDB_MODULE_OPCODE_…: what a module's value is made of.
_MODULE_END: Final = 0
_MODULE_SIGNED: Final = 1
_MODULE_UNSIGNED: Final = 2
_MODULE_FLOAT: Final = 3
_MODULE_DOUBLE: Final = 4
_MODULE_STRING: Final = 5

# How long loading goes on without letting others in, and what the kernel is given at a time, which takes it as long.
TURN_NS: Final = 2_000_000
_STEP_BYTES: Final = 1 << 16
# How long it goes on in the middle of a value before clients are attended to without the loop.
_TURN_NS_MAX: Final = 20_000_000
# The largest window: the kernel takes no record that is longer.
_WINDOW_BYTES_MAX: Final = 1 << 24
# Of a key, in messages.
_NAME_BYTES_MAX: Final = 64

Result = TypeVar("Result")
Steps = Generator[None, None, Result]


class CannotLoad(Exception):
    """A file that is not loaded: where in it that turned out, and why."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path}: at byte {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


class CorruptFile(CannotLoad):
    """A file that nobody wrote like that.  `good_bytes` of it, to the end of the last record, could be read."""

    def __init__(self, path: str, offset: int, reason: str, good_bytes: int) -> None:
        super().__init__(path, offset, reason)
        self.good_bytes = good_bytes


@dataclass
class Report:
    """What a file held."""

    version: int = 0
    stop: int = 0  # the offset behind its last byte, the checksum included
    keys: int = 0  # loaded
    expired: int = 0  # not loaded, since their time was over
    empty: int = 0  # not loaded, since they had no elements: some Redis had a bug
    functions: int = 0  # libraries
    has_checksum: bool = False
    # What the writer said of itself: redis-ver, ctime, used-mem, aof-base, …
    about: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)  # by module: values and other data left out


def load_rdb(
    engine: "Engine",
    file: BinaryIO,
    size_bytes: int,
    progress: Loading,
    *,
    path: str,
    in_journal: bool = False,
    replaces: bool = False,
) -> Steps[Report]:
    """Load what a file has from where it stands, into databases that have none of its keys.

    `size_bytes` are left in the file, of which the snapshot may be the first part; `progress.loaded_bytes` grows by
    what is read.  With `in_journal` keys whose time is over stay, for the journal behind it has to find them.
    With `replaces` what has the same name as something in the file gives way, where otherwise that is a fault.
    Raises CannotLoad and OSError.
    """
    return (yield from _Loader(engine, file, size_bytes, progress, path, in_journal, replaces).run())


def run(steps: Steps[Result]) -> Result:
    """Do all the steps, and let nobody else in."""
    results: list[Result] = []

    def follow() -> Steps[None]:
        results.append((yield from steps))

    for _ in follow():
        pass
    return results[0]


class _Loader:
    def __init__(
        self,
        engine: "Engine",
        file: BinaryIO,
        size_bytes: int,
        progress: Loading,
        path: str,
        in_journal: bool,
        replaces: bool,
    ) -> None:
        # For the file.
        self._engine = engine
        self._path = path
        self._in_journal = in_journal
        self._replaces = replaces
        self._progress = progress
        self._loaded_before = progress.loaded_bytes
        config = engine.config
        self._is_lfu = config.maxmemory_policy.endswith("-lfu")
        # What was stored once is loaded, although requests may be no longer now than something that was set since.
        self._string_bytes_max = max(config.proto_max_bulk_len, STRING_BYTES_MAX)
        self._reader = FileReader(file, size_bytes, engine.implementation.rdb_tools, self._string_bytes_max)
        self._reader.on_read = self._note_progress
        self._report = Report()
        self._changes = {keyspace.index: keyspace.changes for keyspace in engine.databases.used()}
        self._db = engine.databases[0]
        self._good_bytes = 0  # to the end of the last record
        # For the record.
        self._start = 0
        self._what = "the head of the file"
        self._deadline_ms = 0
        self._idle_s: int | None = None
        self._frequency: int | None = None
        # Since others were let in.
        self._turn_ns = engine.monotonic_ns()

    def run(self) -> Steps[Report]:
        try:
            self._read_head()
            while (yield from self._records()):
                pass
            self._read_foot()
        except Damaged as error:
            raise CorruptFile(
                self._path,
                self._reader.offset,
                f"{error}, in {self._what}, which begins at byte {self._start}",
                self._good_bytes,
            ) from None
        finally:
            self._settle()
        report = self._report
        report.stop = self._reader.offset
        self._engine.loaded_keys, self._engine.loaded_expired = report.keys, report.expired
        return report

    def _read_head(self) -> None:
        reader = self._reader
        magic = reader.take(9)
        if magic[:6] == b"VALKEY":
            raise self._refusal("a format of Valkey 9 or later; have it write one that Redis 7.2 can read")
        if magic[:5] != _MAGIC or not magic[5:].isdigit():
            raise Damaged(f"{magic!r} where REDIS and a version of four digits should be")
        self._report.version = version = int(magic[5:])
        if not 1 <= version <= NEWEST:
            raise self._refusal(f"RDB version {version}, of which Kora knows 1 to {NEWEST}")

    def _records(self) -> Steps[bool]:
        """Everything up to something that others should have a turn before, or False at the end."""
        reader = self._reader
        while True:
            self._start = self._good_bytes = reader.offset
            if self._engine.monotonic_ns() - self._turn_ns >= TURN_NS:
                self._settle()
                yield
                self._turn_ns = self._engine.monotonic_ns()
            if self._load_fast():
                continue
            self._what = "a record"
            self._deadline_ms, self._idle_s, self._frequency = 0, None, None
            code = reader.byte()
            while code in _PREFIXES:
                _PREFIXES[code](self)
                code = reader.byte()
            if code == _END:
                return False
            handle = _OPCODES.get(code)
            if handle is not None:
                handle(self)
            else:
                self._load_key(code)

    # Keys

    def _load_fast(self) -> bool:
        """Have the kernel load some records; whether it has."""
        reader, report = self._reader, self._report
        now_ms = None if self._in_journal else self._engine.clock.wall_ms()
        while True:
            place, keys, expired, is_cut = self._engine.implementation.load_records(
                self._db,
                reader.window,
                reader.place,
                reader.place + _STEP_BYTES,
                now_ms,
                self._string_bytes_max,
                self._is_lfu,
            )
            if place > reader.place:
                reader.place = place
                report.keys += keys
                report.expired += expired
                return True
            in_window = len(reader.window) - place
            if not is_cut or in_window >= min(reader.left, _WINDOW_BYTES_MAX):
                return False
            reader.widen(max(WINDOW_BYTES, 2 * in_window))

    def _load_key(self, type_: int) -> None:
        reader, report, db = self._reader, self._report, self._db
        key = reader.string()
        self._what = f"the key {_shown(key)}"
        if type_ == _MODULE_EARLY:
            raise self._refusal("a value of a module in the format of a release candidate of Redis 4")
        try:
            value = read(reader, type_, db.make)
        except NoElements:
            report.empty += 1
            return
        except UnknownModule as module:
            self._skip_module(module.module_id)
            return
        now_ms = self._engine.clock.wall_ms()
        if 0 < self._deadline_ms < now_ms and not self._in_journal:
            report.expired += 1
            return
        if type_name(value) == "hash" and value.next_deadline_ms and not self._in_journal:
            value.end_due(now_ms)
            if not value:
                report.expired += 1
                return
        if not self._replaces and db.has_quietly(key):
            raise Damaged("a key that is there twice")
        db.set_until(key, value, self._deadline_ms or None)
        self._engine.remember_use(db, key, self._idle_s, self._frequency)
        if type_name(value) == "vectorset":
            self._engine.indexing.note(db, key)
        report.keys += 1

    def _read_deadline_ms(self) -> None:
        self._deadline_ms = self._reader.integer(8)

    def _read_deadline_s(self) -> None:
        self._deadline_ms = self._reader.integer(4) * 1000

    def _read_idle(self) -> None:
        self._idle_s = self._reader.length()

    def _read_frequency(self) -> None:
        self._frequency = self._reader.byte()

    # What is beside the keys

    def _select(self) -> None:
        number = self._reader.length()
        try:
            self._db = self._engine.databases[number]
        except IndexError:
            raise self._refusal(
                f"keys of database {number}; set `databases` to {number + 1} or more to load it"
            ) from None

    def _resize(self) -> None:
        """How many keys there are, and with deadlines: what Redis makes room for at once, and Kora as they come."""
        self._reader.length()
        self._reader.length()

    def _pass_slot(self) -> None:
        """The same for a slot of a cluster."""
        for _ in range(3):
            self._reader.length()

    def _read_about(self) -> None:
        self._what = "what the writer says of itself"
        name, text = self._reader.string(), self._reader.string()
        about = self._report.about
        about[name.decode("utf-8", "replace")] = text.decode("utf-8", "replace")
        if name == b"used-mem" and text.isdigit():
            self._progress.used_memory_bytes = int(text)

    def _load_library(self) -> None:
        self._what = "a library of functions"
        self._make_library(self._reader.string())

    def _load_early_library(self) -> None:
        """Its name, engine, description and code apart, where 7.0 has a first line for the first two."""
        self._what = "a library of functions"
        reader = self._reader
        name, language = reader.string(), reader.string()
        if reader.length():
            reader.string()
        self._make_library(b"#!%b name=%b\n%b" % (language.lower(), name, reader.string()))

    def _make_library(self, code: bytes) -> None:
        try:
            runtime(self._engine).load(code, replace=self._replaces)
        except CommandError as error:
            raise self._refusal(f"a library of functions that cannot be loaded: {error.message}") from None
        self._report.functions += 1

    # Modules

    def _skip_aux(self) -> None:
        self._what = "data of a module"
        reader = self._reader
        module_id = reader.length()
        if reader.length() != _MODULE_UNSIGNED:
            raise Damaged("something else where a number belongs")
        reader.length()  # whether it is from before or behind the keys
        self._skip_module(module_id)

    def _skip_module(self, module_id: int) -> None:
        """Pass by what a module wrote, if that is allowed."""
        reader = self._reader
        name = module_name(module_id)
        if self._engine.config.rdb_modules != "skip":
            raise self._refusal(f"data of the module type {name}; with `rdb-modules skip` Kora starts without it")
        while (code := reader.length()) != _MODULE_END:
            if code in (_MODULE_SIGNED, _MODULE_UNSIGNED):
                reader.length()
            elif code == _MODULE_FLOAT:
                reader.take(4)
            elif code == _MODULE_DOUBLE:
                reader.take(8)
            elif code == _MODULE_STRING:
                reader.string()
            else:
                raise Damaged("an unknown part of a module's value")
        skipped = self._report.skipped
        skipped[name] = skipped.get(name, 0) + 1

    # The end

    def _read_foot(self) -> None:
        self._start = self._reader.offset
        if self._report.version < _CHECKSUM_SINCE:
            if self._reader.left:
                # A checksum, perhaps, and it is the version that is wrong.
                self._what = f"a file of version {self._report.version}"
                raise Damaged("more behind the end")
            return
        self._what = "the checksum"
        computed = self._reader.crc()
        written = self._reader.integer(8) % (1 << 64)
        self._report.has_checksum = bool(written)
        if written and computed != written and self._engine.config.rdbchecksum:
            reason = f"the checksum is {computed:016x}, and should be {written:016x}"
            raise WrongChecksum(self._path, self._start, reason, self._good_bytes)

    def _refusal(self, reason: str) -> CannotLoad:
        return CannotLoad(self._path, self._start, reason)

    def _settle(self) -> None:
        """Before others see what there is."""
        self._note_progress()
        # What is loaded are no changes that would have to be saved.
        for keyspace in self._engine.databases.used():
            keyspace.changes = self._changes.get(keyspace.index, 0)

    def _note_progress(self) -> None:
        engine = self._engine
        self._progress.loaded_bytes = self._loaded_before + self._reader.offset
        if engine.loading is not None and engine.monotonic_ns() - self._turn_ns >= _TURN_NS_MAX:
            # In the middle of a long value.
            engine.pump()
            self._turn_ns = engine.monotonic_ns()


class WrongChecksum(CorruptFile):
    """Every record can be read, and yet some byte of the file is not what it was."""


_PREFIXES: Final = {
    _DEADLINE_MS: _Loader._read_deadline_ms,
    _DEADLINE_S: _Loader._read_deadline_s,
    _IDLE: _Loader._read_idle,
    _FREQUENCY: _Loader._read_frequency,
}
_OPCODES: Final = {
    _SELECT: _Loader._select,
    _RESIZE: _Loader._resize,
    _SLOT_INFO: _Loader._pass_slot,
    _AUX: _Loader._read_about,
    _FUNCTION: _Loader._load_library,
    _FUNCTION_EARLY: _Loader._load_early_library,
    _MODULE_AUX: _Loader._skip_aux,
}


def _shown(key: bytes) -> str:
    text = repr(key[:_NAME_BYTES_MAX])[1:]
    return text + "…" if len(key) > _NAME_BYTES_MAX else text
