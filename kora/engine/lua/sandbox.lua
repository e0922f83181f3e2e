-- The world that scripts live in: what they can reach, how they are run, and how what they return becomes a reply.
--
-- This chunk is called once, with functions of the host (kora/engine/scripting.py), and returns what the host calls.
-- Scripts never see a Python object, nor the real tables of globals and libraries: they get proxies, which are empty,
-- read through to the real ones, and refuse to be changed.
--
-- Errors raised here carry `kora:<line>: `, as Lua's own errors do when a library is called from here.  Before a script
-- sees one, place() puts the script's position in its stead, so that it reads as if the library were C, as in Redis.
-- For that no frame of a script may be lost to a tail call: the host turns those of all chunks into plain calls.

local host = ...

local assert, error, getmetatable, ipairs, load, loadstring, next, pairs, pcall, rawequal, rawget, rawset, select =
  assert, error, getmetatable, ipairs, load, loadstring, next, pairs, pcall, rawequal, rawget, rawset, select
local setfenv, setmetatable, tonumber, tostring, type, unpack, xpcall, newproxy, collectgarbage =
  setfenv, setmetatable, tonumber, tostring, type, unpack, xpcall, newproxy, collectgarbage
local byte, char, concat, dump, find, floor, format, gmatch, gsub, match, sub =
  string.byte, string.char, table.concat, string.dump, string.find, math.floor, string.format, string.gmatch,
  string.gsub, string.match, string.sub
local insert, remove, rep, sort = table.insert, table.remove, string.rep, table.sort
local create, running, status, yield, resume =
  coroutine.create, coroutine.running, coroutine.status, coroutine.yield, coroutine.resume
local getinfo, sethook = debug.getinfo, debug.sethook

-- Instructions between the first looks at the clock.  An instruction may be a copy of megabytes, so the host says after
-- each look how many to run until the next, by how long the last ones took.
local HOOK_COUNT = 250
-- Values that a function may return: no more go onto Lua's stack.
local RESULTS_MAX = 8000
-- Items that the library sorts by itself.
local SORTED_MAX = 5000
-- Frames that are looked through for one of a script: each look counts from the top again.
local FRAMES_MAX = 3000
-- Tables within tables that a reply may have; Redis ends where its Lua stack does.
local REPLY_DEPTH_MAX = host.reply_depth_max
-- How a value from or for the host is meant, where it does not say so itself.
local STATUS, ERROR, ENCODED, QUIET_ERROR, RUN_ERROR, ENDED = 1, 2, 3, 4, 5, 6
-- More arguments than this go to the host as one string: it would copy the list once for each.
local ARGUMENTS_MAX = 48

-- JSON's null.  Made here, since whoever can make userdata could give it a finalizer.
host.null = newproxy()

-- Errors and their places

-- Where this chunk's pcall() is, by its first and last line.
local pcall_first, pcall_last = 0, 0

-- The innermost frame of a script at or above a level of the caller; nil where there is none, or where a pcall() of the
-- script calls a function of a library: in Redis both are C, which has no lines.
local function script_frame(level, thread)
  level = level + 1
  while true do
    local info
    if level > FRAMES_MAX then
      return nil
    elseif thread then
      info = getinfo(thread, level - 1, "Sl")
    else
      info = getinfo(level, "Sl")
    end
    if not info then
      return nil
    elseif info.source == "=kora" and info.currentline >= pcall_first and info.currentline <= pcall_last then
      return nil
    elseif
      info.what ~= "C"
      and info.what ~= "tail"
      and info.source ~= "=(kora)"
      and sub(info.source, 1, 5) ~= "=kora"
    then
      return info
    end
    level = level + 1
  end
end

-- An error's value with the script's position instead of that in a chunk of Kora's.
local function place(value, frame)
  if type(value) == "userdata" and value ~= host.null then
    return "internal error"  -- an exception of the host, which no script may get hold of
  elseif type(value) == "string" then
    local text = match(value, "^%(?kora[%a.)]*:%d+: (.*)$")
    if text and frame then
      return frame.short_src .. ":" .. frame.currentline .. ": " .. text
    elseif text then
      return (gsub(text, "^bad argument (#%d+) to '[^']*'", "bad argument %1 to '?'"))
    end
  end
  return value
end

local function place_here(value)
  return place(value, script_frame(2))
end

-- What a command's error, or a wrong call of the `redis` library, raises: not a text but a table with one.
local function fail(text)
  error({ err = "ERR " .. text })
end

-- Proxies

local real = {}  -- by proxy
setmetatable(real, { __mode = "k" })

local function refuse_change()
  error("Attempt to modify a readonly table")
end

-- What the functions of Lua that change a table say, which name no place.
local function check_writable(t)
  if real[t] then
    error("Attempt to modify a readonly table", 0)
  end
end

local function protect(original)
  local proxy = {}
  real[proxy] = original
  return setmetatable(proxy, { __index = original, __newindex = refuse_change, __metatable = false })
end

-- Interruption

local is_killed = false
local has_ticked = false
local hook

-- From now on at every instruction, so that no pcall() of the script can go on.
local function kill()
  is_killed = true
  sethook(hook, "", 1)
end

-- The host says how many instructions may be run until the next look, or why the script must end.
function hook()
  local answer = host.tick()
  has_ticked = true
  if type(answer) == "number" then
    sethook(hook, "", answer)
    return
  end
  kill()
  -- Not in here, where the script's end is dealt with.
  local reason = answer
  local info = getinfo(2, "S")
  if info and sub(info.source, 1, 5) ~= "=kora" then
    error(reason, 0)
  end
end

-- Libraries that scripts see, each built from the real ones

local function copy(library)
  local copied = {}
  for name, value in pairs(library) do
    copied[name] = value
  end
  return copied
end

local strings, tables, maths, coroutines = copy(string), copy(table), copy(math), copy(coroutine)

for name, f in pairs(host.source_patterns(host)) do
  strings[name] = f
end

local bytes_max = 0  -- that scripts may take

-- So that nobody waits for the library to find out, byte by byte, that there is not so much memory.
function strings.rep(...)
  local s, n = ...
  if s == "" then
    return rep("", 1)
  elseif type(s) == "string" and type(n) == "number" and #s * n > bytes_max then
    error("not enough memory", 0)
  end
  return rep(...)
end

function tables.insert(t, ...)
  check_writable(t)
  local place = ...
  if select("#", ...) > 1 and type(place) == "number" and place < -RESULTS_MAX then
    error("bad argument #2 to 'insert' (position out of bounds)")  -- Lua would move as many nils
  end
  return insert(t, ...)
end

function tables.remove(t, ...)
  check_writable(t)
  return remove(t, ...)
end

-- In a chunk in which scripts can be ended: the library sorts some lists in a time that grows with their square.
local is_less = loadstring("local a, b = ... return a < b", "=(kora)")

function tables.sort(t, ...)
  check_writable(t)
  if ... == nil and type(t) == "table" and #t > SORTED_MAX then
    return sort(t, is_less)
  end
  return sort(t, ...)
end

function maths.random(...)
  local r, count = host.random(), select("#", ...)
  if count == 0 then
    return r
  end
  local low, high = ...
  local name = "random"
  if count == 1 then
    low, high = 1, low
  elseif count > 2 then
    error("wrong number of arguments")
  end
  low, high = floor(host.number(low, 1, name, true)), floor(host.number(high, count, name, true))
  if low > high then
    error("bad argument #" .. count .. " to 'random' (interval is empty)")
  end
  return floor(r * (high - low + 1)) + low
end

function maths.randomseed(seed)
  host.seed(floor(host.number(seed, 1, "randomseed")))
end

-- Numbers as luaL_checknumber takes them.
function host.number(value, place, name, is_given)
  local number = tonumber(value)
  if (type(value) == "number" or type(value) == "string") and number then
    return number
  end
  local got = value == nil and not is_given and "no value" or type(value)
  error("bad argument #" .. place .. " to '" .. name .. "' (number expected, got " .. got .. ")")
end

-- A hook belongs to one coroutine: each gets its own.
function coroutines.create(f)
  if type(f) ~= "function" then
    return create(f)
  end
  return create(function(...)
    sethook(hook, "", is_killed and 1 or HOOK_COUNT)
    return f(...)
  end)
end

local function resumed(thread, ok, ...)
  if not ok then
    return false, place((...), script_frame(0, thread))
  end
  return ok, ...
end

function coroutines.resume(thread, ...)
  return resumed(thread, resume(thread, ...))
end

local function unwrapped(ok, ...)
  if not ok then
    local value = ...
    -- With the position of the call in front, as a coroutine's error has in Lua 5.1.
    error(value)
  end
  return ...
end

function coroutines.wrap(f)
  local thread = coroutines.create(f)
  return function(...)
    return unwrapped(coroutines.resume(thread, ...))
  end
end

local globals = {
  _VERSION = _VERSION,
  assert = assert,
  bit = host.source_bit(host),
  cjson = host.source_cjson(host),
  cmsgpack = host.source_cmsgpack(host),
  coroutine = coroutines,
  error = error,
  gcinfo = gcinfo,
  ipairs = ipairs,
  math = maths,
  os = { clock = os.clock },
  pairs = pairs,
  rawequal = rawequal,
  select = select,
  string = strings,
  struct = host.source_struct(host),
  table = tables,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
}

function globals.next(t, key)
  return next(real[t] or t, key)
end

function globals.pairs(t)
  return pairs(real[t] or t)
end

function globals.rawget(t, key)
  return rawget(real[t] or t, key)
end

function globals.rawset(t, key, value)
  check_writable(t)
  return rawset(t, key, value)
end

function globals.setmetatable(t, metatable)
  check_writable(t)
  return setmetatable(t, metatable)
end

function globals.getmetatable(object)
  return getmetatable(object)
end

-- Scripts share one heap: none may stop its collection.
function globals.collectgarbage(option, argument)
  if option == "stop" or option == "restart" or option == "setpause" or option == "setstepmul" then
    return 0
  end
  return collectgarbage(option, argument)
end

-- As in Redis 7, where the error of a command becomes its text.
local function caught(ok, value, ...)
  if ok then
    return ok, value, ...
  end
  if type(value) == "table" then
    local text = rawget(value, "err")
    if type(text) == "string" or type(text) == "number" then
      value = text
    end
  end
  return false, value
end

function globals.pcall(f, ...)
  local count = select("#", ...)
  if count == 0 then
    return caught(xpcall(f, place_here))
  end
  local arguments = { ... }
  return caught(xpcall(function()
    return f(unpack(arguments, 1, count))
  end, place_here))
end

do
  local info = getinfo(globals.pcall, "S")
  pcall_first, pcall_last = info.linedefined, info.lastlinedefined
end

function globals.xpcall(f, handler)
  return xpcall(f, function(value)
    if is_killed then
      return value  -- called from within hook(), while Lua calls no other: a handler that loops would never end
    end
    return handler(place_here(value))
  end)
end

-- The library counts in a C int, and lets that overflow.
function globals.unpack(t, first, last)
  local count = (tonumber(last) or (type(t) == "table" and #t or 0)) - (tonumber(first) or 1)
  if count ~= count or count >= RESULTS_MAX then
    error("too many results to unpack")
  elseif count < 0 and type(t) == "table" then
    return
  end
  return unpack(t, first, last)
end

-- Code of any kind, but no bytecode: with that a script could do anything.  Returns nil and a message as loadstring().
local function compile(code, chunk, env)
  if byte(code) == 27 then
    return nil, sub(gsub(chunk, "^[@=]", ""), 1, 60) .. ":1: bytecode is not accepted"
  end
  local f, message = loadstring(code, chunk)
  if not f then
    return nil, message
  end
  local plain = host.without_tail_calls(dump(f))
  if plain then
    f = loadstring(plain, chunk)
  end
  return setfenv(f, env)
end

local function make_loaders(env)
  local loaders = {}

  function loaders.loadstring(code, chunk)
    if type(code) ~= "string" and type(code) ~= "number" then
      return loadstring(code)
    end
    code = tostring(code)
    return compile(code, type(chunk) == "string" and chunk or code, env)
  end

  function loaders.load(reader, chunk)
    if type(reader) ~= "function" then
      return load(reader)
    end
    local parts = {}
    while true do
      local part = reader()
      if part == nil or part == "" then
        break
      elseif type(part) ~= "string" then
        return nil, "reader function must return a string"
      end
      parts[#parts + 1] = part
    end
    return compile(concat(parts), type(chunk) == "string" and chunk or "=(load)", env)
  end

  return loaders
end

-- The `redis` library

-- Arguments as one string, with their lengths: "3,1" and "getk".
local function pack(...)
  local words, lengths = { ... }, {}
  for place = 1, select("#", ...) do
    local word = words[place]
    if type(word) == "number" then
      word = format("%.17g", word)
      words[place] = word
    elseif type(word) ~= "string" then
      return "", ""
    end
    lengths[place] = #word
  end
  return concat(lengths, ","), concat(words)
end

local host_call, host_call_packed = host.call, host.call_packed

local function command_error(text)
  return { err = text, ignore_error_stats_update = true }
end

local redis = {
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  REPL_NONE = 0,
  REPL_AOF = 1,
  REPL_SLAVE = 2,
  REPL_REPLICA = 2,
  REPL_ALL = 3,
  REDIS_VERSION = host.version,
  REDIS_VERSION_NUM = host.version_number,
}

function redis.call(...)
  local value, kind
  if select("#", ...) <= ARGUMENTS_MAX then
    value, kind = host_call(...)
  else
    value, kind = host_call_packed(pack(...))
  end
  if kind == nil then
    return value
  elseif kind == STATUS then
    return { ok = value }
  elseif kind == ENDED then
    kill()
    error(value, 0)
  end
  error(command_error(value))
end

function redis.pcall(...)
  local value, kind
  if select("#", ...) <= ARGUMENTS_MAX then
    value, kind = host_call(...)
  else
    value, kind = host_call_packed(pack(...))
  end
  if kind == nil then
    return value
  elseif kind == STATUS then
    return { ok = value }
  elseif kind == ENDED then
    kill()
    error(value, 0)
  end
  return command_error(value)
end

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  text = gsub(text, "^%-", "")
  if not find(text, " ", 1, true) then
    text = "ERR " .. text
  end
  return { err = text }
end

function redis.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return { err = "ERR wrong number or type of arguments" }
  end
  return { ok = text }
end

function redis.sha1hex(...)
  if select("#", ...) ~= 1 then
    fail("wrong number of arguments")
  end
  local text = ...
  return host.sha1hex(type(text) == "number" and tostring(text) or type(text) == "string" and text or "")
end

function redis.log(...)
  local count = select("#", ...)
  if count < 2 then
    fail("redis.log() requires two arguments or more.")
  end
  local level = ...
  if type(level) ~= "number" and not tonumber(level) then
    fail("First argument must be a number (log level).")
  end
  level = tonumber(level)
  if level < redis.LOG_DEBUG or level > redis.LOG_WARNING then
    fail("Invalid debug level.")
  end
  local words = {}
  for place = 2, count do
    local word = select(place, ...)
    if type(word) == "string" or type(word) == "number" then
      words[#words + 1] = tostring(word)
    end
  end
  host.log(floor(level), concat(words, " "))
end

function redis.setresp(...)
  if select("#", ...) ~= 1 then
    fail("redis.setresp() requires one argument.")
  end
  local version = tonumber((...))
  if version ~= 2 and version ~= 3 then
    fail("RESP version must be 2 or 3.")
  end
  host.setresp(version)
end

-- There is nothing that could be replicated in parts.
function redis.set_repl(...)
  if select("#", ...) ~= 1 then
    fail("redis.set_repl() requires two arguments.")
  end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags > redis.REPL_ALL then
    fail("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

function redis.acl_check_cmd(...)
  if select("#", ...) == 0 then
    fail("Please specify at least one argument for this redis lib call")
  end
  local lengths, words = pack(...)
  if lengths == "" then
    fail("Lua redis lib command arguments must be strings or integers")
  end
  local allowed = host.acl_check_cmd(lengths, words)
  if allowed == nil then
    fail("Invalid command passed to redis.acl_check_cmd()")
  end
  return allowed
end

-- The two worlds: of EVAL, and of functions

local function refuse_unknown(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
end

for _, name in ipairs({ "bit", "cjson", "cmsgpack", "coroutine", "math", "os", "string", "struct", "table" }) do
  globals[name] = protect(globals[name])
end

-- So that ("x"):upper() finds the same, and getmetatable("") is nothing that could be changed.
local string_metatable = getmetatable("")
string_metatable.__index = globals.string
string_metatable.__metatable = protect({ __index = globals.string })

local function make_world(api)
  local own = copy(globals)
  local env = protect(own)
  own._G = env
  own.redis = api
  for name, loader in pairs(make_loaders(env)) do
    own[name] = loader
  end
  setmetatable(own, { __index = refuse_unknown })
  return env, own
end

local eval_api = copy(redis)

function eval_api.replicate_commands()
  return true
end

function eval_api.breakpoint()
  return false
end

function eval_api.debug() end

local eval_env, eval_globals = make_world(protect(eval_api))

-- While a library is loaded `redis` has another face.  One table with two, so that what keeps it in a local of the
-- library finds call() there later.
local function_redis_metatable = { __index = redis, __newindex = refuse_change, __metatable = false }
local function_redis = setmetatable({}, function_redis_metatable)
real[function_redis] = redis
local function_env = make_world(function_redis)

local load_api = {
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  REDIS_VERSION = host.version,
  REDIS_VERSION_NUM = host.version_number,
  log = redis.log,
}
setmetatable(load_api, { __index = refuse_unknown })

-- What is called by FCALL, by number: the host keeps no Lua function of which it does not know the thread.
local callbacks, callback_count = {}, 0

local function parse_flags(flags)
  if type(flags) ~= "table" then
    fail("flags argument to redis.register_function must be a table representing function flags")
  end
  local names = {}
  for place = 1, #flags do
    if type(flags[place]) ~= "string" then
      fail("unknown flag given")
    end
    names[place] = flags[place]
  end
  return concat(names, ",")
end

local function parse_named(arguments)
  local name, callback, flags, description
  for key, value in pairs(arguments) do
    if key == "function_name" then
      if type(value) ~= "string" and type(value) ~= "number" then
        fail("function_name argument given to redis.register_function must be a string")
      end
      name = tostring(value)
    elseif key == "description" then
      if type(value) ~= "string" and type(value) ~= "number" then
        fail("description argument given to redis.register_function must be a string")
      end
      description = tostring(value)
    elseif key == "callback" then
      if type(value) ~= "function" then
        fail("callback argument given to redis.register_function must be a function")
      end
      callback = value
    elseif key == "flags" then
      flags = parse_flags(value)
    elseif type(key) ~= "string" then
      fail("named argument key given to redis.register_function is not a string")
    else
      fail("unknown argument given to redis.register_function")
    end
  end
  if not name then
    fail("redis.register_function must get a function name argument")
  elseif not callback then
    fail("redis.register_function must get a callback argument")
  end
  return name, callback, flags, description
end

local function parse_registration(...)
  local count = select("#", ...)
  if count < 1 or count > 2 then
    fail("wrong number of arguments to redis.register_function")
  end
  local first, second = ...
  if count == 1 then
    if type(first) ~= "table" then
      fail("calling redis.register_function with a single argument is only applicable to Lua table "
        .. "(representing named arguments).")
    end
    return parse_named(first)
  end
  if type(first) ~= "string" and type(first) ~= "number" then
    fail("first argument to redis.register_function must be a string")
  elseif type(second) ~= "function" then
    fail("second argument to redis.register_function must be a function")
  end
  return tostring(first), second
end

function load_api.register_function(...)
  local name, callback, flags, description = parse_registration(...)
  callback_count = callback_count + 1
  callbacks[callback_count] = callback
  local mistake = host.register(name, callback_count, flags or "", description or false)
  if mistake then
    callbacks[callback_count] = nil
    fail(mistake)
  end
end

-- Replies

-- Of the reply in the making.
local parts, count, protocol

local function add(text)
  count = count + 1
  parts[count] = text
end

local function one_line(text)
  return (gsub(text, "[\r\n]", " "))
end

local function add_bulk(text)
  add("$" .. #text .. "\r\n")
  add(text)
  add("\r\n")
end

-- What RESP3 has a type for, and RESP2 none.
local function add_scalar(type3, text)
  if protocol == 3 then
    add(type3 .. text .. "\r\n")
  else
    add_bulk(text)
  end
end

local add_value

-- The keys of a map or set with, of a map, their values.
local function add_pairs(t, header2, header3, with_values, depth)
  local length = 0
  for _ in next, t do
    length = length + 1
  end
  add((protocol == 3 and header3 or header2) .. (length * (protocol == 2 and with_values and 2 or 1)) .. "\r\n")
  for key, value in next, t do
    add_value(key, depth)
    if with_values then
      add_value(value, depth)
    end
  end
end

local function add_table(t, depth)
  local text = rawget(t, "err")
  if type(text) == "string" then
    return add("-" .. one_line((gsub(text, "[\r\n]+$", ""))) .. "\r\n")
  end
  text = rawget(t, "ok")
  if type(text) == "string" then
    return add("+" .. one_line(text) .. "\r\n")
  end
  local number = rawget(t, "double")
  if type(number) == "number" then
    text = host.format_double(number)
    return add_scalar(",", text)
  end
  local inner = rawget(t, "map")
  if type(inner) == "table" then
    return add_pairs(inner, "*", "%", true, depth)
  end
  inner = rawget(t, "set")
  if type(inner) == "table" then
    return add_pairs(inner, "*", "~", false, depth)
  end
  text = rawget(t, "big_number")
  if type(text) == "string" then
    return add_scalar("(", one_line(text))
  end
  inner = rawget(t, "verbatim_string")
  if type(inner) == "table" then
    local kind
    text, kind = rawget(inner, "string"), rawget(inner, "format")
    if type(text) == "string" and type(kind) == "string" then
      if protocol == 3 then
        return add("=" .. #text + 4 .. "\r\n" .. sub(kind .. "   ", 1, 3) .. ":" .. text .. "\r\n")
      end
      return add_bulk(text)
    end
  end
  local length = 0
  while rawget(t, length + 1) ~= nil do
    length = length + 1
  end
  add("*" .. length .. "\r\n")
  for place = 1, length do
    add_value(rawget(t, place), depth)
  end
end

function add_value(value, depth)
  local kind = type(value)
  if kind == "string" then
    add_bulk(value)
  elseif kind == "number" then
    add(format(":%d\r\n", value))
  elseif kind == "table" then
    if depth >= REPLY_DEPTH_MAX then
      add("-ERR reached lua stack limit\r\n")
    else
      add_table(real[value] or value, depth + 1)
    end
  elseif kind == "boolean" and host.protocol() == 3 then
    add(protocol == 3 and (value and "#t\r\n" or "#f\r\n") or (value and ":1\r\n" or ":0\r\n"))
  elseif value == true then
    add(":1\r\n")
  else
    add(protocol == 3 and "_\r\n" or "$-1\r\n")
  end
end

-- What a script returned, for the host: a text or a whole number as it is, and nil; or bytes and what they are.
local function reply(value, client_protocol)
  local kind = type(value)
  if kind == "string" or value == nil then
    return value
  elseif kind == "number" and value > -9e15 and value < 9e15 then
    return value - value % 1 + (value < 0 and value % 1 ~= 0 and 1 or 0)
  elseif kind == "table" then
    local text = rawget(value, "err")
    if type(text) == "string" then
      return text, rawget(value, "ignore_error_stats_update") and QUIET_ERROR or ERROR
    end
  end
  parts, count, protocol = {}, 0, client_protocol
  add_value(value, 0)
  local encoded = concat(parts)
  parts = nil
  return encoded, ENCODED
end

-- The end of a script that failed: its error as a table, with where it happened.
local function describe(value)
  local frame = script_frame(2)
  value = place(value, frame)
  if type(value) ~= "table" or real[value] then
    value = { err = "ERR " .. tostring(value) }
  end
  local described = { err = rawget(value, "err"), quiet = rawget(value, "ignore_error_stats_update") }
  if frame then
    described.place = frame.source .. ":" .. frame.currentline
  end
  return described
end

local function error_text(described)
  if type(described) ~= "table" then
    -- Lua had no memory left to describe it, or no stack.
    return "ERR Error running script: " .. tostring(described), "", false
  end
  local text = described.err
  if type(text) ~= "string" and type(text) ~= "number" then
    text = "ERR unknown error"
  end
  return tostring(text), described.place or "", described.quiet and true or false
end

-- The next script is looked at as if it were the first.
local function reset_hook()
  if has_ticked or is_killed then
    has_ticked, is_killed = false, false
    sethook(hook, "", HOOK_COUNT)
  end
end

local function finish(client_protocol, ok, value)
  reset_hook()
  if ok then
    return reply(value, client_protocol)
  end
  local text, where, is_quiet = error_text(value)
  return text, RUN_ERROR, where, is_quiet
end

local exports = {}

-- A script with no keys, with one, with several; and with keys and arguments as lists.
function exports.run(f, client_protocol, ...)
  eval_globals.KEYS, eval_globals.ARGV = {}, { ... }
  return finish(client_protocol, xpcall(f, describe))
end

function exports.run_with_key(f, client_protocol, key, ...)
  eval_globals.KEYS, eval_globals.ARGV = { key }, { ... }
  return finish(client_protocol, xpcall(f, describe))
end

function exports.run_with_keys(f, client_protocol, count, ...)
  eval_globals.KEYS, eval_globals.ARGV = { unpack({ ... }, 1, count) }, { select(count + 1, ...) }
  return finish(client_protocol, xpcall(f, describe))
end

function exports.run_with_lists(f, client_protocol, keys, argv)
  eval_globals.KEYS, eval_globals.ARGV = keys, argv
  return finish(client_protocol, xpcall(f, describe))
end

function exports.run_function(number, client_protocol, keys, argv)
  local f = callbacks[number]
  return finish(client_protocol, xpcall(function()
    return f(keys, argv)
  end, describe))
end

function exports.set_limit(limit)
  bytes_max = limit
end

function exports.forget(number)
  callbacks[number] = nil
end

function exports.compile(code)
  return compile(code, "@user_script", eval_env)
end

-- Run the code of a library, which registers its functions; returns why it could not be, and whether it was compiled.
function exports.load_library(code)
  local f, message = compile(code, "@user_function", function_env)
  if not f then
    return message, false
  end
  function_redis_metatable.__index = load_api
  local ok, described = xpcall(f, describe)
  function_redis_metatable.__index = redis
  reset_hook()
  if not ok then
    return (error_text(described)), true
  end
  return nil, true
end

sethook(hook, "", HOOK_COUNT)
-- Begin to collect when there is half as much again as was in use: by twice as much the limit may be reached.
collectgarbage("setpause", 150)
-- Texts that the host's binding looks up outside of any protection, where there must be memory to make them.
exports.pinned = { "debug", "traceback", "not enough memory" }
return exports
