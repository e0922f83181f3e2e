"""Scripts and functions: the Lua that runs them, what they call, and what becomes of what they return.

An engine has one Lua, made when it is first needed (`runtime()`); the Lua side is in engine/lua.  A script runs on the
loop's thread, from its start to its end, so nothing comes between its commands.  Each of those goes through call(), as
if a client without a connection had sent it, whose `encode` keeps the reply as plain Python.

While a script runs, Lua asks tick() about every millisecond.  Once the script has run for longer than
busy-reply-threshold, tick() lets the server attend to others (engine.pump), who are told BUSY, and may end it.

Memory.  The Lua library gives up the whole process where it has no memory for a value that comes from Python.  Scripts
are kept to lua-memory-limit by its allocator, and _make_room() sees to it, before any value goes over, that there is
enough left for it, whatever the script has used up.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final

from kora import REDIS_VERSION, glob
from kora.engine.call import HEAVY_NS, call_journaled, failed, keep_untouched, note_script_call, run_errands
from kora.engine.client import Client
from kora.engine.lua import source
from kora.engine.lua.bytecode import without_tail_calls
from kora.engine.lua.packing import (
    Random,
    bits,
    pack_float,
    pack_int64,
    struct_pack,
    struct_size,
    struct_unpack,
    unpack_number,
)
from kora.errors import CommandError, OutOfMemory, busy
from kora.observe.board import BUSY_FROM
from kora.resp.parser import split_words
from kora.resp.reply import (
    BigNumber,
    Encoded,
    Items,
    NullArray,
    Reply,
    Simple,
    Verbatim,
    encode_error,
    format_double,
)

if TYPE_CHECKING:
    from kora.engine.engine import Engine
    from kora.engine.registry import Command

# Scripts that came by EVAL and are kept, as in Redis 7.4; those of SCRIPT LOAD are kept until SCRIPT FLUSH.
EVALUATED_MAX: Final = 500
# What a library may take to load, as in Redis.
LOAD_NS_MAX: Final = 500_000_000
PUMP_INTERVAL_NS: Final = 10_000_000
# How long instructions of Lua may run between two ticks, and how many.
TICK_INTERVAL_NS: Final = 1_000_000
_INSTRUCTIONS_FIRST: Final = 250
_INSTRUCTIONS_MIN: Final = 16
_INSTRUCTIONS_MAX: Final = 50_000
_NEVER_NS: Final = 1 << 62

FLAGS: Final = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")

# How sandbox.lua is told, and tells, what a value is, where it does not say so itself.
_STATUS, _ERROR, _ENCODED, _QUIET_ERROR, _RUN_ERROR, _ENDED = range(1, 7)
# What a script may not do with a command, or not always.
_BARRED, _WRITES, _NEEDS_MEMORY, _CONTAINS = 1, 2, 4, 8
# Redis nests replies until its Lua stack ends.
_REPLY_DEPTH_MAX: Final = 1990
# Words of a request beyond which they go to Lua as tables: its stack is for fewer.
_WORDS_MAX: Final = 64
# What Lua needs for a string or a place in a table beside its bytes, at most.
_VALUE_BYTES: Final = 80
_SPARE_BYTES: Final = 1 << 20

# In a chunk of Kora no script is ended, but for the one that may take for ever.
_CHUNKS: Final = {"sandbox": b"=kora", "matcher": b"=(kora)"}
_LOG_LEVELS: Final = ("debug", "debug", "info", "warning")
_STOPPED: Final = b"Script ended by SHUTDOWN"
_INSTALL: Final = (
    "ERR scripting needs the Python package lupa, which is not installed: pip install 'kora-server[scripting]'"
)
_NO_MEMORY: Final = "ERR Error running script: not enough memory (lua-memory-limit)"


class Script:
    """What EVAL runs; `flags` is None of a script without a first line that says some, which is held to older rules."""

    __slots__ = ("body", "flags", "function", "is_loaded", "key", "name", "word")

    def __init__(self, sha: str, body: bytes, flags: frozenset[str] | None, function: Any) -> None:
        self.name = sha
        self.key = sha.encode()
        self.body = body
        self.flags = flags
        self.function = function
        self.is_loaded = False  # by SCRIPT LOAD
        self.word = "SCRIPT"  # KILL ends it


class Function:
    __slots__ = ("callback", "description", "flags", "library", "name", "word")

    def __init__(
        self, name: str, library: "Library", callback: int, flags: Iterable[str], description: bytes | None
    ) -> None:
        self.name = name
        self.library = library
        self.callback = callback  # its number on the Lua side
        self.flags = frozenset(flags)
        self.description = description
        self.word = "FUNCTION"


class Library:
    __slots__ = ("code", "functions", "name")

    def __init__(self, name: str, code: bytes) -> None:
        self.name = name
        self.code = code
        self.functions: dict[str, Function] = {}


class ScriptClient(Client):
    """Who sends the commands of scripts: its replies are kept as they are, and it is never made to wait."""

    __slots__ = ("reply",)
    is_script = True

    def __init__(self, engine: "Engine") -> None:
        super().__init__(engine, 0)
        self.reply: Reply = None

    def _choose_encoder(self) -> None:
        self.encode = self._keep

    def _keep(self, reply: Reply) -> bytes:
        self.reply = reply
        return b""


def runtime(engine: "Engine") -> "Scripting":
    """The engine's Lua, made now if there is none yet.

    Raises CommandError where the library is not installed.
    """
    if engine.scripting is None:
        try:
            engine.scripting = Scripting(engine)
        except ImportError:
            raise CommandError(_INSTALL) from None
    return engine.scripting


class Scripting:
    def __init__(self, engine: "Engine") -> None:
        from lupa import lua51

        # Fixed for life.
        self._engine = engine
        self._client = ScriptClient(engine)
        self.caller: Client = self._client  # whose request the running script is
        self._client.set_protocol(2)
        self._lua_errors: type[Exception] = lua51.LuaError
        self._lua = lua51.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_no_attributes,
            max_memory=0,
        )
        self._used = self._lua.get_memory_used
        self._table_from = self._lua.table_from
        self._random = Random()
        self._rules: dict[Command, int] = {}
        # By SHA-1 and by text; those that came by EVAL, the one that was run last at the end.
        self.scripts: dict[bytes, Script] = {}
        self._by_body: dict[bytes, Script] = {}
        self._evaluated: OrderedDict[bytes, Script] = OrderedDict()
        self.libraries: dict[str, Library] = {}
        self.functions: dict[str, Function] = {}  # by name in small letters: FCALL takes them in any
        # Of the run.
        self.running: Script | Function | None = None
        self.request: Sequence[bytes] = ()
        self._started_ns = 0
        self._look_ns = _NEVER_NS  # when to attend to others
        self._ticked_ns = 0
        self._instructions = _INSTRUCTIONS_FIRST  # until the next tick
        self._is_read_only = False
        self._ignores_memory = True
        self._has_written = False
        self._is_busy = False
        self._end_reason = b""  # why it must end
        self._is_stopped = False  # by SHUTDOWN
        self._loading: Library | None = None
        self._is_stretched = False  # the memory limit was raised for values that were on their way
        # Last: from now on Lua may call.
        exports = self._make_sandbox()
        self._compile = exports[b"compile"]
        self._run = exports[b"run"]
        self._run_with_key = exports[b"run_with_key"]
        self._run_with_keys = exports[b"run_with_keys"]
        self._run_with_lists = exports[b"run_with_lists"]
        self._run_function = exports[b"run_function"]
        self._load_library = exports[b"load_library"]
        self._forget = exports[b"forget"]
        self._exports = exports
        self._limit = self._room_until = self._collect_at = 0
        self._set_limit(engine.config.lua_memory_limit)
        self._collect()
        engine.config.on_change("lua-memory-limit", self._set_limit)

    def _make_sandbox(self) -> Any:
        host = self._table_from(
            {
                b"acl_check_cmd": self._is_allowed,
                b"bits": bits,
                b"call": self._call,
                b"call_packed": self._call_packed,
                b"find": _place_of,
                b"format_double": format_double,
                b"log": self._log,
                b"pack_float": pack_float,
                b"pack_int64": pack_int64,
                b"protocol": self._protocol,
                b"random": self._random.draw,
                b"register": self._register,
                b"reply_depth_max": _REPLY_DEPTH_MAX,
                b"seed": self._random.seed,
                b"setresp": self._set_protocol,
                b"sha1hex": _sha1_hex,
                b"struct_pack": self._room_for(struct_pack),
                b"struct_size": struct_size,
                b"struct_unpack": self._room_for(struct_unpack),
                b"tick": self._tick,
                b"unpack_number": unpack_number,
                b"version": REDIS_VERSION.encode(),
                b"version_number": _version_number(REDIS_VERSION),
                b"without_tail_calls": self._room_for(without_tail_calls),
            }
        )
        for name in ("bit", "cjson", "cmsgpack", "matcher", "patterns", "struct"):
            host[b"source_" + name.encode()] = self._chunk(name)
        return self._chunk("sandbox")(host)

    def _chunk(self, name: str) -> Any:
        chunk = _CHUNKS.get(name) or b"=kora." + name.encode()
        code: bytes = self._lua.execute(b"return string.dump(assert(loadstring(...)))", source(name), chunk)
        return self._lua.compile(without_tail_calls(code, also_of_upvalues=True) or code, name=chunk)

    # Scripts

    def script(self, body: bytes, is_loaded: bool = False) -> Script:
        """The script of a text, compiled if it is new.

        Raises CommandError where it does not compile, or its first line says what there is not.
        """
        script = self._by_body.get(body)
        if script is None:
            flags, code = parse_shebang(body)
            script = Script(sha1(body).hexdigest(), body, flags, self._compiled(code))
            name = script.key
            self.scripts[name] = self._by_body[body] = script
            if not is_loaded:
                self._evaluated[name] = script
                if len(self._evaluated) > EVALUATED_MAX:
                    name, oldest = self._evaluated.popitem(last=False)
                    del self.scripts[name], self._by_body[oldest.body]
        if is_loaded and not script.is_loaded:
            script.is_loaded = True
            self._evaluated.pop(script.key, None)
        return script

    def _compiled(self, code: bytes) -> Any:
        self._make_room(2 * len(code))
        try:
            result = self._compile(code)
        except self._lua_errors as error:
            raise self._no_memory(error) from None
        if type(result) is tuple:
            text = result[1].decode("utf-8", "surrogateescape")
            raise CommandError(f"ERR Error compiling script (new function): {text}")
        return result

    def flush_scripts(self) -> None:
        self.scripts.clear()
        self._by_body.clear()
        self._evaluated.clear()
        self._lua.gccollect()

    def evaluate(self, client: Client, script: Script, numkeys: int, argv: list[bytes], read_only: bool) -> Reply:
        """Run a script with the keys and arguments of a request, and return what it does.

        Raises CommandError where it must not run, and where it fails.
        """
        self._begin(client, script, argv, read_only)
        if not script.is_loaded:
            self._evaluated.move_to_end(script.key)
        protocol = client.protocol
        words = argv[3:]
        try:
            if words:
                self._make_room(sum(map(len, words)) + _VALUE_BYTES * len(words))
            if len(words) > _WORDS_MAX:
                keys, argv = self._table_from(words[:numkeys]), self._table_from(words[numkeys:])
                result = self._run_with_lists(script.function, protocol, keys, argv)
            elif numkeys > 1:
                result = self._run_with_keys(script.function, protocol, numkeys, *words)
            elif numkeys:
                result = self._run_with_key(script.function, protocol, *words)
            else:
                result = self._run(script.function, protocol, *words)
        except self._lua_errors as error:
            raise self._no_memory(error) from None
        finally:
            self._end()
        if type(result) is not tuple:
            return result
        return self._reply(client, script.name, result)

    def _begin(self, client: Client, script: Script | Function, argv: list[bytes], read_only: bool) -> None:
        engine = self._engine
        config = engine.config
        assert self.running is None, "a script runs another, or while one waits"
        is_full = config.maxmemory > 0 and engine.memory_bytes > config.maxmemory
        flags = script.flags
        is_read_only = read_only
        if flags is not None:
            is_read_only = "no-writes" in flags
            if read_only and not is_read_only:
                raise CommandError("ERR Can not execute a script with write flag using *_ro command.")
            if engine.disk_fault is not None and not is_read_only:
                raise CommandError(engine.disk_fault.of_scripts)
            if is_full and not is_read_only and "allow-oom" not in flags:
                raise OutOfMemory
            is_full = False
        own = self._client
        own.db = client.db
        own.user = client.user
        own.never_touches = client.never_touches
        self.caller = client
        self.running = script
        self.request = argv
        self._started_ns = started_ns = engine.monotonic_ns()
        threshold_ms = config.busy_reply_threshold
        self._look_ns = started_ns + threshold_ms * 1_000_000 if threshold_ms else _NEVER_NS
        if threshold_ms:
            engine.board.words[BUSY_FROM] = self._look_ns
        self._ticked_ns = started_ns
        self._instructions = _INSTRUCTIONS_FIRST
        self._is_read_only = is_read_only
        self._ignores_memory = not is_full
        self._has_written = False
        if self._is_stretched:
            self._set_limit(self._limit)
        engine.nested += 1
        engine.in_script = True

    def _end(self) -> None:
        engine = self._engine
        engine.nested -= 1
        engine.in_script = False
        engine.board.words[BUSY_FROM] = 0
        if engine.tracing.is_on and self.running is not None:
            engine.tracing.child("kora.script", self._started_ns, {"kora.script.name": self.running.name})
        self.running = None
        self.request = ()
        self._end_reason = _STOPPED if self._is_stopped else b""
        if self._client.protocol != 2:
            self._client.protocol = 2
        if self._used() > self._collect_at:
            self._collect()
        if self._is_busy:
            self._is_busy = False
            engine.set_busy("")
            if engine.errands:
                engine.interrupt()  # again: others have had turns since

    def _reply(self, client: Client, name: str, result: tuple[Any, ...]) -> Reply:
        text, kind = result[:2]
        if kind == _ENCODED:
            return Encoded(text)
        message = text.decode("utf-8", "surrogateescape")
        is_counted = kind != _QUIET_ERROR
        if kind == _RUN_ERROR:
            place, is_quiet = result[2].decode("utf-8", "surrogateescape"), result[3]
            is_counted = not is_quiet
            if place:
                message += f" script: {name}, on {place}."
        if is_counted:
            raise CommandError(_NO_MEMORY if message == "ERR Error running script: not enough memory" else message)
        # The error was counted with the command that failed; what is left is that this one did, too.
        assert client.command is not None
        client.db.stats.commands[client.command.slot].failed += 1
        if self._engine.tracing.is_on:
            self._engine.tracing.failed(client, message.split(" ", 1)[0])
        return Encoded(encode_error(message))

    def _no_memory(self, error: Exception) -> CommandError:
        """What to answer when Lua gave up outside of a script's own reach: nothing else makes it do so."""
        self._lua.gccollect()
        if "not enough memory" not in str(error) and not isinstance(error, MemoryError):
            self._engine.note_bug(error, command="lua")
        return CommandError(_NO_MEMORY)

    # Functions

    def load(self, code: bytes, replace: bool) -> str:
        """Load a library, all of it or nothing; return its name."""
        library, old = self._loaded(code, replace)
        if old is not None:
            self._drop(old)
        return library.name

    def _loaded(self, code: bytes, replace: bool) -> tuple[Library, Library | None]:
        """A library that was loaded, and the one that gave way to it, whose callbacks Lua still has."""
        library, body = _parse_library(code)
        old = self.libraries.get(library.name)
        if old is not None and not replace:
            raise CommandError(f"ERR Library '{library.name}' already exists")
        self._fill(library, body)
        for name in library.functions:
            known = self.functions.get(name.lower())
            if known is not None and known.library is not old:
                self._drop(library)
                raise CommandError(f"ERR Function {name} already exists")
        if old is not None:
            self._remove(old)
        self.libraries[library.name] = library
        self.functions.update({name.lower(): function for name, function in library.functions.items()})
        return library, old

    def _fill(self, library: Library, body: bytes) -> None:
        """Run a library's code, which registers its functions."""
        assert self.running is None and self._loading is None
        self._make_room(2 * len(body))
        self._loading = library
        self._started_ns = self._ticked_ns = self._engine.monotonic_ns()
        self._look_ns = _NEVER_NS
        try:
            mistake, is_compiled = self._load_library(body)
        except self._lua_errors as error:
            self._drop(library)
            raise self._no_memory(error) from None
        finally:
            self._loading = None
        if mistake is None and library.functions:
            return
        self._drop(library)
        if mistake is None:
            raise CommandError("ERR No functions registered")
        text = mistake.decode("utf-8", "surrogateescape")
        raise CommandError(f"ERR Error {'registering functions' if is_compiled else 'compiling function'}: {text}")

    def _register(self, name: bytes, callback: int, flags: bytes, description: bytes | bool) -> bytes | None:
        """redis.register_function: returns what is wrong."""
        library = self._loading
        if library is None:
            return b"redis.register_function can only be called on FUNCTION LOAD command"
        if not _is_name(name):
            return _NAME_RULE.encode()
        text = name.decode()
        if text.lower() in map(str.lower, library.functions):
            return b"Function already exists in the library"
        names = [flag.decode("utf-8", "replace") for flag in flags.split(b",") if flag]
        if not set(names) <= set(FLAGS):
            return b"unknown flag given"
        about = description if isinstance(description, bytes) else None
        library.functions[text] = Function(text, library, callback, names, about)
        return None

    def delete(self, library: Library) -> None:
        self._remove(library)
        self._drop(library)

    def _remove(self, library: Library) -> None:
        del self.libraries[library.name]
        for name in library.functions:
            del self.functions[name.lower()]

    def _drop(self, library: Library) -> None:
        for function in library.functions.values():
            self._forget(function.callback)

    def flush_functions(self) -> None:
        for library in list(self.libraries.values()):
            self.delete(library)
        self._lua.gccollect()

    def run(self, client: Client, function: Function, numkeys: int, argv: list[bytes], read_only: bool) -> Reply:
        self._begin(client, function, argv, read_only)
        words = argv[3:]
        try:
            self._make_room(sum(map(len, words)) + _VALUE_BYTES * len(words))
            keys, argv = self._table_from(words[:numkeys]), self._table_from(words[numkeys:])
            result = self._run_function(function.callback, client.protocol, keys, argv)
        except self._lua_errors as error:
            raise self._no_memory(error) from None
        finally:
            self._end()
        return self._reply(client, function.name, result) if type(result) is tuple else result

    def matching_libraries(self, pattern: bytes | None) -> list[Library]:
        return [
            library
            for name, library in self.libraries.items()
            if pattern is None or glob.matches(pattern.lower(), name.lower().encode())
        ]

    def restore(self, codes: Iterable[bytes], policy: str) -> None:
        """Load libraries of a dump: FLUSH all others first, APPEND to them, or REPLACE those of the same names.

        Raises CommandError, and leaves everything as it was, where one cannot be loaded.
        """
        libraries, functions = self.libraries, self.functions
        before = dict(libraries), dict(functions)
        dropped: list[Library] = []
        fresh: list[Library] = []
        if policy == "FLUSH":
            dropped += libraries.values()
            libraries.clear()
            functions.clear()
        try:
            for code in codes:
                name = _parse_library(code)[0].name
                if name in libraries and policy != "REPLACE":
                    raise CommandError(f"ERR Library {name} already exists")
                library, old = self._loaded(code, replace=policy == "REPLACE")
                fresh.append(library)
                if old is not None:
                    dropped.append(old)
        except CommandError:
            for library in fresh:
                self._drop(library)
            libraries.clear()
            functions.clear()
            libraries.update(before[0])
            functions.update(before[1])
            raise
        for library in dropped:
            self._drop(library)

    # While a script runs

    @property
    def elapsed_ms(self) -> int:
        return (self._engine.monotonic_ns() - self._started_ns) // 1_000_000

    @property
    def memory_bytes(self) -> int:
        return int(self._used(total=True))

    def kill(self, word: str) -> None:
        """SCRIPT KILL and FUNCTION KILL.  Raises CommandError where there is nothing to be ended, or it must not."""
        running = self.running
        if running is None:
            raise CommandError("NOTBUSY No scripts in execution right now.")
        if self._has_written:
            raise CommandError(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait "
                "the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
            )
        if running.word != word:
            raise busy(running.word)
        self._end_reason = b"Script killed by user with SCRIPT KILL..."  # functions, too

    def stop(self) -> None:
        """SHUTDOWN: whatever runs must end, and what comes then, too, whether it has written or not."""
        self._is_stopped = True
        self._end_reason = _STOPPED

    def _tick(self) -> bytes | int:
        """Lua asks this now and then: why the script must end, or after how many instructions to ask again."""
        engine = self._engine
        now_ns = engine.monotonic_ns()
        if self._loading is not None and now_ns - self._started_ns > LOAD_NS_MAX:
            return b"FUNCTION LOAD timeout"
        if now_ns >= self._look_ns:
            self._look(now_ns)
        return self._end_reason or self._instructions_after(now_ns)

    def _instructions_after(self, now_ns: int) -> int:
        """How many instructions to run next, by how long the last ones took: not all are equally quick."""
        elapsed_ns = max(1, now_ns - self._ticked_ns)
        self._ticked_ns = now_ns
        factor = min(4.0, TICK_INTERVAL_NS / elapsed_ns)
        self._instructions = max(_INSTRUCTIONS_MIN, min(_INSTRUCTIONS_MAX, int(self._instructions * factor)))
        return self._instructions

    def _look(self, now_ns: int) -> None:
        """The running script has taken so long that others are attended to."""
        engine = self._engine
        running = self.running
        if running is None:
            return
        if not self._is_busy:
            self._is_busy = True
            engine.log("warning", "slow script", script=running.name, elapsed_ms=self.elapsed_ms)
            engine.set_busy(running.word)
        self._pump()
        self._look_ns = engine.monotonic_ns() + PUMP_INTERVAL_NS

    def _pump(self) -> None:
        # What others say meanwhile is not said inside of the script.
        engine = self._engine
        nested, engine.nested = engine.nested, 0
        engine.in_script = False
        on_board = engine.board.save()
        aside = engine.tracing.put_aside()
        try:
            engine.pump()
        finally:
            engine.tracing.take_up(aside)
            engine.nested = nested
            engine.in_script = True
            engine.board.restore(on_board)

    # What scripts call

    def _call(self, *words: Any) -> Any:
        """redis.call: the reply for Lua; or a text and what it is."""
        argv = []
        for word in words:
            if type(word) is not bytes:
                word = _word_of(word)
                if word is None:
                    return self._refused("Lua redis lib command arguments must be strings or integers")
            argv.append(word)
        if not argv:
            return self._refused("Please specify at least one argument for this redis lib call")
        try:
            return self._perform(argv)
        except CommandError as error:  # of _make_room()
            return error.message.encode(), _ERROR
        except Exception as error:  # Lua must not get hold of it
            return self._engine.note_bug(error, command="redis.call").message.encode(), _ERROR

    def _call_packed(self, lengths: bytes, words: bytes) -> Any:
        if not lengths:
            return self._refused("Lua redis lib command arguments must be strings or integers")
        return self._call(*_unpacked(lengths, words))

    def _refused(self, text: str) -> tuple[bytes, int]:
        self._engine.count_error("ERR")
        return b"ERR " + text.encode(), _ERROR

    def _perform(self, argv: list[bytes]) -> Any:
        """One command of a script: admitted by rules of its own, then run and settled as in call()."""
        engine = self._engine
        command = engine.commands.get(argv[0])
        if command is None or command.subcommands is not None:
            command = self._find(argv)
            if command is None:
                return self._rejected(None, "ERR Unknown Redis command called from script")
        rule = self._rules.get(command)
        if rule is None:
            rule = self._rules[command] = _rule_of(command)
        if not command.argc_min <= len(argv) <= command.argc_max or rule & _CONTAINS:
            return self._rejected(command, "ERR Wrong number of args calling Redis command from script")
        if rule & _BARRED:
            return self._rejected(command, "ERR This Redis command is not allowed from script")
        caller = self.caller
        if caller.gated and not caller.user.may_do_all:
            denial = engine.acl.denial(caller, command, argv)
            if denial is not None:
                engine.audit.rejected(self._client, command, argv, denial.prefix)
                return self._rejected(command, denial.message)
        if rule:
            if rule & _WRITES and self._is_read_only:
                return self._rejected(command, "ERR Write commands are not allowed from read-only scripts.")
            if rule & _WRITES and not self._has_written and engine.disk_fault is not None:
                return self._rejected(command, engine.disk_fault.message)
            if rule & _NEEDS_MEMORY and not self._ignores_memory:
                return self._rejected(command, OutOfMemory.message)
            if rule & _WRITES:
                # What has begun to write is let finish.
                self._has_written = self._ignores_memory = True
        if caller.tracking is not None:
            engine.tracking.admit(caller, caller.tracking, command, argv, self._client.db)
        if caller.never_touches and command.name != "touch":
            keep_untouched(engine, self._client.db, command, argv)
        # Not from where the last command ended: what Lua does is no command's time.
        started_ns = engine.monotonic_ns()
        client = self._client
        client.command = command
        try:
            if engine.journal.on:
                reply = call_journaled(client, command, argv)
            else:
                reply = command.handler(client, argv)
        except Exception as error:
            failed(client, command, error, argv)
            reply = client.reply
        audited = engine.audit.slots
        if audited is not None and audited[command.slot]:
            engine.audit.note(client, command, argv, b"")
        if engine.errands:
            run_errands(client)
        now_ns = engine.now_ns = engine.monotonic_ns()
        if engine.observing:
            client.db.stats.commands[command.slot].record(now_ns - started_ns)
            hot_keys = engine.hot_keys
            hot_keys.samples_left -= 1
            if hot_keys.samples_left <= 0 or now_ns - started_ns >= HEAVY_NS:
                note_script_call(client, command, argv, reply, now_ns - started_ns)
        if now_ns - started_ns >= engine.slow_ns:
            engine.slowness.note(client, command, argv, now_ns - started_ns, 0)
        if now_ns >= self._look_ns:
            # Commands may be slow where the script's own instructions are few.
            self._look(now_ns)
            if self._end_reason:
                return self._end_reason, _ENDED
        if type(reply) is bytes:
            if self._used() + len(reply) > self._room_until:
                self._make_more_room(len(reply))
            return reply
        return self._to_lua(reply)

    def _find(self, argv: list[bytes]) -> "Command | None":
        """The command of a request; a container where only its subcommand is missing."""
        try:
            return self._engine.registry.find(argv)
        except CommandError:
            return self._engine.commands.get(argv[0].lower()) if len(argv) == 1 else None

    def _rejected(self, command: "Command | None", text: str) -> tuple[bytes, int]:
        if command is not None and command.slot >= 0:
            self._client.db.stats.commands[command.slot].rejected += 1
        self._engine.count_error(text.split(" ", 1)[0])
        return text.encode(), _ERROR

    def _to_lua(self, reply: Reply) -> Any:
        kind = type(reply)
        if kind is int:
            return reply
        if reply is None:
            return None if self._client.protocol == 3 else False
        if kind is Simple:
            return reply.encoded[1:-2], _STATUS
        if isinstance(reply, CommandError):
            return reply.message.encode("utf-8", "surrogateescape"), _ERROR
        return self._value(reply)

    def _value(self, reply: Reply) -> Any:
        """A reply, or a part of one, as a value that Lua takes: tables are made here."""
        kind = type(reply)
        if kind is bytes or kind is int:
            return reply
        is_resp3 = self._client.protocol == 3
        if reply is None or kind is NullArray:
            return None if is_resp3 else False
        if kind is bool:
            return reply if is_resp3 else int(reply)
        if kind is float:
            return self._make_table({b"double": reply}) if is_resp3 else format_double(reply)
        if kind is list or kind is tuple:
            return self._make_table([self._value(item) for item in reply])
        if kind is dict:
            pairs = [(self._value(key), self._value(value)) for key, value in reply.items()]
            if is_resp3:
                return self._make_table({b"map": self._make_table(dict(pairs))})
            return self._make_table([item for pair in pairs for item in pair])
        if kind is Simple:
            return self._make_table({b"ok": reply.text.encode()})
        if kind is set or kind is frozenset or kind is Items:
            items = [self._value(item) for item in (reply.items if kind is Items else reply)]
            if is_resp3:
                return self._make_table({b"set": self._make_table(dict.fromkeys(items, True))})
            return self._make_table(items)
        if kind is Verbatim:
            text = reply.text.encode("utf-8", "surrogateescape")
            if is_resp3:
                return self._make_table({b"verbatim_string": self._make_table({b"format": b"txt", b"string": text})})
            return text
        if kind is BigNumber:
            digits = b"%d" % reply.value
            return self._make_table({b"big_number": digits}) if is_resp3 else digits
        if isinstance(reply, str):
            return reply.encode("utf-8", "surrogateescape")
        if isinstance(reply, bytearray):
            return bytes(reply)
        if isinstance(reply, CommandError):
            return self._make_table({b"err": reply.message.encode("utf-8", "surrogateescape")})
        raise AssertionError(f"a handler returned {kind.__name__}, which has no form in Lua")

    def _make_table(self, items: list[Any] | dict[bytes, Any]) -> Any:
        values = items.values() if isinstance(items, dict) else items
        sizes = sum([len(value) for value in values if type(value) is bytes])
        if isinstance(items, dict):
            sizes += sum([len(key) for key in items if type(key) is bytes])
        self._make_room(sizes + _VALUE_BYTES * (1 + len(items)))
        return self._table_from(items)

    def _is_allowed(self, lengths: bytes, words: bytes) -> bool | None:
        """redis.acl_check_cmd: None where there is no such command."""
        argv = _unpacked(lengths, words)
        command = self._find(argv)
        return None if command is None else self.caller.user.denial(command, argv) is None

    def _log(self, level: int, text: bytes) -> None:
        self._engine.log(_LOG_LEVELS[level], "script log", text=text.decode("utf-8", "replace"))

    def _protocol(self) -> int:
        return self._client.protocol

    def _set_protocol(self, protocol: int) -> None:
        self._client.protocol = protocol

    # Memory

    def _set_limit(self, limit: int) -> None:
        self._limit = limit
        self._is_stretched = False
        # Lua doubles its table of strings when that is full, which can take half of what it has.
        self._room_until = limit * 5 // 8
        self._lua.set_max_memory(limit)
        self._exports[b"set_limit"](limit)

    def _make_room(self, size_bytes: int) -> None:
        """See to it that values of that size can go to Lua.

        Raises CommandError, and lets no script go on, where there would be more than the limit.
        """
        if self._used() + size_bytes > self._room_until:
            self._make_more_room(size_bytes)

    def _make_more_room(self, size_bytes: int) -> None:
        self._lua.gccollect()
        used_bytes = self._used() + size_bytes
        # Until the next script the limit is kept here, not by the allocator.  The next look is some way off, or each
        # value would cost a whole collection.
        self._is_stretched = True
        self._lua.set_max_memory(2 * max(self._limit, used_bytes) + _SPARE_BYTES)
        self._room_until = max(self._limit * 5 // 8, used_bytes + self._limit // 16)
        if used_bytes > self._limit:
            self._end_reason = b"not enough memory (lua-memory-limit)"
            raise CommandError(_NO_MEMORY)

    def _collect(self) -> None:
        """Free what a large script has left: Lua would not before there is twice as much, or the limit is reached."""
        self._lua.gccollect()
        self._collect_at = max(self._limit // 4, self._used() * 3 // 2)

    def _room_for(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with room for what it returns; and for its argument, which is about as large."""

        def roomy(*arguments: Any) -> Any:
            try:
                result = function(*arguments)
                sizes = [len(item) for item in (result if type(result) is tuple else (result,)) if type(item) is bytes]
                self._make_room(sum(sizes) + _VALUE_BYTES * (len(result) if type(result) is tuple else 1))
            except CommandError as error:
                return None, error.message.encode()
            return result

        return roomy


# First lines

_NAME_RULE: Final = (
    "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)


def parse_shebang(body: bytes) -> tuple[frozenset[str] | None, bytes]:
    """The flags of a script, None without a first line that begins with `#!`, and its code, all lines counted."""
    if not body.startswith(b"#!"):
        return None, body
    line, newline, rest = body.partition(b"\n")
    if not newline:
        raise CommandError("ERR Invalid script shebang")
    words = split_words(line)
    if not words:
        raise CommandError("ERR Invalid engine in script shebang")
    engine, *options = words
    if engine != b"#!lua":
        raise CommandError(f"ERR Unexpected engine in script shebang: {_text(engine)}")
    flags: list[str] = []
    for option in options:
        if not option.startswith(b"flags="):
            raise CommandError(f"ERR Unknown lua shebang option: {_text(option)}")
        flags += [_text(flag) for flag in option[6:].split(b",") if flag]
    for flag in flags:
        if flag not in FLAGS:
            raise CommandError(f"ERR Unexpected flag in script shebang: {flag}")
    return frozenset(flags), newline + rest


def _parse_library(code: bytes) -> tuple[Library, bytes]:
    """A library by the first line of its code, empty yet; and the code to run."""
    if not code.startswith(b"#!"):
        raise CommandError("ERR Missing library metadata")
    line, newline, rest = code.partition(b"\n")
    words = split_words(line)
    if not newline or not words:
        raise CommandError("ERR Invalid library metadata")
    name: bytes | None = None
    for word in words[1:]:
        if word[:5].lower() != b"name=":
            raise CommandError(f"ERR Invalid metadata value given: {_text(word)}")
        if name is not None:
            raise CommandError("ERR Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise CommandError("ERR Library name was not given")
    if not _is_name(name):
        raise CommandError(f"ERR {_NAME_RULE}")
    engine = words[0][2:]
    if engine.lower() != b"lua":
        raise CommandError(f"ERR Engine '{_text(engine)}' not found")
    return Library(name.decode(), code), newline + rest


def _is_name(name: bytes) -> bool:
    return name.replace(b"_", b"a").isalnum()


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")


# What Lua is handed


def _no_attributes(value: object, name: object, is_setting: bool) -> object:
    """Nothing of Python is to be seen from Lua, should one of its objects ever get there."""
    raise AttributeError("no such attribute")


def _place_of(text: bytes, part: bytes, init: int) -> int | None:
    """string.find() of a plain text, in time that does not multiply."""
    init = max(1, len(text) + init + 1 if init < 0 else init)
    return text.find(part, min(init - 1, len(text))) + 1 or None


def _sha1_hex(text: bytes) -> bytes:
    return sha1(text).hexdigest().encode()


def _version_number(version: str) -> int:
    major, minor, patch = map(int, version.split("."))
    return major << 16 | minor << 8 | patch


def _word_of(word: object) -> bytes | None:
    """A number as a word of a request; None for what cannot be one."""
    if type(word) is int and -(10**17) < word < 10**17:
        return b"%d" % word
    return _number_text(word) if isinstance(word, int | float) and type(word) is not bool else None


def _rule_of(command: "Command") -> int:
    rule = 0 if command.runs else _CONTAINS
    for flag, bit in (("noscript", _BARRED), ("write", _WRITES), ("denyoom", _NEEDS_MEMORY)):
        rule |= bit if flag in command.flags else 0
    return rule


def _number_text(number: float) -> bytes:
    """As printf("%.17g") has it."""
    return b"%.17g" % number


def _unpacked(lengths: bytes, words: bytes) -> list[bytes]:
    """Words that came as one string: `3,1` and `getk`."""
    argv = []
    start = 0
    for length in map(int, lengths.split(b",")):
        argv.append(words[start : start + length])
        start += length
    return argv
