"""Usage lines: the one line per command that the manual shows, and all that can be read off it.

    SET key value [condition=NX | XX] [GET] [expiration=EX seconds:int | PX milliseconds:int | KEEPTTL]
    MSET key value [key value ...]
    CLIENT REPLY <mode=ON | OFF | SKIP>

Capitals are words to type, small letters arguments.  `[a]` may be left out, `<a | b>` must be one of several, `...`
repeats what is before it, and `[x ...]` after an `x` means one or more.  `:int`, `:double`, `:time`, `:pattern` and
`:key` give an argument's kind (`key`, `key1`, … need none); `name=` names a group, a word or a sign (`any=*`), as
COMMAND DOCS shows it, and is not part of the printed line.  Arity, key positions and the argument tree follow.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from kora.engine.key_specs import KeyRange

_TOKEN = re.compile(r"\.\.\.|[\[\]<>|]|[a-z][a-z0-9_-]*=|[^\s\[\]<>|]+")
_SIGNS: Final = ("*", "$", "=", "~", '""')
# The word without letters, which has no token of its own.
_EMPTY: Final = '""'
_KINDS: Final = {
    "int": "integer",
    "double": "double",
    "time": "unix-time",
    "pattern": "pattern",
    "key": "key",
}


class Argument(NamedTuple):
    """A node of the argument tree; kinds are those of COMMAND DOCS: key, integer, oneof, block, pure-token, …"""

    name: str
    kind: str
    token: str = ""
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False  # the token is repeated, too: GET pattern [GET pattern ...]
    arguments: tuple["Argument", ...] = ()

    def words_min(self) -> int:
        """How many words of a request this takes at least."""
        if self.optional:
            return 0
        if self.kind == "pure-token":
            return 1
        words = 1 if self.token else 0
        if self.kind == "oneof":
            return words + min(argument.words_min() for argument in self.arguments)
        if self.kind == "block":
            return words + sum(argument.words_min() for argument in self.arguments)
        return words + 1

    def is_open(self) -> bool:
        """Whether the number of words can vary."""
        if self.optional or self.multiple:
            return True
        if self.kind == "oneof" and len({argument.words_min() for argument in self.arguments}) > 1:
            return True
        return any(argument.is_open() for argument in self.arguments)

    def __str__(self) -> str:
        body = self._body()
        text = " ".join(part for part in (self.token, body) if part)
        if self.multiple:
            text = f"{text} [{text if self.multiple_token else body} ...]"
        return f"[{text}]" if self.optional else text

    def _body(self) -> str:
        if self.kind == "pure-token":
            return "" if self.token else _EMPTY
        if self.kind == "oneof":
            text = " | ".join(str(argument) for argument in self.arguments)
            return text if self.optional else f"<{text}>"
        if self.kind == "block":
            return " ".join(str(argument) for argument in self.arguments)
        return self.name


class Usage(NamedTuple):
    words: tuple[str, ...]  # ("CONFIG", "GET")
    arguments: tuple[Argument, ...]

    @property
    def arity(self) -> int:
        """As COMMAND INFO shows it: words in all, negative when more may follow."""
        words = len(self.words) + sum(argument.words_min() for argument in self.arguments)
        return -words if any(argument.is_open() for argument in self.arguments) else words

    def key_ranges(self) -> list[KeyRange]:
        """The places of all keys that stand at fixed places, a range for each key argument."""
        ranges: list[KeyRange] = []
        place = len(self.words)
        for argument in self.arguments:
            if argument.kind == "key":
                ranges.append(KeyRange(place, -1 if argument.multiple else place, 1))
            elif argument.kind == "block" and argument.multiple:
                for offset, inner in enumerate(argument.arguments):
                    if inner.kind == "key":
                        ranges.append(KeyRange(place + offset, -1, len(argument.arguments)))
            if argument.is_open():
                break
            place += argument.words_min()
        return ranges

    def __str__(self) -> str:
        return " ".join((*self.words, *map(str, self.arguments)))


def parse(line: str) -> Usage:
    """Raises AssertionError where a line is not of the grammar: it is part of the program."""
    tokens = _Tokens(_TOKEN.findall(line))
    words: list[str] = []
    while tokens.peek() and _is_word(tokens.peek()) and not words[1:]:
        words.append(tokens.take())
    arguments = _sequence(tokens)
    assert not tokens.peek(), f"{line!r}: {tokens.peek()!r} is left over"
    return Usage(tuple(words), tuple(arguments))


class _Tokens:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens: Iterator[str] = iter([*tokens, ""])
        self._next = next(self._tokens)

    def peek(self) -> str:
        return self._next

    def take(self) -> str:
        token, self._next = self._next, next(self._tokens, "")
        return token


def _is_word(token: str) -> bool:
    return token[0].isalnum() and token == token.upper()


def _sequence(tokens: _Tokens) -> list[Argument]:
    """Arguments up to the end of the line or of the group they stand in."""
    arguments: list[Argument] = []
    while tokens.peek() not in ("", "]", ">", "|", "..."):
        if tokens.peek() == "[":
            group, repeats = _group(tokens, "]")
            if repeats:
                _merge_repeated(arguments, group)
            else:
                arguments.append(group._replace(optional=True))
        elif tokens.peek() == "<":
            arguments.append(_choice(tokens))
        else:
            arguments.append(_single(tokens))
    return arguments


def _single(tokens: _Tokens) -> Argument:
    """One argument: `name:kind`, `WORD`, `name=*`, or `WORD name:kind …`, where the word belongs to what follows it."""
    token = tokens.take()
    if token == _EMPTY:
        return Argument("empty", "pure-token")
    if token in _SIGNS:
        return Argument(token, "pure-token", token)
    if token.endswith("="):
        return (_choice(tokens) if tokens.peek() == "<" else _single(tokens))._replace(name=token[:-1])
    if not _is_word(token):
        name, _, kind = token.partition(":")
        if not kind:
            kind = "key" if re.fullmatch(r"(new)?key\d?", name) else "string"
        return Argument(name, _KINDS.get(kind, kind))
    if tokens.peek() == "<":
        return _choice(tokens)._replace(token=token)
    following: list[Argument] = []
    while tokens.peek() not in ("", "[", "]", "<", ">", "|", "...") and not _is_word(tokens.peek()):
        following.append(_single(tokens))
    if not following:
        return Argument(token.lower(), "pure-token", token)
    if len(following) == 1:
        return following[0]._replace(token=token)
    return Argument(token.lower(), "block", token, arguments=tuple(following))


def _choice(tokens: _Tokens) -> Argument:
    group, repeats = _group(tokens, ">")
    return group._replace(multiple=True) if repeats else group


def _group(tokens: _Tokens, closing: str) -> tuple[Argument, bool]:
    """What is between brackets, and whether it ends in `...`."""
    tokens.take()
    name = tokens.take()[:-1] if tokens.peek() not in _SIGNS and tokens.peek().endswith("=") else ""
    alternatives = [_sequence(tokens)]
    repeats = False
    while tokens.peek() == "|":
        tokens.take()
        alternatives.append(_sequence(tokens))
    if tokens.peek() == "...":
        tokens.take()
        repeats = True
    assert tokens.peek() == closing, f"expected {closing!r} instead of {tokens.peek()!r}"
    tokens.take()
    blocks = [_block(arguments) for arguments in alternatives]
    if len(blocks) == 1:
        argument = blocks[0]._replace(name=name) if name else blocks[0]
    else:
        argument = Argument(name or "option", "oneof", arguments=tuple(blocks))
    return argument, repeats


def _block(arguments: list[Argument]) -> Argument:
    if len(arguments) == 1:
        return arguments[0]
    return Argument("_".join(argument.name for argument in arguments), "block", arguments=tuple(arguments))


def _merge_repeated(arguments: list[Argument], once: Argument) -> None:
    """`x [x ...]` is one argument that may be repeated; `[x ...]` alone is one that may be absent, too.

    Of `ID x [x ...]` and `ID n x [x ...]` only x is repeated; of `ID x [ID x ...]` the word is, too.
    """
    repeated = once._replace(multiple=True, multiple_token=bool(once.token))
    count = len(once.arguments) if once.kind == "block" and not once.token else 1
    if arguments and _block(arguments[-count:]) == once:
        arguments[-count:] = [repeated]
    elif arguments and arguments[-1].token and arguments[-1]._replace(token="") == once:
        arguments[-1] = arguments[-1]._replace(multiple=True)
    elif arguments and arguments[-1].token and _block(list(arguments[-1].arguments[-count:])) == once:
        arguments[-1] = arguments[-1]._replace(arguments=(*arguments[-1].arguments[:-count], repeated))
    else:
        arguments.append(repeated._replace(optional=True))
