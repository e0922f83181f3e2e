"""The settings: one table for the TOML file, the flags, the environment and CONFIG GET, SET and REWRITE.

A new setting is one row in SETTINGS, plus its type on Config so that mypy knows it.  Everything else (parsing, the
error messages, `kora.toml.example`, `--help`, the README's table) is derived from the row.
A flag outweighs the environment, that the file, and that the default.
"""

import difflib
import json
import os
import re
import stat
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, TypeAlias

from kora import glob
from kora.errors import CommandError, ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Value: TypeAlias = bool | int | str | tuple[str, ...]
Hook: TypeAlias = Callable[[Any], object]

INT_MAX: Final = 2**31 - 1
UINT_MAX: Final = 2**32 - 1
LONG_MAX: Final = 2**63 - 1
ULONG_MAX: Final = 2**64 - 1

# What may happen at maxmemory: kora/store/eviction.py says how.
POLICIES: Final = (
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random",
    "volatile-ttl",
)  # fmt: skip

# What the audit log can tell of; a command is of the first that fits (kora/engine/audit.py).
AUDIT_CATEGORIES: Final = ("connect", "auth", "acl", "config", "admin", "script", "write", "read")

FILE_NAME: Final = "kora.toml"
# Read by other modules or by the test suite, and so no mistake in the environment.
ENVIRONMENT_ELSEWHERE: Final = ("KORA_CONFIG", "KORA_KERNEL", "KORA_REQUIRE_KERNEL", "KORA_REQUIRE_PEERS")
LOG_LEVELS: Final = ("trace", "debug", "info", "warning", "error")


class Kind(Enum):
    """What a value is, and so how it is read and written."""

    STRING = "string"
    PASSWORD = "password"  # a string that no log and no error message shows
    INTEGER = "integer"
    MEMORY = "memory"
    BOOLEAN = "boolean"
    ENUM = "enum"
    LIST = "list"
    OCTAL = "octal"
    LEVELS = "levels"
    EVENTS = "events"
    PERCENTILES = "percentiles"
    OUTPUT_LIMITS = "output limits"
    SAVE_POINTS = "save points"
    SHARE = "memory or percent"  # in bytes or, below 0, in per cent of maxmemory
    RATIO = "ratio"  # a decimal number from 0 to 1, as text


_NUMBERS: Final = (Kind.INTEGER, Kind.MEMORY, Kind.SHARE)

# Redis' suffixes (memtoull, util.c): a bare letter counts in thousands, with a b in 1024s.
_MEMORY_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1024,
    "m": 1000**2,
    "mb": 1024**2,
    "g": 1000**3,
    "gb": 1024**3,
}
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_MEMORY: Final = re.compile(r"([0-9]{1,127})([a-z]*)")
_PERCENT: Final = re.compile(r"([0-9]{1,18})%", re.ASCII)
_RATIO: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?(e-[0-9]{1,3})?|\.[0-9]{1,20}", re.ASCII)
_OCTAL: Final = re.compile(r"0?[0-7]{1,3}")
_LOG_MODULE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
# warn is what people type; verbose and notice are Redis' names for what Kora calls debug and info.
_LOG_LEVEL_ALIASES: Final = {"warn": "warning", "verbose": "debug", "notice": "info"}


@dataclass(frozen=True)
class Setting:
    """One row of the table.  `minimum` and `maximum` are for INTEGER and MEMORY, `choices` for ENUM and LIST."""

    section: str
    name: str
    kind: Kind
    default: Value
    help: str
    mutable: bool = False
    minimum: int = 0
    maximum: int = INT_MAX
    # Redis moves an hz out of range to the nearest that is allowed instead of refusing it (config.c, updateHZ).
    clamped: bool = False
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")

    @property
    def table(self) -> str:
        """The TOML table that it may stand in, if not at the top."""
        return self.section.lower()

    @property
    def flag(self) -> str:
        return "--" + self.name

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the ordinary one first."""
        return ("KORA_" + self.attribute.upper(), *self.environment)

    @property
    def secret(self) -> bool:
        return self.kind is Kind.PASSWORD

    def parse(self, text: str) -> Value:
        """The value that `text` means.  Raises ConfigError with the words that CONFIG SET of Redis 7.0 has for it."""
        if not _is_unicode(text) or ("\0" in text and not self.secret):
            raise ConfigError("argument must be UTF-8 text")
        return _PARSERS[self.kind](self, text)

    def from_toml(self, value: object) -> Value:
        """The value that a TOML value means: its native type, or a string as on the command line."""
        if isinstance(value, bool) and self.kind in (Kind.BOOLEAN, Kind.ENUM):
            return self.parse("yes" if value else "no")
        if isinstance(value, int) and not isinstance(value, bool) and self.kind in _NUMBERS:
            return self.within_range(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.kind is Kind.RATIO:
            return self.parse(str(value))
        if isinstance(value, list) and self.kind is Kind.LIST and all(isinstance(item, str) for item in value):
            return self.parse(" ".join(value))
        if isinstance(value, str):
            return self.parse(value)
        raise ConfigError("argument has the wrong type")

    def within_range(self, number: int) -> int:
        low, high = (0, INT_MAX) if self.clamped else (self.minimum, self.maximum)
        if not low <= number <= high:
            raise ConfigError(f"argument must be between {low} and {high} inclusive")
        return min(max(number, self.minimum), self.maximum)

    def text(self, value: Value) -> str:
        """As CONFIG GET shows it: yes or no, memory in bytes, a list's items with a space between."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, tuple):
            return " ".join(value)
        if self.kind is Kind.SHARE and isinstance(value, int) and value < 0:
            return f"{-value}%"
        return str(value)

    def toml(self, value: Value) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return "[" + ", ".join(_toml_string(item) for item in value) + "]"
        if isinstance(value, str):
            return value if self.kind is Kind.RATIO else _toml_string(value)
        if self.kind is Kind.SHARE and value < 0:
            return _toml_string(self.text(value))
        if self.kind in (Kind.MEMORY, Kind.SHARE) and (text := memory_text(value)) != str(value):
            return _toml_string(text)
        return str(value)

    def accepts(self) -> str:
        """What a value must be, as the end of `port must be …`."""
        if self.kind is Kind.INTEGER:
            return f"an integer from {self.minimum} to {self.maximum}"
        if self.kind is Kind.MEMORY:
            at_least = f", at least {memory_text(self.minimum)}" if self.minimum else ""
            return f"a number of bytes such as 1048576, 512mb or 1gb{at_least}"
        if self.kind is Kind.ENUM:
            choices = [choice or '""' for choice in self.choices]
            return choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
        if self.kind is Kind.LIST and self.choices:
            return "a list of some of " + ", ".join(self.choices)
        return _ACCEPTS[self.kind]


_network: Final = partial(Setting, "Network")
_tls: Final = partial(Setting, "TLS")
_security: Final = partial(Setting, "Security")
_limit: Final = partial(Setting, "Limits")
_keyspace: Final = partial(Setting, "Keyspace")
_persistence: Final = partial(Setting, "Persistence")
_storage: Final = partial(Setting, "Storage")
_observation: Final = partial(Setting, "Observation")
_sidecar: Final = partial(Setting, "Sidecar")
_events: Final = partial(Setting, "Events")
_telemetry: Final = partial(Setting, "Telemetry")
_audit: Final = partial(Setting, "Audit")
_logging: Final = partial(Setting, "Logging")

_MB: Final = 1024**2

# fmt: off
SETTINGS: Final[tuple[Setting, ...]] = (
    _network("bind", Kind.LIST, ("127.0.0.1", "-::1"),
             "Addresses to listen on. One that begins with '-' is passed over where the machine does not have it."),
    _network("port", Kind.INTEGER, 6379, "TCP port for clients; 0 listens on none.", maximum=65535),
    _network("tcp-backlog", Kind.INTEGER, 511, "Connections that may wait to be accepted."),
    _network("unixsocket", Kind.STRING, "", "Path of a Unix socket to listen on as well; empty for none."),
    _network("unixsocketperm", Kind.OCTAL, "0",
             "Permissions of the Unix socket as octal digits such as 700; 0 leaves them to the umask."),
    _network("timeout", Kind.INTEGER, 0, "Close a client that was idle for this many seconds; 0 never does.",
             mutable=True),
    _network("tcp-keepalive", Kind.INTEGER, 300, "Seconds between TCP keep-alive probes; 0 sends none.",
             mutable=True),
    _network("protected-mode", Kind.BOOLEAN, True,
             "Without a password, serve only clients of this machine.", mutable=True),
    _network("maxclients", Kind.INTEGER, 10000, "Clients that may be connected at the same time.",
             mutable=True, minimum=1, maximum=UINT_MAX),

    _tls("tls-port", Kind.INTEGER, 0, "TCP port for clients that speak TLS; 0 listens on none.", maximum=65535),
    _tls("tls-cert-file", Kind.STRING, "", "Path of the server's certificate, PEM."),
    _tls("tls-key-file", Kind.STRING, "", "Path of the private key of the certificate, PEM."),
    _tls("tls-key-file-pass", Kind.PASSWORD, "", "Password of the private key, where it has one."),
    _tls("tls-ca-cert-file", Kind.STRING, "", "Path of the certificates that clients' certificates are checked with."),
    _tls("tls-ca-cert-dir", Kind.STRING, "",
         "Folder of certificates that clients' certificates are checked with, named by their hashes."),
    _tls("tls-auth-clients", Kind.ENUM, "yes",
         "Whether a client must show a certificate; 'optional' checks it only if there is one.",
         choices=("no", "yes", "optional")),
    _tls("tls-protocols", Kind.STRING, "",
         "TLS versions to speak, such as \"TLSv1.2 TLSv1.3\"; empty takes those that OpenSSL holds safe."),
    _tls("tls-ciphers", Kind.STRING, "", "Ciphers for TLS 1.2, in OpenSSL's notation; empty takes OpenSSL's choice."),

    _security("requirepass", Kind.PASSWORD, "", "Password that clients give with AUTH; empty asks for none.",
              mutable=True),
    _security("aclfile", Kind.STRING, "",
              "Path of the file with the users, for ACL LOAD and ACL SAVE; read at the start, empty for none."),
    _security("acllog-max-len", Kind.INTEGER, 128, "Entries that ACL LOG keeps.", mutable=True),
    _security("acl-pubsub-default", Kind.ENUM, "resetchannels",
              "Channels that a new user may use.", mutable=True, choices=("allchannels", "resetchannels")),
    _security("enable-debug-command", Kind.ENUM, "local",
              "Who may use DEBUG: nobody, everybody, or clients of this machine.", choices=("no", "yes", "local")),

    _limit("maxmemory", Kind.MEMORY, 0, "Bytes that the data may take; 0 sets no limit.",
           mutable=True, maximum=ULONG_MAX),
    _limit("maxmemory-policy", Kind.ENUM, "noeviction",
           "What happens at maxmemory: noeviction refuses commands that would need more; the others delete keys, of "
           "all or of those with a deadline: least recently used, least frequently used, any, or the next to end.",
           mutable=True, choices=POLICIES),
    _limit("maxmemory-clients", Kind.SHARE, 0,
           "Bytes that all connections together may take, or a part of maxmemory such as 5%; those that take most are "
           "closed; 0 sets no limit.", mutable=True, maximum=LONG_MAX),
    _limit("maxmemory-samples", Kind.INTEGER, 5, "Keys that are looked at to choose one to evict.",
           mutable=True, minimum=1, maximum=64),
    _limit("proto-max-bulk-len", Kind.MEMORY, 512 * _MB, "Bytes of the longest string, in a request or stored.",
           mutable=True, minimum=_MB, maximum=LONG_MAX),
    _limit("client-query-buffer-limit", Kind.MEMORY, 1024 * _MB,
           "Bytes of one client's requests that may be waiting; a client with more is disconnected.",
           mutable=True, minimum=_MB, maximum=LONG_MAX),

    _limit("client-output-buffer-limit", Kind.OUTPUT_LIMITS,
           "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
           "Bytes of replies and messages that may wait for a client, for each class: one with more than the first "
           "number is disconnected, and one with more than the second for so many seconds; 0 sets no limit.",
           mutable=True),
    _limit("tracking-table-max-keys", Kind.INTEGER, 1_000_000,
           "Keys that are remembered because clients keep copies of them; 0 sets no limit.",
           mutable=True, maximum=LONG_MAX),
    _limit("busy-reply-threshold", Kind.INTEGER, 5000,
           "Milliseconds that a script may run before other clients are told BUSY, and may end it; 0 never tells them.",
           mutable=True, aliases=("lua-time-limit",)),
    _limit("lua-memory-limit", Kind.MEMORY, 256 * _MB, "Bytes that all scripts together may take.",
           mutable=True, minimum=4 * _MB, maximum=LONG_MAX),

    _keyspace("databases", Kind.INTEGER, 16, "Databases that SELECT can choose from.", minimum=1),
    _keyspace("shards", Kind.INTEGER, 4, "Parts that the keyspace is divided into.", minimum=1, maximum=256),
    _keyspace("hz", Kind.INTEGER, 10, "How often background jobs run per second.",
              mutable=True, minimum=1, maximum=500, clamped=True),
    _keyspace("active-expire-effort", Kind.INTEGER, 1,
              "How hard to look for expired keys that nobody asks for; more takes more CPU.",
              mutable=True, minimum=1, maximum=10),
    _keyspace("lazyfree-lazy-eviction", Kind.BOOLEAN, False,
              "Large values of evicted keys are freed in the background.", mutable=True),
    _keyspace("lazyfree-lazy-user-del", Kind.BOOLEAN, False, "DEL frees large values in the background, as UNLINK.",
              mutable=True),
    _keyspace("lazyfree-lazy-user-flush", Kind.BOOLEAN, True,
              "FLUSHALL and FLUSHDB without SYNC or ASYNC free memory in the background.", mutable=True),

    _keyspace("notify-keyspace-events", Kind.EVENTS, "",
              "What happens to keys and is published: K and E choose the channels, letters the events, A all of them; "
              "empty publishes nothing.", mutable=True),
    *(_keyspace(name, Kind.INTEGER, default, text, mutable=True, minimum=minimum, aliases=aliases)
      for name, default, minimum, text, aliases in (
          ("hash-max-listpack-entries", 512, 0, "Fields of a hash that is kept compact.",
           ("hash-max-ziplist-entries",)),
          ("hash-max-listpack-value", 64, 0, "Bytes of a field or value in a hash that is kept compact.",
           ("hash-max-ziplist-value",)),
          ("list-max-listpack-size", -2, -5,
           "Items in a node of a list or, from -1 to -5, at most 4, 8, 16, 32 or 64 KB of them.",
           ("list-max-ziplist-size",)),
          ("set-max-intset-entries", 512, 0, "Integers in a set that is kept as sorted integers.", ()),
          ("set-max-listpack-entries", 128, 0, "Members of a set that is kept compact.", ()),
          ("set-max-listpack-value", 64, 0, "Bytes of a member in a set that is kept compact.", ()),
          ("zset-max-listpack-entries", 128, 0, "Members of a sorted set that is kept compact.",
           ("zset-max-ziplist-entries",)),
          ("zset-max-listpack-value", 64, 0, "Bytes of a member in a sorted set that is kept compact.",
           ("zset-max-ziplist-value",)),
          ("stream-node-max-entries", 100, 0, "Entries in a node of a stream; 0 sets no limit.", ()),
          ("hll-sparse-max-bytes", 3000, 0, "Bytes of a HyperLogLog that is kept sparse.", ()))),
    _keyspace("stream-node-max-bytes", Kind.MEMORY, 4096, "Bytes in a node of a stream; 0 sets no limit.",
              mutable=True, maximum=LONG_MAX),
    _keyspace("vector-exact-max", Kind.INTEGER, 1_000_000,
              "Components, which are vectors times dimensions, of a vector set that is searched one by one; one with "
              "more has a graph (HNSW).", mutable=True),
    _keyspace("vector-hnsw-m", Kind.INTEGER, 32,
              "Neighbours of a vector in the graph of a vector set that is made from now on; more find better and take "
              "more memory.", mutable=True, minimum=2, maximum=512),
    _keyspace("vector-hnsw-ef-construction", Kind.INTEGER, 200,
              "Candidates that are considered when a vector is put into a graph that is made from now on; more find "
              "better and take more time.", mutable=True, minimum=1, maximum=10_000),
    _keyspace("vector-hnsw-ef-search", Kind.INTEGER, 256,
              "Candidates that a search considers without EF; more find better and take more time.",
              mutable=True, minimum=1, maximum=10_000),

    _persistence("appendonly", Kind.BOOLEAN, False,
                 "Whether writes go to a journal (append-only file), which is loaded at the start.", mutable=True),
    _persistence("appendfilename", Kind.STRING, "appendonly.aof",
                 "What the names of the journal's files begin with."),
    _persistence("appenddirname", Kind.STRING, "appendonlydir", "The journal's directory, in `dir`."),
    _persistence("appendfsync", Kind.ENUM, "everysec",
                 "When the journal is synced to the disk: before anything is acknowledged (always), every second, or "
                 "when the system likes (no).", mutable=True, choices=("always", "everysec", "no")),
    _persistence("no-appendfsync-on-rewrite", Kind.BOOLEAN, False,
                 "Whether the journal is not synced every second while a snapshot or a rewrite goes on.", mutable=True),
    _persistence("auto-aof-rewrite-percentage", Kind.INTEGER, 100,
                 "By how many per cent the journal may grow before it is rewritten; 0: it is not, by itself.",
                 mutable=True),
    _persistence("auto-aof-rewrite-min-size", Kind.MEMORY, 64 * _MB,
                 "Bytes below which the journal is not rewritten by itself.", mutable=True, maximum=LONG_MAX),
    _persistence("aof-load-truncated", Kind.BOOLEAN, True,
                 "Whether a journal that ends in the middle of a command is cut there, or refused.", mutable=True),
    _persistence("aof-timestamp-enabled", Kind.BOOLEAN, False,
                 "Whether the journal has the time in it, so that it can be cut at one.", mutable=True),
    _persistence("save", Kind.SAVE_POINTS, "3600 1 300 100 60 10000",
                 "When snapshots are taken: after so many seconds, if so many keys were changed since the last; empty "
                 "for never, and then stopping the server saves nothing either.",
                 mutable=True),
    _persistence("stop-writes-on-bgsave-error", Kind.BOOLEAN, True,
                 "Refuse writes with MISCONF while snapshots are wanted and the last one failed.", mutable=True),
    _persistence("rdbcompression", Kind.BOOLEAN, True,
                 "Compress strings in snapshots (LZF); with the kernel, those of up to 256 KB.", mutable=True),
    _persistence("rdb-version", Kind.ENUM, "10",
                 "The version of snapshots: 10 is read by Redis 7.0 and later; 11, by Redis 7.2 and later, also tells "
                 "when consumers of streams were last given something. With fields of hashes that end it is 12, which "
                 "Redis 7.4 and later reads.",
                 mutable=True, choices=("10", "11")),
    _persistence("dir", Kind.STRING, ".", "The directory of the snapshot and of the journal."),
    _persistence("dbfilename", Kind.STRING, "dump.rdb", "The snapshot's file, in `dir`; it is loaded at the start."),
    _persistence("rdbchecksum", Kind.BOOLEAN, True,
                 "Whether snapshots end in a checksum, and whether it is looked at when they are loaded."),
    _persistence("rdb-modules", Kind.ENUM, "refuse",
                 "What to do with data of Redis modules in a snapshot that is loaded: not to start, or to skip it; "
                 "then the next snapshot is without it.",
                 mutable=True, choices=("refuse", "skip")),

    _storage("storage-engine", Kind.ENUM, "memory",
             "Where the data is: all of it in memory, or in RocksDB on the disk, with a part of it in memory.",
             choices=("memory", "rocksdb")),
    _storage("rocksdb-dir", Kind.STRING, "rocksdb", "The directory of RocksDB's files, in `dir`."),
    _storage("rocksdb-cache-bytes", Kind.MEMORY, 256 * _MB,
             "Bytes that the part of the data may take that is in memory, ready for use; changes wait there, too.",
             mutable=True, minimum=_MB, maximum=LONG_MAX),
    _storage("rocksdb-sync", Kind.ENUM, "everysec",
             "When writes are synced to the disk: before anything is acknowledged (always), every second, or when the "
             "system likes (no).", mutable=True, choices=("always", "everysec", "no")),
    _storage("rocksdb-block-cache-bytes", Kind.MEMORY, 96 * _MB,
             "Bytes that blocks of RocksDB's files may take in memory, their indexes and filters among them.",
             minimum=_MB, maximum=LONG_MAX),
    _storage("rocksdb-write-buffer-bytes", Kind.MEMORY, 64 * _MB,
             "Bytes of what was written that RocksDB may keep in memory until it makes files of it.",
             minimum=_MB, maximum=LONG_MAX),
    _storage("rocksdb-compression", Kind.ENUM, "lz4", "How RocksDB's files are compressed.",
             choices=("none", "lz4", "zstd")),
    _storage("rocksdb-large-value-bytes", Kind.MEMORY, _MB,
             "Bytes of a value, as it is written, from which on DOCTOR tells of it: each change of one of its items "
             "writes all of it.", mutable=True, maximum=LONG_MAX),
    _storage("storage-metrics-level", Kind.ENUM, "debug",
             "What RocksDB tells of itself: its properties (info), or its statistics as well (debug).",
             choices=("info", "debug")),

    _observation("observation", Kind.BOOLEAN, True,
                 "Statistics, histograms and hot keys; off only to measure their cost.", mutable=True),
    _observation("hotkey-sampling-ratio", Kind.INTEGER, 64,
                 "One access in this many is recorded for hot keys, four times as many while the server is not busy, "
                 "and all that take long; counts are scaled up.",
                 mutable=True, minimum=1, maximum=10000),
    _observation("hotkey-top-k", Kind.INTEGER, 128,
                 "Hot keys that HOTKEYS GET shows; 0 records none at all.", mutable=True, maximum=1024),
    _observation("hotkey-window-seconds", Kind.INTEGER, 60,
                 "Seconds that HOTKEYS looks back where it is not told.", mutable=True, minimum=1, maximum=900),
    _observation("slowlog-log-slower-than", Kind.INTEGER, 10_000,
                 "Microseconds from which on a command is written to the slow log; 0 writes down all, -1 none.",
                 mutable=True, minimum=-1, maximum=LONG_MAX, aliases=("commandlog-execution-slower-than",)),
    _observation("slowlog-max-len", Kind.INTEGER, 128, "Entries that the slow log keeps.",
                 mutable=True, maximum=LONG_MAX, aliases=("commandlog-slow-execution-max-len",)),
    _observation("slowlog-extended", Kind.BOOLEAN, False,
                 "Whether entries of SLOWLOG and COMMANDLOG end with three more fields: the microseconds that the "
                 "request waited until it ran, those from when it could be read until it was answered, and its trace.",
                 mutable=True),
    _observation("commandlog-request-larger-than", Kind.INTEGER, _MB,
                 "Bytes from which on a request is written to the log of large requests; -1 writes down none.",
                 mutable=True, minimum=-1, maximum=LONG_MAX),
    _observation("commandlog-large-request-max-len", Kind.INTEGER, 128,
                 "Entries that the log of large requests keeps.", mutable=True, maximum=LONG_MAX),
    _observation("commandlog-reply-larger-than", Kind.INTEGER, _MB,
                 "Bytes from which on a reply is written to the log of large replies; -1 writes down none.",
                 mutable=True, minimum=-1, maximum=LONG_MAX),
    _observation("commandlog-large-reply-max-len", Kind.INTEGER, 128,
                 "Entries that the log of large replies keeps.", mutable=True, maximum=LONG_MAX),
    _observation("latency-monitor-threshold", Kind.INTEGER, 10,
                 "Milliseconds from which on the latency monitor takes note of an event; 0 turns it off.",
                 mutable=True, maximum=LONG_MAX),
    _observation("latency-tracking", Kind.BOOLEAN, True,
                 "Whether INFO latencystats shows percentiles; the histograms behind them are kept in any case.",
                 mutable=True),
    _observation("latency-tracking-info-percentiles", Kind.PERCENTILES, "50 99 99.9",
                 "Percentiles that INFO latencystats shows; empty shows none.", mutable=True),

    _sidecar("metrics-port", Kind.INTEGER, 9090,
             "HTTP port for metrics, health and status; 0 starts no sidecar.", maximum=65535),
    _sidecar("metrics-bind", Kind.LIST, ("127.0.0.1",), "Addresses that the sidecar listens on."),
    _sidecar("metrics-token", Kind.PASSWORD, "",
             "Token that every path but those of health wants, as `Authorization: Bearer` or as the password that a "
             "browser asks for; empty asks for none.",
             mutable=True),
    _sidecar("debug-endpoints", Kind.BOOLEAN, False,
             "Whether the sidecar answers /debug/pprof/: profiles of CPU time and memory, which show code and prefixes "
             "of keys to whoever may ask.", mutable=True),
    _sidecar("metrics-series-max", Kind.INTEGER, 6000,
             "Series of /metrics at most; details of the commands called least are left out first.",
             mutable=True, minimum=1000),
    _sidecar("loop-stall-ms", Kind.INTEGER, 1000,
             "Milliseconds that the data loop may be stuck before /health/live answers 503.",
             mutable=True, minimum=10, maximum=3_600_000),
    _sidecar("shutdown-grace-ms", Kind.INTEGER, 0,
             "Milliseconds that SIGTERM goes on serving connected clients while /health/ready answers 503, "
             "so that load balancers notice before the connections close.", mutable=True, maximum=600_000),

    _events("events-port", Kind.INTEGER, 3000,
            "HTTP port for events, /track and /read; 0 listens on none. Where nobody has chosen it and it is taken, "
            "the server starts without it.", maximum=65535, environment=("KILOMETRIC_PORT",)),
    _events("events-bind", Kind.LIST, ("127.0.0.1",), "Addresses that events are listened for on."),
    _events("events-token", Kind.PASSWORD, "",
            "Token that opens events, and what is asked of them, on either HTTP port; metrics-token does so as well. "
            "Where both are empty, none is asked for.", mutable=True),
    _events("events-rate-limit", Kind.INTEGER, 0,
            "Events and questions a second that one address may send; 0 sets no limit.", mutable=True),
    _events("events-flush-interval", Kind.INTEGER, 10,
            "Seconds of an interval: what is tracked within one becomes one entry of its metric's stream.",
            mutable=True, minimum=1, maximum=86_400, environment=("KILOMETRIC_FLUSH_INTERVAL",)),
    _events("events-keys-max", Kind.INTEGER, 200_000,
            "Metrics at most; what is tracked of others is counted as __other__.",
            mutable=True, minimum=1),
    _events("events-negative", Kind.BOOLEAN, False,
            "Whether values below zero may be tracked, which gauges need and counters do not.", mutable=True),
    _events("events-maxlen", Kind.INTEGER, 10_000,
            "Entries that a metric's stream has, about; 0 sets no limit. None goes before its minute is made.",
            mutable=True),
    _events("events-retention", Kind.INTEGER, 86_400,
            "Seconds that entries of intervals are kept; 0 keeps them until there are too many.", mutable=True),
    _events("events-minutes-retention", Kind.INTEGER, 7 * 86_400,
            "Seconds that minutes are kept, which entries of intervals are added up to; 0 keeps them until their hour "
            "is over.", mutable=True),
    _events("events-hours-retention", Kind.INTEGER, 366 * 86_400,
            "Seconds that hours are kept, which minutes are added up to; 0 makes none.", mutable=True),

    _telemetry("tracing-enabled", Kind.BOOLEAN, False,
               "Whether requests leave spans, which the sidecar exports as OTLP over HTTP. OTEL_SDK_DISABLED=true "
               "turns it off, whatever the file says.", mutable=True),
    _telemetry("tracing-endpoint", Kind.STRING, "",
               "URL of the collector; without a path it is /v1/traces. Empty leaves it to OTEL_EXPORTER_OTLP_ENDPOINT, "
               "as other variables of OpenTelemetry say what else is sent, or http://localhost:4318.", mutable=True),
    _telemetry("tracing-sample-ratio", Kind.RATIO, "0.01",
               "Part of requests that is traced, from 0 to 1, of those whose client does not say what to do. "
               "OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG change the default.", mutable=True),
    _telemetry("tracing-slow-ms", Kind.INTEGER, 100,
               "Milliseconds from which on a request is traced in any case, as those are that fail; 0 traces all, -1 "
               "none for that.", mutable=True, minimum=-1),
    _telemetry("tracing-arguments", Kind.ENUM, "none",
               "What spans tell of a request's words beside its command: none, the names of keys, or all, cut short "
               "and without passwords. Anything but none makes tracing dearer.",
               mutable=True, choices=("none", "keys", "all")),
    _telemetry("tracing-queue-max", Kind.INTEGER, 8192,
               "Spans that may wait to be exported, in each of the two processes, and that TRACE GET can look back on.",
               mutable=True, minimum=64, maximum=1_000_000),

    _audit("audit-file", Kind.STRING, "",
           "Path of the audit log, in `dir` unless it begins with '/': who did what, one JSON object a line, each with "
           "the hash of the one before; empty keeps none. The sidecar writes it."),
    _audit("audit-enabled", Kind.BOOLEAN, True,
           "Whether the audit log is kept, where audit-file names one; that it was turned off is its last record.",
           mutable=True),
    _audit("audit-categories", Kind.LIST, ("connect", "auth", "acl", "config", "admin", "script"),
           "What is recorded: connections, logins, users and refusals, settings, commands of @admin and @dangerous, "
           "scripts and functions, writes, reads.", mutable=True, choices=AUDIT_CATEGORIES),
    *(_audit(f"audit-{way}-{what}", Kind.LIST, (), text, mutable=True)
      for what, ways in (
          ("users", (("include", "Users of whom records are kept; empty for all."),
                     ("exclude", "Users of whom no records are kept."))),
          ("commands", (("include", "Commands of which records are kept, such as config|set; empty for all."),
                        ("exclude", "Commands of which no records are kept, such as info."))),
          ("keys", (("include", "What keys begin with of which records are kept; empty for all."),
                    ("exclude", "What keys begin with of which no records are kept."))))
      for way, text in ways),
    _audit("audit-arguments", Kind.BOOLEAN, False,
           "Whether records of commands that have keys have the other words, too, such as values; each is cut to 128 "
           "bytes. Passwords are in no record.", mutable=True),
    _audit("audit-on-full", Kind.ENUM, "drop",
           "What happens while no more records can wait to be written, since the disk is full or slow: they are "
           "dropped and counted, which the next record tells; or clients that want what would be recorded wait.",
           mutable=True, choices=("block", "drop")),
    _audit("audit-queue-size", Kind.MEMORY, 16 * _MB,
           "Bytes of records that may wait to be written.", minimum=64 * 1024, maximum=INT_MAX),
    _audit("audit-fsync", Kind.ENUM, "everysec",
           "When the audit log is synced to the disk: before its records leave the queue (always), every second, or "
           "when the system likes (no).", mutable=True, choices=("always", "everysec", "no")),
    _audit("audit-rotate-size", Kind.MEMORY, 64 * _MB,
           "Bytes from which on a new file of the audit log is begun; 0: never for that.",
           mutable=True, maximum=LONG_MAX),
    _audit("audit-rotate-seconds", Kind.INTEGER, 86_400,
           "Seconds after which a new file of the audit log is begun; 0: never for that.", mutable=True),
    _audit("audit-retention-size", Kind.MEMORY, 0,
           "Bytes that full files of the audit log may take; the oldest are removed, which is recorded; 0: none are.",
           mutable=True, maximum=LONG_MAX),
    _audit("audit-retention-days", Kind.INTEGER, 0,
           "Days after which full files of the audit log are removed, which is recorded; 0: never.",
           mutable=True, maximum=36_500),

    _logging("log-level", Kind.LEVELS, "info",
             "Least severe events to log: trace, debug, info, warning or error; also per module, "
             "such as \"info,kora.store=debug\".",
             mutable=True, aliases=("loglevel",), environment=("KORA_LOG",)),
    _logging("log-format", Kind.ENUM, "json", "One JSON object a line, or text for people.", choices=("json", "text")),
    _logging("logfile", Kind.STRING, "",
             "Path of the log; empty writes to standard output. SIGHUP has it opened anew."),
    _logging("log-repeats-max", Kind.INTEGER, 100,
             "Lines with the same message that are written within ten seconds; further ones are counted, and their "
             "number is told in one line; 0 writes all.", mutable=True),
)
# fmt: on

SETTINGS_BY_NAME: Final[Mapping[str, Setting]] = {
    name: setting for setting in SETTINGS for name in (setting.name, *setting.aliases)
}

# Settings of Redis that tools and client libraries read, and that here can have no other value than these.  They are
# answered by CONFIG GET, and CONFIG SET takes no other value for them; they are no settings of Kora.
FACTS: Final[Mapping[str, str]] = {
    "activedefrag": "no",
    "aof-use-rdb-preamble": "yes",
    "cluster-enabled": "no",
    "daemonize": "no",
    "enable-module-command": "no",
    "enable-protected-configs": "no",
    "io-threads": "1",
    "lazyfree-lazy-expire": "no",
    "lazyfree-lazy-server-del": "no",
    "lfu-decay-time": "1",  # minutes after which the counts of accesses are halved
    "list-compress-depth": "0",
    "maxmemory-eviction-tenacity": "10",
    "min-replicas-max-lag": "10",
    "min-replicas-to-write": "0",
    "repl-backlog-size": "0",
    "replica-priority": "100",
    "replica-read-only": "yes",
    "replicaof": "",
    "sanitize-dump-payload": "yes",  # RESTORE examines all of every payload
    "supervised": "no",
    "syslog-enabled": "no",
}


def lookup(name: str) -> Setting | None:
    """The setting of that name or alias, in any case and with `_` for `-`."""
    return SETTINGS_BY_NAME.get(_folded(name))


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


class Config:
    """The values in force.  `Config()` has the defaults; a server takes `Config.load(argv, os.environ)`."""

    # Types only, for mypy; a test holds them against SETTINGS.
    bind: tuple[str, ...]
    port: int
    tcp_backlog: int
    unixsocket: str
    unixsocketperm: str
    timeout: int
    tcp_keepalive: int
    protected_mode: bool
    maxclients: int
    tls_port: int
    tls_cert_file: str
    tls_key_file: str
    tls_key_file_pass: str
    tls_ca_cert_file: str
    tls_ca_cert_dir: str
    tls_auth_clients: str
    tls_protocols: str
    tls_ciphers: str
    requirepass: str
    aclfile: str
    acllog_max_len: int
    acl_pubsub_default: str
    enable_debug_command: str
    maxmemory: int
    maxmemory_policy: str
    maxmemory_clients: int
    maxmemory_samples: int
    proto_max_bulk_len: int
    client_query_buffer_limit: int
    client_output_buffer_limit: str
    tracking_table_max_keys: int
    busy_reply_threshold: int
    lua_memory_limit: int
    databases: int
    shards: int
    hz: int
    active_expire_effort: int
    lazyfree_lazy_eviction: bool
    lazyfree_lazy_user_del: bool
    lazyfree_lazy_user_flush: bool
    notify_keyspace_events: str
    hash_max_listpack_entries: int
    hash_max_listpack_value: int
    list_max_listpack_size: int
    set_max_intset_entries: int
    set_max_listpack_entries: int
    set_max_listpack_value: int
    zset_max_listpack_entries: int
    zset_max_listpack_value: int
    stream_node_max_entries: int
    hll_sparse_max_bytes: int
    stream_node_max_bytes: int
    vector_exact_max: int
    vector_hnsw_m: int
    vector_hnsw_ef_construction: int
    vector_hnsw_ef_search: int
    appendonly: bool
    appendfilename: str
    appenddirname: str
    appendfsync: str
    no_appendfsync_on_rewrite: bool
    auto_aof_rewrite_percentage: int
    auto_aof_rewrite_min_size: int
    aof_load_truncated: bool
    aof_timestamp_enabled: bool
    save: str
    stop_writes_on_bgsave_error: bool
    rdbcompression: bool
    rdb_version: str
    dir: str
    dbfilename: str
    rdbchecksum: bool
    rdb_modules: str
    storage_engine: str
    rocksdb_dir: str
    rocksdb_cache_bytes: int
    rocksdb_sync: str
    rocksdb_block_cache_bytes: int
    rocksdb_write_buffer_bytes: int
    rocksdb_compression: str
    rocksdb_large_value_bytes: int
    storage_metrics_level: str
    observation: bool
    hotkey_sampling_ratio: int
    slowlog_log_slower_than: int
    slowlog_max_len: int
    slowlog_extended: bool
    commandlog_request_larger_than: int
    commandlog_large_request_max_len: int
    commandlog_reply_larger_than: int
    commandlog_large_reply_max_len: int
    latency_monitor_threshold: int
    latency_tracking: bool
    latency_tracking_info_percentiles: str
    hotkey_top_k: int
    hotkey_window_seconds: int
    metrics_port: int
    metrics_bind: tuple[str, ...]
    debug_endpoints: bool
    metrics_token: str
    metrics_series_max: int
    loop_stall_ms: int
    shutdown_grace_ms: int
    events_port: int
    events_bind: tuple[str, ...]
    events_token: str
    events_rate_limit: int
    events_flush_interval: int
    events_keys_max: int
    events_negative: bool
    events_maxlen: int
    events_retention: int
    events_minutes_retention: int
    events_hours_retention: int
    tracing_enabled: bool
    tracing_endpoint: str
    tracing_sample_ratio: str
    tracing_slow_ms: int
    tracing_arguments: str
    tracing_queue_max: int
    audit_file: str
    audit_enabled: bool
    audit_categories: tuple[str, ...]
    audit_include_users: tuple[str, ...]
    audit_exclude_users: tuple[str, ...]
    audit_include_commands: tuple[str, ...]
    audit_exclude_commands: tuple[str, ...]
    audit_include_keys: tuple[str, ...]
    audit_exclude_keys: tuple[str, ...]
    audit_arguments: bool
    audit_on_full: str
    audit_queue_size: int
    audit_fsync: str
    audit_rotate_size: int
    audit_rotate_seconds: int
    audit_retention_size: int
    audit_retention_days: int
    log_level: str
    log_format: str
    logfile: str
    log_repeats_max: int

    def __init__(self) -> None:
        for setting in SETTINGS:
            setattr(self, setting.attribute, setting.default)
        # The file that was read and that CONFIG REWRITE writes, absolute; None where there is none.
        self.file: str | None = None
        self._sources: dict[str, str] = {}
        # What it was loaded from, and what was found there last.
        self._origin: tuple[Sequence[str], Mapping[str, str], str] = ((), {}, ".")
        self._loaded: dict[Setting, Value] = {setting: setting.default for setting in SETTINGS}
        self._hooks: dict[str, list[Hook]] = {}

    def __repr__(self) -> str:
        changed = (s for s in SETTINGS if self._value(s) != s.default)
        return f"Config({', '.join(f'{s.attribute}={self._shown(s)!r}' for s in changed)})"

    @classmethod
    def load(cls, argv: Sequence[str] = (), environ: Mapping[str, str] | None = None, directory: str = ".") -> "Config":
        """Read the flags (`argv` without the program's name), the environment and the file.

        `directory` is where `kora.toml` is looked for if neither the flags nor KORA_CONFIG name a file.
        Raises ConfigError at the first mistake: its message is one line that says where, what and what would be right.
        """
        environ = {} if environ is None else environ
        flags, file = _read_flags(argv)
        file = file or environ.get("KORA_CONFIG") or None
        if file is None and os.path.exists(beside := os.path.join(directory, FILE_NAME)):
            file = beside
        config = cls()
        config._take("environment", _read_sampler(environ))
        if file is not None:
            config._take("file", {entry.setting: entry.value for entry in _entries(_read(file), file)})
            # Absolute, since a server may change its folder before somebody asks for CONFIG REWRITE.
            config.file = os.path.abspath(file)
        config._take("environment", _read_environment(environ) | _read_switch(environ))
        config._take("flag", flags)
        config._origin = argv, environ, directory
        config._loaded = {setting: config._value(setting) for setting in SETTINGS}
        return config

    def reload(self) -> tuple[list[Setting], list[Setting]]:
        """Read the file again, and take over what has changed in it since it was read last, whatever CONFIG SET did.

        Returns the settings that have now another value, and those that will have it once the server is started anew.
        Raises ConfigError where the file is wrong or cannot be followed; then nothing has changed.
        """
        fresh = Config.load(*self._origin)
        loaded = {setting: fresh._value(setting) for setting in SETTINGS}
        different = [setting for setting in SETTINGS if loaded[setting] != self._loaded[setting]]
        wanted = {s: loaded[s] for s in different if s.mutable and loaded[s] != self._value(s)}
        try:
            self._change(wanted, "config set")
        except CommandError as error:
            raise ConfigError(str(error)) from error
        self._sources.update((setting.name, fresh.source(setting.name)) for setting in wanted)
        self._loaded = loaded
        return list(wanted), [setting for setting in different if not setting.mutable]

    def get(self, *patterns: str) -> dict[str, str]:
        """CONFIG GET: name → value as text.

        As in Redis, a name is answered in the caller's spelling, a pattern adds only what is not there yet, and each
        name of a setting that has several counts.
        """
        found: dict[str, tuple[str, str]] = {}
        for pattern in patterns:
            if not any(char in pattern for char in "[*?"):
                name = _folded(pattern)
                if name in SETTINGS_BY_NAME or name in FACTS:
                    found.setdefault(name, (pattern, self._answer(name)))
                continue
            wanted = pattern.replace("_", "-").encode("utf-8", "surrogatepass")
            for name in (*SETTINGS_BY_NAME, *FACTS):
                if glob.matches(wanted, name.encode(), ignore_case=True):
                    found.setdefault(name, (name, self._answer(name)))
        return dict(found.values())

    def _answer(self, name: str) -> str:
        setting = SETTINGS_BY_NAME.get(name)
        if setting is None:
            return FACTS[name]
        text = setting.text(self._value(setting))
        # Whoever asks may be in another directory; Redis, too, tells where this one really is.
        return os.path.abspath(text) if name == "dir" else text

    def set(self, pairs: Iterable[tuple[str, str]]) -> None:
        """CONFIG SET: all of the pairs or, with a CommandError, none.

        Hooks run once every value is in place, and only for those that changed.
        """
        self._change({setting: self._parsed(setting, text) for setting, text in _checked(pairs).items()}, "config set")

    def _change(self, values: Mapping[Setting, Value], source: str) -> None:
        before = {setting: self._value(setting) for setting in values}
        sources = dict(self._sources)
        # On a failure the values go back first, then the stack tells the hooks that had run, the last one first.
        with ExitStack() as hooks_run:
            try:
                self._take(source, values)
                for setting in values:
                    self._run_hooks(setting, before[setting], hooks_run)
            except BaseException:
                self._put(before)
                self._sources = sources
                raise
            hooks_run.pop_all()

    def on_change(self, name: str, hook: Hook) -> None:
        """Call `hook(new_value)` whenever CONFIG SET changes the setting.

        A hook that cannot follow raises ConfigError and must have changed nothing; its text goes to the client.
        One that had followed is called again with the former value if a later one refuses.
        """
        setting = lookup(name)
        assert setting is not None, name
        assert setting.mutable, f"{name} never changes: no hook would be called"
        self._hooks.setdefault(setting.name, []).append(hook)

    def rewrite(self) -> None:
        """CONFIG REWRITE: bring the file up to the values in force, keeping its comments and the order of its lines.

        Lines appear for settings that differ from the default; whether a flag, a variable or CONFIG SET made them
        differ does not matter, as in Redis.  Blocks on the disk.
        """
        if self.file is None:
            raise CommandError("ERR The server is running without a config file")
        try:
            # Behind a symbolic link it is the file that changes, not the link.
            path = os.path.realpath(self.file)
            text = _read(path) if os.path.exists(path) else ""
            wanted = _rewritten(text, _entries(text, path), {s: self._value(s) for s in SETTINGS})
            if wanted != text:
                replace_file(path, wanted.encode())
        except OSError as error:
            raise CommandError(f"ERR Rewriting config file: {error.strerror or error}") from error
        except ConfigError as error:
            raise CommandError(f"ERR Rewriting config file: {error}") from error

    @property
    def has_sidecar(self) -> bool:
        """Where metrics-port is 0 there is none for the sake of a port for events that nobody has chosen."""
        return bool(self.metrics_port or self.audit_file or self.wants_events)

    @property
    def wants_events(self) -> bool:
        """Whether events are listened for: by default, where there are metrics."""
        return bool(self.events_port and (self.metrics_port or self.source("events-port") != "default"))

    def source(self, name: str) -> str:
        """Where the value came from: `default`, `file`, `environment`, `flag` or `config set`."""
        setting = lookup(name)
        assert setting is not None, name
        return self._sources.get(setting.name, "default")

    def masked(self) -> dict[str, str]:
        """Every setting as CONFIG GET shows it, but passwords as stars: fit for a log or a page."""
        return {setting.name: self._shown(setting) for setting in SETTINGS}

    def _value(self, setting: Setting) -> Value:
        value: Value = getattr(self, setting.attribute)
        return value

    def _shown(self, setting: Setting) -> str:
        value = self._value(setting)
        return "********" if setting.secret and value else setting.text(value)

    def _take(self, source: str, values: Mapping[Setting, Value]) -> None:
        self._put(values)
        self._sources.update((setting.name, source) for setting in values)

    def _put(self, values: Mapping[Setting, Value]) -> None:
        for setting, value in values.items():
            setattr(self, setting.attribute, value)

    def _parsed(self, setting: Setting, text: str) -> Value:
        if setting.kind is Kind.OUTPUT_LIMITS:
            text = f"{self._value(setting)} {text}"  # classes that are not named stay as they are
        try:
            return setting.parse(text)
        except ConfigError as error:
            raise _set_failed(setting.name, str(error)) from error

    def _run_hooks(self, setting: Setting, before: Value, hooks_run: ExitStack) -> None:
        value = self._value(setting)
        if value == before:
            return
        for hook in self._hooks.get(setting.name, ()):
            try:
                hook(value)
            except ConfigError as error:
                raise _set_failed(setting.name, str(error)) from error
            hooks_run.callback(hook, before)


def _checked(pairs: Iterable[tuple[str, str]]) -> dict[Setting, str]:
    """The settings that CONFIG SET names.  What Redis refuses before it reads a value is refused here, in its order."""
    wanted: dict[Setting, str] = {}
    for name, text in pairs:
        setting = lookup(name)
        if setting is None and FACTS.get(_folded(name)) == text.lower():
            continue
        if setting is None and _folded(name) in FACTS:
            raise _set_failed(name, "can't set immutable config")
        if setting is None:
            raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
        if not setting.mutable:
            raise _set_failed(name, "can't set immutable config")
        if setting in wanted:
            raise _set_failed(name, "duplicate parameter")
        wanted[setting] = text
    return wanted


def _set_failed(name: str, reason: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


# --- Values ---


def memory_text(size_bytes: int) -> str:
    """The shortest spelling that means exactly that many bytes: `512mb`, or the number."""
    for unit in ("gb", "mb", "kb"):
        count, rest = divmod(size_bytes, _MEMORY_UNITS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return str(size_bytes)


def log_levels(text: str) -> dict[str, str]:
    """Module → level, from a `log-level`; the level without a module is under the empty string.

    Levels come out as LOG_LEVELS spells them.  Raises ConfigError.
    """
    levels: dict[str, str] = {}
    for part in text.split(","):
        module, _, level = part.strip().rpartition("=")
        module, level = module.strip(), level.strip().lower()
        level = _LOG_LEVEL_ALIASES.get(level, level)
        named = bool(_LOG_MODULE.fullmatch(module)) if "=" in part else True
        if level not in LOG_LEVELS or not named or module in levels:
            raise ConfigError(f"argument(s) must be one of the following: {', '.join(LOG_LEVELS)}")
        levels[module] = level
    return levels


def _parse_string(setting: Setting, text: str) -> Value:
    return text


def _parse_integer(setting: Setting, text: str) -> Value:
    # string2ll (util.c): no blanks, no plus, no leading zeros, and 64 bits.
    if not _INTEGER.fullmatch(text) or not -LONG_MAX - 1 <= int(text) <= LONG_MAX:
        raise ConfigError("argument couldn't be parsed into an integer")
    return setting.within_range(int(text))


def memory_size(text: str) -> int:
    """Bytes, of a text such as 512mb.  Raises ConfigError."""
    # Unlike memtoull, no digits at all are refused: an empty variable should not lift a limit.
    match = _MEMORY.fullmatch(text.lower())
    unit = _MEMORY_UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise ConfigError("argument must be a memory value")
    return int(match[1]) * unit


def _parse_memory(setting: Setting, text: str) -> Value:
    return setting.within_range(memory_size(text))


def _parse_share(setting: Setting, text: str) -> Value:
    percent = _PERCENT.fullmatch(text)
    if percent is not None:
        if int(percent[1]) > 100:
            raise ConfigError("percentage argument must be less or equal to 100")
        return -int(percent[1])
    try:
        return _parse_memory(setting, text)
    except ConfigError:
        raise ConfigError("argument must be a memory or percent value") from None


def _parse_boolean(setting: Setting, text: str) -> Value:
    if text.lower() not in ("yes", "no"):
        raise ConfigError("argument must be 'yes' or 'no'")
    return text.lower() == "yes"


def _parse_enum(setting: Setting, text: str) -> Value:
    if text.lower() not in setting.choices:
        raise ConfigError(f"argument(s) must be one of the following: {', '.join(setting.choices)}")
    return text.lower()


def _parse_list(setting: Setting, text: str) -> Value:
    items = tuple(text.split())
    if setting.choices and not set(items) <= set(setting.choices):
        raise ConfigError(f"argument(s) must be one of the following: {', '.join(setting.choices)}")
    return items


def _parse_octal(setting: Setting, text: str) -> Value:
    if not _OCTAL.fullmatch(text):
        raise ConfigError("argument couldn't be parsed as an octal number")
    return f"{int(text, 8):o}"


def _parse_levels(setting: Setting, text: str) -> Value:
    return ",".join(f"{module}={level}" if module else level for module, level in log_levels(text).items())


# Classes of events, in the order in which CONFIG GET shows them; A stands for all of the first (NOTIFY_ALL, server.h).
_EVENTS_ALL: Final = "g$lshzxetd"
_EVENTS_REST: Final = "KEmn"


def _parse_events(setting: Setting, text: str) -> Value:
    if set(text) - set(_EVENTS_ALL + _EVENTS_REST + "A"):
        raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
    given = set(text.replace("A", _EVENTS_ALL))
    classes = "A" if given >= set(_EVENTS_ALL) else "".join(letter for letter in _EVENTS_ALL if letter in given)
    return classes + "".join(letter for letter in _EVENTS_REST if letter in given)


def _parse_percentiles(setting: Setting, text: str) -> Value:
    shown = []
    for word in text.split():
        if not _PERCENTILE.fullmatch(word):
            raise ConfigError(f"Invalid {setting.name} parameters")
        if not 0 <= float(word) <= 100:
            raise ConfigError(f"{setting.name} parameters should sit between [0.0,100.0]")
        shown.append(percentile_text(float(word)))
    return " ".join(shown)


def _parse_ratio(setting: Setting, text: str) -> Value:
    if not _RATIO.fullmatch(text) or not 0 <= float(text) <= 1:
        raise ConfigError("argument must be a number between 0 and 1")
    ratio = float(text)
    return str(int(ratio)) if ratio in (0, 1) else repr(ratio)


def _parse_save_points(setting: Setting, text: str) -> Value:
    words = text.split()
    if len(words) % 2 or not all(_INTEGER.fullmatch(word) and int(word) <= INT_MAX for word in words):
        raise ConfigError("Invalid save parameters")
    if any(int(seconds) < 1 for seconds in words[::2]) or any(int(changes) < 0 for changes in words[1::2]):
        raise ConfigError("Invalid save parameters")
    return " ".join(words)


def save_points(text: str) -> list[tuple[int, int]]:
    """Seconds, and changes, of each save point of a setting."""
    numbers = list(map(int, text.split()))
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def percentile_text(percent: float) -> str:
    """As Redis prints it: at most six digits behind the point, and no zeros at the end."""
    return f"{percent:f}".rstrip("0").removesuffix(".")


_PERCENTILE: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_CLASSES: Final = {"normal": "normal", "slave": "slave", "replica": "slave", "pubsub": "pubsub"}


def _parse_output_limits(setting: Setting, text: str) -> Value:
    limits = _output_limits(str(setting.default)) | _output_limits(text)
    return " ".join(f"{name} {hard} {soft} {soft_s}" for name, (hard, soft, soft_s) in limits.items())


def output_limits(text: str) -> dict[str, tuple[int, int, int]]:
    """From a client-output-buffer-limit: hard limit, soft limit and seconds for `normal`, `replica` and `pubsub`."""
    return {"replica" if name == "slave" else name: limits for name, limits in _output_limits(text).items()}


def _output_limits(text: str) -> dict[str, tuple[int, int, int]]:
    words = text.split()
    if len(words) % 4:
        raise ConfigError("Wrong number of arguments in buffer limit configuration.")
    limits: dict[str, tuple[int, int, int]] = {}
    for place in range(0, len(words), 4):
        name = _CLASSES.get(words[place].lower())
        if name is None:
            raise ConfigError("Invalid client class specified in buffer limit configuration.")
        hard, soft = (_MEMORY.fullmatch(word.lower()) for word in words[place + 1 : place + 3])
        is_known = hard is not None and soft is not None and hard[2] in _MEMORY_UNITS and soft[2] in _MEMORY_UNITS
        if hard is None or soft is None or not is_known or not _SECONDS.fullmatch(words[place + 3]):
            raise ConfigError("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
        sizes = (int(match[1]) * _MEMORY_UNITS[match[2]] for match in (hard, soft))
        limits[name] = (next(sizes), next(sizes), int(words[place + 3]))
    return limits


_SECONDS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)

_PARSERS: Final[Mapping[Kind, Callable[[Setting, str], Value]]] = {
    Kind.STRING: _parse_string,
    Kind.PASSWORD: _parse_string,
    Kind.INTEGER: _parse_integer,
    Kind.MEMORY: _parse_memory,
    Kind.BOOLEAN: _parse_boolean,
    Kind.ENUM: _parse_enum,
    Kind.LIST: _parse_list,
    Kind.OCTAL: _parse_octal,
    Kind.LEVELS: _parse_levels,
    Kind.EVENTS: _parse_events,
    Kind.PERCENTILES: _parse_percentiles,
    Kind.RATIO: _parse_ratio,
    Kind.OUTPUT_LIMITS: _parse_output_limits,
    Kind.SHARE: _parse_share,
    Kind.SAVE_POINTS: _parse_save_points,
}

_ACCEPTS: Final[Mapping[Kind, str]] = {
    Kind.OUTPUT_LIMITS: 'a class (normal, replica or pubsub), two sizes and seconds, such as "pubsub 32mb 8mb 60"',
    Kind.SHARE: "a number of bytes such as 1048576, 512mb or 1gb, or a part of maxmemory such as 5%",
    Kind.SAVE_POINTS: 'pairs of seconds and changes, such as "3600 1 300 100"',
    Kind.RATIO: "a number from 0 to 1, such as 0.01",
    Kind.PERCENTILES: 'numbers from 0 to 100, such as "50 99 99.9"',
    Kind.EVENTS: "letters such as KEA: K or E for where to publish, and classes of events",
    Kind.STRING: "a string",
    Kind.PASSWORD: "a string",
    Kind.BOOLEAN: "yes or no",
    Kind.LIST: "a list of strings",
    Kind.OCTAL: 'octal digits in quotes, such as "700"',
    Kind.LEVELS: f'one of {", ".join(LOG_LEVELS)}, also per module as in "info,kora.store=debug"',
}


def _is_unicode(text: str) -> bool:
    """False for bytes that were not UTF-8 and came in as surrogates: no TOML file could hold them."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


# --- Mistakes, as the person who made them reads them ---


def _wrong_value(where: str, setting: Setting, value: object) -> ConfigError:
    got = "" if setting.secret else f", not {_shown(value)}"
    return ConfigError(f"{where}: {setting.name} must be {setting.accepts()}{got}")


def _unknown(what: str, name: str, spellings: Iterable[str]) -> ConfigError:
    known = {_folded(spelling): spelling for spelling in spellings}
    # Cut off, since comparing is quadratic and nobody's slip of the finger is longer.
    close = difflib.get_close_matches(_folded(name[:64]), known, n=1)
    hint = f"; did you mean {known[close[0]]}?" if close else ""
    return ConfigError(f"{what} {_shown(name)}{hint}")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value if len(value) <= 64 else value[:63] + "…")
    if isinstance(value, int):
        # Past 4300 digits Python refuses to print a number, and TOML's hexadecimal can be that long.
        return str(value) if value.bit_length() <= 64 else "a number of more than 64 bits"
    if isinstance(value, list):
        return "an array"
    return "a table" if isinstance(value, dict) else f"the {type(value).__name__} {value}"


# --- Flags ---

_FLAGS: Final = ("--config", "-c", *(f"--{name}" for name in SETTINGS_BY_NAME))


def _read_flags(argv: Sequence[str]) -> tuple[dict[Setting, Value], str | None]:
    """The flags' values, and the file they name."""
    texts: dict[Setting, list[str]] = {}
    flags: dict[Setting, str] = {}
    file: str | None = None
    for flag, words in _flags(argv):
        setting = lookup(flag[2:]) if flag.startswith("--") else None
        if flag in ("", "-c", "--config"):
            text = _only_word(flag, words)
            if file is not None:
                raise ConfigError(f"{flag or text}: there is a configuration file already, {_shown(file)}")
            if not text:
                raise ConfigError(f"{flag or 'the first argument'}: needs to be the name of a file")
            if not flag and text.startswith("-"):
                raise _unknown("unknown flag", text, _FLAGS)
            file = text
        elif setting is None:
            raise _unknown("unknown flag", flag, _FLAGS)
        elif setting.kind is Kind.LIST and words:
            # `--bind a --bind b` adds up; of any other flag the last one counts.
            texts.setdefault(setting, []).extend(words)
            flags[setting] = flag
        else:
            texts[setting] = [_only_word(flag, words)]
            flags[setting] = flag
    return {setting: _parsed_at(flags[setting], setting, " ".join(words)) for setting, words in texts.items()}, file


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the words up to the next one.  A file that comes first, before any flag, has the flag ''."""
    flag, words = "", []
    for word in argv:
        # A single '-' begins values too: an address that may be missing, or a negative number.
        if word != "-c" and not word.startswith("--"):
            words.append(word)
            continue
        if flag or words:
            yield flag, words
        flag, equals, text = word.partition("=")
        words = [text] if equals else []
    if flag or words:
        yield flag, words


def _only_word(flag: str, words: list[str]) -> str:
    if not words:
        raise ConfigError(f"{flag}: needs a value; one that begins with '--' is given as {flag}=VALUE")
    if len(words) > 1:
        raise ConfigError(f"{flag or words[0]}: unexpected argument {_shown(words[1])} after it")
    return words[0]


def _parsed_at(where: str, setting: Setting, text: str) -> Value:
    try:
        return setting.parse(text)
    except ConfigError as error:
        raise _wrong_value(where, setting, text) from error


# --- Environment ---

# Kubernetes and old Docker links give every container variables for each service beside it.  A service called kora
# thus makes KORA_SERVICE_HOST, KORA_PORT_6379_TCP_ADDR, and KORA_PORT=tcp://10.0.0.1:6379: nobody's settings.
_SERVICE_VARIABLE: Final = re.compile(
    r"KORA_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def _read_environment(environ: Mapping[str, str]) -> dict[Setting, Value]:
    settings = {variable: setting for setting in SETTINGS for variable in setting.variables}
    values: dict[Setting, Value] = {}
    for variable in sorted(environ):
        text = environ[variable]
        setting = settings.get(variable)
        # Some settings have names of another program, which Kora stands in for.
        if setting is None and not variable.startswith("KORA_"):
            continue
        if variable in ENVIRONMENT_ELSEWHERE or _is_of_a_service(variable, text):
            continue
        if setting is None:
            raise _unknown("unknown environment variable", variable, (*settings, *ENVIRONMENT_ELSEWHERE))
        where = f"environment variable {variable}"
        value = _parsed_at(where, setting, text)
        if values.setdefault(setting, value) != value:
            raise ConfigError(f"{where}: says something else than {' or '.join(setting.variables)}; keep one of them")
    return values


def _read_sampler(environ: Mapping[str, str]) -> dict[Setting, Value]:
    """What OpenTelemetry's variables say of sampling, as its SDKs read them: what they do not know is passed over.

    An outer trace decides for its requests in any case (`parentbased`).
    """
    setting = SETTINGS_BY_NAME["tracing-sample-ratio"]
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "1").strip()
    text = {"always_on": "1", "always_off": "0", "traceidratio": argument}.get(sampler)
    if text is None:
        return {}
    with suppress(ConfigError):
        return {setting: setting.parse(text)}
    return {}


def _read_switch(environ: Mapping[str, str]) -> dict[Setting, Value]:
    """OTEL_SDK_DISABLED turns everything off that sends spans, whatever else says that they be sent but a flag."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
        return {}
    return {SETTINGS_BY_NAME["tracing-enabled"]: False}


def _is_of_a_service(variable: str, text: str) -> bool:
    if variable.endswith("_PORT") and _SERVICE_ADDRESS.match(text):
        return True
    return bool(_SERVICE_VARIABLE.fullmatch(variable))


# --- The file ---
#
# tomllib reads the values but forgets where they stood, which the error messages and CONFIG REWRITE need.  So a
# second, lenient pass over text that tomllib has accepted finds each `key = value` and its place.  It knows only what
# can hide a line's end: strings, comments and brackets.


@dataclass(frozen=True)
class Entry:
    """One `key = value`: text[value_start:value_stop] is the value."""

    setting: Setting
    value: Value
    value_start: int
    value_stop: int


_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_TABLE: Final = re.compile(r"\[[ \t]*([A-Za-z]+)[ \t]*\]")
_TABLES: Final = tuple(dict.fromkeys(setting.table for setting in SETTINGS))
_KEY: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[^"'=])+""")
# A string in triple quotes may end in one or two more quotes that are its own.
_TOKEN: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?""""{0,2}'''
    r"""|'''.*?''''{0,2}"""
    r"""|"(?:\\.|[^"\\])*"|'[^']*'|\#[^\n]*|[ \t\r]+|[^"'\#\s\[\]{}]+|.""",
    re.DOTALL,
)
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def _read(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a name with a NUL or a surrogate in it
        raise ConfigError(f"{_shown(file)}: is not the name of a file") from error
    try:
        # Line ends stay as they are, so that CONFIG REWRITE can keep them.
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise ConfigError(f"{_place(file, before, len(before))}: is not UTF-8") from error


def _entries(text: str, file: str) -> list[Entry]:
    """The file's settings in its order.  Raises ConfigError with the place of the first mistake."""
    values = _parse_toml(text, file)
    entries: list[Entry] = []
    lines: dict[Setting, int] = {}
    for table, key_start, value_start, value_stop in _statements(text, file):
        where = _place(file, text, key_start)
        key = _decoded_key(text[key_start : value_start - 1])
        if key is None:
            raise ConfigError(f"{where}: settings stand at the top level or in a table, without a dot in the name")
        setting = lookup(key)
        if setting is None:
            raise _unknown(f"{where}: unknown setting", key, SETTINGS_BY_NAME)
        if table and table.lower() != setting.table:
            raise ConfigError(f"{where}: {setting.name} is no setting of [{table}] but of [{setting.table}]")
        if setting in lines:
            raise ConfigError(f"{where}: {setting.name} is set a second time, after line {lines[setting]}")
        lines[setting] = text.count("\n", 0, key_start) + 1
        given = (values[table] if table else values)[key]
        try:
            value = setting.from_toml(given)
        except ConfigError as error:
            raise _wrong_value(where, setting, given) from error
        start, stop = _trimmed(text, value_start, value_stop)
        entries.append(Entry(setting, value, start, stop))
    return entries


def _parse_toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{file}: is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python reads
        reason = str(error)
        if not (found := _PLACE.search(reason)):
            raise ConfigError(f"{file}: {reason}") from error
        where = f"{file}, line {found[1]}, column {found[2]}" if found[1] else _place(file, text, len(text))
        raise ConfigError(f"{where}: {_PLACE.sub('', reason)}") from error


def _statements(text: str, file: str) -> Iterator[tuple[str, int, int, int]]:
    """For each `key = value`: its table ("" at the top), where the key begins, where the value begins (after the '=')
    and where it stops."""
    table = ""
    at = _end(_BLANK.match(text))
    while at < len(text):
        if text[at] == "[":
            found = _TABLE.match(text, at)
            if found is None or found[1].lower() not in _TABLES:
                tables = ", ".join(f"[{name}]" for name in _TABLES)
                raise ConfigError(f"{_place(file, text, at)}: no table of settings; there are {tables}")
            table, at = found[1], _end(_BLANK.match(text, found.end()))
            continue
        value_start = _end(_KEY.match(text, at)) + 1
        value_stop = _value_stop(text, value_start)
        yield table, at, value_start, value_stop
        at = _end(_BLANK.match(text, value_stop))


def _first_table(text: str) -> int:
    """Where it begins in a text that is in order; its end, if there is none."""
    at = _end(_BLANK.match(text))
    while at < len(text) and text[at] != "[":
        at = _end(_BLANK.match(text, _value_stop(text, _end(_KEY.match(text, at)) + 1)))
    return at


def _value_stop(text: str, at: int) -> int:
    """The end of the line that the value ends on, or the comment that ends it."""
    depth = 0
    while at < len(text):
        if depth == 0 and text[at] in "\n#":
            break
        depth += (text[at] in "[{") - (text[at] in "]}")
        at = _end(_TOKEN.match(text, at))
    return at


def _trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    value = text[start:stop]
    return start + len(value) - len(value.lstrip()), stop - len(value) + len(value.rstrip())


def _decoded_key(text: str) -> str | None:
    """The key without its quotes; None for one with dots, which is a table in disguise."""
    [(key, value)] = tomllib.loads(f"{text}=0").items()
    return None if isinstance(value, dict) else key


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "tomllib accepted text that kora.config cannot find its way in"
    return match.end()


def _place(file: str, text: str, at: int) -> str:
    return f"{file}, line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"


_REWRITE_COMMENT: Final = "# Generated by CONFIG REWRITE"


def _rewritten(text: str, entries: Iterable[Entry], values: Mapping[Setting, Value]) -> str:
    """The text with changed values in place, and the missing ones that are not defaults at the end of its top level."""
    parts: list[str] = []
    at = 0
    present: set[Setting] = set()
    newline = "\r\n" if "\r\n" in text else "\n"
    changes: list[tuple[int, int, str]] = []
    for entry in entries:
        present.add(entry.setting)
        value = values[entry.setting]
        if value != entry.value:
            former = text[entry.value_start : entry.value_stop]
            changed = _toml_in_place_of(former, entry.setting, value, newline)
            changes.append((entry.value_start, entry.value_stop, changed))
    missing = [s for s in values if s not in present and values[s] != s.default]
    if missing:
        place = _first_table(text)
        lines = [f"{setting.name} = {setting.toml(values[setting])}" for setting in missing]
        if _REWRITE_COMMENT not in text.splitlines():
            lines = ["", _REWRITE_COMMENT, *lines] if place else [_REWRITE_COMMENT, *lines]
        if place < len(text):
            lines.append("")
        begin = newline if text[:place] and not text[:place].endswith("\n") else ""
        changes.append((place, place, begin + "".join(line + newline for line in lines)))
    for start, stop, wanted in sorted(changes):
        parts += text[at:start], wanted
        at = stop
    return "".join([*parts, text[at:]])


def _toml_in_place_of(former: str, setting: Setting, value: Value, newline: str) -> str:
    """The value, over several lines if it was an array over several lines, with the comments that were in it."""
    if not isinstance(value, tuple) or not former.startswith("[") or "\n" not in former:
        return setting.toml(value)
    tokens = (token[0] for token in _TOKEN.finditer(former))
    inner = [token.rstrip("\r") for token in tokens if token.startswith("#")]
    inner += (_toml_string(item) + "," for item in value)
    return newline.join(["[", *("    " + line for line in inner), "]"])


def _toml_string(text: str) -> str:
    # JSON's escapes are TOML's, but JSON lets DEL through and TOML does not.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def replace_file(path: str, data: bytes) -> None:
    """Write a file so that after a crash there is either the old one or the new one, whole."""
    folder = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(prefix=".kora-rewrite-", dir=folder)
    try:
        with open(handle, "wb") as stream:
            # Before any byte is in it, as there may be a password among them.
            with suppress(FileNotFoundError):
                os.fchmod(stream.fileno(), stat.S_IMODE(os.stat(path).st_mode))
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder_handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)


# --- Documents that cannot fall behind the table ---


def example_toml() -> str:
    """The text of `kora.toml.example`: every setting with its default, commented out."""
    lines = [
        "# Kora's settings, each with its default.  Take away the '#' before a name to change it.",
        "#",
        "# A flag (--metrics-port 9090) outweighs the environment (KORA_METRICS_PORT=9090), and that this file.",
        "# Sizes are bytes, or take kb, mb and gb (1024s) or k, m and g (1000s).",
        "# Those marked 'at run time' also follow CONFIG SET, and CONFIG REWRITE writes them here.",
        "# Names may have _ for -, and stand below the headings of TOML, such as [network], that the parts have here.",
    ]
    section = ""
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += ["", "", f"# --- {section} ---"]
        note = " (at run time)" if setting.mutable else ""
        lines += ["", *textwrap.wrap(_meaning(setting) + note, 110, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"#{setting.name} = {setting.toml(setting.default)}")
    return "\n".join(lines) + "\n"


def reference_table() -> str:
    """The README's table of settings, in Markdown."""
    lines = ["| setting | default | at run time | meaning |", "| --- | --- | --- | --- |"]
    for setting in SETTINGS:
        meaning = _meaning(setting).replace("|", "\\|")
        at_run_time = "yes" if setting.mutable else "no"
        lines.append(f"| `{setting.name}` | `{setting.toml(setting.default)}` | {at_run_time} | {meaning} |")
    return "\n".join(lines) + "\n"


def flags_help() -> str:
    """What `--help` says about the settings, by section."""
    lines = ["  -c, --config FILE", f"        Settings in TOML; {FILE_NAME} is read if it is there."]
    section = ""
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += ["", f"{section}:"]
        default = setting.text(setting.default) or '""'
        if setting.kind in (Kind.MEMORY, Kind.SHARE):
            default = memory_text(int(default))
        lines.append(f"  {setting.flag} {_placeholder(setting)}")
        help_text = f"{_meaning(setting)} (default: {default})"
        lines += textwrap.wrap(help_text, 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines) + "\n"


def _meaning(setting: Setting) -> str:
    """The help, and the range or the choices where they tell more than the help does."""
    if setting.kind is Kind.INTEGER and setting.maximum not in (INT_MAX, UINT_MAX):
        return f"{setting.help} From {setting.minimum} to {setting.maximum}."
    if setting.kind in (Kind.INTEGER, Kind.MEMORY) and setting.minimum:
        least = str(setting.minimum) if setting.kind is Kind.INTEGER else memory_text(setting.minimum)
        return f"{setting.help} At least {least}."
    if setting.kind is Kind.ENUM and len(setting.choices) > 1:
        return f"{setting.help} One of {', '.join(setting.choices)}."
    return setting.help


def _placeholder(setting: Setting) -> str:
    if setting.kind is Kind.ENUM:
        return "|".join(choice or '""' for choice in setting.choices)
    return _PLACEHOLDERS[setting.kind]


_PLACEHOLDERS: Final[Mapping[Kind, str]] = {
    Kind.STRING: "TEXT",
    Kind.PASSWORD: "PASSWORD",
    Kind.INTEGER: "N",
    Kind.MEMORY: "SIZE",
    Kind.SHARE: "SIZE|PERCENT",
    Kind.BOOLEAN: "yes|no",
    Kind.LIST: "ADDRESS ...",
    Kind.OCTAL: "DIGITS",
    Kind.LEVELS: "LEVEL",
    Kind.EVENTS: "LETTERS",
    Kind.PERCENTILES: "NUMBERS",
    Kind.RATIO: "NUMBER",
    Kind.OUTPUT_LIMITS: "CLASS SIZE SIZE SECONDS ...",
    Kind.SAVE_POINTS: "SECONDS CHANGES ...",
}
