"""A fuzzer that is led by coverage, with the oracle of tests/fuzz/run.py: needs atheris.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install -e ".[fuzz]"
    mkdir -p /tmp/corpus
    /tmp/fuzz/bin/python tests/fuzz/atheris_target.py -max_total_time=600 -max_len=2000 /tmp/corpus
    /tmp/fuzz/bin/python tests/fuzz/atheris_target.py crash-…             a difference again, and what it is

Its input's first byte tells what the others are: even, choices from which a program is drawn (tests/fuzz/programs.py);
odd, the bytes of a client, cut where two bytes 00 ff say so.  What leads it is the coverage of Kora's Python, hence the
reference; the kernel's C only where that is compiled by clang with -fsanitize=fuzzer-no-link.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["kora"]):
    from kora import kernel
    from tests.fuzz.pair import Action, Pair, Send, show

from tests.fuzz.programs import DICTIONARY, Given, draw_flags, draw_program

_CUT = b"\x00\xff"


def examine(data: bytes) -> None:
    if len(data) < 2:
        return
    flags, actions = read(data)
    fault = Pair(*flags).run(actions)
    if fault:
        raise AssertionError(f"{fault}\n{show(flags, actions)}")


def read(data: bytes) -> tuple[tuple[str, ...], list[Action]]:
    source = Given(data[1:])
    flags = draw_flags(source)
    if data[0] % 2 == 0:
        return flags, draw_program(source, actions_max=8)
    return flags, [Send(0, tuple(part for part in data[2:].split(_CUT) if part))]


def write_dictionary(path: Path) -> None:
    """Words of the protocol, in libFuzzer's form."""
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in (*DICTIONARY, _CUT)]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if kernel.load() is None:
        sys.exit(f"there is no kernel to fuzz: {kernel.why_not()}; make compile")
    dictionary = Path("/tmp/kora-fuzz.dict")
    write_dictionary(dictionary)
    atheris.Setup([*sys.argv, f"-dict={dictionary}"], examine)
    atheris.Fuzz()
