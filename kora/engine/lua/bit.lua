-- Operations on the bits of 32-bit numbers, as LuaBitOp has them.

local host = ...
local select = select
local number = host.number
local bits = host.bits
local bit = {}

for _, name in ipairs({ "tobit", "bnot", "bswap" }) do
  bit[name] = function(x)
    return bits(name, number(x, 1, name), 0)
  end
end

for _, name in ipairs({ "lshift", "rshift", "arshift", "rol", "ror" }) do
  bit[name] = function(x, n)
    return bits(name, number(x, 1, name), number(n, 2, name))
  end
end

for _, name in ipairs({ "band", "bor", "bxor" }) do
  bit[name] = function(x, ...)
    local result = bits("tobit", number(x, 1, name), 0)
    for place = 1, select("#", ...) do
      result = bits(name, result, number((select(place, ...)), place + 1, name, true))
    end
    return result
  end
end

function bit.tohex(x, n)
  return bits("tohex", number(x, 1, "tohex"), n == nil and 8 or number(n, 2, "tohex"))
end

return bit
