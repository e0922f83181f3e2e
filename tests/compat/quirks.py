"""Where Kora deliberately answers otherwise than redis-server 7.0.15.  Each has its reason.

Nothing else is let through: a difference that is not in this list is a bug of Kora.  is_quirky() keeps requests that
would meet one out of random programs; the others are allowed for where replies are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Quirk:
    name: str
    redis: str
    kora: str
    reason: str


QUIRKS = (
    Quirk(
        "encoding of an integral INCRBYFLOAT",
        "OBJECT ENCODING says embstr, and OBJECT REFCOUNT 1, where INCRBYFLOAT left a whole number",
        "they say int, and what an int's REFCOUNT is",
        "Kora derives the encoding from the bytes; remembering how they came about would cost every string a word.",
    ),
    Quirk(
        "SCAN MATCH and keys that are over",
        "SCAN with MATCH leaves a key that does not match in the database although its time is over",
        "it removes every such key that it comes across",
        "the keys of a step are looked up anyway, and DBSIZE and memory are right the earlier.",
    ),
    Quirk(
        "HELLO with an error in a later option",
        "7.0 carries out AUTH and SETNAME as it reads them, so that an error leaves half of them done, and of two AUTHs"
        " both count",
        "an error leaves the client as it was; of two AUTHs the last counts",
        "that is what 7.2 made of it.",
    ),
    Quirk(
        "HTTP to the RESP port",
        "at POST or Host: the connection is dropped with the replies that were not yet sent",
        "it is closed once they are sent",
        "requests before the line were run, and whoever sent them may know it.",
    ),
    Quirk(
        "a multibulk length beyond 1,048,576",
        "7.0 waits for up to 2,147,483,647 arguments",
        "-ERR Protocol error: invalid multibulk length, as in Redis 5 and 6",
        "it is the limit that Redis documents, and no client has ever needed more.",
    ),
    Quirk(
        "CLUSTER without a cluster",
        "-ERR This instance has cluster support disabled",
        "KEYSLOT, COUNTKEYSINSLOT, GETKEYSINSLOT and INFO answer as a node of a cluster does",
        "keys have slots in Kora in any case, and tools may ask for them.",
    ),
    Quirk(
        "CLIENT SETINFO, and lib-name and lib-ver in CLIENT LIST",
        "unknown in 7.0",
        "as in 7.2",
        "client libraries send it when they connect.",
    ),
    Quirk(
        "** and the empty key",
        "of patterns made of stars only * alone matches the empty key",
        "all of them do",
        "it is an oversight of stringmatchlen (util.c), which does not look at a pattern if there is no text.",
    ),
    Quirk(
        "QUIT without replies",
        "after CLIENT REPLY OFF or SKIP a QUIT leaves the connection open, and deaf",
        "it is closed",
        "whoever sends QUIT means it; Redis only closes once a reply is written.",
    ),
    Quirk(
        "an argument with a NUL in an error text",
        "the text of an argument ends at the NUL",
        "all of it is shown",
        "bytes are not C strings here, and the rest of the argument is what one looks for.",
    ),
    Quirk(
        "CONFIG SET of a memory size to nothing",
        "an empty text is 0",
        "it is refused, like any other text that is no number",
        "an empty value is a variable that somebody forgot to set.",
    ),
    Quirk(
        "what maxmemory counts",
        "all that the process has allocated, a megabyte at the start",
        "the data",
        "the interpreter is 20 MB that no eviction can free.",
    ),
    Quirk(
        "CLIENT PAUSE beyond the end of time",
        "7.0 adds the time to now, overflows, and answers OK without a pause",
        "-ERR timeout is out of range",
        "that is what the same number gets everywhere else, and in later versions.",
    ),
    Quirk(
        "messages to oneself",
        "7.0 sends a message that a client sends to itself in front of the reply, and in the middle of that of EXEC",
        "behind the reply, that of EXEC included",
        "that is what 7.2 made of it: in the middle of an array nobody could tell it from its elements.",
    ),
    Quirk(
        "CLIENT REPLY in a transaction",
        "the reply to EXEC breaks off where replies are turned off or skipped, or lacks its head",
        "there is no reply to EXEC where it would have holes",
        "what follows could not be told from its missing elements.",
    ),
    Quirk(
        "a range from a low to a high byte in a pattern",
        "[a-\\xff] is [\\xff-a], since where char is signed 0xff is -1; where it is not, it is as in Kora",
        "bytes are 0 to 255",
        "a pattern should not depend on the machine.",
    ),
    Quirk(
        "BITFIELD OVERFLOW SAT of SET to a number far below",
        "where the type's largest number less this one is beyond 64 bits, a signed integer becomes its largest number",
        "it becomes its smallest number",
        "it is an overflow in checkSignedBitfieldOverflow (bitops.c), which is there to find overflows.",
    ),
    Quirk(
        "SETBIT and BITFIELD that change nothing",
        "the string's encoding becomes raw, though nobody is told of a change",
        "nothing happens",
        "the encoding of a short string is not worth a change that WATCH and caches would be told of.",
    ),
    Quirk(
        "mistakes in BITCOUNT and BITPOS of a key that is not there",
        "7.0 does not look at the range where there is no key, and looks for the key before it does",
        "the mistake is told in any case",
        "that is what 7.2 made of it.",
    ),
    Quirk(
        "OBJECT REFCOUNT of a copied integer",
        "1 for the copy that COPY makes of a small integer",
        "what any small integer's is",
        "it is held as any other one is.",
    ),
    Quirk(
        "COMMAND GETKEYSANDFLAGS of EVAL with a count such as 01",
        "what is no number to key specs is one to atoi, and the keys have no flags",
        "the keys have the flags that they have with 1",
        "nobody writes it, and the flags are right.",
    ),
    Quirk(
        "CLIENT KILL MAXAGE",
        "unknown in 7.0",
        "as in 7.4",
        "operators who know it from there will look for it.",
    ),
    Quirk(
        "REPLICAOF, SYNC and PSYNC",
        "the server becomes a replica, or sends all its data to one",
        "-ERR Kora has no replication; REPLICAOF NO ONE is OK",
        "there is no replication, and to say OK would lose somebody's data.",
    ),
    Quirk(
        "settings of Redis that Kora does not have",
        "CONFIG GET tells them, and CONFIG SET changes many",
        "those that tools read are told; CONFIG SET takes the value that they have, and says can't set immutable config"
        " to any other",
        "a tool that only looks goes on, and one that wants a change learns that there is none.",
    ),
    Quirk(
        "WITHSCORE of ZRANK and ZREVRANK",
        "unknown in 7.0",
        "as in 7.2",
        "it came with Redis 7.2.",
    ),
    Quirk(
        "streams without ids in XREAD and XREADGROUP",
        "7.0 says Unbalanced XREAD list of streams, also to XREADGROUP",
        "it names the command in quotes, as COMMAND INFO does, and says > to XREADGROUP",
        "that is what 7.2 made of it.",
    ),
    Quirk(
        "consumers that get nothing",
        "7.0 creates the consumer of XREADGROUP, XCLAIM and XAUTOCLAIM only when it gets an entry",
        "the consumer is created in any case",
        "that is what 7.2 made of it.",
    ),
    Quirk(
        "XSETID below what was deleted",
        "7.0 takes an id that is less than that of a deleted entry",
        "it is refused",
        "that is what 7.2 made of it: the stream could not be loaded again.",
    ),
    Quirk(
        "times of consumers",
        "7.0 has no inactive in XINFO CONSUMERS, and no active-time in XINFO STREAM FULL",
        "they are there",
        "as in 7.2.",
    ),
    Quirk(
        "more than 16,777,216 random picks with repetition",
        "with a count below -16,777,216 they pick as often as asked, until memory is out",
        "-ERR value is out of range",
        "one small request must not be able to fill the memory.",
    ),
    Quirk(
        "NOVALUES of SCAN and its relatives",
        "7.0 says -ERR syntax error",
        "HSCAN knows it, and the others say that only HSCAN does, as in 7.4",
        "it belongs to the fields' deadlines of 7.4, which Kora has.",
    ),
    Quirk(
        "OBJECT ENCODING of a list",
        "7.0 says quicklist of every list",
        "a small one is a listpack, as in 7.2; a quicklist becomes one again as soon as all that it holds is small"
        " enough, where 7.2 also waits until one node is left",
        "how many nodes are left depends on how they came about, and would only be kept for this answer.",
    ),
    Quirk(
        "LREM and LPOS by -9223372036854775808",
        "7.0 takes it for a count or a rank, whose opposite is itself",
        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        "that is what 7.2 made of it.",
    ),
    Quirk(
        "SORT BY … ALPHA with weights that are equal",
        "with LIMIT the order of elements of the same weight is that in which a partial quicksort leaves them",
        "they stay in the order they have",
        "it is as good an order as any, and does not depend on LIMIT.",
    ),
    Quirk(
        "SORT … ALPHA and the NUL",
        "a text ends at a NUL, and texts that are equal so far are in any order",
        "all of it is compared",
        "bytes are not C strings here.",
    ),
    Quirk(
        "OBJECT FREQ without an LFU policy",
        "is an error",
        "tells how often the key was used",
        "hot keys are always recorded, and redis-cli --hotkeys works as it is.",
    ),
    Quirk(
        "SORT of a sorted set",
        "leaves it a skiplist, however small it is",
        "its encoding stays",
        "a command that reads should not change anything.",
    ),
    Quirk(
        "LATENCY LATEST",
        "7.0 has four fields for an event",
        "the sum and the number of spikes come behind them",
        "that is what Valkey 8.1 made of it, and readers of the first four do not mind.",
    ),
    Quirk(
        "latency-monitor-threshold",
        "0: the monitor is off until somebody turns it on",
        "10",
        "it costs nothing, and whoever looks for a spike wants the one that has been.",
    ),
    Quirk(
        "LATENCY HISTOGRAM beyond a second",
        "whatever took longer is in the last step, 1073741",
        "steps go on, 2164260 and so forth, to a minute",
        "1.5 s and 3 s are not the same.",
    ),
    Quirk(
        "INFO latencystats without percentiles",
        "with latency-tracking-info-percentiles empty every command has a line with nothing behind its name",
        "there are no lines",
        "nothing can be read from such a line, and some readers fail at it.",
    ),
    Quirk(
        "latency-tracking no",
        "commands are no longer counted in histograms",
        "INFO latencystats is empty, and the histograms go on",
        "metrics are made of the same histograms; observation is what turns them off.",
    ),
    Quirk(
        "the client of a script's commands in SLOWLOG",
        "7.0 says ?:0, and no name",
        "it is who called the script",
        "that is what 7.2 made of it.",
    ),
    Quirk(
        "the order of a command and those that it serves in SLOWLOG",
        "LPUSH is older than the BLPOP that it serves",
        "it is younger, and its time includes that of the BLPOP",
        "a command is over when what it has set off is.",
    ),
    Quirk(
        "a monitor that does not read",
        "what it is shown waits for it without a limit, unless there is one for ordinary clients",
        "it is disconnected when 32 MB wait",
        "looking at a server should not bring it down.",
    ),
)


def is_quirky(argv: Sequence[bytes]) -> bool:
    """Whether a request meets a quirk, so that random programs must do without it."""
    name, *rest = (word.upper() for word in argv)
    if name == b"OBJECT":
        return rest[:1] == [b"FREQ"] and len(rest) == 2
    if name == b"HELLO":
        return (b"SETNAME" in rest and len(rest) != 3) or (b"AUTH" in rest and len(rest) != 4)
    if name == b"SCAN":
        return b"MATCH" in rest and rest[rest.index(b"MATCH") + 1 :][:1] != [b"*"]
    if name in (b"XREAD", b"XREADGROUP"):
        return b"STREAMS" in rest and len(rest[rest.index(b"STREAMS") + 1 :]) % 2 == 1
    if name in (b"BITCOUNT", b"BITPOS"):
        numbers, units = rest[1:3] if name == b"BITCOUNT" else rest[2:4], rest[3:] if name == b"BITCOUNT" else rest[4:]
        counts = (1, 3, 4) if name == b"BITCOUNT" else (2, 3, 4, 5)
        is_right = all(map(_is_integer, numbers)) and units in ([], [b"BIT"], [b"BYTE"]) and len(rest) in counts
        return not is_right
    if name in (b"LREM", b"LPOS"):
        return b"-9223372036854775808" in rest
    if name in (b"SORT", b"SORT_RO"):
        return {b"BY", b"ALPHA", b"LIMIT"} <= set(rest)
    if name in (b"ZRANK", b"ZREVRANK"):
        return len(rest) == 3
    if name == b"CONFIG":
        return rest[:1] == [b"SET"] and b"" in rest
    if name == b"BITFIELD":
        return b"SAT" in rest and any(word[:3] == b"-92" for word in rest)
    return False


def _is_integer(word: bytes) -> bool:
    digits = word.removeprefix(b"-")
    return digits.isdigit() and (digits == word == b"0" or not digits.startswith(b"0")) and len(digits) < 19
