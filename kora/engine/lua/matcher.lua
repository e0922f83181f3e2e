-- Lua's patterns, matched step by step: slower than the library's matcher, but it can be ended at any instruction, as the
-- script that asked for it.  For that its chunk is no "kora" chunk, in which a script is not ended (see hook()).
--
-- A pattern becomes a chain of functions, from its end to its start.  Each takes a place in the subject and returns where
-- the match ends, or nil; what may match in several ways tries the rest of the chain for each.  As in the library, a
-- mistake in a pattern is found only when the match gets there.

local byte, char, find, match, sub = string.byte, string.char, string.find, string.match, string.sub
local error = error

local UNCLOSED, POSITION = -1, -2
local CAPTURES_MAX = 32

-- With a place that the sandbox replaces by that of the script.
local function fail(text)
  error("kora:0: " .. text, 0)
end

-- The bytes that one item of a pattern stands for, as the library sees it.
local function make_set(item)
  local bytes = {}
  for code = 0, 255 do
    if find(char(code), "^" .. item) then
      bytes[code] = true
    end
  end
  return bytes
end

-- Where the item that begins at a place ends; nil and what is wrong.
local function item_end(pattern, place)
  local first = sub(pattern, place, place)
  if first == "%" then
    if place == #pattern then
      return nil, "malformed pattern (ends with '%')"
    end
    return place + 1
  elseif first ~= "[" then
    return place
  end
  place = place + 1
  if sub(pattern, place, place) == "^" then
    place = place + 1
  end
  repeat  -- the first is no end, even if it is a bracket
    if place > #pattern then
      return nil, "malformed pattern (missing ']')"
    end
    local letter = sub(pattern, place, place)
    place = place + 1
    if letter == "%" and place <= #pattern then
      place = place + 1
    end
  until sub(pattern, place, place) == "]"
  return place
end

-- A matcher of a pattern that has no `^` in front: match(subject, place) returns the end, or nil; then the captures are
-- in starts and lengths, count() of them.
local function compile(pattern)
  pattern = match(pattern, "^[^%z]*")  -- to the library a pattern ends there
  local subject, size, level = "", 0, 0
  local starts, lengths = {}, {}
  local sets = {}

  local function set_of(item)
    local set = sets[item]
    if not set then
      set = make_set(item)
      sets[item] = set
    end
    return set
  end

  local function mistake(text)
    return function()
      fail(text)
    end
  end

  local parse

  local function open(place)
    local length = UNCLOSED
    if sub(pattern, place, place) == ")" then
      place, length = place + 1, POSITION
    end
    local go_on = parse(place)
    return function(at)
      if level >= CAPTURES_MAX then
        fail("too many captures")
      end
      level = level + 1
      starts[level], lengths[level] = at, length
      local stop = go_on(at)
      if not stop then
        level = level - 1
      end
      return stop
    end
  end

  local function close(place)
    local go_on = parse(place)
    return function(at)
      local index = level
      while index > 0 and lengths[index] ~= UNCLOSED do
        index = index - 1
      end
      if index == 0 then
        fail("invalid pattern capture")
      end
      lengths[index] = at - starts[index]
      local stop = go_on(at)
      if not stop then
        lengths[index] = UNCLOSED
      end
      return stop
    end
  end

  local function balance(place)
    if place + 1 > #pattern then
      return mistake("unbalanced pattern")
    end
    local first, last = byte(pattern, place, place + 1)
    local go_on = parse(place + 2)
    return function(at)
      if byte(subject, at) ~= first then
        return nil
      end
      local depth = 1
      for place = at + 1, size do
        local code = byte(subject, place)
        if code == last then
          depth = depth - 1
          if depth == 0 then
            return go_on(place + 1)
          end
        elseif code == first then
          depth = depth + 1
        end
      end
    end
  end

  local function frontier(place)
    if sub(pattern, place, place) ~= "[" then
      return mistake("missing '[' after '%f' in pattern")
    end
    local stop, text = item_end(pattern, place)
    if not stop then
      return mistake(text)
    end
    local set, go_on = set_of(sub(pattern, place, stop)), parse(stop + 1)
    return function(at)
      if not set[at > 1 and byte(subject, at - 1) or 0] and set[byte(subject, at) or 0] then
        return go_on(at)
      end
    end
  end

  local function back_reference(index, place)
    local go_on = parse(place)
    return function(at)
      local length = lengths[index]
      if index < 1 or index > level or length == UNCLOSED then
        fail("invalid capture index")
      end
      if length < 0 then
        return nil  -- a position is never found again
      end
      if sub(subject, starts[index], starts[index] + length - 1) == sub(subject, at, at + length - 1) then
        return go_on(at + length)
      end
    end
  end

  local function repeated(set, letter, go_on)
    if letter == "?" then
      return function(at)
        return set[byte(subject, at)] and go_on(at + 1) or go_on(at)
      end
    elseif letter == "-" then
      return function(at)
        while true do
          local stop = go_on(at)
          if stop then
            return stop
          elseif not set[byte(subject, at)] then
            return nil
          end
          at = at + 1
        end
      end
    end
    local fewest = letter == "+" and 1 or 0
    return function(at)
      local last = at
      while set[byte(subject, last)] do
        last = last + 1
      end
      for place = last, at + fewest, -1 do
        local stop = go_on(place)
        if stop then
          return stop
        end
      end
    end
  end

  local function single(place)
    local last, text = item_end(pattern, place)
    if not last then
      return mistake(text)
    end
    local set = set_of(sub(pattern, place, last))
    local letter = sub(pattern, last + 1, last + 1)
    if letter ~= "" and find("*+-?", letter, 1, true) then
      return repeated(set, letter, parse(last + 2))
    end
    local go_on = parse(last + 1)
    return function(at)
      if set[byte(subject, at)] then
        return go_on(at + 1)
      end
    end
  end

  local function finished(at)
    return at
  end

  local function at_end(at)
    return at == size + 1 and at or nil
  end

  function parse(place)
    local letter = sub(pattern, place, place)
    if letter == "" then
      return finished
    elseif letter == "(" then
      return open(place + 1)
    elseif letter == ")" then
      return close(place + 1)
    elseif letter == "$" and place == #pattern then
      return at_end
    elseif letter == "%" then
      local next_letter = sub(pattern, place + 1, place + 1)
      if next_letter == "b" then
        return balance(place + 2)
      elseif next_letter == "f" then
        return frontier(place + 2)
      elseif find(next_letter, "^%d") then
        return back_reference(byte(next_letter) - 48, place + 2)
      end
    end
    return single(place)
  end

  local chain = parse(1)
  local matcher = { starts = starts, lengths = lengths }

  function matcher.match(text, place)
    subject, size, level = text, #text, 0
    return chain(place)
  end

  function matcher.count()
    return level
  end

  return matcher
end

return compile
