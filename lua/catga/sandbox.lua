--- Shims over the standard library, installed before any user file is loaded. In the body of a
--- process, outside of steps, they make time, randomness and iteration order the same on every
--- replay and refuse effects. In what runs on every read (apply functions, upcasters) order is the
--- same as well, and time and randomness are refused too. Everywhere else they are the plain
--- functions.
local host = require "catga.native.host"
local state = require "catga.state"

-- luacheck: globals pairs next tostring os math coroutine string table print

local M = {}

--- The functions as LuaJIT made them, for the runtime's own use.
M.raw = {
  pairs = pairs, next = next, tostring = tostring, time = os.time, clock = os.clock,
  date = os.date, random = math.random, randomseed = math.randomseed,
  resume = coroutine.resume, wrap = coroutine.wrap, yield = coroutine.yield,
  create = coroutine.create, status = coroutine.status,
}
local raw = M.raw

local RANK = { boolean = 1, number = 2, string = 3 }

local function comes_before(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return RANK[ta] < RANK[tb] end
  if ta == "boolean" then return not a and b end
  return a < b
end

local BODY = "the body of a process"

local function check_key(what, key)
  if RANK[type(key)] then return end
  error(("%s in %s: a key of type %s has no order that is the same on every "
    .. "replay; use string or number keys"):format(what, state[1].pure or BODY, type(key)), 4)
end

--- The keys of a table in an order that is the same in every Lua state.
---@param t table
---@return any[] keys
function M.sorted_keys(t)
  local keys, n = {}, 0
  for key in raw.next, t do
    check_key("pairs", key)
    n = n + 1
    keys[n] = key
  end
  table.sort(keys, comes_before)
  return keys
end

local function in_flow()
  local task = state[1]
  return task and task.flow and task.process or nil
end

-- Does code run that must do the same every time: the body of a process, or what is pure?
local function is_repeated()
  local task = state[1]
  return task and (task.pure or task.flow and task.process)
end

--- What `pure` of a task is while a projection's handlers run.
M.PROJECTING = "the handler of a projection"

--- Why pure code must always do the same.
---@param pure string  as in catga.Task
---@return string
function M.why(pure)
  if pure == M.PROJECTING then return "which runs again when the model is rebuilt" end
  return "which runs on every read"
end

-- Refuses in pure code what gives something else every time.
local function refuse_in_pure(name)
  local task = state[1]
  if task and task.pure then
    error(("%s in %s, %s, gives something else every time; what it needs "
      .. "must be in the event's data"):format(name, task.pure, M.why(task.pure)), 3)
  end
end

local function ordered_pairs(t)
  local keys = M.sorted_keys(t)
  local i = 0
  return function()
    local key
    repeat -- a key removed during the walk is passed over
      i = i + 1
      key = keys[i]
    until key == nil or rawget(t, key) ~= nil
    return key, rawget(t, key)
  end, t, nil
end

-- The least key above the one before; keys may come and go during the walk.
local function ordered_next(t, key)
  if key ~= nil then check_key("next", key) end
  local least
  for candidate in raw.next, t do
    check_key("next", candidate)
    if (key == nil or comes_before(key, candidate))
      and (least == nil or comes_before(candidate, least)) then
      least = candidate
    end
  end
  if least ~= nil then return least, rawget(t, least) end
end

local plain_next = raw.next

-- LuaJIT 2.1.0-beta3 makes traces of loops over pairs that now and then pass over the whole table.
-- It does not when the iterator is not its own `next`.
local function step(t, key) return plain_next(t, key) end

local function install_iteration()
  function _G.pairs(t)
    if is_repeated() and type(t) == "table" then return ordered_pairs(t) end
    local iterate, subject, first = raw.pairs(t)
    if iterate == plain_next then iterate = step end
    return iterate, subject, first
  end
  function _G.next(t, key)
    if is_repeated() and type(t) == "table" then return ordered_next(t, key) end
    return raw.next(t, key)
  end
  function table.foreach(t, fn)
    for key, value in pairs(t) do
      local result = fn(key, value)
      if result ~= nil then return result end
    end
  end
end

local function install_time()
  function os.time(t)
    local process = in_flow()
    if process and t == nil then return math.floor(process:time() / 1000) end
    if t == nil then refuse_in_pure "os.time" end
    return raw.time(t)
  end
  function os.clock()
    local process = in_flow()
    if process then return process:time() / 1000 end
    refuse_in_pure "os.clock"
    return raw.clock()
  end
  function os.date(format, t)
    local process = in_flow()
    if process and t == nil then t = math.floor(process:time() / 1000) end
    if t == nil then refuse_in_pure "os.date" end
    return raw.date(format, t)
  end
end

local function install_random()
  function math.random(...)
    local process = in_flow()
    if not process then
      refuse_in_pure "math.random"
      return raw.random(...)
    end
    local n = select("#", ...)
    if n == 0 then return process:random() end
    local low, high = 1, ...
    if n > 1 then low, high = ... end
    if type(low) ~= "number" or type(high) ~= "number" or low > high then
      error("bad argument to 'random' (interval is empty, or not of numbers)", 2)
    end
    return low + math.floor(process:random() * (high - low + 1))
  end
  function math.randomseed(...)
    if in_flow() then return end
    refuse_in_pure "math.randomseed"
    return raw.randomseed(...)
  end
end

local function refuse_in_flow(container, container_name, name)
  local plain = container[name]
  container[name] = function(...)
    if in_flow() then
      error(("%s.%s in the body of a process would run again on every replay; call it in a step: "
        .. "self:step(\"name\", function() ... end)"):format(container_name, name), 2)
    end
    local task = state[1]
    if task and task.pure then
      error(("%s.%s in %s, %s and must not have effects"):format(
        container_name, name, task.pure, M.why(task.pure)), 2)
    end
    return plain(...)
  end
end

local function install_refusals()
  for _, name in ipairs { "open", "popen", "lines", "read", "write", "input", "output", "tmpfile",
    "close" } do
    refuse_in_flow(io, "io", name)
  end
  for _, name in ipairs { "execute", "remove", "rename", "tmpname", "getenv", "exit" } do
    refuse_in_flow(os, "os", name)
  end
  for _, name in ipairs { "dofile", "loadfile", "collectgarbage" } do
    refuse_in_flow(_G, "_G", name)
  end
  local file = getmetatable(io.stdout).__index
  for _, name in ipairs { "read", "write", "lines", "seek", "flush", "close", "setvbuf" } do
    refuse_in_flow(file, "file", name)
  end
  -- What the body prints is not printed again when it is gone through again.
  local plain_print = print
  function _G.print(...)
    local process = in_flow()
    if not (process and (process.history or process.shadow
      or process.floor and process.floor:is_replaying())) then
      return plain_print(...)
    end
  end
end

-- A table's address differs on every run; in a flow body only its type is told.
local function install_tostring()
  local HAS_ADDRESS = { table = true, ["function"] = true, thread = true, userdata = true }
  function _G.tostring(value)
    local kind = type(value)
    if HAS_ADDRESS[kind] and is_repeated() then
      local mt = getmetatable(value)
      if not (type(mt) == "table" and mt.__tostring) then return kind end
    end
    return raw.tostring(value)
  end
  local plain_format = string.format
  local function described(n, value, ...)
    if n == 0 then return end
    if HAS_ADDRESS[type(value)] then value = tostring(value) end
    return value, described(n - 1, ...)
  end
  function string.format(text, ...)
    if is_repeated() then
      if type(text) == "string" and text:gsub("%%%%", ""):find("%%%-?%d*p") then
        error("string.format with %p gives an address, which differs in every run", 2)
      end
      return plain_format(text, described(select("#", ...), ...))
    end
    return plain_format(text, ...)
  end
end

-- Why a coroutine cannot be resumed.
local WAITS = "the coroutine waits for something in another task; resume it when that is over"
local LEFT = "the coroutine yielded in the middle of a step or handler, which has to end before "
  .. "its coroutine may yield; it cannot be resumed"

local of_task = setmetatable({}, { __mode = "k" }) -- The coroutines of tasks themselves.

--- Remembers a coroutine as that of a task: a plain yield in it has nobody to go to.
---@param co thread
function M.own(co) of_task[co] = true end

-- What a call is part of, restored when a coroutine leaves that call half way; not the usual case.
local function restore(task, flow, limit, ctx, in_unit, unit, staged, after)
  if task.limit ~= limit then require "catga.task".end_limit(task) end
  task.flow, task.limit, task.ctx, task.in_unit, task.unit = flow, limit, ctx, in_unit, unit
  if unit then unit:take_back(staged, after) end
end

--- Lets a park inside a user's own coroutine pass through to the scheduler.
---@param park_mark userdata     first value of every yield that parks
---@param abandon_mark userdata  first value of the yield that ends a task
function M.pass_parks(park_mark, abandon_mark)
  local resume, yield, running = raw.resume, raw.yield, coroutine.running
  local native = require "catga.native.task"
  local can_park, forbid_parks = native.can_park, native.forbid_parks
  local refused = setmetatable({}, { __mode = "k" }) -- By coroutine: why it cannot be resumed.

  local function pass(co, ok, ...)
    local mark = ...
    if ok and (mark == park_mark or mark == abandon_mark) then
      refused[co] = WAITS
      return pass(co, resume(co, yield(...)))
    end
    if refused[co] then refused[co] = nil end
    return ok, ...
  end

  local function allow_again(before, ...)
    forbid_parks(before)
    return ...
  end

  local function leave(co, task, flow, limit, ctx, in_unit, unit, staged, after, ok, ...)
    if task.flow == flow and task.limit == limit and task.ctx == ctx
      and task.in_unit == in_unit then
      return ok, ...
    end
    restore(task, flow, limit, ctx, in_unit, unit, staged, after)
    if not ok then return ok, ... end
    refused[co] = LEFT
    return false, LEFT
  end

  function coroutine.resume(co, ...)
    if refused[co] then return false, refused[co] end
    local task = state[1]
    if not task then return resume(co, ...) end
    local unit = task.unit
    if can_park() then
      return leave(co, task, task.flow, task.limit, task.ctx, task.in_unit, unit, unit and unit.n,
        unit and #unit.after, pass(co, resume(co, ...)))
    end
    return leave(co, task, task.flow, task.limit, task.ctx, task.in_unit, unit, unit and unit.n,
      unit and #unit.after, allow_again(forbid_parks(true), resume(co, ...)))
  end
  local own_resume = coroutine.resume

  local function unwrap(ok, ...)
    if not ok then error(..., 0) end
    return ...
  end
  function coroutine.wrap(fn)
    local co = raw.create(fn)
    return function(...) return unwrap(own_resume(co, ...)) end
  end

  function coroutine.yield(...)
    if of_task[running()] then
      error("coroutine.yield outside of a coroutine made by coroutine.create or wrap; to wait, use "
        .. "catga.sleep or another function that waits", 2)
    end
    return yield(...)
  end
end

raw.randomseed(host.random_seed()) -- LuaJIT's numbers are the same after every start.
install_iteration()
install_time()
install_random()
install_refusals()
install_tostring()

return M
