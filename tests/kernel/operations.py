"""The commands that the kernel answers itself, as kora/kernel/execute.c lists them."""

import re
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).resolve().parents[2] / "kora" / "kernel" / "execute.c"


def _listed() -> tuple[str, ...]:
    text = _SOURCE.read_text()
    table = text[text.index("} OPERATIONS[] = {") :]
    return tuple(re.findall(r'\{"([a-z]+)", op_[a-z]+\}', table[: table.index("};")]))


OPERATIONS: Final = _listed()
