"""Scripts in Lua: EVAL and its kin, and functions, which are scripts with a name that stay.

What runs them is engine/scripting.py; here are the commands around it.
"""

from functools import partial
from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family, keys_counted
from kora.engine.scripting import Function, Library, Script, runtime
from kora.errors import CommandError, NotAnInteger, busy
from kora.resp.reply import OK, Reply, Simple
from kora.types.crc64 import crc64
from kora.types.lzf import decompress
from kora.types.number import INT64_MAX, parse_integer

scripting = Family("scripting")

_RUN_FLAGS: Final = "noscript stale skip_monitor no_mandatory_keys"
_ALL_NODES: Final = ("request_policy:all_nodes", "response_policy:all_succeeded")
_ALL_SHARDS: Final = ("request_policy:all_shards", "response_policy:all_succeeded")
_ONE_SHARD: Final = ("request_policy:all_shards", "response_policy:one_succeeded")
_WORST: Final = "We cannot tell how the keys will be used so we assume the worst, "


_keys_written: Final = (keys_counted(2, notes=_WORST + "RW and UPDATE"),)
_keys_read: Final = (keys_counted(2, notes=_WORST + "RO and ACCESS"),)
_run = partial(
    scripting,
    flags=_RUN_FLAGS,
    complexity="Depends on the script that is executed.",
    access="RW access update",
)
_run_readonly = partial(
    scripting,
    flags=_RUN_FLAGS + " readonly",
    since="7.0.0",
    complexity="Depends on the script that is executed.",
    access="RO access",
)


# Scripts


@_run("EVAL script numkeys:int [key ...] [arg ...]", "Executes a Lua script.", since="2.6.0", keys=_keys_written)
def evaluate(client: Client, argv: list[bytes]) -> Reply:
    return _evaluate(client, argv, read_only=False)


@_run_readonly(
    "EVAL_RO script numkeys:int [key ...] [arg ...]", "Executes a Lua script that must not write.", keys=_keys_read
)
def evaluate_readonly(client: Client, argv: list[bytes]) -> Reply:
    return _evaluate(client, argv, read_only=True)


def _evaluate(client: Client, argv: list[bytes], read_only: bool) -> Reply:
    _show(client, argv)
    numkeys = 0 if argv[2] == b"0" else _parse_numkeys(argv, NotAnInteger())
    lua = client.engine.scripting or runtime(client.engine)
    return lua.evaluate(client, lua.script(argv[1]), numkeys, argv, read_only)


def _show(client: Client, argv: list[bytes]) -> None:
    """To monitors, in front of what the script will do."""
    monitors = client.engine.slowness.monitors
    if monitors:
        monitors.show(client, argv)


def _parse_numkeys(argv: list[bytes], not_a_number: CommandError) -> int:
    numkeys = parse_integer(argv[2], not_a_number)
    if not -INT64_MAX - 1 <= numkeys <= INT64_MAX:
        raise not_a_number
    if numkeys > len(argv) - 3:
        raise CommandError("ERR Number of keys can't be greater than number of args")
    if numkeys < 0:
        raise CommandError("ERR Number of keys can't be negative")
    return numkeys


@_run(
    "EVALSHA sha1 numkeys:int [key ...] [arg ...]",
    "Executes a Lua script that the server knows, by its SHA-1 digest.",
    since="2.6.0",
    keys=(keys_counted(2),),
)
def evaluate_by_digest(client: Client, argv: list[bytes]) -> Reply:
    return _evaluate_by_digest(client, argv, read_only=False)


@_run_readonly(
    "EVALSHA_RO sha1 numkeys:int [key ...] [arg ...]",
    "Executes a Lua script that must not write, by its SHA-1 digest.",
    keys=(keys_counted(2),),
)
def evaluate_by_digest_readonly(client: Client, argv: list[bytes]) -> Reply:
    return _evaluate_by_digest(client, argv, read_only=True)


def _evaluate_by_digest(client: Client, argv: list[bytes], read_only: bool) -> Reply:
    _show(client, argv)
    lua = client.engine.scripting or runtime(client.engine)
    script = lua.scripts.get(argv[1]) or lua.scripts.get(argv[1].lower())
    numkeys = 0 if argv[2] == b"0" else None
    if len(argv[1]) == 40 and numkeys is None:
        numkeys = _parse_numkeys(argv, NotAnInteger())
    if script is None:
        raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
    return lua.evaluate(client, script, numkeys or 0, argv, read_only)


scripting.container("SCRIPT", "Commands about Lua scripts.", since="2.6.0", help_since="5.0.0")


@scripting(
    "SCRIPT LOAD script",
    "Keeps a Lua script, for EVALSHA, without executing it.",
    flags="noscript stale",
    since="2.6.0",
    complexity="O(N) with N being the length in bytes of the script body.",
    tips=_ALL_NODES,
)
def script_load(client: Client, argv: list[bytes]) -> Reply:
    return runtime(client.engine).script(argv[2], is_loaded=True).name


@scripting(
    "SCRIPT EXISTS sha1 [sha1 ...]",
    "Tells which scripts the server knows.",
    flags="noscript",
    since="2.6.0",
    complexity="O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
    tips=("request_policy:all_shards", "response_policy:agg_logical_and"),
)
def script_exists(client: Client, argv: list[bytes]) -> Reply:
    lua = runtime(client.engine)
    return [int(sha.lower() in lua.scripts) for sha in argv[2:]]


@scripting(
    "SCRIPT FLUSH [async=ASYNC | SYNC]",
    "Forgets all scripts.",
    flags="noscript",
    since="2.6.0",
    complexity="O(N) with N being the number of scripts in cache",
    tips=_ALL_NODES,
)
def script_flush(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    if client.engine.scripting is not None:
        client.engine.scripting.flush_scripts()
    return OK


@scripting(
    "SCRIPT KILL",
    "Ends the script that runs, unless it has written.",
    flags="noscript allow_busy",
    since="2.6.0",
    tips=_ONE_SHARD,
)
def script_kill(client: Client, argv: list[bytes]) -> Reply:
    runtime(client.engine).kill("SCRIPT")
    return OK


@scripting(
    "SCRIPT DEBUG <mode=YES | SYNC | NO>",
    "Turns the debugger on or off; Kora has none, so it is off.",
    flags="noscript",
    since="3.2.0",
)
def script_debug(client: Client, argv: list[bytes]) -> Reply:
    mode = argv[2].upper()
    if mode == b"NO":
        return OK
    if mode in (b"YES", b"SYNC"):
        raise CommandError("ERR there is no debugger for scripts")
    raise CommandError("ERR Use SCRIPT DEBUG YES/SYNC/NO")


# Functions

_call = partial(_run, complexity="Depends on the function that is executed.", since="7.0.0")
_call_readonly = partial(_run_readonly, complexity="Depends on the function that is executed.")


@_call("FCALL function numkeys:int [key ...] [arg ...]", "Calls a function.", keys=_keys_written)
def call_function(client: Client, argv: list[bytes]) -> Reply:
    return _call_function(client, argv, read_only=False)


@_call_readonly(
    "FCALL_RO function numkeys:int [key ...] [arg ...]", "Calls a function that must not write.", keys=_keys_read
)
def call_function_readonly(client: Client, argv: list[bytes]) -> Reply:
    return _call_function(client, argv, read_only=True)


def _call_function(client: Client, argv: list[bytes], read_only: bool) -> Reply:
    _show(client, argv)
    lua = client.engine.scripting or runtime(client.engine)
    function = lua.functions.get(_text(argv[1]).lower())
    if function is None:
        raise CommandError("ERR Function not found")
    numkeys = _parse_numkeys(argv, CommandError("ERR Bad number of keys provided"))
    return lua.run(client, function, numkeys, argv, read_only)


scripting.container("FUNCTION", "Commands about functions.", since="7.0.0", help_since="7.0.0")


@scripting(
    "FUNCTION LOAD [REPLACE] function-code",
    "Creates a library of functions.",
    flags="write denyoom noscript",
    since="7.0.0",
    complexity="O(1) (considering compilation time is redundant)",
    tips=_ALL_SHARDS,
)
def function_load(client: Client, argv: list[bytes]) -> Reply:
    for option in argv[2:-1]:
        if option.upper() != b"REPLACE":
            raise CommandError(f"ERR Unknown option given: {_text(option)}")
    name = runtime(client.engine).load(argv[-1], replace=len(argv) > 3)
    client.db.changes += 1
    return name


@scripting(
    "FUNCTION DELETE library-name",
    "Deletes a library and its functions.",
    flags="write noscript",
    since="7.0.0",
    tips=_ALL_SHARDS,
)
def function_delete(client: Client, argv: list[bytes]) -> Reply:
    lua = runtime(client.engine)
    library = lua.libraries.get(_text(argv[2]))
    if library is None:
        raise CommandError("ERR Library not found")
    lua.delete(library)
    client.db.changes += 1
    return OK


@scripting(
    "FUNCTION FLUSH [async=ASYNC | SYNC]",
    "Deletes all libraries.",
    flags="write noscript",
    since="7.0.0",
    complexity="O(N) where N is the number of functions deleted",
    tips=_ALL_SHARDS,
)
def function_flush(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    if client.engine.scripting is not None:
        client.engine.scripting.flush_functions()
    client.db.changes += 1
    return OK


@scripting(
    "FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]",
    "Returns the libraries and what is in them.",
    flags="noscript",
    since="7.0.0",
    complexity="O(N) where N is the number of functions",
    tips=("nondeterministic_output_order",),
)
def function_list(client: Client, argv: list[bytes]) -> Reply:
    pattern: bytes | None = None
    with_code = False
    words = iter(argv[2:])
    for word in words:
        if not with_code and word.upper() == b"WITHCODE":
            with_code = True
        elif pattern is None and word.upper() == b"LIBRARYNAME":
            pattern = next(words, None)
            if pattern is None:
                raise CommandError("ERR library name argument was not given")
        else:
            raise CommandError(f"ERR Unknown argument {_text(word)}")
    libraries = runtime(client.engine).matching_libraries(pattern)
    return [_describe_library(library, with_code) for library in libraries]


def _describe_library(library: Library, with_code: bool) -> Reply:
    described: dict[str, Reply] = {
        "library_name": library.name,
        "engine": "LUA",
        "functions": [_describe_function(function) for function in library.functions.values()],
    }
    if with_code:
        described["library_code"] = library.code
    return described


def _describe_function(function: Function) -> Reply:
    return {
        "name": function.name,
        "description": function.description,
        "flags": {Simple(flag) for flag in function.flags},
    }


@scripting(
    "FUNCTION STATS",
    "Tells which function runs, and how many there are.",
    flags="noscript allow_busy",
    since="7.0.0",
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
)
def function_stats(client: Client, argv: list[bytes]) -> Reply:
    lua = runtime(client.engine)
    running: Reply = None
    if isinstance(lua.running, Script):
        raise busy(lua.running.word)
    if lua.running is not None:
        running = {"name": lua.running.name, "command": list(lua.request), "duration_ms": lua.elapsed_ms}
    counts = {"libraries_count": len(lua.libraries), "functions_count": len(lua.functions)}
    return {"running_script": running, "engines": {"LUA": counts}}


@scripting(
    "FUNCTION KILL",
    "Ends the function that runs, unless it has written.",
    flags="noscript allow_busy",
    since="7.0.0",
    tips=_ONE_SHARD,
)
def function_kill(client: Client, argv: list[bytes]) -> Reply:
    runtime(client.engine).kill("FUNCTION")
    return OK


# Dumps: each library as RDB has it (rdbSaveFunctions, rdb.c), then the version of RDB, and a checksum of all that.

_RDB_FUNCTION: Final = 0xF5
_RDB_VERSION: Final = 10
_WRONG_PAYLOAD: Final = "ERR DUMP payload version or checksum are wrong"


@scripting(
    "FUNCTION DUMP",
    "Returns all libraries as bytes, for FUNCTION RESTORE.",
    flags="noscript",
    since="7.0.0",
    complexity="O(N) where N is the number of functions",
)
def function_dump(client: Client, argv: list[bytes]) -> Reply:
    data = bytearray()
    for library in runtime(client.engine).libraries.values():
        data.append(_RDB_FUNCTION)
        data += _rdb_length(len(library.code))
        data += library.code
    data += _RDB_VERSION.to_bytes(2, "little")
    return bytes(data) + crc64(bytes(data)).to_bytes(8, "little")


def _rdb_length(length: int) -> bytes:
    if length < 1 << 6:
        return length.to_bytes(1, "big")
    if length < 1 << 14:
        return (length | 1 << 14).to_bytes(2, "big")
    return b"\x80" + length.to_bytes(4, "big")


@scripting(
    "FUNCTION RESTORE serialized-value [policy=FLUSH | APPEND | REPLACE]",
    "Creates the libraries that FUNCTION DUMP returned.",
    flags="write denyoom noscript",
    since="7.0.0",
    complexity="O(N) where N is the number of functions on the payload",
    tips=_ALL_SHARDS,
)
def function_restore(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 4:
        raise CommandError(
            f"ERR unknown subcommand or wrong number of arguments for '{_text(argv[1])}'. Try FUNCTION HELP."
        )
    policy = argv[3].upper() if len(argv) > 3 else b"APPEND"
    if policy not in (b"FLUSH", b"APPEND", b"REPLACE"):
        raise CommandError("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    runtime(client.engine).restore(_read_dump(argv[2]), policy.decode())
    client.db.changes += 1
    return OK


def _read_dump(data: bytes) -> list[bytes]:
    """The codes of the libraries of a dump.  Raises CommandError where it is none."""
    if len(data) < 10 or int.from_bytes(data[-10:-8], "little") > _RDB_VERSION + 2:
        raise CommandError(_WRONG_PAYLOAD)
    if crc64(data[:-8]) != int.from_bytes(data[-8:], "little"):
        raise CommandError(_WRONG_PAYLOAD)
    codes = []
    place = 0
    while place < len(data) - 10:
        if data[place] != _RDB_FUNCTION:
            raise CommandError("ERR given type is not a function")
        code, place = _read_rdb_string(data[:-10], place + 1)
        codes.append(code)
    return codes


def _read_rdb_string(data: bytes, place: int) -> tuple[bytes, int]:
    """The string at a place, and where it ends; LZF (0xC3) has its lengths packed and unpacked in front."""
    damaged = CommandError("ERR failed loading library data")
    if data[place : place + 1] == b"\xc3":
        packed, place = _read_rdb_length(data, place + 1)
        size_bytes, place = _read_rdb_length(data, place)
        if packed < 0 or size_bytes < 0 or size_bytes > 1 << 29 or place + packed > len(data):
            raise damaged
        code = decompress(data[place : place + packed], size_bytes)
        if code is None:
            raise damaged
        return code, place + packed
    length, place = _read_rdb_length(data, place)
    if length < 0 or place + length > len(data):
        raise damaged
    return data[place : place + length], place + length


def _read_rdb_length(data: bytes, place: int) -> tuple[int, int]:
    """-1 where there is none."""
    first = data[place] if place < len(data) else 0xFF
    if first < 0x40:
        return first, place + 1
    if first < 0x80:
        return int.from_bytes(data[place : place + 2], "big") & 0x3FFF, place + 2
    if first in (0x80, 0x81):
        size = 4 if first == 0x80 else 8
        return int.from_bytes(data[place + 1 : place + 1 + size], "big"), place + 1 + size
    return -1, place


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")
