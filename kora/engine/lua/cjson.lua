-- JSON, as lua-cjson 2.1 has it: the same texts, limits, errors and switches.

local host = ...
local error, next, rawget, select, setmetatable, tonumber, tostring, type =
  error, next, rawget, select, setmetatable, tonumber, tostring, type
local byte, char, concat, find, floor, format, gsub, lower, match, sub =
  string.byte, string.char, table.concat, string.find, math.floor, string.format, string.gsub, string.lower,
  string.match, string.sub
local huge, null = math.huge, host.null

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\127"] = "\\u007f" }
for code = 0, 31 do
  ESCAPES[char(code)] = format("\\u%04x", code)
end
ESCAPES["\b"], ESCAPES["\t"], ESCAPES["\n"], ESCAPES["\f"], ESCAPES["\r"] = "\\b", "\\t", "\\n", "\\f", "\\r"
local UNESCAPES = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}
local TOKENS = {
  ["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END", [":"] = "T_COLON",
  [","] = "T_COMMA",
}

local function argument_error(place, name, text)
  error("bad argument #" .. place .. " to '" .. name .. "' (" .. text .. ")")
end

local function type_error(place, name, expected, value)
  argument_error(place, name, expected .. " expected, got " .. (value == nil and "no value" or type(value)))
end

-- Encoding

local function quote(text)
  return '"' .. gsub(text, '[%c"\\/\127]', ESCAPES) .. '"'
end

-- The highest index of a table that is an array; nil for one that is to be an object.
local function array_length(t, config)
  local highest, items = 0, 0
  for key in next, t do
    if type(key) ~= "number" or key <= 0 or floor(key) ~= key then
      return nil
    end
    highest = key > highest and key or highest
    items = items + 1
  end
  if config.sparse_ratio > 0 and highest > items * config.sparse_ratio and highest > config.sparse_safe then
    if not config.sparse_convert then
      error("Cannot serialise table: excessively sparse array")
    end
    return nil
  end
  return highest
end

local append

local function append_number(parts, number, config)
  if number ~= number or number == huge or number == -huge then
    if config.encode_invalid == "null" then
      parts[#parts + 1] = "null"
      return
    elseif config.encode_invalid == "off" then
      error("Cannot serialise number: must not be NaN or Inf")
    end
    parts[#parts + 1] = number ~= number and "nan" or number > 0 and "inf" or "-inf"
    return
  end
  parts[#parts + 1] = format(config.number_format, number)
end

local function append_array(parts, t, length, config, depth)
  parts[#parts + 1] = "["
  for place = 1, length do
    if place > 1 then
      parts[#parts + 1] = ","
    end
    append(parts, rawget(t, place), config, depth)
  end
  parts[#parts + 1] = "]"
end

local function append_object(parts, t, config, depth)
  parts[#parts + 1] = "{"
  local is_first = true
  for key, value in next, t do
    if not is_first then
      parts[#parts + 1] = ","
    end
    is_first = false
    if type(key) == "number" then
      parts[#parts + 1] = '"'
      append_number(parts, key, config)
      parts[#parts + 1] = '":'
    elseif type(key) == "string" then
      parts[#parts + 1] = quote(key) .. ":"
    else
      error("Cannot serialise " .. type(key) .. ": table key must be a number or string")
    end
    append(parts, value, config, depth)
  end
  parts[#parts + 1] = "}"
end

function append(parts, value, config, depth)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = quote(value)
  elseif kind == "number" then
    append_number(parts, value, config)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "true" or "false"
  elseif kind == "table" then
    depth = depth + 1
    if depth > config.encode_depth_max then
      error("Cannot serialise, excessive nesting (" .. depth .. ")")
    end
    local length = array_length(value, config)
    if length and length > 0 then
      append_array(parts, value, length, config, depth)
    else
      append_object(parts, value, config, depth)
    end
  elseif value == nil or value == null then
    parts[#parts + 1] = "null"
  else
    error("Cannot serialise " .. kind .. ": type not supported")
  end
end

-- Decoding: each reader takes the text and where it is, and returns a value and where that ends.

local function utf8(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 0x1000), 0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return char(
    0xF0 + floor(code / 0x40000),
    0x80 + floor(code / 0x1000) % 0x40,
    0x80 + floor(code / 0x40) % 0x40,
    0x80 + code % 0x40
  )
end

-- The character of an escape at its backslash, and where it ends; nil and what is wrong with it.
local function read_escape(text, place)
  local letter = sub(text, place + 1, place + 1)
  if letter ~= "u" then
    local plain = UNESCAPES[letter]
    if plain then
      return plain, place + 2
    end
    return nil, "invalid escape code"
  end
  local wrong = "invalid unicode escape code"
  local digits = match(text, "^%x%x%x%x", place + 2)
  if not digits then
    return nil, wrong
  end
  local code = tonumber(digits, 16)
  if code < 0xD800 or code > 0xDFFF then
    return utf8(code), place + 6
  elseif code >= 0xDC00 then
    return nil, wrong
  end
  digits = match(text, "^\\u(%x%x%x%x)", place + 6)
  local second = digits and tonumber(digits, 16)
  if not second or second < 0xDC00 or second > 0xDFFF then
    return nil, wrong
  end
  return utf8(0x10000 + (code - 0xD800) * 0x400 + second - 0xDC00), place + 12
end

-- The string that begins at a quote; nil, what is wrong, and where.
local function read_string(text, start)
  local stop = find(text, '["\\%z]', start + 1)
  if stop and byte(text, stop) == 34 then
    return sub(text, start + 1, stop - 1), stop + 1
  end
  local parts, place = {}, start + 1
  while true do
    if not stop or byte(text, stop) == 0 then
      return nil, "unexpected end of string", stop or #text + 1
    end
    parts[#parts + 1] = sub(text, place, stop - 1)
    if byte(text, stop) == 34 then
      return concat(parts), stop + 1
    end
    local plain, after = read_escape(text, stop)
    if not plain then
      return nil, after, stop
    end
    parts[#parts + 1] = plain
    place = after
    stop = find(text, '["\\%z]', place)
  end
end

-- Whether what begins here is a number to strtod() but none to JSON.
local function is_invalid_number(text, place)
  local first = sub(text, place, place)
  if first == "+" then
    return true
  elseif first == "-" then
    place = place + 1
    first = sub(text, place, place)
  end
  if first == "0" then
    return find(text, "^[xX%d]", place + 1) ~= nil
  elseif find(first, "^[%z\1-9]") then
    return false
  end
  local word = lower(sub(text, place, place + 2))
  return word == "inf" or word == "nan"
end

local function read_number(text, place)
  local sign, rest = match(text, "^([+-]?)()", place)
  local word = lower(match(text, "^%a*", rest))
  local number, stop
  if sub(word, 1, 8) == "infinity" then
    number, stop = huge, rest + 8
  elseif sub(word, 1, 3) == "inf" then
    number, stop = huge, rest + 3
  elseif sub(word, 1, 3) == "nan" then
    number, stop = -(0 / 0), rest + 3
  else
    local digits
    digits, stop = match(text, "^(0[xX]%x+)()", rest)
    if digits then
      number = tonumber(digits)
    else
      digits, stop = match(text, "^(%d+%.?%d*)()", rest)
      if not digits then
        digits, stop = match(text, "^(%.%d+)()", rest)
      end
      if not digits then
        return nil
      end
      local exponent, after = match(text, "^([eE][+-]?%d+)()", stop)
      if exponent then
        digits, stop = digits .. exponent, after
      end
      number = tonumber(digits)
    end
  end
  return sign == "-" and -number or number, stop
end

-- The next token: its kind, its value, where it starts and where it stops.  Of an error the value is what is wrong.
local function next_token(text, place, config)
  local start = find(text, "[^ \t\r\n]", place) or #text + 1
  local first = sub(text, start, start)
  if first == "" or first == "\0" then
    return "T_END", nil, start, start
  end
  local kind = TOKENS[first]
  if kind then
    return kind, nil, start, start + 1
  elseif first == '"' then
    local value, stop, wrong_at = read_string(text, start)
    if value then
      return "T_STRING", value, start, stop
    end
    return "T_ERROR", stop, wrong_at, wrong_at
  elseif find(first, "^[-%d]") or (config.decode_invalid and is_invalid_number(text, start)) then
    if not config.decode_invalid and is_invalid_number(text, start) then
      return "T_ERROR", "invalid number", start, start
    end
    local number, stop = read_number(text, start)
    if number then
      return "T_NUMBER", number, start, stop
    end
    return "T_ERROR", "invalid number", start, start
  elseif sub(text, start, start + 3) == "true" then
    return "T_BOOLEAN", true, start, start + 4
  elseif sub(text, start, start + 4) == "false" then
    return "T_BOOLEAN", false, start, start + 5
  elseif sub(text, start, start + 3) == "null" then
    return "T_NULL", null, start, start + 4
  end
  return "T_ERROR", "invalid token", start, start
end

local function refuse(expected, kind, value, start)
  local found = kind == "T_ERROR" and value or kind
  error("Expected " .. expected .. " but found " .. found .. " at character " .. start)
end

local read_value

local function read_object(text, place, config, depth)
  local object = {}
  local kind, key, start, stop = next_token(text, place, config)
  if kind == "T_OBJ_END" then
    return object, stop
  end
  local value
  while true do
    if kind ~= "T_STRING" then
      refuse("object key string", kind, key, start)
    end
    kind, value, start, stop = next_token(text, stop, config)
    if kind ~= "T_COLON" then
      refuse("colon", kind, value, start)
    end
    object[key], stop = read_value(text, stop, config, depth)
    kind, value, start, stop = next_token(text, stop, config)
    if kind == "T_OBJ_END" then
      return object, stop
    elseif kind ~= "T_COMMA" then
      refuse("comma or object end", kind, value, start)
    end
    kind, key, start, stop = next_token(text, stop, config)
  end
end

local function read_array(text, place, config, depth)
  local array, length = {}, 0
  local kind, value, start, stop = next_token(text, place, config)
  if kind == "T_ARR_END" then
    return array, stop
  end
  stop = place
  while true do
    length = length + 1
    array[length], stop = read_value(text, stop, config, depth)
    kind, value, start, stop = next_token(text, stop, config)
    if kind == "T_ARR_END" then
      return array, stop
    elseif kind ~= "T_COMMA" then
      refuse("comma or array end", kind, value, start)
    end
  end
end

function read_value(text, place, config, depth)
  local kind, value, start, stop = next_token(text, place, config)
  if kind == "T_STRING" or kind == "T_NUMBER" or kind == "T_BOOLEAN" or kind == "T_NULL" then
    return value, stop
  elseif kind == "T_OBJ_BEGIN" or kind == "T_ARR_BEGIN" then
    depth = depth + 1
    if depth > config.decode_depth_max then
      error("Found too many nested data structures (" .. depth .. ") at character " .. start)
    end
    return (kind == "T_OBJ_BEGIN" and read_object or read_array)(text, stop, config, depth)
  end
  refuse("value", kind, value, start)
end

-- The module, and its switches

local function integer_option(config, field, low, high, name, ...)
  if select("#", ...) > 1 then
    argument_error(2, name, "found too many arguments")
  end
  local value = ...
  if value ~= nil then
    local number = tonumber(value)
    if not number then
      type_error(1, name, "number", value)
    elseif not (number >= low and number <= high) then
      argument_error(1, name, "expected integer between " .. low .. " and " .. high)
    end
    config[field] = floor(number)
  end
  return config[field]
end

-- "on" and "off" may be booleans, too; "null" only where it is allowed.
local function switch(value, place, name, allows_null)
  if type(value) == "boolean" then
    return value and "on" or "off"
  elseif value == "on" or value == "off" or (value == "null" and allows_null) then
    return value
  elseif type(value) ~= "string" and type(value) ~= "number" then
    type_error(place, name, "string", value)
  end
  argument_error(place, name, "invalid option '" .. value .. "'")
end

local function show(option)
  if option == "null" then
    return option
  end
  return option == "on"
end

local function make()
  local config = {
    decode_depth_max = 1000,
    decode_invalid = true,
    encode_depth_max = 1000,
    encode_invalid = "off",
    number_format = "%.14g",
    number_precision = 14,
    sparse_convert = false,
    sparse_ratio = 2,
    sparse_safe = 10,
    keep_buffer = true,
  }
  local cjson = { _NAME = "cjson", _VERSION = "2.1.0", null = null, new = make }

  function cjson.encode(...)
    if select("#", ...) ~= 1 then
      argument_error(1, "encode", "expected 1 argument")
    end
    local parts = {}
    append(parts, (...), config, 0)
    return concat(parts)
  end

  function cjson.decode(...)
    if select("#", ...) ~= 1 then
      argument_error(1, "decode", "expected 1 argument")
    end
    local text = ...
    if type(text) == "number" then
      text = tostring(text)
    elseif type(text) ~= "string" then
      argument_error(1, "decode", "string expected, got " .. type(text))
    elseif #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
      error("JSON parser does not support UTF-16 or UTF-32")
    end
    local value, stop = read_value(text, 1, config, 0)
    local kind, wrong, start = next_token(text, stop, config)
    if kind ~= "T_END" then
      refuse("the end", kind, wrong, start)
    end
    return value
  end

  function cjson.encode_max_depth(...)
    return integer_option(config, "encode_depth_max", 1, 2147483647, "encode_max_depth", ...)
  end

  function cjson.decode_max_depth(...)
    return integer_option(config, "decode_depth_max", 1, 2147483647, "decode_max_depth", ...)
  end

  function cjson.encode_number_precision(...)
    local precision = integer_option(config, "number_precision", 1, 14, "encode_number_precision", ...)
    config.number_format = "%." .. precision .. "g"
    return precision
  end

  function cjson.encode_sparse_array(...)
    local count = select("#", ...)
    if count > 3 then
      argument_error(4, "encode_sparse_array", "found too many arguments")
    end
    local convert, ratio, safe = ...
    if convert ~= nil then
      config.sparse_convert = switch(convert, 1, "encode_sparse_array", false) == "on"
    end
    for place, field in next, { [2] = "sparse_ratio", [3] = "sparse_safe" } do
      local value = select(place, convert, ratio, safe)
      if value ~= nil then
        local number = tonumber(value)
        if not number then
          type_error(place, "encode_sparse_array", "number", value)
        elseif not (number >= 0 and number <= 2147483647) then
          argument_error(1, "encode_sparse_array", "expected integer between 0 and 2147483647")
        end
        config[field] = floor(number)
      end
    end
    return config.sparse_convert, config.sparse_ratio, config.sparse_safe
  end

  function cjson.encode_keep_buffer(value)
    if value ~= nil then
      config.keep_buffer = switch(value, 1, "encode_keep_buffer", false) == "on"
    end
    return config.keep_buffer
  end

  function cjson.encode_invalid_numbers(value)
    if value ~= nil then
      config.encode_invalid = switch(value, 1, "encode_invalid_numbers", true)
    end
    return show(config.encode_invalid)
  end

  function cjson.decode_invalid_numbers(value)
    if value ~= nil then
      config.decode_invalid = switch(value, 1, "decode_invalid_numbers", false) == "on"
    end
    return config.decode_invalid
  end

  return cjson
end

return make()
