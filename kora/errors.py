"""Every error text that a client can see, in Redis' words.

CommandError             answered as `-<message>`; the connection goes on
├── WrongType, SyntaxFault, NotAnInteger, …   one class per text that several commands share
└── (built where it is raised)                texts that carry an argument
ProtocolError            not RESP: answered as `-ERR Protocol error: <message>`, then the connection is closed
ConfigError              a setting is wrong: the server does not start, or CONFIG SET is refused
"""

import secrets

_PREFIX_MAX = 30


class CommandError(Exception):
    """The client's mistake.  Its message, prefix included, becomes the reply.

    Subclasses fix the message, so that `raise WrongType` reads as what happened.
    """

    message = "ERR"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)
        if message is not None:
            self.message = message

    @property
    def prefix(self) -> str:
        """The first word, as INFO errorstats groups errors: `ERR`, `WRONGTYPE`, …

        A first word that is long, or the only one, is none (afterErrorReply, networking.c).
        """
        stop = self.message.find(" ", 0, _PREFIX_MAX + 1)
        return self.message[:stop] if stop > 0 else "ERR"


class WrongType(CommandError):
    message = "WRONGTYPE Operation against a key holding the wrong kind of value"


class SyntaxFault(CommandError):
    message = "ERR syntax error"


class NotAnInteger(CommandError):
    message = "ERR value is not an integer or out of range"


class NotAFloat(CommandError):
    message = "ERR value is not a valid float"


class Overflow(CommandError):
    message = "ERR increment or decrement would overflow"


class NoSuchKey(CommandError):
    message = "ERR no such key"


class NegativeOffset(CommandError):
    message = "ERR offset is out of range"


class TooLong(CommandError):
    message = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"


class InvalidCursor(CommandError):
    message = "ERR invalid cursor"


class SameObject(CommandError):
    message = "ERR source and destination objects are the same"


class DatabaseOutOfRange(CommandError):
    message = "ERR DB index is out of range"


class AuthRequired(CommandError):
    message = "NOAUTH Authentication required."


class WrongPassword(CommandError):
    message = "WRONGPASS invalid username-password pair or user is disabled."


class OutOfMemory(CommandError):
    message = "OOM command not allowed when used memory > 'maxmemory'."


class StillLoading(CommandError):
    message = "LOADING Redis is loading the dataset in memory"


class DiskFault(CommandError):
    """Writes are refused because the disk is not well; scripts that say that they write are told `of_scripts`."""

    of_scripts: str


class CannotSave(DiskFault):
    of_scripts = (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Writable"
        " scripts are blocked. Use 'no-writes' flag for read only scripts."
    )
    message = (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that"
        " may modify the data set are disabled, because this instance is configured to report errors during writes if"
        " RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about"
        " the RDB error."
    )


class CannotJournal(DiskFault):
    def __init__(self, reason: str) -> None:
        super().__init__(f"MISCONF Errors writing to the AOF file: {reason}")
        self.of_scripts = (
            "MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist to disk. Writable"
            f" scripts are blocked. Use 'no-writes' flag for read only scripts. AOF error: {reason}"
        )


class CannotStore(DiskFault):
    def __init__(self, reason: str) -> None:
        super().__init__(f"MISCONF Errors writing to RocksDB: {reason}")
        self.of_scripts = (
            "MISCONF Redis is configured to persist data to RocksDB, but it's currently unable to persist to disk."
            f" Writable scripts are blocked. Use 'no-writes' flag for read only scripts. RocksDB error: {reason}"
        )


class StorageFault(CommandError):
    """What is on the disk cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"ERR The storage engine failed to read: {reason}")
        self.reason = reason


class InternalError(CommandError):
    """A bug of ours; the log has a line with the same error_id, and its traceback."""

    def __init__(self) -> None:
        self.error_id = make_error_id()
        super().__init__(f"ERR internal error, error_id {self.error_id}")


class SubscribersOnly(CommandError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
            "this context"
        )


class MonitorsOnly(CommandError):
    # In Redis a client that monitors counts as a replica.
    message = "ERR Replica can't interact with the keyspace"


class AuditLogFull(CommandError):
    message = "ERR the audit log is full, and nothing may go unrecorded"


class TooManyClients(CommandError):
    message = "ERR max number of clients reached"


class ProtectedMode(CommandError):
    message = (
        "DENIED Kora is running in protected mode: no password is set, so only clients of this machine may connect. "
        "Either set a password with 'requirepass', or turn the protection off with 'CONFIG SET protected-mode no' "
        "from this machine, or start the server with '--protected-mode no'."
    )


def make_error_id() -> str:
    """What joins the answer that somebody got to the line of the log that tells what went wrong."""
    return secrets.token_hex(6)


def wrong_arity(name: str) -> CommandError:
    """`name` as COMMAND INFO prints it, subcommands as `config|get`."""
    return CommandError(f"ERR wrong number of arguments for '{name}' command")


def busy(word: str) -> CommandError:
    """A script runs for too long; `word` is SCRIPT or FUNCTION, whose KILL may end it."""
    return CommandError(f"BUSY Redis is busy running a script. You can only call {word} KILL or SHUTDOWN NOSAVE.")


def invalid_expire(name: str) -> CommandError:
    return CommandError(f"ERR invalid expire time in '{name}' command")


def unknown_subcommand(name: str, container: str) -> CommandError:
    return CommandError(f"ERR unknown subcommand '{name[:128]}'. Try {container.upper()} HELP.")


class ProtocolError(Exception):
    """The bytes are not RESP.  The reply is `-ERR Protocol error: <message>`; then the connection is closed."""


class ConfigError(Exception):
    """A setting is unknown or its value is wrong.  The message says where, what, and what would be right."""
