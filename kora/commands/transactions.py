"""Transactions: several commands as one, and WATCH, which calls them off when somebody else was quicker."""

from kora.engine.call import run_inside
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.engine.tracing import BATCH_SIZE
from kora.engine.transactions import Transaction
from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY, OK, Encoded, Replies, Reply

transactions = Family("transactions")

_FLAGS = "noscript loading stale fast allow_busy"


@transactions("MULTI", "Begins a transaction: commands are queued until EXEC.", flags=_FLAGS, since="1.2.0")
def multi(client: Client, argv: list[bytes]) -> Reply:
    if client.transaction is not None:
        raise CommandError("ERR MULTI calls can not be nested")
    client.transaction = Transaction()
    client.update_gate()
    return OK


@transactions(
    "EXEC",
    "Runs the queued commands, with nobody in between, and returns their replies.",
    flags="noscript loading stale skip_slowlog",
    since="1.2.0",
    complexity="Depends on commands in the transaction",
)
def exec_(client: Client, argv: list[bytes]) -> Reply:
    transaction = client.transaction
    if transaction is None:
        raise CommandError("ERR EXEC without MULTI")
    engine = client.engine
    is_kept = engine.watches.are_kept(client)
    client.end_transaction()
    if transaction.is_broken:
        raise CommandError("EXECABORT Transaction discarded because of previous errors.")
    if not is_kept:
        return NULL_ARRAY
    started_ns = engine.monotonic_ns()
    replies = run_inside(client, transaction.requests, transaction.size_bytes)
    if engine.tracing.is_on:
        engine.tracing.child("kora.transaction", started_ns, {BATCH_SIZE: len(transaction.requests)})
    if not all(replies):
        # CLIENT REPLY took some away, and an array with holes in it could not be read.
        return Replies()
    return Encoded(b"*%d\r\n%b" % (len(replies), b"".join(replies)))


@transactions(
    "DISCARD",
    "Ends a transaction without running its commands.",
    flags=_FLAGS,
    since="2.0.0",
    complexity="O(N), when N is the number of queued commands",
)
def discard(client: Client, argv: list[bytes]) -> Reply:
    if client.transaction is None:
        raise CommandError("ERR DISCARD without MULTI")
    client.end_transaction()
    return OK


@transactions(
    "WATCH key [key ...]",
    "Has the next transaction called off if one of the keys is changed before it.",
    flags=_FLAGS,
    since="2.2.0",
    complexity="O(1) for every key.",
    access="RO",
)
def watch(client: Client, argv: list[bytes]) -> Reply:
    if client.transaction is not None:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    for key in argv[1:]:
        client.engine.watches.watch(client, client.db, key)
    return OK


@transactions("UNWATCH", "Forgets all watched keys.", flags=_FLAGS, since="2.2.0")
def unwatch(client: Client, argv: list[bytes]) -> Reply:
    client.engine.watches.unwatch(client)
    return OK
