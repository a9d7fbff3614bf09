--- A lock around each attempt: who has it runs, others wait. It is lost when it was held for longer
--- than its ttl: then the attempt is not committed. ctx.fencing_token is a number that grows with
--- every holder, for stores that refuse an older one.
---
--- The locks are those of lua/catga/lock.lua, which tells what a kind of them must keep; each
--- policy has keys of its own.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local locks = require "catga.lock"
local keys = require "catga.policy.keys"

local M = {}

M.fields = {
  key = { "key" },
  ttl = { "duration", "30s" },      -- held for so long at most
  wait = { "duration", "10s", 0 },  -- how long to wait for it; 0: not at all
  kind = { "choice", "local", { "local" } },
}
M.short = "key"
M.memory = { "kind" }

function M.check(p)
  if not p.key then error("lock needs a key, such as { key = \"account_id\" }", 0) end
end

-- The locks of one policy.
local Locks = {}
Locks.__index = Locks

---@param app catga.App
---@param p table
---@param owner string
function M.new(app, p, owner)
  return setmetatable({ kind = locks.kind(app, p.kind), prefix = owner .. "/" }, Locks)
end

--- How many are held, and wait.
---@return { held: integer, waiting: integer }
function Locks:status()
  local held, waiting, prefix = 0, 0, self.prefix
  for _, one in ipairs(self.kind:list()) do
    if one.key:sub(1, #prefix) == prefix then
      held, waiting = held + 1, waiting + one.waiting
    end
  end
  return { held = held, waiting = waiting }
end

-- Takes a lock, waiting for it: the token, or nil and an error. May yield.
local function take(kind, key, p)
  local ok, token, err = pcall(kind.acquire, kind, key, { timeout_ms = p.wait, ttl_ms = p.ttl })
  if not ok then return nil, errors.from(token) end -- An outer time limit has passed.
  if token or err.code ~= "timeout" then return token, err end
  return nil, errors.new("locked", ("the lock %s is held"):format(key),
    { retryable = true, is_refusal = true })
end

local Held = {}
Held.__index = Held
function Held:release() self.kind:release(self.key, self.token) end

-- The lock, if the task has it already: for a message before in its unit of work, or an attempt.
local function own_of(task, kind, key)
  local holds = task.holds
  for i = 1, holds and #holds or 0 do
    local held = holds[i]
    if getmetatable(held) == Held and held.kind == kind and held.key == key
      and kind:holds(key, held.token) then
      return held
    end
  end
end

-- Runs what is inside under a lock that is held.
local function run(inner, data, ctx, held)
  local outer = ctx.lock_held
  ctx.fencing_token, ctx.lock_held = held.token, held
  local value, failure = inner(data, ctx)
  ctx.lock_held = outer
  return value, failure
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param own table  as new gives it
---@param scope catga.PolicyScope
function M.layer(inner, p, own, scope)
  local kind, app, counters, what = own.kind, scope.app, scope.counters,
    scope.name .. ": lock.key"
  counters.locked = counters.locked or 0
  return function(data, ctx)
    local key, err = keys.of(p.key, data, ctx, what)
    if err then return nil, err end
    key = own.prefix .. tostring(key)
    local task = state[1]
    local mine = own_of(task, kind, key)
    if mine then return run(inner, data, ctx, mine) end
    local start = app.clock:mono()
    local token, fault = take(kind, key, p)
    if not token then
      counters.locked = counters.locked + 1
      return nil, fault
    end
    ctx.waited = (ctx.waited or 0) + app.clock:mono() - start
    local held = setmetatable({ kind = kind, key = key, token = token }, Held)
    tasks.hold(task, held)
    local is_nested = task.in_unit or task.limit
    local value, failure = run(inner, data, ctx, held)
    if not is_nested then
      tasks.unhold(task, held)
      held:release()
    end
    return value, failure
  end
end

--- Inside the unit of work: what was done under a lock that is lost is not committed.
---@param inner fun(data: any, ctx: table): any, any
---@param scope catga.PolicyScope
---@return fun(data: any, ctx: table): any, any
function M.inside(inner, scope)
  return function(data, ctx)
    local value, err = inner(data, ctx)
    local held = ctx.lock_held
    if value == nil and err ~= nil or not held or held.kind:holds(held.key, held.token) then
      return value, err
    end
    return nil, errors.new("lock_lost", ("%s: the lock %s was held for longer than its ttl; raise "
      .. "ttl, or do less under it"):format(scope.name, held.key), { retryable = true })
  end
end

return M
