--- Hedge: when the answer is not there after a delay, the call is made once more beside the first;
--- the first answer wins, and the others are cancelled. Only for what says that it may run twice:
--- queries, idempotent commands, calls that are told to be so.
---
--- Each call is a task and a unit of work of its own. Inside of an open unit of work, or a step,
--- there is one call: two cannot be parts of one unit.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local waits = require "catga.policy.waits"
local raw_next = require "catga.sandbox".raw.next

local M = {}

M.fields = {
  after = { "duration", nil, 0 },  -- without an answer for so long
  max = { "count", 1, 1, 10 },     -- further calls, each after another delay
}
M.short = "after"
M.uses = { query = true, command = true, call = true }
M.why = "only what may run twice may have it"

function M.check(p)
  if not p.after then error("hedge needs a delay, such as { after = \"100ms\" }", 0) end
end

function M.refuse(_, scope)
  if scope.kind ~= "query" and not scope.idempotent then
    return scope.kind == "command" and "a command with a hedge needs idempotent = true"
      or "a call with a hedge must say that it is idempotent"
  end
end

-- An envelope of the same message: the ids are made before, so that all calls have the same.
local function copy_of(ctx)
  local copy = {}
  for field, value in raw_next, ctx do copy[field] = value end
  return setmetatable(copy, getmetatable(ctx))
end

---@class catga.Race
local Race = {}
Race.__index = Race

-- Ends the calls that are still under way.
function Race:release()
  self.is_over = true
  for i = 1, #self.calls do
    local call = self.calls[i]
    if call.is_running then
      call.is_running = false
      tasks.drop(call.task)
    end
  end
end

local function finish(race, call, value, err)
  call.is_running = false
  race.running = race.running - 1
  if race.is_over then return end
  local failed = value == nil and err ~= nil
  if failed then race.err = race.err or err end
  if failed and race.running > 0 then return end -- Another one may still succeed.
  race.is_over, race.value, race.failed, race.winner = true, value, failed, call
  if race.waiter then waits.wake(race.waiter, true) end
end

local function begin(race, inner, data, ctx)
  local call = { is_running = true, ctx = copy_of(ctx) }
  race.calls[#race.calls + 1] = call
  race.running = race.running + 1
  call.task = tasks.spawn(race.app, function()
    local ok, value, err = xpcall(inner, errors.catch, data, call.ctx)
    if ok then finish(race, call, value, err) else finish(race, call, nil, value) end
  end)
  call.task.ctx = call.ctx
end

local function run(race, inner, data, ctx, p)
  for i = 0, p.max do
    begin(race, inner, data, ctx)
    if i > 0 then race.hedged = i end
    race.waiter = {}
    local _, err = waits.park(race.app, race.waiter, i < p.max and p.after or nil)
    if race.is_over then return true end
    if err then return nil, err end
  end
  return nil, errors.new("error", "a hedged call was ended from outside", { retryable = true })
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param _ nil
---@param scope catga.PolicyScope
function M.layer(inner, p, _, scope)
  local app, counters = scope.app, scope.counters
  counters.hedges, counters.hedges_won = counters.hedges or 0, counters.hedges_won or 0
  return function(data, ctx)
    local task = state[1]
    if task.in_unit or task.limit then return inner(data, ctx) end
    if ctx.entry then ctx.key = ctx.key end -- Made now, with the id.
    local race = setmetatable({ app = app, calls = {}, running = 0 }, Race)
    tasks.hold(task, race)
    local ok, err = run(race, inner, data, ctx, p)
    tasks.unhold(task, race)
    race:release()
    counters.hedges = counters.hedges + (race.hedged or 0)
    if not ok then return nil, err end
    if race.failed then return nil, race.err end
    if race.winner ~= race.calls[1] then counters.hedges_won = counters.hedges_won + 1 end
    return race.value
  end
end

return M
