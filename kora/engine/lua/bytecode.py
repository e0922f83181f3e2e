"""Tail calls of compiled Lua chunks made plain calls.

A tail call gives up its caller's frame.  `return redis.call(...)` would lose the line that its error names, since
redis.call is a Lua function here, and not a C function as in Redis.  The two instructions differ in nothing but their
code: a tail call, too, is followed by the instruction that returns all results.

What a function calls that is held in an upvalue stays a tail call, because that is how a local function calls itself:
loops written as tail recursion must not fill the stack.

The format is that of string.dump() in Lua 5.1 (lundump.c, ldump.c), with the sizes of a 64-bit machine; other dumps are
left as they are.
"""

import struct
from array import array
from typing import Final

_HEADER: Final = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"
_CALL: Final = 28
_TAIL_CALL: Final = 29
_GET_UPVALUE: Final = 4
# Instructions that can put the function to be called into its register: MOVE, GETUPVAL, GETGLOBAL, GETTABLE, SELF,
# CALL, CLOSURE.
_LOADS: Final = frozenset({0, 4, 5, 6, 11, 28, 36})
_NIL, _BOOLEAN, _NUMBER, _STRING = 0, 1, 3, 4


def without_tail_calls(chunk: bytes, also_of_upvalues: bool = False) -> bytes | None:
    """The same chunk with plain calls; None where there is nothing to change."""
    if not chunk.startswith(_HEADER):
        return None
    patch = _Patch(chunk, also_of_upvalues)
    patch.function()
    return bytes(patch.chunk) if patch.count else None


class _Patch:
    def __init__(self, chunk: bytes, also_of_upvalues: bool) -> None:
        self.chunk = bytearray(chunk)
        self.count = 0
        self._also_of_upvalues = also_of_upvalues
        self._place = len(_HEADER)

    def function(self) -> None:
        self._string()
        self._place += 4 + 4 + 4  # lines, and four bytes: upvalues, parameters, variadic, stack
        self._code()
        for _ in range(self._int()):
            self._constant()
        for _ in range(self._int()):
            self.function()
        lines = self._int()  # one for each instruction
        self._place += 4 * lines
        for _ in range(self._int()):
            self._string()
            self._place += 4 + 4  # where a local variable begins and ends
        for _ in range(self._int()):
            self._string()

    def _int(self) -> int:
        (number,) = struct.unpack_from("<i", self.chunk, self._place)
        self._place += 4
        return int(number)

    def _string(self) -> None:
        (length,) = struct.unpack_from("<Q", self.chunk, self._place)
        self._place += 8 + length

    def _constant(self) -> None:
        kind = self.chunk[self._place]
        self._place += 1
        if kind == _BOOLEAN:
            self._place += 1
        elif kind == _NUMBER:
            self._place += 8
        elif kind == _STRING:
            self._string()
        else:
            assert kind == _NIL, kind

    def _code(self) -> None:
        count = self._int()
        code = array("I", bytes(self.chunk[self._place : self._place + 4 * count]))
        for place, instruction in enumerate(code):
            if instruction & 0x3F == _TAIL_CALL and (
                self._also_of_upvalues or _loader(code, place, instruction >> 6 & 0xFF) != _GET_UPVALUE
            ):
                self.chunk[self._place + 4 * place] = (instruction & 0xC0) | _CALL
                self.count += 1
        self._place += 4 * count


def _loader(code: "array[int]", place: int, register: int) -> int:
    """Which instruction loaded the function that is called at a place."""
    while place > 0:
        place -= 1
        instruction = code[place]
        if instruction >> 6 & 0xFF == register and instruction & 0x3F in _LOADS:
            return instruction & 0x3F
    return -1
