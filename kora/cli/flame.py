"""A flame graph, as one SVG file: each box a function, as wide as what was spent in it, upon the one that called it.

What a box is and how much it has is shown when the mouse is over it; nothing in the file runs.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Final

from kora.observe.profile import Profile

_WIDTH: Final = 1200
_HEIGHT: Final = 17  # of a row
_MARGIN: Final = 10
_HEAD: Final = 34
_LETTER: Final = 6.6  # width of a letter, at the size below
_STYLE: Final = "text{font:11px monospace;pointer-events:none}rect:hover{stroke:#000}.title{font-size:14px}"
# Boxes that nobody could see.
_WIDTH_MIN: Final = 0.3


@dataclass
class _Box:
    name: str
    value: int = 0
    inner: "dict[str, _Box]" = field(default_factory=dict)


def draw(profile: Profile, title: str) -> str:
    """Of the profile's last unit."""
    root = _Box("all")
    deepest = 0
    for sample in profile.samples:
        value = sample.values[-1]
        deepest = max(deepest, len(sample.stack))
        box = root
        box.value += value
        for frame in sample.stack:
            box = box.inner.setdefault(frame.name, _Box(frame.name))
            box.value += value
    height = _HEAD + (deepest + 1) * _HEIGHT + _MARGIN
    amount = _amounts(profile.units[-1][1])
    scale = (_WIDTH - 2 * _MARGIN) / max(root.value, 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="title" x="{_MARGIN}" y="20">{_text(title)}: {amount(root.value)}</text>',
    ]
    total = max(root.value, 1)
    for box, depth, offset in _boxes(root):
        width = box.value * scale
        if width < _WIDTH_MIN:
            continue
        x, y = _MARGIN + offset * scale, height - _MARGIN - (depth + 1) * _HEIGHT
        about = f"{box.name}: {amount(box.value)}, {box.value / total:.1%}"
        lines.append(
            f'<g><title>{_text(about)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT - 1}" '
            f'fill="{_colour(box.name)}" rx="1"/>{_label(box.name, x, y, width)}</g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _boxes(root: _Box) -> Iterator[tuple[_Box, int, int]]:
    """Each box with its depth, and how much stands left of it."""
    waiting = [(root, 0, 0)]
    while waiting:
        box, depth, offset = waiting.pop()
        yield box, depth, offset
        for inner in sorted(box.inner.values(), key=lambda box: box.name):
            waiting.append((inner, depth + 1, offset))
            offset += inner.value


def _label(name: str, x: float, y: float, width: float) -> str:
    letters = int((width - 4) / _LETTER)
    if letters < 3:
        return ""
    shown = name if len(name) <= letters else name[: letters - 1] + "…"
    return f'<text x="{x + 3:.1f}" y="{y + 12}">{_text(shown)}</text>'


def _text(text: str) -> str:
    # No control characters in XML.
    return escape("".join(letter if letter.isprintable() else "?" for letter in text))


def _colour(name: str) -> str:
    """Warm for Python, cool for what is compiled, and the same each time."""
    number = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:2], "big")
    hue = 190 + number % 30 if name.endswith("]") or name.startswith("kernel ") else 10 + number % 45
    return f"hsl({hue},75%,{68 + number % 10}%)"


def _amounts(unit: str) -> Callable[[int], str]:
    return (lambda value: f"{value / 1e9:.2f} s") if unit == "nanoseconds" else (lambda value: f"{value:,} {unit}")
