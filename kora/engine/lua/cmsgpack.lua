-- MessagePack, as lua-cmsgpack 0.4 has it: numbers without a fraction are integers, tables arrays where they can be.

local host = ...
local error, next, select, tonumber, tostring, type, unpack = error, next, select, tonumber, tostring, type, unpack
local byte, char, concat, floor, sub = string.byte, string.char, table.concat, math.floor, string.sub

local NESTING_MAX = 16

local function big_endian(number, size)
  local bytes = {}
  for place = size, 1, -1 do
    bytes[place] = char(number % 256)
    number = floor(number / 256)
  end
  return concat(bytes)
end

local function pack_header(length, fixed, fixed_max, one, two, four)
  if length <= fixed_max then
    return char(fixed + length)
  elseif one and length <= 0xFF then
    return char(one, length)
  elseif length <= 0xFFFF then
    return char(two) .. big_endian(length, 2)
  end
  return char(four) .. big_endian(length, 4)
end

local function pack_integer(number)
  if number >= 0 then
    if number <= 127 then
      return char(number)
    elseif number <= 0xFF then
      return char(0xCC, number)
    elseif number <= 0xFFFF then
      return "\205" .. big_endian(number, 2)
    elseif number <= 0xFFFFFFFF then
      return "\206" .. big_endian(number, 4)
    end
    return "\207" .. big_endian(number, 8)
  elseif number >= -32 then
    return char(256 + number)
  elseif number >= -128 then
    return char(0xD0, 256 + number)
  elseif number >= -32768 then
    return "\209" .. big_endian(65536 + number, 2)
  elseif number >= -2147483648 then
    return "\210" .. big_endian(4294967296 + number, 4)
  end
  return "\211" .. host.pack_int64(number)
end

local function pack_number(number)
  if floor(number) == number and number >= -9223372036854775808 and number < 9223372036854775808 then
    return pack_integer(number)
  end
  return host.pack_float(number)
end

-- Whether keys are 1 to their number; and that number.
local function shape(t)
  local highest, count, is_array = 0, 0, true
  for key in next, t do
    if type(key) ~= "number" or key <= 0 or floor(key) ~= key then
      is_array = false
    elseif key > highest then
      highest = key
    end
    count = count + 1
  end
  return is_array and highest == count, count
end

local function pack_value(parts, value, level)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = pack_header(#value, 0xA0, 31, 0xD9, 0xDA, 0xDB)
    parts[#parts + 1] = value
  elseif kind == "number" then
    parts[#parts + 1] = pack_number(value)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "\195" or "\194"
  elseif kind == "table" and level < NESTING_MAX then
    local is_array, count = shape(value)
    if is_array then
      parts[#parts + 1] = pack_header(count, 0x90, 15, nil, 0xDC, 0xDD)
      for place = 1, count do
        pack_value(parts, value[place], level + 1)
      end
    else
      parts[#parts + 1] = pack_header(count, 0x80, 15, nil, 0xDE, 0xDF)
      for key, inner in next, value do
        pack_value(parts, key, level + 1)
        pack_value(parts, inner, level + 1)
      end
    end
  else
    parts[#parts + 1] = "\192"
  end
end

local function bad_data()
  error("Bad data format in input.")
end

-- So many bytes from a place, as an unsigned number.
local function unsigned(data, place, size)
  if place + size - 1 > #data then
    error("Missing bytes in input.")
  end
  local number = 0
  for _, digit in next, { byte(data, place, place + size - 1) } do
    number = number * 256 + digit
  end
  return number
end

local function take(data, place, size)
  if place + size - 1 > #data then
    error("Missing bytes in input.")
  end
  return sub(data, place, place + size - 1), place + size
end

local unpack_value

local function unpack_array(data, place, count)
  local array = {}
  for index = 1, count do
    array[index], place = unpack_value(data, place)
  end
  return array, place
end

local function unpack_map(data, place, count)
  local map = {}
  for _ = 1, count do
    local key, value
    key, place = unpack_value(data, place)
    value, place = unpack_value(data, place)
    if key == nil or key ~= key then
      bad_data()
    end
    map[key] = value
  end
  return map, place
end

-- How values begin, beyond those whose first byte tells their size, too.
local UNSIGNED = { [0xCC] = 1, [0xCD] = 2, [0xCE] = 4 }
local SIGNED = { [0xD0] = 1, [0xD1] = 2, [0xD2] = 4 }
local STRINGS = { [0xD9] = 1, [0xDA] = 2, [0xDB] = 4 }
local ARRAYS = { [0xDC] = 2, [0xDD] = 4 }
local MAPS = { [0xDE] = 2, [0xDF] = 4 }

-- The value at a place, and where the next begins.
function unpack_value(data, place)
  local first = byte(data, place)
  if not first then
    error("Missing bytes in input.")
  end
  place = place + 1
  if first < 0x80 then
    return first, place
  elseif first < 0x90 then
    return unpack_map(data, place, first - 0x80)
  elseif first < 0xA0 then
    return unpack_array(data, place, first - 0x90)
  elseif first < 0xC0 then
    return take(data, place, first - 0xA0)
  elseif first >= 0xE0 then
    return first - 256, place
  elseif first == 0xC0 then
    return nil, place
  elseif first == 0xC2 or first == 0xC3 then
    return first == 0xC3, place
  elseif first == 0xCA or first == 0xCB or first == 0xCF or first == 0xD3 then
    local bytes
    bytes, place = take(data, place, first == 0xCA and 4 or 8)
    return host.unpack_number(first, bytes), place
  end
  local size = UNSIGNED[first]
  if size then
    return unsigned(data, place, size), place + size
  end
  size = SIGNED[first]
  if size then
    local number = unsigned(data, place, size)
    return number >= 2 ^ (8 * size - 1) and number - 2 ^ (8 * size) or number, place + size
  end
  size = STRINGS[first]
  if size then
    return take(data, place + size, unsigned(data, place, size))
  end
  size = ARRAYS[first]
  if size then
    return unpack_array(data, place + size, unsigned(data, place, size))
  end
  size = MAPS[first]
  if size then
    return unpack_map(data, place + size, unsigned(data, place, size))
  end
  bad_data()
end

local cmsgpack = {
  _NAME = "cmsgpack",
  _VERSION = "lua-cmsgpack 0.4.0",
  _COPYRIGHT = "The format is that of msgpack.org; the functions are those of lua-cmsgpack.",
  _DESCRIPTION = "MessagePack",
}

function cmsgpack.pack(...)
  local count = select("#", ...)
  if count == 0 then
    error("bad argument #0 to 'pack' (MessagePack pack needs input.)")
  end
  local parts = {}
  for place = 1, count do
    pack_value(parts, (select(place, ...)), 0)
  end
  return concat(parts)
end

local function check_text(data, name)
  if type(data) == "number" then
    return tostring(data)
  elseif type(data) ~= "string" then
    local got = data == nil and "no value" or type(data)
    error("bad argument #1 to '" .. name .. "' (string expected, got " .. got .. ")")
  end
  return data
end

-- Up to `limit` values from an offset on; where decoding may go on, -1 at the end, comes first, unless all are wanted.
local function unpack_some(data, limit, offset)
  local decodes_all = limit == 0 and offset == 0
  if offset < 0 or limit < 0 then
    error("Invalid request to unpack with offset of " .. offset .. " and limit of " .. #data .. ".")
  elseif offset > #data then
    error("Start offset " .. offset .. " greater than input length " .. #data .. ".")
  end
  if decodes_all then
    limit = 2147483647
  end
  local values, count, place = {}, 0, offset + 1
  while place <= #data and count < limit do
    count = count + 1
    values[count], place = unpack_value(data, place)
  end
  if decodes_all then
    return unpack(values, 1, count)
  end
  return place > #data and -1 or place - 1, unpack(values, 1, count)
end

function cmsgpack.unpack(data)
  return unpack_some(check_text(data, "unpack"), 0, 0)
end

function cmsgpack.unpack_one(data, offset)
  data = check_text(data, "unpack_one")
  return unpack_some(data, 1, offset == nil and 0 or floor(host.number(offset, 2, "unpack_one")))
end

function cmsgpack.unpack_limit(data, limit, offset)
  data = check_text(data, "unpack_limit")
  limit = floor(host.number(limit, 2, "unpack_limit"))
  return unpack_some(data, limit, offset == nil and 0 or floor(host.number(offset, 3, "unpack_limit")))
end

return cmsgpack
