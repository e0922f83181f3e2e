"""Single requests whose mistakes need to be told in Redis' words, and that random programs must not meet."""

import pytest

from .peers import Kora, RedisServer, requests

MISTAKES = [
    ("CLIENT", "PAUSE"),
    ("CLIENT", "PAUSE", "x"),
    ("CLIENT", "PAUSE", "-1"),
    ("CLIENT", "PAUSE", "1", "MAYBE"),
    ("CLIENT", "PAUSE", "1", "ALL", "x"),
    ("SHUTDOWN", "FOO"),
    ("SHUTDOWN", "SAVE", "NOSAVE"),
    ("SHUTDOWN", "ABORT", "NOW"),
    ("SHUTDOWN", "ABORT"),
    ("COMMAND", "COUNT", "x"),
    ("COMMAND", "LIST", "FILTERBY"),
    ("COMMAND", "GETKEYS"),
    ("COMMAND", "GETKEYS", "get"),
    ("COMMAND", "GETKEYS", "ping"),
    ("COMMAND", "GETKEYS", "mset", "a", "1", "b"),
    ("TIME", "x"),
    ("DEBUG",),
    ("DEBUG", "SLEEP"),
    ("DEBUG", "OBJECT", "nonesuch"),
    ("DEBUG", "JMAP", "x"),
    ("CONFIG", "REWRITE", "x"),
    ("CONFIG", "RESETSTAT", "x"),
    ("INFO", "nonesuch", "other"),
    ("get",) * 40,
    ("x" * 300, "y" * 300),
    ("FOO", *["word"] * 60),
    ("CONFIG", "x" * 300),
    ("",),
    ("", "x"),
    ("GET ", "x"),
]


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("words", MISTAKES, ids=lambda words: " ".join(words)[:40])
def test_a_mistake_is_told_in_the_same_words(redis: RedisServer, words: tuple[str, ...], protocol: str) -> None:
    data, hello = requests([words]), requests([("HELLO", protocol)])
    with redis.connect() as connection:
        connection.exchange(hello)
        expected = connection.exchange(data)
    kora = Kora()
    kora.exchange(hello)
    assert kora.exchange(data) == expected
