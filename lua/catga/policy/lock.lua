--- A lock around each attempt: who has it runs, others wait. It is lost when it was held for longer
--- than its ttl: then the attempt is not committed. ctx.fencing_token is a number that grows with
--- every holder, for stores that refuse an older one.
---
--- The contract that every kind of lock keeps (lua/catga/policy/lock_local.lua is the local one):
---   new(app) -> kind
---   kind:acquire(key, ttl_ms) -> token | nil, err    at once; err.code "locked", with
---       retry_after_ms, or what went wrong; a token is a whole number above all before it
---   kind:renew(key, token, ttl_ms) -> boolean        false: it is held no more
---   kind:check(key, token) -> boolean                is it still held?
---   kind:release(key, token) -> boolean              may be called for a task that is ended,
---       so it must not wait: a remote kind hands it to a task of its own
---   kind:wait(key, ms)?                              parks until it may be free; else it is polled
--- All of them but release may yield. spec/support/lock_contract.lua holds the rules.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local keys = require "catga.policy.keys"
local waits = require "catga.policy.waits"

local M = {}

local POLL_MS = 50

--- Kinds of locks by name, each a module; a new kind is a line here.
M.KINDS = { ["local"] = "catga.policy.lock_local" }

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

---@param app catga.App
---@param p table
---@param owner string
function M.new(app, p, owner) return require(M.KINDS[p.kind]).new(app, owner) end

--- Takes a lock, waiting for it. May yield.
---@param app catga.App
---@param kind table     that keeps the contract
---@param key string
---@param ttl number     ms
---@param most number    ms
---@return integer? token
---@return catga.Error? err  code "locked", or what went wrong
function M.take(app, kind, key, ttl, most)
  local clock = app.clock
  local deadline = clock:mono() + most
  while true do
    local token, err = kind:acquire(key, ttl)
    if token or err.code ~= "locked" then return token, err end
    local left = deadline - clock:mono()
    if left <= 0 then return nil, err end
    local ok, fault
    if kind.wait then
      ok, fault = kind:wait(key, math.min(left, math.max(1, err.retry_after_ms or left)))
    else
      ok, fault = waits.sleep(app, math.min(left, POLL_MS))
    end
    if fault then return nil, fault end
    if ok == false then return nil, err end
  end
end

local Held = {}
Held.__index = Held
function Held:release() self.kind:release(self.key, self.token) end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param kind table
---@param scope catga.PolicyScope
function M.layer(inner, p, kind, scope)
  local app, counters, what = scope.app, scope.counters, scope.name .. ": lock.key"
  counters.locked = counters.locked or 0
  return function(data, ctx)
    local key, err = keys.of(p.key, data, ctx, what)
    if err then return nil, err end
    key = tostring(key)
    local start = app.clock:mono()
    local token, fault = M.take(app, kind, key, p.ttl, p.wait)
    if not token then
      counters.locked = counters.locked + 1
      return nil, fault
    end
    ctx.waited = (ctx.waited or 0) + app.clock:mono() - start
    local task = state[1]
    local held = setmetatable({ kind = kind, key = key, token = token }, Held)
    tasks.hold(task, held)
    local is_nested = task.in_unit or task.limit
    local outer = ctx.lock_held
    ctx.fencing_token, ctx.lock_held = token, held
    local value, failure = inner(data, ctx)
    ctx.lock_held = outer
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
    if value == nil and err ~= nil or not held or held.kind:check(held.key, held.token) then
      return value, err
    end
    return nil, errors.new("lock_lost", ("%s: the lock %s was held for longer than its ttl; raise "
      .. "ttl, or do less under it"):format(scope.name, held.key), { retryable = true })
  end
end

return M
