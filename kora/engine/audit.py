"""The audit log, up to where records wait for the sidecar: what is recorded, of whom, and what if there is no room.

A command is of the first category that fits: which these are follows from the table of commands, so that a new command
is recorded without a word here.  What call() and the kernel need is `slots`: a byte for each slot, the category of its
records, or 0.  What a user was refused is recorded as `acl` or `auth`, whatever it was.

The queue is kora.audit.ring.  Where it is full, records are dropped, and the next says how many; or, with
`audit-on-full block`, those that cannot be put there wait here, and clients that ask for what would be recorded are
held until there is room.  An operator's commands (@admin, logins) are not held, so that somebody can change that; nor
is what has begun: a script, a transaction.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from kora.audit import ring
from kora.audit.ring import Ring
from kora.config import AUDIT_CATEGORIES, SETTINGS, Setting, Value
from kora.engine.redaction import REDACTED, redacted
from kora.errors import CommandError

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.registry import Command
    from kora.engine.usage import Argument

_CODES: Final = {name: code for code, name in enumerate(AUDIT_CATEGORIES, 1)}
CONNECT: Final = _CODES["connect"]
AUTH: Final = _CODES["auth"]
ACL: Final = _CODES["acl"]
CONFIG: Final = _CODES["config"]
# Refusals that are recorded as what they are, by their prefix.
_REFUSALS: Final = {"NOPERM": ACL, "NOAUTH": AUTH}
# Rules of ACL SETUSER that have a password, or what stands for one.
_SECRET_RULES: Final = (b">", b"<", b"#", b"!")

# EVAL, what it runs, and how many keys it is given.
_SCRIPT_WORDS: Final = 3

# Bytes of records that wait here from which on nobody is let pass any more.
WAITING_BYTES_MAX: Final = 1 << 20
_LOOK_AGAIN_S: Final = 0.005
_TELL_MS: Final = 10_000
_GAP_BYTES: Final = 128
# Of texts that clients make up.
_TEXT_MAX: Final = 512
_NAME_MAX: Final = 128

# What a request of AUDIT is answered by: whoever speaks with the sidecar calls back with the answer, or with None where
# there will be none.
Ask = Callable[[list[Any], Callable[[Any], None]], None]


class Audit:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.ring: Ring | None = None  # where somebody writes the log
        self.slots: bytes | None = None  # None: nothing is recorded
        self.is_holding = False  # clients wait until there is room
        self._blocks = False
        self._wants_words = False
        self._include_keys: tuple[bytes, ...] = ()
        self._exclude_keys: tuple[bytes, ...] = ()
        self._waiting: list[bytes] = []  # records for which there was no room
        self._told_ms = 0  # when the log had a line about records that are dropped, or clients that wait
        self._is_looking = False  # whether there is room again, by a timer
        self._failed: tuple[Sequence[bytes], str] | None = None  # the request that failed last, and how
        self.ask: Ask = _nobody_answers
        config = engine.config
        for setting in SETTINGS:
            if setting.section == "Audit" and setting.mutable:
                config.on_change(setting.name, self._follow(setting))

    def open(self, queue: Ring) -> None:
        """Somebody writes what is put there: begin."""
        self.ring = queue
        self.update()

    def close(self) -> None:
        """There will be no more."""
        if self.ring is not None:
            self._look()
            self._close_gap(self._engine.clock.wall_ms())
            self.slots = None
            self._tell_implementation()
            self.ring.words[ring.CLOSED] = 1

    # What is recorded

    def update(self) -> None:
        """Settings have changed."""
        engine, config = self._engine, self._engine.config
        self._wants_words = config.audit_arguments
        self._include_keys, self._exclude_keys = (
            tuple(prefix.encode() for prefix in prefixes)
            for prefixes in (config.audit_include_keys, config.audit_exclude_keys)
        )
        is_on = self.ring is not None and config.audit_enabled
        self.slots = bytes(map(self._category, engine.registry.slots)) if is_on else None
        self._set_blocking(config.audit_on_full == "block")
        for client in engine.clients.values():
            client.identity = None
        self._tell_implementation()

    def _tell_implementation(self) -> None:
        queue = self.ring if self.slots is not None else None
        self._engine.implementation.set_audit(
            queue, self.slots or b"", self._blocks, self._wants_words, self._include_keys, self._exclude_keys
        )

    def _category(self, command: "Command") -> int:
        """That of a command's records; 0 where none are kept."""
        config = self._engine.config
        names = {command.name, command.name.partition("|")[0]}
        if names & set(map(str.lower, config.audit_exclude_commands)):
            return 0
        if config.audit_include_commands and not names & set(map(str.lower, config.audit_include_commands)):
            return 0
        return next((_CODES[name] for name in categories_of(command) if name in config.audit_categories), 0)

    def wants(self, category: int) -> bool:
        return self.slots is not None and AUDIT_CATEGORIES[category - 1] in self._engine.config.audit_categories

    def identify(self, client: "Client") -> bytes:
        """Who a client is, as records have it; b"" for one of whom none are kept."""
        identity = client.identity
        if identity is None:
            config = self._engine.config
            user = client.user.name.decode("utf-8", "backslashreplace")[:_NAME_MAX] if client.authenticated else None
            is_left_out = user is not None and (
                user in config.audit_exclude_users
                or (config.audit_include_users and user not in config.audit_include_users)
            )
            # What comes from nobody's connection is a journal that is loaded.
            if is_left_out or not client.id:
                identity = b""
            else:
                identity = ring.identity(client.id, user, client.address[:_NAME_MAX], client.name[:_NAME_MAX])
            client.identity = identity
        return identity

    # Records

    def note(self, client: "Client", command: "Command", argv: Sequence[bytes], data: bytes) -> None:
        """A command has run whose slot has a category; `data` is its reply, encoded."""
        assert self.slots is not None
        if client.waiting is not None and client.waiting.keys:
            return  # it has done nothing yet, and is run again
        outcome = b""
        if data[:1] == b"-":
            outcome = _prefix_of(data)
        elif self._failed is not None:
            if self._failed[0] is argv:
                outcome = self._failed[1].encode()
            self._failed = None
        self._note(client, command, argv, outcome, self.slots[command.slot])

    def failed(self, client: "Client", argv: Sequence[bytes], prefix: str) -> None:
        """A request has failed, which its reply does not tell where nobody is given one."""
        if self.slots is not None and (client.is_script or client.muted or client.skips_left):
            self._failed = argv, prefix

    def rejected(self, client: "Client", command: "Command | None", argv: Sequence[bytes], prefix: str) -> None:
        """A request was not run."""
        if self.slots is None or command is None or command.slot < 0:
            return
        category = _REFUSALS.get(prefix, 0)
        if not category or not self.wants(category):
            category = self.slots[command.slot]
        if category:
            self._note(client, command, argv, prefix.encode(), category)

    def _note(self, client: "Client", command: "Command", argv: Sequence[bytes], outcome: bytes, category: int) -> None:
        engine = self._engine
        where = ring.DIRECTLY
        if client.is_script and engine.scripting is not None:
            client, where = engine.scripting.caller, ring.IN_SCRIPT
        elif engine.nested:
            where = ring.IN_TRANSACTION
        identity = self.identify(client)
        if not identity:
            return
        words = shown(engine, command, argv, is_right=not outcome)
        if category == AUTH and words == list(argv) and not outcome:
            return  # HELLO, by somebody who does not log in
        places: set[int] = set()
        if command.key_specs and command.has_its_words(argv):
            places = {place for spec in command.key_specs for place in spec.places(argv)}
        keys = [argv[place] for place in sorted(places)]
        if keys and not self._wants_keys(keys):
            return
        start, stop = len(command.usage.words), len(words)
        if command.key_specs and not self._wants_words:
            # What is not a key is data; but what a script does is in front of its keys.
            stop = min(stop, _SCRIPT_WORDS) if command.group == "scripting" else 0
        rest = [words[place] for place in range(start, stop) if place not in places]
        name = command.name.encode()
        trace = engine.tracing.running_id(client).encode()
        self._put(
            lambda number, time_ms: ring.command(
                number, time_ms, category, where, identity, name, outcome, keys, rest, trace
            )
        )

    def _wants_keys(self, keys: Sequence[bytes]) -> bool:
        if self._include_keys and not any(key.startswith(self._include_keys) for key in keys):
            return False
        return not self._exclude_keys or not all(key.startswith(self._exclude_keys) for key in keys)

    def connected(self, client: "Client") -> None:
        self._note_connection(client, "connect")

    def disconnected(self, client: "Client") -> None:
        self._note_connection(client, "disconnect")

    def refused(self, address: str, error: CommandError) -> None:
        """A connection was turned away before it was a client's."""
        # Else those who come again and again would fill the memory, where clients are held.
        if self.wants(CONNECT) and not self.is_overfull:
            self._note_event(CONNECT, {"event": "refused", "address": address[:_NAME_MAX], "reason": error.message})

    def _note_connection(self, client: "Client", event: str) -> None:
        if self.wants(CONNECT) and self.identify(client):
            self._note_event(CONNECT, {"event": event, **_who(client)})

    def _follow(self, setting: Setting) -> Callable[[Value], None]:
        def follow(value: Value) -> None:
            was_on = self.slots is not None
            client = self._engine.implementation.running
            values = {
                "event": "audit settings",
                **(_who(client) if client is not None else {"user": None, "client": 0, "address": "", "name": ""}),
                "setting": setting.name,
                "value": setting.text(value)[:_TEXT_MAX],
            }
            # Whatever is recorded otherwise: that it changes.
            if was_on:
                self._note_event(CONFIG, values)
            self.update()
            if not was_on and self.slots is not None:
                self._note_event(CONFIG, values)

        return follow

    def _note_event(self, category: int, values: dict[str, Any]) -> None:
        self._put(lambda number, time_ms: ring.event(number, time_ms, category, values))

    # The queue

    @property
    def is_overfull(self) -> bool:
        """Whether not even an operator may add to what waits."""
        return self.is_holding and self.waiting_bytes >= WAITING_BYTES_MAX

    @property
    def waiting_bytes(self) -> int:
        return self.ring.words[ring.WAITING] if self.ring is not None else 0

    @property
    def dropped(self) -> int:
        return self.ring.words[ring.DROPPED] if self.ring is not None else 0

    def numbers(self) -> dict[str, int]:
        """For DOCTOR."""
        if self.ring is None:
            return {}
        words = self.ring.words
        return {
            "audit_fault": words[ring.FAULT],
            "audit_queue_bytes": self.ring.used_bytes + words[ring.WAITING],
            "audit_limit_bytes": self.ring.capacity,
            "audit_clients_wait": int(self.is_holding),
        }

    def holds(self, command: "Command") -> bool:
        """Whether who asks for a command has to wait until there is room for its record."""
        if not command.flags.isdisjoint(("admin", "no_auth")):
            return self.is_overfull
        # What EXEC and scripts call is not known before they do.
        is_open = command.name == "exec" or command.group == "scripting"
        return self.slots is not None and (is_open or bool(self.slots[command.slot]))

    def tick(self) -> None:
        """Several times per second: see whether there is room again."""
        if self.ring is None:
            return
        words = self.ring.words
        if self.is_holding:
            self._look()
        if words[ring.GAP_COUNT]:
            self._tell_full("audit records are dropped", dropped=words[ring.DROPPED])
            self._close_gap(self._engine.clock.wall_ms())

    def _tell_full(self, message: str, **fields: object) -> None:
        """A line of the log, but not at each turn of what goes on for long."""
        assert self.ring is not None
        now_ms = self._engine.clock.wall_ms()
        if now_ms - self._told_ms >= _TELL_MS:
            self._told_ms = now_ms
            fault = self.ring.words[ring.FAULT]
            reason = "the sidecar cannot write the audit log" if fault else "more comes than the sidecar can write"
            self._engine.log("error", message, reason=reason, queue_bytes=self.ring.capacity, **fields)

    def _put(self, make: Callable[[int, int], bytes]) -> None:
        queue = self.ring
        assert queue is not None
        words = queue.words
        number = words[ring.NUMBER] = words[ring.NUMBER] + 1
        time_ms = self._engine.clock.wall_ms()
        record = make(number, time_ms)
        if not self._waiting and self._close_gap(time_ms) and queue.has_room(len(record)):
            queue.append(record)
        elif self._blocks:
            self._waiting.append(record)
            words[ring.WAITING] += len(record)
            self.hold()
        else:
            self._drop(number, time_ms, 1)

    def _drop(self, first: int, time_ms: int, count: int) -> None:
        assert self.ring is not None
        words = self.ring.words
        words[ring.DROPPED] += count
        if not words[ring.GAP_COUNT]:
            words[ring.GAP_FIRST], words[ring.GAP_SINCE] = first, time_ms
        words[ring.GAP_COUNT] += count

    def _close_gap(self, time_ms: int) -> bool:
        """Tell of what was dropped; False while there is no room for that."""
        assert self.ring is not None
        words = self.ring.words
        count = words[ring.GAP_COUNT]
        if count:
            if self._waiting or not self.ring.has_room(_GAP_BYTES):
                return False
            first = words[ring.GAP_FIRST]
            self.ring.append(ring.gap(first + count - 1, time_ms, count, words[ring.GAP_SINCE], first))
            words[ring.GAP_COUNT] = 0
        return True

    # Holding clients

    def hold(self) -> None:
        """There is no room: hold those who ask for what would be recorded."""
        if self.is_holding or self.ring is None:
            return
        engine = self._engine
        self.is_holding = True
        self.ring.words[ring.BLOCKED_SINCE] = engine.clock.monotonic_ns()
        held_ms = self.ring.words[ring.BLOCKED_NS] // 1_000_000
        self._tell_full("audit log is full: clients wait", held_ms=held_ms)
        engine.update_gate()
        if not self._is_looking:
            self._is_looking = True
            engine.call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._look()
        self._is_looking = self.is_holding
        if self._is_looking:
            self._engine.call_later(_LOOK_AGAIN_S, self._look_again)

    def _look(self) -> None:
        """Put what waits into the queue, as far as there is room, and let clients go on once there is some for them."""
        queue = self.ring
        if queue is None or not self.is_holding:
            return
        moved = 0
        while moved < len(self._waiting) and queue.has_room(len(self._waiting[moved])):
            queue.append(self._waiting[moved])
            queue.words[ring.WAITING] -= len(self._waiting[moved])
            moved += 1
        del self._waiting[:moved]
        # More would be longer pauses, less more of them: with the default queue that is what is written in 50 ms.
        if not self._waiting and queue.has_room(max(queue.capacity // 32, 4 * ring.RECORD_BYTES_MAX)):
            self._let_go()

    def _let_go(self) -> None:
        assert self.ring is not None
        engine, words = self._engine, self.ring.words
        self.is_holding = False
        held_ns = max(0, engine.clock.monotonic_ns() - words[ring.BLOCKED_SINCE])
        words[ring.BLOCKED_NS] += held_ns
        words[ring.BLOCKED_SINCE] = 0
        engine.update_gate()
        engine.release_parked()

    def _set_blocking(self, blocks: bool) -> None:
        self._blocks = blocks
        if self.is_holding and not (blocks and self.slots is not None):
            # Whoever says so does not want them: they are told of as dropped, since they all are behind each other.
            assert self.ring is not None
            if self._waiting:
                words, count = self.ring.words, len(self._waiting)
                self._drop(words[ring.NUMBER] - count + 1, self._engine.clock.wall_ms(), count)
                words[ring.WAITING] = 0
                self._waiting.clear()
            self._let_go()


def categories_of(command: "Command") -> list[str]:
    """What a command can be recorded as, what tells most first."""
    found = []
    container = command.usage.words[0].lower()
    if "admin" in command.flags and container in ("acl", "config"):
        found.append(container)
    if any(map(_is_password, command.usage.arguments)) and "no_auth" in command.flags:
        found.append("auth")
    if not {"admin", "dangerous"}.isdisjoint(command.categories):
        found.append("admin")
    if "scripting" in command.categories:
        found.append("script")
    found += [name for name in ("write", "read") if name in command.categories]
    return found


def _is_password(argument: "Argument") -> bool:
    return argument.name == "password" or any(map(_is_password, argument.arguments))


def shown(engine: "Engine", command: "Command", argv: Sequence[bytes], is_right: bool) -> list[bytes]:
    """The words of a request without its secrets; but with who logs in, and with what a user may do.

    Names are shown of users that there are: any other may be a password at the wrong place, as may be a rule that is
    none, which is why those of a request that failed are not.
    """
    words = redacted(command, argv)
    if command.name == "auth":
        if len(argv) == 3 and argv[1] in engine.acl.users:
            words[1] = argv[1]
    elif command.name == "hello":
        for place in range(2, len(argv) - 2):
            if argv[place].upper() == b"AUTH" and argv[place + 1] in engine.acl.users:
                words[place + 1] = argv[place + 1]
                break
    elif command.name == "acl|setuser":
        if is_right:
            words = [*argv[:3], *(REDACTED if rule.startswith(_SECRET_RULES) else rule for rule in argv[3:])]
        elif len(argv) > 2 and argv[2] in engine.acl.users:
            words[2] = argv[2]
    elif command.name == "acl|dryrun":
        words[4:] = [REDACTED] * len(words[4:])  # of a request that may be AUTH
    return words


def _who(client: "Client") -> dict[str, Any]:
    return {
        "user": client.user.name.decode("utf-8", "backslashreplace")[:_NAME_MAX] if client.authenticated else None,
        "client": client.id,
        "address": client.address[:_NAME_MAX],
        "name": client.name[:_NAME_MAX].decode("utf-8", "backslashreplace"),
    }


def _prefix_of(data: bytes) -> bytes:
    """The first word of an error reply; as CommandError.prefix, one that is long or the only one is none."""
    stop = data.find(b" ", 0, 32)
    return data[1:stop] if stop > 0 else b"ERR"


def _nobody_answers(request: list[Any], answer: Callable[[Any], None]) -> None:
    answer(None)
