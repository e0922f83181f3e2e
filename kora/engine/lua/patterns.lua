-- string.find and its relatives, so that no pattern holds the server.  The library's matcher is not to be interrupted, and
-- may take for ever, as all do that try one way after another.  Where that could be, a matcher is used that can be ended.
--
-- What a match may cost is told from the pattern and the length of the subject: n bytes are divided among k items that
-- each may take as many as they like in (n + k over k) ways, and one that is optional doubles them.

local host = ...

local error, select, tostring, type, unpack = error, select, tostring, type, unpack
local byte, concat, find, floor, gmatch, gsub, match, sub =
  string.byte, table.concat, string.find, math.floor, string.gmatch, string.gsub, string.match, string.sub

-- The matcher of Lua recurses once per item of a pattern, on the C stack: a few hundred thousand would end the process.
local PATTERN_BYTES_MAX = 32768
-- Longer ones are not looked at: they count as slow.
local WEIGHED_BYTES_MAX = 500
-- Steps that the library may take: about half a second, if it came to that.
local STEPS_MAX = 1e8
-- As many bytes are compared in that time.
local COMPARED_MAX = 1e9
local CACHED_MAX = 500
local UNCLOSED, POSITION = -1, -2

local compile = host.source_matcher()

-- By pattern: how many of its items may take any number of bytes, where something has to follow; and are optional.
local many, optional, weighed = {}, {}, 0

local function weigh(pattern)
  local count, options = 0, 0
  if #pattern > WEIGHED_BYTES_MAX then
    count = #pattern
  else
    local plain = gsub(gsub(pattern, "%%[^bf%d]", "x"), "%[%^?%]?[^%]]*%]", "x")
    -- The last of all has the length that it first tries.
    plain = gsub(gsub(plain, "%)+$", ""), "[*+?-]$", "")
    count = select(2, gsub(plain, "[*+-]", "")) + select(2, gsub(plain, "%%[bf%d]", ""))
    options = select(2, gsub(plain, "%?", ""))
  end
  weighed = weighed + 1
  if weighed > CACHED_MAX then
    many, optional, weighed = {}, {}, 1
  end
  many[pattern], optional[pattern] = count, options
  return count
end

-- Whether the library might take too long.
local function is_slow(subject, pattern)
  local count = many[pattern] or weigh(pattern)
  local size = #subject
  if byte(pattern) ~= 94 then  -- `^`; else where the match begins is one more to choose
    count = count + 1
  end
  local steps = 2 ^ optional[pattern]
  for place = 1, count do
    steps = steps * (size + place) / place
    if steps > STEPS_MAX then
      return true
    end
  end
  return steps * #pattern > COMPARED_MAX
end

-- Both are strings, and the pattern needs a closer look than the library's.
local function needs_care(subject, pattern)
  if type(pattern) ~= "string" then
    return false
  elseif #pattern > PATTERN_BYTES_MAX then
    error("pattern too complex")
  end
  return type(subject) == "string" and is_slow(subject, pattern)
end

local matchers, compiled = {}, 0

local function matcher_of(pattern)
  local matcher = matchers[pattern]
  if not matcher then
    matcher = compile(pattern)
    compiled = compiled + 1
    if compiled > 20 then
      matchers, compiled = {}, 1
    end
    matchers[pattern] = matcher
  end
  return matcher
end

local function capture(matcher, subject, index, first, stop)
  if index > matcher.count() then
    if index == 1 then
      return sub(subject, first, stop - 1)
    end
    error("invalid capture index")
  end
  local start, length = matcher.starts[index], matcher.lengths[index]
  if length == POSITION then
    return start
  elseif length == UNCLOSED then
    error("unfinished capture")
  end
  return sub(subject, start, start + length - 1)
end

-- All captures; the whole match where there are none, if that is asked for.
local function captures(matcher, subject, first, stop, or_whole)
  local values, count = {}, matcher.count()
  if count == 0 and or_whole then
    count = 1
  end
  for index = 1, count do
    values[index] = capture(matcher, subject, index, first, stop)
  end
  return unpack(values, 1, count)
end

-- The first match at or behind a place: the matcher, where the match begins, and behind it.
local function search(subject, pattern, init)
  init = init == nil and 1 or floor(host.number(init, 3, "find", true))
  if init < 0 then
    init = #subject + init + 1
  end
  init = init < 1 and 1 or init > #subject + 1 and #subject + 1 or init
  local is_anchored = sub(pattern, 1, 1) == "^"
  local matcher = matcher_of(is_anchored and sub(pattern, 2) or pattern)
  for place = init, is_anchored and init or #subject + 1 do
    local stop = matcher.match(subject, place)
    if stop then
      return matcher, place, stop
    end
  end
end

local patterns = {}

-- As in the library, a pattern without any sign of one is a text; and so is what comes behind a zero byte.
function patterns.find(...)
  local subject, pattern, init, is_plain = ...
  if is_plain or type(pattern) == "string" and not find(pattern, "^[^%z]*[%^%$%*%+%?%.%(%[%%%-]") then
    if type(pattern) ~= "string" or type(subject) ~= "string" or #subject * #pattern <= COMPARED_MAX then
      return find(...)
    end
    local place = host.find(subject, pattern, init == nil and 1 or floor(host.number(init, 3, "find", true)))
    if place then
      return place, place + #pattern - 1
    end
    return nil
  elseif not needs_care(subject, pattern) then
    return find(...)
  end
  local matcher, first, stop = search(subject, pattern, init)
  if matcher then
    return first, stop - 1, captures(matcher, subject, first, stop, false)
  end
  return nil
end

function patterns.match(...)
  local subject, pattern, init = ...
  if not needs_care(subject, pattern) then
    return match(...)
  end
  local matcher, first, stop = search(subject, pattern, init)
  if matcher then
    return captures(matcher, subject, first, stop, true)
  end
  return nil
end

function patterns.gmatch(...)
  local subject, pattern = ...
  if not needs_care(subject, pattern) then
    return gmatch(...)
  end
  local matcher, place = matcher_of(pattern), 1
  return function()
    for first = place, #subject + 1 do
      local stop = matcher.match(subject, first)
      if stop then
        place = stop == first and stop + 1 or stop
        return captures(matcher, subject, first, stop, true)
      end
    end
    place = #subject + 2
    return nil
  end
end

-- A text in place of a match: `%1` is what was captured, `%0` the match, `%` and anything else that.
local function expanded(matcher, subject, text, first, stop)
  return (gsub(text, "%%(.?)", function(letter)
    if letter == "0" then
      return sub(subject, first, stop - 1)
    elseif find(letter, "^%d") then
      return capture(matcher, subject, byte(letter) - 48, first, stop)
    end
    return letter
  end))
end

local function substitute(matcher, subject, value, first, stop)
  local kind, new = type(value), nil
  if kind == "function" then
    new = value(captures(matcher, subject, first, stop, true))
  elseif kind == "table" then
    new = value[capture(matcher, subject, 1, first, stop)]
  else
    return expanded(matcher, subject, tostring(value), first, stop)
  end
  if not new then
    return sub(subject, first, stop - 1)
  elseif type(new) ~= "string" and type(new) ~= "number" then
    error("invalid replacement value (a " .. type(new) .. ")")
  end
  return new
end

function patterns.gsub(...)
  local subject, pattern, value, count_max = ...
  local kind = type(value)
  local is_usable = kind == "string" or kind == "number" or kind == "table" or kind == "function"
  if not needs_care(subject, pattern) or not is_usable then
    return gsub(...)
  end
  count_max = count_max == nil and #subject + 1 or floor(host.number(count_max, 4, "gsub", true))
  local is_anchored = sub(pattern, 1, 1) == "^"
  local matcher = matcher_of(is_anchored and sub(pattern, 2) or pattern)
  local parts, place, copied, count = {}, 1, 1, 0
  while count < count_max do
    local stop = matcher.match(subject, place)
    if stop then
      count = count + 1
      parts[#parts + 1] = sub(subject, copied, place - 1)
      parts[#parts + 1] = substitute(matcher, subject, value, place, stop)
      copied = stop
    end
    if stop and stop > place then
      place = stop
    elseif place <= #subject then
      place = place + 1
    else
      break
    end
    if is_anchored then
      break
    end
  end
  parts[#parts + 1] = sub(subject, copied)
  return concat(parts), count
end

patterns.gfind = patterns.gmatch

return patterns
