"""Bytes from a client to requests, each a list of bytes: multibulk and inline, with Redis' limits and error texts.

Two roads.  The fast road hands whole pipelines to hiredis, in C, and is taken between two requests of a client that has
authenticated.  The exact road is Redis' own parser (networking.c, 7.0) in Python: it alone knows inline commands,
limits, error texts and requests that arrive in pieces, and so takes whatever the fast road cannot prove to be plain.
"""

import re
from collections import deque
from itertools import chain
from typing import Any, Final

import hiredis

from kora.errors import ProtocolError

COMMANDS_PER_TURN: Final = 1024  # at most so many requests from one take(), so that other connections get their turn

# Redis 5 and 6 refuse longer requests; 7.0 waits for up to 2^31 - 1 arguments, and nobody has ever sent them.
MULTIBULK_MAX: Final = 1024 * 1024
LINE_BYTES_MAX: Final = 64 * 1024  # PROTO_INLINE_MAX_SIZE: inline commands and the length lines of multibulk
UNAUTHENTICATED_MULTIBULK_MAX: Final = 10
UNAUTHENTICATED_BULK_BYTES_MAX: Final = 16384

ATTRIBUTES_MAX: Final = 16  # pairs before one request
ATTRIBUTES_BYTES_MAX: Final = 4096

# The shortest request, `*1 $0`, has 10 bytes, so a window this long cannot hold more than one turn's requests and the
# fast road need not count.  It also bounds what hiredis may be talked into allocating, and its memmove per 1,024 bytes.
WINDOW_BYTES_MAX: Final = 10 * COMMANDS_PER_TURN

# One short request is parsed in Python in 0.9 us, and through hiredis, with all its proofs, in 1.2 us; two are equal.
# Most of those never get here, though: see Parser.read().
SHORT_BYTES_MAX: Final = 64

# Numbers, because `43 in data` takes 14 ns where `b"+" in data` takes 100.
_STAR: Final = ord("*")
_DOLLAR: Final = ord("$")
_MINUS: Final = ord("-")
_CR: Final = ord("\r")
_EQUALS: Final = ord("=")
_GREATER: Final = ord(">")
_PERCENT: Final = ord("%")
_TILDE: Final = ord("~")
_BAR: Final = ord("|")
_PLUS: Final = ord("+")
_PARENTHESIS: Final = ord("(")

# What RESP3 says in a line: simple strings, numbers, true and false, nothing.
_LINE_KINDS: Final = b"+:,#_("

# A look-up instead of a search and a strict int() for nearly every length line.  Those of one digit have 4 bytes.
_MULTIBULK_HEADERS: Final = {b"*%d\r\n" % length: length for length in range(1, 10)}
_BULK_HEADERS: Final = {b"$%d\r\n" % length: length for length in range(100)}
# For read(), where lines come without their ends.
_LENGTHS: Final = {b"$%d" % length: length for length in range(1024)}
# Inline requests of words that mean nothing but themselves: no more of them than fit into a turn.
_PLAIN_LINES: Final = re.compile(rb"(?:[a-zA-Z0-9_ .:-]*\r\n)+").fullmatch
_PLAIN_BYTES_MAX: Final = 2 * COMMANDS_PER_TURN
_STRICT_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch  # string2ll (util.c): no +, no leading zeros
_INTEGER_MAX: Final = 2**63 - 1


class Parser:
    """One connection's request parser: feed() it bytes, take() requests.

    It waits in one of three places: between two requests (`_argv` is None), before an argument's length line, or within
    an argument (`_bulk_missing` > 0).  An unfinished line stays in `_data`, in front of what comes next; it has at most
    64 KB.  A finished argument is kept at once and an unfinished one is kept in pieces, so no byte is looked at twice
    however a request is cut up, and nothing is ever allocated for a length that was merely announced.
    """

    __slots__ = (
        "_argv",
        "_at",
        "_bulk_missing",
        "_data",
        "_fast",
        "_fast_from",
        "_fault",
        "_later",
        "_later_bytes",
        "_missing",
        "_pieces",
        "_request_bytes",
        "authenticated",
        "bulk_max",
        "more",
    )

    def __init__(self, fast: "FastReader", bulk_max: int = 512 * 1024 * 1024, authenticated: bool = False) -> None:
        # The owner's: set whenever they change.
        self.authenticated = authenticated  # until then Redis' tighter limits hold, and take() gives one at a time
        self.bulk_max = bulk_max  # proto-max-bulk-len

        # The connection's.
        self.more = False  # bytes may hold requests that take() has not looked for, or a fault is still to be raised
        self._fast = fast
        self._data = b""  # read up to _at
        self._at = 0
        self._fast_from = 0  # in front of this place in _data the fast road has failed
        self._later: deque[bytes | bytearray] | None = None  # fed while _data was not used up
        self._later_bytes = 0
        self._fault: str | None = None

        # The unfinished request's.
        self._argv: list[bytes] | None = None
        self._missing = 0  # arguments still to come
        self._pieces: deque[bytes | bytearray] | None = None  # of the unfinished argument
        self._bulk_missing = 0  # bytes of it still to come, with its CRLF
        self._request_bytes = 0  # used up so far

    def read(self, data: bytes) -> list[list[bytes]]:
        """feed() and take() in one.

        What is read is most often one whole request of up to three short words, and that is soon proved: split at line
        ends, there are as many pieces as words and headers, each header is the length of the word behind it, and
        nothing is behind the last.  A word with a line end in it makes more pieces, and goes the longer way.
        """
        if self.authenticated and not self._data and self._argv is None and not self.more:
            pieces = data.split(b"\r\n", 8)
            if len(pieces) == 8:
                count, header1, word1, header2, word2, header3, word3, rest = pieces
                if (
                    count == b"*3"
                    and _LENGTHS.get(header1) == len(word1)
                    and _LENGTHS.get(header2) == len(word2)
                    and _LENGTHS.get(header3) == len(word3)
                    and not rest
                ):
                    return [[word1, word2, word3]]
            elif len(pieces) == 6:
                count, header1, word1, header2, word2, rest = pieces
                if (
                    count == b"*2"
                    and _LENGTHS.get(header1) == len(word1)
                    and _LENGTHS.get(header2) == len(word2)
                    and not rest
                ):
                    return [[word1, word2]]
            elif len(pieces) == 4:
                count, header1, word1, rest = pieces
                if count == b"*1" and _LENGTHS.get(header1) == len(word1) and not rest:
                    return [[word1]]
            elif pieces[0] and pieces[0][0] != _STAR and len(data) <= _PLAIN_BYTES_MAX and _PLAIN_LINES(data):
                lines = map(bytes.split, data.split(b"\r\n"))
                return [words for words in lines if words]
        self.feed(data)
        return self.take()

    def feed(self, data: bytes) -> None:
        """Add what was read.  Bytes after a protocol error are dropped."""
        if self._fault is not None:
            return
        if not self.more:
            self._data = self._data + data if self._data else data
            self.more = True
        else:
            self._feed_later(data)

    def take(self) -> list[list[bytes]]:
        """The next complete requests, in order, at most COMMANDS_PER_TURN; [] when more bytes are needed.

        Call again while `more`.  Raises ProtocolError once all requests before the fault have been taken, and then on
        every call.
        """
        at = self._at
        data = self._data
        if (
            len(data) - at > SHORT_BYTES_MAX
            and self.authenticated
            and self._argv is None
            and at >= self._fast_from
            and data[at] == _STAR
            and self.bulk_max >= WINDOW_BYTES_MAX
        ):
            requests = self._take_fast()
            if requests:
                return requests
        return self._take_exactly()

    @property
    def buffered_bytes(self) -> int:
        """Bytes fed and not yet part of a taken request: Redis' query buffer."""
        return len(self._data) - self._at + self._later_bytes + self._request_bytes

    def _feed_later(self, data: bytes) -> None:
        if self._later is None:
            self._later = deque()
        _collect(self._later, data)
        self._later_bytes += len(data)

    def _take_fast(self) -> list[list[bytes]]:
        """The requests of the next window, or [] where the exact road must go on."""
        # A window is what is left of the chunk, or as many probable requests of it as fit.  If hiredis does not find it
        # made of whole plain requests, the usual reason is that the chunk ends within its last one: try without that.
        # The rest of the window is then the exact road's, so that a byte is seen at most twice here and once there,
        # whatever it is.  A guess where a request begins may be wrong (a value may hold "\r\n*"), but hiredis then
        # finds that the window does not end with a request.
        data = self._data
        at = self._at
        end = len(data)
        if end - at > WINDOW_BYTES_MAX:
            end = data.rfind(b"\r\n*", at, at + WINDOW_BYTES_MAX) + 2
            if end < at + 2:
                self._fast_from = at + WINDOW_BYTES_MAX
                return []
        window = data[at:end]  # bytes gives itself for a slice of all
        requests = self._fast.read(window)
        if requests is None:
            self._fast_from = end
            cut = window.rfind(b"\r\n*") + 2
            if cut < 2:
                return []
            requests = self._fast.read(window[:cut])
            if requests is None:
                return []
            end = at + cut
        if end < len(data):
            self._at = end
        else:
            self._data = b""
            self._at = 0
            self._fast_from = 0
            self.more = self._later is not None
        return requests

    def _take_exactly(self) -> list[list[bytes]]:
        if self._fault is not None:
            self.more = False
            raise ProtocolError(self._fault)
        requests: list[list[bytes]] = []
        fast_road = self.authenticated and self.bulk_max >= WINDOW_BYTES_MAX
        # AUTH changes what the bytes after it may be, so nothing is parsed before it has been run.
        count_max = COMMANDS_PER_TURN if self.authenticated else 1
        try:
            while len(requests) < count_max:
                request = self._parse()
                if request:
                    requests.append(request)
                    if type(request) is Attributes:
                        continue  # with what it is about, if that may be
                    at = self._at
                    data = self._data
                    if fast_road and len(data) - at > SHORT_BYTES_MAX and at >= self._fast_from and data[at] == _STAR:
                        break  # the next take() can go on along the fast road
                elif request is None and not self._advance():
                    return requests
        except ProtocolError as error:
            self._die(str(error))
            if not requests:
                self.more = False
                raise
        if self._fault is None and self._at == len(self._data):
            self._advance()
        return requests

    def _advance(self) -> bool:
        """Put the next chunk behind the unfinished line; False where there is none."""
        rest = self._data[self._at :]
        self._at = 0
        self._fast_from = 0
        if self._later is None:
            self._data = rest
            self.more = False
            return False
        chunk = self._later.popleft()
        self._later_bytes -= len(chunk)
        if not self._later:
            self._later = None
        self._data = rest + chunk
        return True

    def _die(self, fault: str) -> None:
        self._fault = fault
        self.more = True
        self._data = b""
        self._at = 0
        self._later = self._pieces = self._argv = None
        self._later_bytes = self._request_bytes = 0

    def _parse(self) -> list[bytes] | None:
        """The next request; [] for one that Redis ignores, None when the chunk is used up.

        processMultibulkBuffer (networking.c).  Like there a length line ends at \\r and the byte after it may be any,
        and the two bytes after an argument are skipped unseen.
        """
        data = self._data
        start = at = self._at
        size = len(data)
        argv = self._argv
        if argv is None:
            if at == size:
                return None
            if data[at] != _STAR:
                if data[at] == _BAR and data[at + 1 : at + 2].isdigit():
                    return self._parse_attributes()
                return self._parse_inline()
            missing = _MULTIBULK_HEADERS.get(data[at : at + 4], 0)
            if missing:
                at += 4
            else:
                end = _line_end(data, at, b"\r", "too big mbulk count string")
                if end < 0 or end + 1 == size:
                    return None
                missing = _multibulk_length(data[at + 1 : end], self.authenticated)
                at = end + 2
            if missing <= 0:
                self._at = at
                return []
            argv = []
        else:
            missing = self._missing
            if self._bulk_missing:
                value = self._resume_bulk()
                if value is None:
                    return None
                at = self._at
                argv.append(value)
                missing -= 1

        length_of = _BULK_HEADERS.get
        bulk_max = self.bulk_max if self.authenticated else min(self.bulk_max, UNAUTHENTICATED_BULK_BYTES_MAX)
        while missing:
            begin = at + 4
            length = length_of(data[at:begin])
            if length is None:
                begin = at + 5
                length = length_of(data[at:begin])
                if length is None:
                    end = _line_end(data, at, b"\r", "too big bulk count string")
                    if end < 0 or end + 1 == size:
                        break
                    length = _bulk_length(data[at:end])
                    begin = end + 2
            if length > bulk_max:
                raise ProtocolError("invalid bulk length" if length > self.bulk_max else "unauthenticated bulk length")
            end = begin + length
            at = end + 2
            if at > size:
                self._pieces = deque()
                _collect(self._pieces, data[begin:end])
                self._bulk_missing = at - size
                at = size
                break
            argv.append(data[begin:end])
            missing -= 1
        else:
            self._at = at
            self._argv = None
            self._request_bytes = 0
            return argv
        self._at = at
        self._argv = argv
        self._missing = missing
        self._request_bytes += at - start
        return None

    def _resume_bulk(self) -> bytes | None:
        """The argument that an earlier chunk began, and _at behind it; None when this chunk does not end it either."""
        data = self._data
        at = self._at
        assert self._pieces is not None
        _collect(self._pieces, data[at : at + max(self._bulk_missing - 2, 0)])
        available = len(data) - at
        if available < self._bulk_missing:
            self._at = len(data)
            self._bulk_missing -= available
            self._request_bytes += available
            return None
        self._at = at + self._bulk_missing
        value = b"".join(self._pieces)
        self._pieces = None
        self._bulk_missing = 0
        return value

    def _parse_inline(self) -> list[bytes] | None:
        """processInlineBuffer (networking.c): a line of words, as one types them into telnet."""
        data = self._data
        at = self._at
        end = _line_end(data, at, b"\n", "too big inline request")
        if end < 0:
            return None
        argv = split_words(data[at : end - 1 if end > at and data[end - 1] == _CR else end])
        if argv is None:
            raise ProtocolError("unbalanced quotes in request")
        self._at = end + 1
        return argv

    def _parse_attributes(self) -> "Attributes | list[bytes] | None":
        """What RESP3 calls an attribute: a map in front of a request, which says something about it.

        Redis knows none in requests, and would take its lines for inline ones.  Names and values are strings, or what
        else RESP3 says in a line; a whole one has at most ATTRIBUTES_BYTES_MAX bytes.
        """
        data, start = self._data, self._at
        size = len(data)
        at, attributes = start, Attributes((b"",))
        missing = -1
        while missing:
            end = data.find(b"\r", at, start + ATTRIBUTES_BYTES_MAX)
            if end < 0 or end + 2 > size:
                break
            kind, text = data[at], data[at + 1 : end]
            at = end + 2
            if missing < 0:
                missing = 2 * _short_number(text, ATTRIBUTES_MAX, "invalid attribute length")
                continue
            if kind == _DOLLAR:
                at += _short_number(text, ATTRIBUTES_BYTES_MAX, "invalid bulk length") + 2
                if at > size:
                    break
                text = data[end + 2 : at - 2]
            elif kind not in _LINE_KINDS:
                found = chr(kind) if chr(kind).isprintable() and kind < 128 else " "
                raise ProtocolError(f"expected '$', got '{found}'")
            attributes.append(text)
            missing -= 1
        if (at if missing == 0 else size) - start > ATTRIBUTES_BYTES_MAX:
            raise ProtocolError("too big attribute")
        if missing:
            return None
        self._at = at
        return attributes if len(attributes) > 1 else []


class Attributes(list[bytes]):
    """What stood before a request, as a request: an empty word, then names and values by turns."""

    __slots__ = ()


class FastReader:
    """The one hiredis reader of an engine; between two calls of read() it is empty.

    Shared, because thousands of idle connections would otherwise each keep one.
    """

    __slots__ = ("_feed", "_gets", "_has_data", "_nothing")

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        # "Not enough data" equals what an empty request gives; either ends the loop over gets().
        self._nothing: list[bytes] = []
        reader = hiredis.Reader(notEnoughData=self._nothing)
        self._feed = reader.feed
        self._gets = reader.gets
        self._has_data = reader.has_data

    def read(self, data: bytes) -> list[list[bytes]] | None:
        """The requests in data, if it is nothing but whole plain requests; else None: ask the exact road.

        data begins with `*` and has at most WINDOW_BYTES_MAX bytes.
        """
        # hiredis reads replies, of which requests are one kind.  What it must not see, what it gives, why that is safe:
        #
        # 1. Before: it makes a list as long as an array's header says, so long ones go in only if together they could
        #    be whole.  RESP3's maps, sets, pushes, attributes and verbatim strings are kept out altogether.
        # 2. The end: behind data goes a request of one empty word.  If it comes out last, as it is, and nothing is
        #    left, then it was read as a request of its own, and data ended exactly where a request does; were it taken
        #    for the rest of a bulk string, the last word would not be empty.
        # 3. Only lists of bytes: join accepts nothing but bytes, and over the items of what are not lists it fails too
        #    (bytes give ints, and none at all if they are empty; None, numbers and errors have no items).
        # 4. Only bulk strings: +simple strings and (big numbers are bytes as well.  Usually neither character occurs
        #    at all.  If one does, compare lengths: either kind is shorter than a bulk string of the same value, so data
        #    is as long as these requests in bulk strings only if they are bulk strings.
        if _EQUALS in data and _VERBATIM(data):
            return None
        if (_GREATER in data or _PERCENT in data or _TILDE in data or _BAR in data) and _RESP3_AGGREGATE(data):
            return None
        if _LONG_HEADER(data) and not _headers_fit(data):
            return None
        # A request like the last, in front of an array that is cut off, would be taken for it.
        if _LAST_ENCODED in data:
            return None
        plain = False
        try:
            self._feed(data)
            self._feed(_LAST_ENCODED)
            requests: list[Any] = list(iter(self._gets, self._nothing))
            if requests and requests.pop() == _LAST and not self._has_data() and b"" not in requests:
                values_bytes = len(b"".join(chain.from_iterable(requests)))
                plain = not (_PLUS in data or _PARENTHESIS in data) or (
                    len(data) == values_bytes + _framing_bytes(requests)
                )
        except (hiredis.ProtocolError, TypeError):
            pass
        finally:
            # Also after a MemoryError: what one client sent must never reach the next one's requests.
            if not plain:
                self._renew()
        return requests if plain else None


_LAST: Final = [b""]
_LAST_ENCODED: Final = b"*1\r\n$0\r\n\r\n"
_VERBATIM: Final = re.compile(rb"=[0-9]+\r\n...:", re.DOTALL).search
_RESP3_AGGREGATE: Final = re.compile(rb"[>%~|]-?[0-9]+\r\n").search
_LONG_HEADER: Final = re.compile(rb"\*[0-9]{3}").search
_ARRAY_HEADERS: Final = re.compile(rb"\*([0-9]{3,})\r\n").findall
_ARGUMENT_BYTES_MIN: Final = 6  # $0 and two line ends


def _headers_fit(data: bytes) -> bool:
    """Whether arrays as long as these headers say could be in data, if each stands in it once."""
    headers = _ARRAY_HEADERS(data)
    return all(len(header) <= 4 for header in headers) and sum(map(int, headers)) * _ARGUMENT_BYTES_MIN <= len(data)


_DIGITS: Final = bytes(len(str(length)) for length in range(WINDOW_BYTES_MAX + 1))


def _framing_bytes(requests: list[list[bytes]]) -> int:
    """What `*<n>\\r\\n`, `$<n>\\r\\n` and `\\r\\n` around the values of these requests take."""
    lengths = list(map(len, chain.from_iterable(requests)))
    digits = sum(map(_DIGITS.__getitem__, lengths)) + sum(map(_DIGITS.__getitem__, map(len, requests)))
    return 5 * len(lengths) + 3 * len(requests) + digits


_PIECE_BYTES_MIN: Final = 4096  # the 40 bytes are then a hundredth
_PIECE_BYTES_MAX: Final = 65536  # growing one much longer would copy it again and again


def _collect(pieces: deque[bytes | bytearray], data: bytes) -> None:
    """Append; many small ones become one, since each costs 40 bytes on top of its own."""
    if len(data) >= _PIECE_BYTES_MIN:
        pieces.append(data)
        return
    if pieces:
        last = pieces[-1]
        if type(last) is bytearray and len(last) < _PIECE_BYTES_MAX:
            last += data
            return
    pieces.append(bytearray(data))


def _line_end(data: bytes, at: int, terminator: bytes, too_big: str) -> int:
    """Where the line that begins at `at` ends; -1 while it does not.  Raises ProtocolError(too_big) past 64 KB."""
    end = data.find(terminator, at, at + LINE_BYTES_MAX + 1)
    # Redis looks for the end with strchr: it sees nothing behind a NUL, and waits until the line is too long.
    if end >= 0 and data.find(b"\0", at, end) < 0:
        return end
    if len(data) - at > LINE_BYTES_MAX:
        raise ProtocolError(too_big)
    return -1


def _multibulk_length(text: bytes, authenticated: bool) -> int:
    if not _STRICT_INTEGER(text):
        raise ProtocolError("invalid multibulk length")
    length = int(text)
    if length > MULTIBULK_MAX or length < -_INTEGER_MAX - 1:
        raise ProtocolError("invalid multibulk length")
    if length > UNAUTHENTICATED_MULTIBULK_MAX and not authenticated:
        raise ProtocolError("unauthenticated multibulk length")
    return length


def _short_number(text: bytes, maximum: int, fault: str) -> int:
    if not 1 <= len(text) <= 4 or not text.isdigit() or int(text) > maximum:
        raise ProtocolError(fault)
    return int(text)


def _bulk_length(header: bytes) -> int:
    """At least 0; the caller compares it with the limits."""
    if not header or header[0] != _DOLLAR:
        # An empty line shows its \r, and line breaks are spaces in a reply.
        found = header[:1].replace(b"\n", b" ") or b" "
        raise ProtocolError(f"expected '$', got '{found.decode('utf-8', 'surrogateescape')}'")
    if not _STRICT_INTEGER(header, 1) or header[1] == _MINUS:
        raise ProtocolError("invalid bulk length")
    return int(header[1:])


_WORD: Final = re.compile(
    rb"""([^ \n\r\t"']*)"""  # \v and \f part words only in front of them and behind a quote
    rb"""(?:"([^"\\]*(?:\\.[^"\\]*)*)"(?=\s|\Z)"""
    rb"""|'((?:[^'\\]|\\'|\\(?!'))*)'(?=\s|\Z))?""",
    re.DOTALL,
).match
_BLANKS: Final = re.compile(rb"\s*").match
_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_words(line: bytes) -> list[bytes] | None:
    """The words of an inline command; None where quotes are unbalanced.  sdssplitargs (sds.c).

    A closing quote ends its word and must stand before a blank or the end; an opening one may stand within a word.
    """
    if not any(odd in line for odd in b"\"'\v\f"):
        return line.split()
    words: list[bytes] = []
    at = 0
    while True:
        at = _end_of(_BLANKS(line, at))
        if at == len(line):
            return words
        word = _WORD(line, at)
        at = _end_of(word)
        if at < len(line) and line[at] in b"\"'":
            return None
        assert word is not None
        bare, double_quoted, single_quoted = word.groups()
        if double_quoted is not None:
            bare += _ESCAPE.sub(_unescape, double_quoted)
        elif single_quoted is not None:
            bare += single_quoted.replace(b"\\'", b"'")
        words.append(bare)


def _end_of(match: re.Match[bytes] | None) -> int:
    assert match is not None  # both patterns match the empty text
    return match.end()


def _unescape(match: re.Match[bytes]) -> bytes:
    code: bytes = match[1]
    return bytes.fromhex(code[1:].decode()) if len(code) == 3 else _ESCAPES.get(code, code)
