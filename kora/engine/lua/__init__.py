"""The Lua that scripts run in: the sandbox and its libraries (*.lua), and what these need of Python."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def source(name: str) -> bytes:
    """The text of one of the *.lua files."""
    return (_FOLDER / f"{name}.lua").read_bytes()
