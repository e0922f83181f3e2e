"""Samples of CPU time, as the data process counts them: what ran, for whom, and how often it was met.

Only counted here; the sidecar finds names for addresses, and writes profiles.
"""

from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

# Rows that are told apart; what comes later is counted without its address, and then without its stack.
ROWS_MAX: Final = 20_000
THREADS: Final = "(threads)"  # the label of what other threads used, each of which is an operation
STACK_MAX: Final = 128  # frames: what is further from the leaf is left out

_Place: TypeAlias = tuple[CodeType, int]  # and a line


class CpuSamples:
    """Python stacks by number, and how often each was met together with a label, an operation and an address."""

    def __init__(self, base: FrameType | None = None) -> None:
        """`base` is the frame that runs the event loop: it and its callers are in every stack, and so in none."""
        self._base = base
        self._places: dict[_Place, int] = {}
        self._stacks: dict[tuple[int, ...], int] = {(): 0}
        self._counts: dict[tuple[str, int, str, int], int] = {}

    def stack(self, frame: FrameType | None) -> int:
        """The number of a stack, by its leaf; 0 is that of nothing but the loop."""
        places: list[int] = []
        while frame is not None and frame is not self._base and len(places) < STACK_MAX:
            place = frame.f_code, frame.f_lineno or 0
            places.append(self._places.setdefault(place, len(self._places)))
            frame = frame.f_back
        if len(self._stacks) >= ROWS_MAX:
            return self._stacks.get(tuple(places), 0)
        return self._stacks.setdefault(tuple(places), len(self._stacks))

    def add(self, label: str, stack: int, operation: str, address: int, count: int) -> None:
        """`operation` is the command that the kernel itself ran, or ""; `address` what the processor ran, or 0."""
        row = label, stack, operation, address
        if row not in self._counts and len(self._counts) >= ROWS_MAX:
            row = label, stack, operation, 0
            if row not in self._counts and len(self._counts) >= 2 * ROWS_MAX:
                row = label, 0, "", 0
        self._counts[row] = self._counts.get(row, 0) + count

    def to_plain(self) -> dict[str, Any]:
        return {
            "frames": [[_name(code), code.co_filename, code.co_firstlineno, line] for code, line in self._places],
            "stacks": [list(stack) for stack in self._stacks],  # each from the leaf on
            "samples": [[*row, count] for row, count in self._counts.items()],
        }


def _name(code: CodeType) -> str:
    # From Python 3.11 on with its class.
    return str(getattr(code, "co_qualname", code.co_name))
