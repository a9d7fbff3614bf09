--- Shims over the standard library, installed before any user file is loaded. In the body of a
--- process, outside of steps, they make time, randomness and iteration order the same on every
--- replay and refuse effects; everywhere else they are the plain functions.
local state = require "catga.state"

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

--- The keys of a table in an order that is the same in every Lua state.
---@param t table
---@return any[] keys
function M.sorted_keys(t)
  local keys, n = {}, 0
  for key in raw.next, t do
    if not RANK[type(key)] then
      error("pairs in the body of a process: a key of type " .. type(key)
        .. " has no order that is the same on every replay; use string or number keys", 3)
    end
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

local function ordered_pairs(t)
  local keys = M.sorted_keys(t)
  local i = 0
  return function()
    local key
    repeat -- a key removed during the walk is passed over
      i = i + 1
      key = keys[i]
    until key == nil or t[key] ~= nil
    return key, t[key]
  end, t, nil
end

local function ordered_next(t, key)
  local keys = M.sorted_keys(t)
  if key == nil then return keys[1], t[keys[1]] end
  for i = 1, #keys do
    if comes_before(key, keys[i]) then return keys[i], t[keys[i]] end
  end
  return nil
end

local function install_iteration()
  function _G.pairs(t)
    if in_flow() then return ordered_pairs(t) end
    return raw.pairs(t)
  end
  function _G.next(t, key)
    if in_flow() then
      if key == nil and raw.next(t) == nil then return nil end
      return ordered_next(t, key)
    end
    return raw.next(t, key)
  end
end

local function install_time()
  function os.time(t)
    local process = in_flow()
    if process and t == nil then return math.floor(process:time() / 1000) end
    return raw.time(t)
  end
  function os.clock()
    local process = in_flow()
    if process then return process:time() / 1000 end
    return raw.clock()
  end
  function os.date(format, t)
    local process = in_flow()
    if process and t == nil then t = math.floor(process:time() / 1000) end
    return raw.date(format, t)
  end
end

local function install_random()
  function math.random(...)
    local process = in_flow()
    if not process then return raw.random(...) end
    local n = select("#", ...)
    if n == 0 then return process:random() end
    local low, high = 1, ...
    if n > 1 then low, high = ... end
    return low + math.floor(process:random() * (high - low + 1))
  end
  function math.randomseed(...)
    if in_flow() then return end
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
end

-- A table's address differs on every run; in a flow body only its type is told.
local function install_tostring()
  function _G.tostring(value)
    local kind = type(value)
    if (kind == "table" or kind == "function" or kind == "thread") and in_flow() then
      local mt = getmetatable(value)
      if not (type(mt) == "table" and mt.__tostring) then return kind end
    end
    return raw.tostring(value)
  end
end

--- Lets a park inside a user's own coroutine pass through to the scheduler.
---@param park_mark userdata first value of every yield that parks
function M.pass_parks(park_mark)
  local resume, yield = raw.resume, raw.yield
  local function pass(co, ok, first, ...)
    if ok and first == park_mark then return pass(co, resume(co, yield(park_mark, ...))) end
    return ok, first, ...
  end
  function coroutine.resume(co, ...)
    return pass(co, resume(co, ...))
  end
  local function unwrap(ok, ...)
    if not ok then error(..., 0) end
    return ...
  end
  function coroutine.wrap(fn)
    local co = raw.create(fn)
    return function(...) return unwrap(pass(co, resume(co, ...))) end
  end
end

install_iteration()
install_time()
install_random()
install_refusals()
install_tostring()

return M
