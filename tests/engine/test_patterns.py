"""Lua's patterns as scripts have them: whatever the library's matcher finds is found by the one that can be ended."""

from random import Random
from typing import Any

import pytest

from kora.engine.lua import source

lua51 = pytest.importorskip("lupa.lua51")

ITEMS = (
    ["a", "b", "c", ".", "%a", "%d", "%s", "[ab]", "[^a]", "[a-c]", "(", "(", ")", ")", "()", "%b()", "%f[ab]"]
    + ["%1", "%2", "$", "^", "%%", "]", "[", "%", "[]]", "[^]]", "[%a_]", "%z", "\0", "x"]
    + ["*", "+", "-", "?"] * 3
)

# Calls both and says what they return, or which mistake they find, without its place.
COMPARE = b"""
local theirs, ours = ...

local function tell(ok, ...)
  local told = { tostring(ok) }
  for place = 1, select("#", ...) do
    local value = select(place, ...)
    told[#told + 1] = type(value) .. ":" .. tostring(value)
  end
  local text = table.concat(told, "|")
  text = text:gsub("kora[%a.]*:%d+: ", ""):gsub('%[string "[^"]*"%]:%d+: ', "")
  return (text:gsub("bad argument #%d+ to '[^']*'", "bad argument"))
end

local function all_of(gmatch)
  return function(...)
    local found = {}
    for first, second in gmatch(...) do
      found[#found + 1] = tostring(first) .. "," .. tostring(second)
    end
    return table.concat(found, ";")
  end
end

return function(name, ...)
  local their, our = theirs[name], ours[name]
  if name == "gmatch" then
    their, our = all_of(their), all_of(our)
  end
  return tell(pcall(their, ...)), tell(pcall(our, ...))
end
"""


@pytest.fixture(scope="module")
def lua() -> Any:
    return lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)


@pytest.fixture(scope="module")
def compare(lua: Any) -> Any:
    """compare(name, subject, pattern, ...): what the library says, and what the other matcher says."""
    host = lua.table_from({b"number": lua.eval(b"function(value) return tonumber(value) end"), b"find": None})
    host[b"source_matcher"] = lua.execute(b"return loadstring(..., '=kora')", source("matcher"))
    code = source("patterns").replace(b"STEPS_MAX = 1e8", b"STEPS_MAX = -1")
    ours = lua.execute(b"return loadstring(..., '=kora.patterns')", code)(host)
    return lua.execute(COMPARE, lua.eval(b"string"), ours)


def test_random_patterns_match_alike(lua: Any, compare: Any) -> None:
    random = Random(5)
    replacements = [
        b"<%0>", b"%1", b"", b"%2x", b"%%", 7, lua.table_from({b"a": b"T", b"b": False}),
        lua.eval(b"function(a, b) return b or a and tostring(a) .. '!' end"), lua.eval(b"function() return {} end"),
    ]  # fmt: skip
    for _ in range(4000):
        pattern = "".join(random.choices(ITEMS, k=random.randint(0, 7))).encode()
        subject = "".join(random.choices("aabbc ()x1]%", k=random.randint(0, 12))).encode()
        name = random.choice(["find", "match", "gmatch", "gsub"])
        rest: list[Any] = []
        if name in ("find", "match") and random.random() < 0.3:
            rest = [random.randint(-14, 14)]
        elif name == "gsub":
            rest = [random.choice(replacements), *([random.randint(-1, 4)] if random.random() < 0.3 else [])]
        theirs, ours = compare(name.encode(), subject, pattern, *rest)
        assert ours == theirs, (name, subject, pattern, rest)
