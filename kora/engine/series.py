"""The series of metrics: what was tracked, as entries of streams, and what is read off them.

    kilometric.<key>       an entry for each interval of events-flush-interval, as Kilometric names its streams
    kilometric:1m:<key>    one for each minute
    kilometric:1h:<key>    one for each hour

All are in database 0, and written by XADD as a client would send it.  An entry has the fields of a Tally, and stands at
the id that is the beginning of its interval in Unix ms.  What comes for an interval when there are entries behind it
already has the next id there is, and names its interval in the field `at`.  Entries that have only a count are those of
a real Kilometric, whose id is the time.

An interval may have several entries, in each of these streams: they add up.  So nothing is ever written anew, and that
is what keeps the sums right whatever happens between two writes: each entry of minutes tells, in `through`, the id of
the last entry of the stream below that is in it or in one before it, and the next begins behind that.  A minute is made
of the entries that follow each other there, so one that came late makes another entry of its minute; and hours are made
of minutes in the same way.

Entries are removed when they are older than their stream keeps them, but never before those above have them.  To read,
each entry is taken once: minutes as far as the stream below does not reach back, and then that.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from kora.errors import CommandError
from kora.types.stream import Stream
from kora.types.stream_id import ID_MAX, format_id, parse_id
from kora.types.tally import UNIT, Tally, to_number

if TYPE_CHECKING:
    from kora.engine.engine import Engine
    from kora.store.keyspace import Keyspace

PREFIX: Final = b"kilometric."
KINDS: Final = ("counter", "points", "rate", "gauge", "stats")
FILLS: Final = ("none", "zero")
PERIOD_S: Final = 60
PERIOD_S_MAX: Final = 10 * 366 * 86_400
# A generator that gives way again and again, and in the end has an answer.
Steps: TypeAlias = "Generator[None, None, Any]"
# Entries that are read, or values that are answered, between two steps of an answer.
_STEP_VALUES: Final = 20
# So that nobody's question takes the loop for long: entries that are looked at, and values of an answer.
ENTRIES_MAX: Final = 200_000
VALUES_MAX: Final = 11_000  # a week of minutes
# Entries that are rolled up in one step.
_STEP_ENTRIES: Final = 500
# Entries that are found in one step of an answer.
_FOUND_ENTRIES: Final = 100


@dataclass(frozen=True)
class Level:
    """A stream of a metric, made of the one below it."""

    prefix: bytes
    span_ms: int
    retention: str  # the setting that tells for how many seconds entries are kept


RAW: Final = Level(PREFIX, 0, "events_retention")
MINUTES: Final = Level(b"kilometric:1m:", 60_000, "events_minutes_retention")
HOURS: Final = Level(b"kilometric:1h:", 3_600_000, "events_hours_retention")
LEVELS: Final = (RAW, MINUTES, HOURS)

# XADD and the like, as a client would send it: returns the error it was answered, or b"".
Run: TypeAlias = Callable[..., bytes]
_Result = TypeVar("_Result")


class NotASeries(CommandError):
    message = "ERR the stream of the metric has entries that are no counts"


class _Gone(Exception):
    """Entries that were still to be read were removed meanwhile."""


@dataclass
class Question:
    """Which values of a metric are asked for; both times are included."""

    kind: str
    from_ms: int | None = None
    to_ms: int | None = None
    period_s: int = PERIOD_S
    fill: str = "none"

    def __post_init__(self) -> None:
        """Raises CommandError."""
        if self.kind not in KINDS:
            raise CommandError(f"ERR unknown type of series, it is one of {', '.join(KINDS)}")
        if self.fill not in FILLS:
            raise CommandError("ERR FILL must be none or zero")
        if not 1 <= self.period_s <= PERIOD_S_MAX:
            raise CommandError(f"ERR PERIOD must be between 1 and {PERIOD_S_MAX} seconds")

    def asks_for(self, at_ms: int) -> bool:
        return (self.from_ms is None or at_ms >= self.from_ms) and (self.to_ms is None or at_ms <= self.to_ms)

    def is_even(self, span_ms: int) -> bool:
        """Whether no interval of that length has to be divided for it."""
        return (
            (self.kind == "counter" or self.period_s * 1000 % span_ms == 0)
            and (self.from_ms is None or self.from_ms % span_ms == 0)
            and (self.to_ms is None or (self.to_ms + 1) % span_ms == 0)
        )


class Series:
    """What is in the streams of metrics."""

    def __init__(self, engine: "Engine", run: Run) -> None:
        self._engine = engine
        self._run = run
        self.late = 0  # entries that could not be put in the place of their interval
        self.rolled = 0  # entries of minutes and hours that were made

    @property
    def _db(self) -> "Keyspace":
        return self._engine.databases[0]

    def exists(self, key: bytes) -> bool:
        return any(self._db.has_quietly(level.prefix + key) for level in LEVELS)

    # Writing

    def entry(self, key: bytes, start_ms: int, words: Sequence[bytes], level: Level = RAW) -> list[bytes]:
        """XADD of an entry for an interval: in its place if that is the end, or else at the end."""
        name = level.prefix + key
        stream = self._db.find(name, Stream)
        last_ms = stream.last_id >> 64 if stream is not None else 0
        if last_ms <= start_ms:
            return [b"XADD", name, b"%d-*" % start_ms, *words]
        self.late += 1
        return [b"XADD", name, b"%d-*" % last_ms, *words, b"at", b"%d" % start_ms]

    def roll(self, key: bytes, now_ms: int) -> bool:
        """Make the minutes and hours of a metric that are over, and remove what is too old; whether there is more."""
        config = self._engine.config
        open_ms = now_ms - 2 * 1000 * config.events_flush_interval - 2000  # what is before it has been written
        below = RAW
        for level in (MINUTES, HOURS):
            if not config.events_hours_retention and (level is HOURS or not config.events_minutes_retention):
                break  # nobody wants them
            # An hour is over when its last minute was made.
            open_ms -= open_ms % level.span_ms
            is_done, through = self._roll(key, below, level, open_ms)
            self._trim(key, below, through, now_ms, is_done)
            if not is_done:
                return True
            below = level
        self._trim(key, below, ID_MAX - 1, now_ms, True)
        return False

    def has_more(self, key: bytes) -> bool:
        """Whether there are entries that are in no minute, or minutes that are in no hour."""
        for below, level in pairwise(LEVELS):
            source = self._db.find(below.prefix + key, Stream)
            if source is not None and source.range(_through(self._db.find(level.prefix + key, Stream)) + 1, ID_MAX, 1):
                return True
        return False

    def _roll(self, key: bytes, below: Level, level: Level, open_ms: int) -> tuple[bool, int]:
        """Whether all was made that is over, and up to which id of the stream below."""
        target = self._db.find(level.prefix + key, Stream)
        through = _through(target)
        source = self._db.find(below.prefix + key, Stream)
        if source is None or open_ms <= 0:
            return True, through
        found = source.range(through + 1, (open_ms << 64) - 1, _STEP_ENTRIES)
        for start_ms, last_id, tally in _spans(found, level.span_ms):
            words = [*tally.words(), b"through", format_id(last_id)]
            error = self._run(*self.entry(key, start_ms, words, level))
            if error:
                return False, through
            through = last_id
            self.rolled += 1
        return len(found) < _STEP_ENTRIES, through

    def _trim(self, key: bytes, level: Level, through: int, now_ms: int, is_done: bool) -> None:
        """Remove what is older than it is kept, of what the stream above has."""
        name = level.prefix + key
        stream = self._db.find(name, Stream)
        if stream is None:
            return
        keep_ms = 1000 * getattr(self._engine.config, level.retention)
        if keep_ms or level is not RAW:
            first_id = min(max(0, now_ms - keep_ms) << 64, through + 1)
            if level is not RAW:
                first_id = min(first_id, stream.top_id)  # which tells how far it goes
            if stream.first_id < first_id:
                self._run(b"XTRIM", name, b"MINID", format_id(first_id))
        length_max = self._engine.config.events_maxlen
        if level is not RAW or not length_max or len(stream) <= length_max or not is_done:
            return
        # Only if those above have all that goes.
        if len(stream.range(through + 1, ID_MAX, length_max + 1)) <= length_max:
            self._run(b"XTRIM", name, b"MAXLEN", b"~", b"%d" % length_max)

    # Reading

    def reading(self, key: bytes, question: Question, buffered: Callable[[], Sequence[tuple[int, Tally]]]) -> Steps:
        """The values of a metric, with what is not written yet: each interval's beginning, and its tally.

        In steps of a fraction of a millisecond.  They are those of the first step: what is written or rolled up
        meanwhile makes no difference.  Should entries be removed that were not read yet, all is read anew, at once.
        """
        try:
            answer = yield from self._added(key, question, buffered())
        except _Gone:
            steps = self._added(key, question, buffered())
            answer = run_out(steps)
        return (yield from answer.values())

    def _added(
        self, key: bytes, question: Question, buffered: Sequence[tuple[int, Tally]]
    ) -> "Generator[None, None, _Answer]":
        """The entries that have to do with a question, and what is not written.  Raises _Gone."""
        answer = _Answer(question)
        for entry in self._find(key, question):
            if entry is None:
                yield
                continue
            answer.add(*entry)
            if not answer.added % _STEP_VALUES:
                yield
        for start_ms, tally in buffered:
            if question.asks_for(start_ms):
                answer.merge(start_ms, tally)
        return answer

    def _find(self, key: bytes, question: Question) -> Iterator[tuple[int, dict[bytes, bytes]] | None]:
        """When each entry's interval began that has to do with a question, and what the entry says.

        None again and again, where others may have their turn.
        """
        names = [level.prefix + key for level in LEVELS]
        self._db.read(names[0], Stream)  # raises WrongType
        streams = [self._db.find(name, Stream) for name in names]
        tops = [stream.top_id if stream is not None else 0 for stream in streams]
        after = [0, 0, 0]  # behind which entry each goes on where the coarser ones end
        for place in (2, 1):
            upper, lower = streams[place], streams[place - 1]
            if upper is not None:
                is_even = question.is_even(LEVELS[place].span_ms)
                after[place - 1] = _through(upper) if is_even else _cut(upper, lower)
        firsts = [stream.first_id if stream is not None else 0 for stream in streams]
        del streams  # others may remove them
        budget = ENTRIES_MAX
        for place in (2, 1, 0):
            limit = after[place - 1] if place else None
            first_id = min(max(after[place] + 1, (question.from_ms or 0) << 64), ID_MAX)
            for entry in self._from(names[place], first_id, tops[place], firsts[place]):
                if entry is None:
                    yield None
                    continue
                budget -= 1
                if budget < 0:
                    raise CommandError(f"ERR more than {ENTRIES_MAX} entries are in that time: ask for less")
                start_ms, fields = _fields(*entry)
                if limit is not None and parse_id(fields.get(b"through", b"0")) > limit:
                    break  # the stream below has it
                if question.asks_for(start_ms):
                    yield start_ms, fields

    def _from(
        self, name: bytes, next_id: int, top_id: int, known_first_id: int
    ) -> Iterator[tuple[int, Sequence[bytes]] | None]:
        """The entries of a stream that there were, as far as they are asked for; None again and again."""
        while next_id <= top_id:
            stream = self._db.find(name, Stream)
            if stream is None or (stream.first_id != known_first_id and stream.first_id > next_id):
                raise _Gone
            found = stream.range(next_id, top_id, _FOUND_ENTRIES)
            yield from found
            if len(found) < _FOUND_ENTRIES:
                return
            next_id = found[-1][0] + 1
            yield None


def run_out(steps: "Generator[None, None, _Result]") -> "_Result":
    """The answer of something that is made in steps, at once."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: _Result = end.value
        return result


@dataclass
class _Answer:
    """What a question is answered, as far as it was read."""

    question: Question
    tallies: dict[int, Tally] = field(default_factory=dict)  # by the beginning of the period
    first_ms: int = 0
    last_ms: int = -1
    added: int = 0

    def __post_init__(self) -> None:
        self._period_ms = 1000 * self.question.period_s
        self._is_simple = self.question.kind in ("counter", "points", "rate")

    def add(self, start_ms: int, fields: dict[bytes, bytes]) -> None:
        self.added += 1
        try:
            if self._is_simple:
                tally = Tally()
                tally.sum = Tally.sum_of(fields)
                tally.count = 1  # that there is something
            else:
                tally = Tally.of_fields(fields, start_ms)
        except ValueError:
            raise NotASeries from None
        self.merge(start_ms, tally)

    def merge(self, start_ms: int, tally: Tally) -> None:
        tally.last_ms = start_ms
        if self.last_ms < 0:
            self.first_ms = self.last_ms = start_ms
        self.first_ms, self.last_ms = min(self.first_ms, start_ms), max(self.last_ms, start_ms)
        period = 0 if self.question.kind == "counter" else start_ms - start_ms % self._period_ms
        known = self.tallies.setdefault(period, tally)
        if known is not tally:
            known.merge(tally)
        elif len(self.tallies) > VALUES_MAX:
            self._refuse()

    def values(self) -> Steps:
        question = self.question
        if not self.tallies and (question.fill == "none" or question.from_ms is None or question.to_ms is None):
            return []
        if question.kind == "counter":
            if not self.tallies:
                return [{"from": question.from_ms, "to": question.to_ms, "value": 0}]
            return [{"from": self.first_ms, "to": self.last_ms, "value": to_number(self.tallies[0].sum)}]
        values = []
        for start_ms in self._periods():
            values.append(self._value(start_ms, self.tallies.get(start_ms)))
            if not len(values) % _STEP_VALUES:
                yield
        return values

    def _periods(self) -> Iterable[int]:
        question, period_ms = self.question, self._period_ms
        if question.fill == "none":
            return sorted(self.tallies)
        # From the first asked for, or that there is, to the last.
        first_ms = question.from_ms if question.from_ms is not None else self.first_ms
        last_ms = question.to_ms if question.to_ms is not None else self.last_ms
        first_ms -= first_ms % period_ms
        if (last_ms - first_ms) // period_ms >= VALUES_MAX:
            self._refuse()
        return range(first_ms, last_ms + 1, period_ms)

    def _value(self, start_ms: int, tally: Tally | None) -> dict[str, Any]:
        kind = self.question.kind
        tally = tally or Tally()
        if kind == "points":
            return {"from": start_ms, "value": to_number(tally.sum)}
        value: dict[str, Any] = {"from": start_ms, "to": start_ms + self._period_ms - 1}
        if kind == "rate":
            value["value"] = _ratio(tally.sum, self.question.period_s)
        elif kind == "gauge":
            value["value"] = to_number(tally.last)
        else:
            value["count"] = tally.count
            value["min"], value["max"] = to_number(tally.min), to_number(tally.max)
            value["mean"] = _ratio(tally.sum, tally.count)
            for percent in (50, 99):
                value[f"p{percent}"] = to_number(tally.percentile(percent))
        return value

    def _refuse(self) -> None:
        raise CommandError(
            f"ERR the answer would have more than {VALUES_MAX} values: ask for a longer PERIOD or less time"
        )


def _ratio(units: int, count: int) -> int | float:
    if not count:
        return 0
    return units // count // UNIT if units % (count * UNIT) == 0 else units / (count * UNIT)


def _fields(entry_id: int, words: Sequence[bytes]) -> tuple[int, dict[bytes, bytes]]:
    """When the interval of an entry began, and what it says."""
    fields = dict(zip(words[::2], words[1::2], strict=True))
    at = fields.get(b"at")
    return int(at) if at is not None and at.isdigit() and len(at) < 20 else entry_id >> 64, fields


def _spans(found: Iterable[tuple[int, Sequence[bytes]]], span_ms: int) -> Iterator[tuple[int, int, Tally]]:
    """Entries that follow each other and are of one minute or hour: its beginning, the last one's id, their tally.

    Raises NotASeries.
    """
    span: int | None = None
    last_id = 0
    tally = Tally()
    for entry_id, words in found:
        start_ms, fields = _fields(entry_id, words)
        if span is not None and start_ms - start_ms % span_ms != span:
            yield span, last_id, tally
            tally = Tally()
        span = start_ms - start_ms % span_ms
        last_id = entry_id
        try:
            tally.merge(Tally.of_fields(fields, start_ms))
        except ValueError:
            raise NotASeries from None
    if span is not None:
        yield span, last_id, tally


def _through(upper: Stream | None) -> int:
    """Up to which entry of the stream below it tells."""
    found = upper.range(0, ID_MAX, 1, True) if upper is not None else []
    return parse_id(_fields(*found[0])[1].get(b"through", b"0")) if found else 0


def _cut(upper: Stream, lower: Stream | None) -> int:
    """From behind which entry on all those of the lower stream are there, as far as the upper one has marks.

    That is the first mark that is not before its first entry; all of them, where it had no other entries.
    """
    if lower is None or not len(lower):
        return _through(upper)
    if lower.entries_added == len(lower):
        return 0
    cut = _through(upper)
    stop = ID_MAX
    while True:
        found = upper.range(0, stop, 100, True)
        for entry_id, words in found:
            through = parse_id(_fields(entry_id, words)[1].get(b"through", b"0"))
            if through < lower.first_id:
                return cut
            cut = through
        if len(found) < 100:
            return cut
        stop = found[-1][0] - 1
