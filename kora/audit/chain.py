"""A record of the audit log as a line, and the chain that shows whether one was changed, taken out or put elsewhere.

A line is a JSON object without blanks, in ASCII: first `seq`, which counts records from 1, last `prev`, the hash of the
record before (zeros for the first), and `hash`.  That is the SHA-256 of the line as it stands without `,"hash":"…"`:

    json.dumps({name: value for name, value in record.items() if name != "hash"}, separators=(",", ":"))
"""

import json
from calendar import timegm
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from time import gmtime, strptime
from typing import Any, Final

from kora.audit.ring import COMMAND, DIRECTLY, GAP, IN_TRANSACTION, Record, identity_of
from kora.config import AUDIT_CATEGORIES

ZEROS: Final = "0" * 64
SUCCESS: Final = "ok"
_HASH_BYTES: Final = len(',"hash":""}') + 64
# How far behind a record that is missing one looks for it, to tell what was moved from what was taken out.
_LOOK_AHEAD: Final = 10_000


# --- Writing ---


@dataclass
class Chain:
    """Where the log has come to: the number and hash of its last record."""

    sequence: int = 0
    hash: str = ZEROS

    def line(self, body: str) -> bytes:
        """The next record, of these members: without braces."""
        self.sequence += 1
        text = f'{{"seq":{self.sequence},{body},"prev":"{self.hash}"'
        self.hash = sha256(f"{text}}}".encode("ascii")).hexdigest()
        return f'{text},"hash":"{self.hash}"}}\n'.encode("ascii")


def utc(time_ms: int) -> str:
    return f"{_to_seconds(time_ms // 1000)}.{time_ms % 1000:03}Z"


def seconds(text: str) -> float:
    """The reverse of utc(), as Unix time.  Raises ValueError."""
    return timegm(strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(f"0{text[19:-1]}")


@lru_cache(maxsize=16)
def _to_seconds(time_s: int) -> str:
    now = gmtime(time_s)
    return f"{now[0]:04}-{now[1]:02}-{now[2]:02}T{now[3]:02}:{now[4]:02}:{now[5]:02}"


def body(record: Record, run: str) -> str:
    """The members of a record that came over the ring."""
    head = f'"time":"{utc(record.time_ms)}","run":"{run}","number":{record.number}'
    if record.kind == GAP:
        count, since_ms, first = record.values
        why = '"event":"gap","reason":"the queue was full"'
        return f'{head},{why},"missing":{count},"first":{first},"since":"{utc(since_ms)}"'
    head += f',"category":"{AUDIT_CATEGORIES[record.category - 1]}"'
    if record.kind != COMMAND:
        return f"{head},{members(record.values)}"
    outcome = f'"{SUCCESS}"' if not record.outcome else quoted(_text(record.outcome))
    parts = [
        f'{head},{_client(record.identity)},"command":{_name(record.name)}',
        f'"keys":[{_words(record.keys)}]',
    ]
    if record.keys_left_out:
        parts.append(f'"keys_left_out":{record.keys_left_out}')
    if record.words:
        parts.append(f'"args":[{_words(record.words)}]')
    if record.words_left_out:
        parts.append(f'"args_left_out":{record.words_left_out}')
    if record.where != DIRECTLY:
        parts.append('"within":"transaction"' if record.where == IN_TRANSACTION else '"within":"script"')
    if record.trace:
        parts.append(f'"trace":{quoted(_text(record.trace))}')
    parts.append(f'"outcome":{outcome}')
    return ",".join(parts)


def members(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), default=_text)[1:-1]


@lru_cache(maxsize=4096)
def _client(identity: bytes) -> str:
    client_id, user, address, name = identity_of(identity)
    return members({"user": user, "client": client_id, "address": address, "name": _text(name)})


@lru_cache(maxsize=1024)
def _name(name: bytes) -> str:
    return quoted(_text(name))


def _words(words: Iterable[bytes]) -> str:
    return ",".join([quoted(_text(word)) for word in words])


def _text(word: bytes) -> str:
    return word.decode("utf-8", "backslashreplace")


# --- Verifying ---


@dataclass(frozen=True)
class Line:
    path: str
    number: int  # in its file, from 1
    data: bytes

    @property
    def place(self) -> str:
        return f"{self.path}, line {self.number}"


def read_line(data: bytes) -> dict[str, Any] | None:
    """The record of a line, with its end; None where it is not what was written."""
    try:
        record = json.loads(data)
        told = record["hash"].encode()
        is_whole = type(record["seq"]) is int and data.endswith(b'","hash":"%b"}\n' % told)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    is_right = is_whole and sha256(data[: -_HASH_BYTES - 1] + b"}").hexdigest().encode() == told
    return record if is_right else None


@dataclass
class Report:
    """What was found up to the first record that is not as it was written, or to the end."""

    records: int = 0
    files: int = 0
    first: int = 0  # the number of the first record
    last: int = 0
    hash: str = ZEROS  # of the last
    gaps: int = 0  # records that say that others are missing
    missing: int = 0  # how many they say are, as far as they know
    removed_up_to: int = 0  # records that retention has removed
    fault: str = ""  # where, and what; "" where all is as it was written
    broken: int = 0  # the number of the first broken record, as far as it can be told

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "valid": not self.fault}


@dataclass
class _State:
    sequence: int | None = None  # expected
    hash: str = ""
    # What was before the first record, and what records say of what was removed: last number → hash.
    before: tuple[int, str] = (0, ZEROS)
    removed: dict[int, str] = field(default_factory=dict)


def verify(lines: Iterator[Line], expected: Chain | None = None) -> Report:
    """Look at each record, until one is not as it was written.

    `expected` is where the log has come to, as its writer knows; without it nobody can tell whether the newest records
    were cut off.
    """
    report, state, path = Report(), _State(), ""
    for line in lines:
        if line.path != path:
            path = line.path
            report.files += 1
        fault = _look(line, lines, report, state)
        if fault:
            report.fault = f"{line.place}: {fault}"
            return report
    before, before_hash = state.before
    if before and state.removed.get(before) != before_hash:
        report.broken = 1
        report.fault = f"records 1 to {before} are missing, and no record says that they were removed"
    elif before:
        report.removed_up_to = before
    if not report.fault and expected is not None and (report.last, report.hash) != (expected.sequence, expected.hash):
        report.broken = report.last + 1
        report.fault = f"the log ends with record {report.last}, and the last one written is {expected.sequence}"
    return report


def _look(line: Line, rest: Iterator[Line], report: Report, state: _State) -> str:
    """What is wrong with a record, if anything is."""
    expected = report.broken = report.last + 1
    record = read_line(line.data)
    if record is None:
        try:
            said = json.loads(line.data)
        except ValueError:
            return f"record {expected} was changed, or was not written to its end: it is no record"
        return f"record {expected} was changed: its hash does not fit what it says ({_who(said)})"
    sequence, previous, told = record["seq"], record["prev"], record["hash"]
    if state.sequence is None:
        state.before = (sequence - 1, previous)
        report.first = report.broken = sequence
        if sequence == 1 and previous != ZEROS:
            return "record 1 was changed: it follows another"
    elif sequence != state.sequence:
        return _out_of_order(state.sequence, sequence, rest, _who(record))
    elif previous != state.hash:
        return (
            f"record {sequence} does not follow record {sequence - 1}, one of which was written anew ({_who(record)})"
        )
    state.sequence, state.hash = sequence + 1, told
    report.records += 1
    report.last, report.hash, report.broken = sequence, told, 0
    _note(record, report, state)
    return ""


def _out_of_order(expected: int, found: int, rest: Iterator[Line], who: str) -> str:
    if found < expected:
        return f"record {found} stands behind record {expected - 1} ({who})"
    for _, line in zip(range(_LOOK_AHEAD), rest, strict=False):
        if line.data.startswith(b'{"seq":%d,' % expected):
            return f"record {found} stands where record {expected} was, which stands at line {line.number} ({who})"
    many = f"record {expected} is" if found == expected + 1 else f"records {expected} to {found - 1} are"
    return f"{many} missing in front of record {found} ({who})"


def _note(record: dict[str, Any], report: Report, state: _State) -> None:
    if record.get("event") == "gap":
        report.gaps += 1
        report.missing += record.get("missing") or 0
    elif record.get("event") == "removed":
        state.removed[record["last"]] = record["last_hash"]


def _who(record: Any) -> str:
    """What helps to find a record: when it says it was, and what."""
    if not isinstance(record, dict):
        return "nothing can be read off it"
    what = record.get("command") or record.get("event") or "?"
    return f"{record.get('time', 'at no time')}, {what}"
