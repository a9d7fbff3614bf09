--- Schedules: processes that start at the times of a cron expression; their lives from start to
--- stop, over reloads, and what can be done with them from outside. See docs/schedules.md.
---
---   catga.schedule("nightly", "0 3 * * *", "Report", { kind = "daily" },
---     { timezone = "Europe/Berlin", overlap = "skip", jitter = "5m" })
---
--- One timer waits for whatever is due first. `lua/catga/schedule/`: cron, calendar: when;
--- definition: what; state, directory: what is durable; changes: schedules come, change and go;
--- plan: what is to be done with times that are due; runner: one schedule.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local registries = require "catga.registry"
local native_task = require "catga.native.task"
local changes = require "catga.schedule.changes"
local directory = require "catga.schedule.directory"
local due = require "catga.schedule.due"
local runners = require "catga.schedule.runner"

local M = {}

local LOOK_MS = 60000        -- The wall clock is looked at so often: it may have been set.
local STALE_MAX = 1000       -- Entries of the queue that are not needed any more, about.
local WORKING_MAX = 1000     -- Schedules whose commits are under way at one time.

---@class catga.Schedules
---@field app catga.App
---@field items table<string, catga.Schedule>  by name
---@field count integer
---@field due catga.Due
---@field working integer
---@field timer catga.Timer?
---@field seen number             the wall clock when it was looked at last
---@field tasks table<catga.Task, true>  those that wait for processes
---@field increments integer      records of the directory since the last list
---@field ready catga.Future      its start is over
---@field is_stopping boolean?
local Schedules = {}
Schedules.__index = Schedules

---@param app catga.App
---@return catga.Schedules
function M.new(app)
  return setmetatable({ app = app, items = {}, count = 0, due = due.new(), working = 0,
    seen = app.clock:now(), tasks = {}, increments = 0, ready = tasks.future() }, Schedules)
end

--- Those of an app, started if need be. May yield.
---@param app catga.App
---@return catga.Schedules
function M.of(app)
  local self = app.schedules
  if not self then
    self = M.new(app)
    app.schedules = self
    local ok, failure = xpcall(self.start, errors.catch, self)
    self.ready:set()
    if not ok then error(failure, 0) end
  end
  self.ready:wait()
  return self
end

--- Starts a task that the end of the app lets go of.
---@param fn function
function Schedules:spawn(fn, ...)
  local task
  local function finish(ok, err)
    self.tasks[task] = nil
    if not ok and not self.app.is_closed then
      self.app:say("error", "schedules: " .. tostring(err) .. (err.traceback or ""))
    end
  end
  task = tasks.spawn(self.app, function(...) finish(xpcall(fn, errors.catch, ...)) end, ...)
  self.tasks[task] = true
end

-- The schedule cannot go on: it says so, and the others do.
local function fail(schedule, failure)
  local app = schedule.app
  if app.is_closed or app.stopping or app.is_failed or failure.code == "closed" then return end
  schedule.failure = errors.from(failure)
  app:say("error", ("schedule %s stopped: %s%s; resume it when that is mended"):format(
    schedule.name, tostring(failure), failure.traceback or ""))
end

local function end_work(self)
  self.working = self.working - 1
  if self.is_waiting_for_worker then self:fire() end
end

--- Runs fn of a schedule alone, in a task of its own.
---@param schedule catga.Schedule
---@param fn function
function Schedules:work(schedule, fn)
  if self.is_stopping then return end
  self.working = self.working + 1
  tasks.spawn(self.app, function()
    local ok, failure = xpcall(schedule.alone, errors.catch, schedule, fn)
    if not ok then fail(schedule, failure) end
    end_work(self)
  end)
end

--- Calls a function of a schedule alone, in a task of its own, and gives its results: no unit of
--- work of the caller's takes part, and an interrupted caller does not leave it half way.
--- May yield.
---@param schedule catga.Schedule
---@param fn function
---@return any ...  or nil and an error
function Schedules:apart(schedule, fn, ...)
  local outcome, n, args = tasks.future(), select("#", ...), { ... }
  self.working = self.working + 1
  tasks.spawn(self.app, function()
    outcome:set(xpcall(schedule.alone, errors.catch, schedule, fn, unpack(args, 1, n)))
    end_work(self)
  end)
  local function finish(ok, ...)
    if not ok then return nil, errors.from((...)) end
    return ...
  end
  return finish(outcome:wait())
end

-- Only what is not stale.
local function rebuild(self)
  local old = self.due
  self.due = due.new()
  for i = 1, old.n do
    local entry = old.items[i]
    if entry.token == entry.schedule.token then self.due:push(old.times[i], entry) end
  end
end

--- Puts a schedule into the queue of what is due.
---@param at number  Unix ms
---@param schedule catga.Schedule
function Schedules:wait_for(at, schedule)
  if self.due.n > 2 * self.count + STALE_MAX then rebuild(self) end
  self.due:push(at, { schedule = schedule, token = schedule.token })
  if self.is_started and self.due:first() == at then self:set_timer() end
end

--- Waits for what is due first, or to look at the clock.
function Schedules:set_timer()
  if self.is_stopping then return end
  if self.timer then self.app.clock:cancel(self.timer) end
  self.timer = nil
  local at = self.due:first()
  if not at then return end
  local ms = math.max(0, math.min(at - self.app.clock:now(), LOOK_MS))
  self.timer = self.app.clock:after(math.ceil(ms), function()
    state[1].app = self.app
    self.timer = nil
    self:fire()
  end)
end

-- The clock was set back far: times that were looked at lie in the future and would be waited for.
local function begin_again(self)
  self.app:say("warn", "the clock was set back by more than a day; schedules begin again from now")
  self.due = due.new()
  for _, schedule in pairs(self.items) do
    schedule:arm()
  end
end

--- Sets what is due to work.
function Schedules:fire()
  if self.is_stopping then return end
  local now = self.app.clock:now()
  if now < self.seen - runners.BACK_MS then begin_again(self) end
  self.seen, self.is_waiting_for_worker = now, nil
  while true do
    local at, entry = self.due:first()
    if not at or at > now then break end
    if self.working >= WORKING_MAX then
      self.is_waiting_for_worker = true
      return
    end
    self.due:pop()
    local schedule = entry.schedule
    if entry.token == schedule.token then self:work(schedule, schedule.run_due) end
  end
  self:set_timer()
end

--- Takes a schedule out; what it has under way ends.
---@param name string
function Schedules:remove(name)
  local schedule = self.items[name]
  if not schedule then return end
  self.items[name], self.count = nil, self.count - 1
  schedule.is_ended = true
  schedule.token = schedule.token + 1
end

--- Takes up what there is; must run in a task. May yield.
function Schedules:start()
  local known
  known, self.increments = directory.load(self.app.store)
  changes.reconcile(self, known)
  for _, schedule in pairs(self.items) do
    if #schedule.state.queue + #schedule.state.backfills > 0 then
      self:work(schedule, schedule.take_up)
    end
    schedule:arm()
  end
  self.is_started = true
  self:fire()
end

--- Takes over the definitions of a new generation of scripts. May yield.
function Schedules:reloaded()
  self.ready:wait()
  if not self.is_started or self.is_stopping then return end
  local known = {}
  for name in pairs(self.items) do known[name] = true end
  changes.reconcile(self, known)
  self.due = due.new()
  for _, schedule in pairs(self.items) do schedule:arm() end
  self:fire()
end

--- The names, sorted.
---@return string[]
function Schedules:names() return registries.sorted_names(self.items) end

--- The schedule of a name, or nil and an error.
---@param name string
---@return catga.Schedule?
---@return catga.Error? err
function Schedules:find(name)
  local schedule = self.items[name]
  if schedule then return schedule end
  local near = type(name) == "string" and registries.suggest(name, self.items)
  return nil, errors.new("not_found", ("no schedule is called %s%s"):format(tostring(name),
    near and "; did you mean " .. near .. "?" or ""))
end

--- Calls a method of a schedule alone. May yield.
---@param name string
---@param method "set_paused"|"trigger"|"backfill"
---@return any ...  its results, or nil and an error
function Schedules:ask(name, method, ...)
  local schedule, err = self:find(name)
  if not schedule then return nil, err end
  if self.is_stopping then
    return nil, errors.new("closed", "the app is stopping", { retryable = true })
  end
  return self:apart(schedule, schedule[method], ...)
end

--- Makes a schedule that lasts until it is deleted. May yield.
---@param definition catga.ScheduleDefinition
---@return boolean? ok
---@return catga.Error? err  "exists", "limit", "unknown_process", "not_found": the time zone
function Schedules:create(definition) return changes.create(self, definition) end

--- Ends a schedule that was made by `create`; runs that have begun go on. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err  "invalid": it is one of the scripts
function Schedules:delete(name) return changes.delete(self, name) end

--- Lets nothing more begin.
function Schedules:halt()
  self.is_stopping = true
  if self.timer then self.app.clock:cancel(self.timer) end
  self.timer = nil
  for task in pairs(self.tasks) do native_task.drop(task) end
  self.tasks = {}
end

Schedules.abandon = Schedules.halt

return M
