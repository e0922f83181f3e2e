"""MIGRATE: keys move to another server.

While they travel their client waits, and everybody else is served.  A key is deleted when the other server has said
that it has it, unless it was changed meanwhile: then it is sent again, over what arrived first.  A key that changes on
its way again and again is sent a last time while nobody else is served, if that is a matter of milliseconds; if it is
not, it stays, and MIGRATE says so.  In a transaction or a script, which nobody may interrupt, the whole server waits
from the beginning, as Redis does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kora.commands.dumping import dump_of
from kora.engine import call
from kora.engine.client import Client
from kora.engine.outbound import Exchange, Travel, encode
from kora.engine.registry import Family, keys_after, keys_at
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import OK, Reply, Simple
from kora.types.number import parse_integer

migration = Family("generic")

_TIMEOUT_MS: Final = 1000  # where 0 or less is asked for, as in Redis
# How often a key is sent that changes on its way; then a last time, while everybody waits, if it is small.
_ROUNDS_MAX: Final = 3
_LAST_BYTES_MAX: Final = 1 << 20
_LAST_TIMEOUT_S: Final = 0.25

_IO_ERROR: Final = "IOERR error or timeout "
_RESTLESS: Final = "ERR Keys were changed again and again while they travelled, and are still here, too"


_KEY: Final = 3
_OPTIONS: Final = 6
# Words behind an option that belong to it.
_TAKES: Final = {b"AUTH": 1, b"AUTH2": 2}


def _find_key(argv: Sequence[bytes]) -> Iterable[int]:
    return () if _place_of_keys(argv) else (_KEY,)


def _find_keys(argv: Sequence[bytes]) -> Iterable[int]:
    """A rule that looks for the last KEYS, as the table says, would miss keys before one of that name."""
    place = _place_of_keys(argv)
    return range(place + 1, len(argv)) if place and not argv[_KEY] else ()


def _place_of_keys(argv: Sequence[bytes]) -> int:
    """Where KEYS stands; 0 where it does not."""
    place = _OPTIONS
    while place < len(argv):
        word = argv[place].upper()
        if word == b"KEYS":
            return place
        place += 1 + _TAKES.get(word, 0)
    return 0


@migration(
    'MIGRATE host port:int <key_or_empty_string=key | empty_string=""> destination-db:int timeout:int [COPY] [REPLACE]'
    " [authentication=AUTH password | username_password=AUTH2 username password] [KEYS key [key ...]]",
    "Moves keys to another server, Kora or Redis.",
    flags="write",
    since="2.6.0",
    complexity="That of DUMP and DEL here and of RESTORE there, and O(N) for sending N bytes.",
    access=("RW access delete", "RW access delete incomplete"),
    acl="dangerous",
    tips=("nondeterministic_output",),
    keys=(keys_at(_KEY, finder=_find_key), keys_after("KEYS", -2, last=-1, finder=_find_keys)),
)
def migrate(client: Client, argv: list[bytes]) -> Reply:
    order = _parse(argv)
    keys = list(filter(client.db.touch, order.keys))
    if not keys:
        return Simple("NOKEY")
    return _Migration(client, order).start(keys, argv)


@dataclass(frozen=True)
class _Order:
    """What a client has asked for."""

    address: tuple[str, int]
    database: int
    timeout_s: float
    keys: list[bytes]
    copy: bool
    replace: bool
    login: bytes


def _parse(argv: list[bytes]) -> _Order:
    _, host, port, key, database, timeout, *words = argv
    keys = [key]
    copy = replace = False
    login = b""
    place = 0
    while place < len(words):
        word = words[place].upper()
        left = len(words) - place - 1
        if word == b"COPY":
            copy = True
        elif word == b"REPLACE":
            replace = True
        elif word == b"AUTH" and left >= 1:
            login = encode([b"AUTH", words[place + 1]])
            place += 1
        elif word == b"AUTH2" and left >= 2:
            login = encode([b"AUTH", *words[place + 1 : place + 3]])
            place += 2
        elif word == b"KEYS":
            if key:
                raise CommandError(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
                )
            keys = words[place + 1 :]
            break
        else:
            raise SyntaxFault
        place += 1
    timeout_ms = parse_integer(timeout)
    return _Order(
        # A port that is none cannot be connected to, which is the error that Redis gives.
        (host.decode("utf-8", "surrogateescape"), int(port) if port.isdigit() and len(port) < 6 else 0),
        parse_integer(database),
        (timeout_ms if timeout_ms > 0 else _TIMEOUT_MS) / 1000,
        # Redis would send a key that is named twice a second time, and delete it between the two.
        list(dict.fromkeys(keys)),
        copy,
        replace,
        login,
    )


class _Migration:
    """One MIGRATE, from its beginning to its reply."""

    def __init__(self, client: Client, order: _Order) -> None:
        self._client = client
        self._engine = client.engine
        self._db = client.db
        self._order = order
        self._halts_all = client.engine.nested > 0
        self._rounds = 0
        self._travels: list[Travel] = []  # in the order of the requests
        self._left = 0  # travels before that have ended
        self._changed: list[bytes] = []  # keys to be sent again
        self._reply: Reply | CommandError | None = None

    def start(self, keys: list[bytes], argv: list[bytes]) -> Reply:
        exchange = self._pack(keys)
        if exchange is None:
            return OK
        if not self._halts_all:
            reply = self._client.wait((), 0, None, argv)
            self._wait = self._client.waiting
            assert self._wait is not None
            # Its keys are on their way, and nobody is to hear that it is over before it is.
            self._wait.is_unblockable = False
            self._engine.outbound.start(exchange)
            return reply
        while exchange is not None:
            self._engine.outbound.run(exchange)
            exchange = self._following(exchange)
        if isinstance(self._reply, CommandError):
            raise self._reply
        return self._reply

    def _pack(self, keys: list[bytes]) -> Exchange | None:
        """Requests for the keys, of which some may just have ended; None if all have."""
        replace = self._order.replace or self._rounds > 0
        self._rounds += 1
        self._travels, self._left, self._changed = [], 0, []
        requests = []
        now_ms = self._engine.clock.wall_ms()
        for key in keys:
            data = dump_of(self._client, self._db, key)
            if data is None:
                continue
            deadline_ms = self._db.deadline(key)
            ttl_ms = 0 if deadline_ms is None else max(1, deadline_ms - now_ms)
            words = [b"RESTORE", key, b"%d" % ttl_ms]
            head = b"*%d\r\n" % (5 if replace else 4) + encode(words).partition(b"\r\n")[2] + b"$%d\r\n" % len(data)
            requests.append((head, data, b"\r\n$7\r\nREPLACE\r\n" if replace else b"\r\n"))
            self._travels.append(self._engine.travels.begin(self._db, key))
        if not requests:
            return None
        order = self._order
        return Exchange(
            order.address, order.timeout_s, order.login, order.database, requests, self._arrived, self._ended
        )

    def _arrived(self, place: int) -> None:
        """The other server has a key."""
        travel = self._travels[place]
        # Those before were refused: they stay.
        self._end_travels(place)
        self._engine.travels.end(travel)
        self._left = place + 1
        if self._order.copy:
            return
        if not travel.has_changed:
            self._db.unlink(travel.key)
            self._db.effect(b"DEL", travel.key)
            self._db.notify(b"del", travel.key)
        elif self._db.has_quietly(travel.key):
            # If it has gone it is as if it had been deleted behind us.
            self._changed.append(travel.key)

    def _end_travels(self, stop: int) -> None:
        for travel in self._travels[self._left : stop]:
            self._engine.travels.end(travel)
        self._left = max(self._left, stop)

    def _ended(self, exchange: Exchange) -> None:
        self._end_travels(len(self._travels))
        if self._halts_all:
            return
        following = self._following(exchange)
        if following is not None and self._rounds <= _ROUNDS_MAX:
            self._engine.outbound.start(following)
            return
        if following is not None:
            self._send_last(following)
        self._engine.catch_up()
        wait = self._wait
        # The client may have gone.
        if wait is not None and self._client.waiting is wait:
            if isinstance(self._reply, CommandError):
                data = call.failed(self._client, wait.command, self._reply, wait.argv)
            else:
                data = self._client.encode(self._reply)
            self._engine.blocking.end(wait, data)

    def _send_last(self, exchange: Exchange) -> None:
        """Keys that do not hold still: now, or not at all."""
        if sum(len(piece) for pieces in exchange.requests for piece in pieces) > _LAST_BYTES_MAX:
            self._end_travels(len(self._travels))
            self._reply = CommandError(_RESTLESS)
            return
        self._halts_all = True
        exchange.timeout_s = min(exchange.timeout_s, _LAST_TIMEOUT_S)
        self._engine.outbound.run(exchange)
        self._following(exchange)

    def _following(self, exchange: Exchange) -> Exchange | None:
        """What is to be sent again, or nothing; then there is a reply."""
        if exchange.refusal:
            self._reply = CommandError(f"ERR Target instance replied with error: {exchange.refusal}")
        elif exchange.failure:
            self._reply = CommandError(_IO_ERROR + exchange.failure)
        else:
            following = self._pack(self._changed) if self._changed else None
            if following is not None:
                return following
            self._reply = OK
        return None
