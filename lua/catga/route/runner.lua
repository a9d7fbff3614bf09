--- The reader of a set of routes: reads durable events by position, runs the rules, and commits
--- what they send together with how far it has come. So each event is routed exactly once to the
--- store.
---
--- Many events share a commit. One whose rules run code that is not theirs (a command, a function)
--- is a unit of work alone. Everything that changes the state has its turn, one after the other.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local commits = require "catga.commit"
local present = require "catga.event".present
local pause_ms = require "catga.process.steps".pause_ms
local cursor_of = require "catga.subscription.options".cursor
local groups = require "catga.route.groups"
local states = require "catga.route.state"
local turns = require "catga.route.turn"

local M = {}

local BATCH_MAX = 256         -- Events read at once.
local STAGED_MAX = 1000       -- Records of one commit, about.
local SKIPPED_MAX = 10000     -- Positions without anything to send before that is recorded.
local CHECKPOINT_MIN = 100    -- Records before the whole state is recorded, at least.
local RETRY_MS_MIN = 1000     -- Pause after a unit that could not be committed.
local LOOK_MS = 60000         -- The wall clock is looked at so often: it may have been set.

---@class catga.Router
---@field app catga.App
---@field name string
---@field set table                the rules, of the newest generation
---@field status "running"|"stopped"|"failed"
---@field position integer         all events up to here are routed
---@field saved_to integer         recorded
---@field groups catga.RouteGroups
---@field retries table<string, table>  failures that wait, by states.id_of
---@field retry_count integer
---@field increments integer       records since the last checkpoint
---@field is_halting boolean?
---@field reader catga.Task?
local Router = {}
Router.__index = Router

---@param app catga.App
---@param set table
---@return catga.Router
function M.new(app, set)
  return setmetatable({ app = app, name = set.name, set = set, status = "stopped", position = 0,
    saved_to = 0, groups = groups.new(app, set.name), retries = {}, retry_count = 0,
    increments = 0, working = 0 }, Router)
end

-- Runs fn when nothing else changes the state. May yield.
local function alone(self, fn, ...)
  while self.busy do self.busy:wait() end
  local busy = tasks.future()
  self.busy = busy
  self.working = self.working + 1
  local function finish(ok, ...)
    self.working = self.working - 1
    self.busy = nil
    busy:set()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(xpcall(fn, errors.catch, self, ...))
end

--- Runs fn(turn) as one unit of work and commits what it has sent together with the state. May
--- yield.
---@param fn fun(turn: catga.RouteTurn)
---@return boolean? ok
---@return catga.Error? err  nothing has changed
function Router:unit(fn)
  local app, turn = self.app, nil
  local entry = { name = "routes " .. self.name, kind = "event", app = app,
    registry = self.set.registry, counter = { calls = 0, failures = 0 } }
  entry.run = function()
    self.groups:take_back(0) -- What a run before has changed that met a conflict.
    turn = turns.new(self, entry)
    fn(turn)
    return turn:stage()
  end
  local ok, err = app.mediator:run(entry, nil)
  if not ok then
    self.groups:take_back(0)
    return nil, err
  end
  self.groups:committed()
  turn:committed()
  self:set_timer()
  return true
end

-- Adds the whole state to a commit.
local function add_checkpoint(self, add)
  local stream = states.PREFIX .. self.name
  local entries, parts = self.groups:list(), 0
  for first = 1, #entries, states.PART_ENTRIES do
    local part = {}
    for i = first, math.min(first + states.PART_ENTRIES - 1, #entries) do
      part[#part + 1] = entries[i]
    end
    add(stream, "RouterPart", { groups = part })
    parts = parts + 1
  end
  local failed = {}
  for _, one in pairs(self.retries) do
    failed[#failed + 1] = { one.position, one.stream, one.version, one.rule, one.attempts, one.due }
    if #failed == states.PART_ENTRIES then
      add(stream, "RouterPart", { failed = failed })
      failed, parts = {}, parts + 1
    end
  end
  if failed[1] then
    add(stream, "RouterPart", { failed = failed })
    parts = parts + 1
  end
  add(stream, "RouterCheckpoint", { to = self.position, parts = parts })
end

-- Records the whole state when reading it back costs more than that. May yield.
local function checkpoint(self)
  local weight = self.groups.count + self.retry_count
  if self.increments < CHECKPOINT_MIN + weight then return end
  local ok, err = commits.records(self.app, function(add) add_checkpoint(self, add) end)
  if not ok then error(err, 0) end
  self.increments, self.saved_to = 0, self.position
end

-- Records how far it has come. May yield.
local function save(self)
  if self.position <= self.saved_to then return end
  local to = self.position
  local ok, err = commits.records(self.app, function(add)
    add(states.PREFIX .. self.name, "RouterMoved", { to = to })
  end)
  if not ok then error(err, 0) end
  self.saved_to, self.increments = math.max(self.saved_to, to), self.increments + 1
end

-- The event as rules see it: nil: an upcaster has dropped it.
local function shown(app, event)
  if event.is_shown then return event end
  local ok, seen = pcall(present, app, event)
  if not ok then return nil, errors.from(seen) end
  if seen then
    seen.is_shown = true
    turns.prepare(seen)
  end
  return seen
end

-- Routes one event; false: it must be alone in its unit, and is the first of the next one.
local function route_event(self, turn, event, only)
  local seen, err = shown(self.app, event)
  if err then
    turn:failed("", event, err, 0)
    return true
  end
  if not seen then return true end
  return turn:run(seen, only)
end

-- Routes events of a list from a place on, as one unit of work. Gives the place behind the last
-- one. May yield.
local function batch(self, events, first, most)
  local behind
  local ok, err = self:unit(function(turn)
    local i = first
    while i <= #events and i - first < most do
      if not route_event(self, turn, events[i]) then break end
      i = i + 1
      if turn.is_alone or turn:staged_count() >= STAGED_MAX then break end
    end
    behind = i
    turn.to = events[i - 1].position
  end)
  if ok then return behind end
  return nil, err
end

-- One event could not be committed: that is its failure.
local function give_back(self, event, err)
  return self:unit(function(turn)
    turn:failed("", event, err, 0)
    turn.to = event.position
  end)
end

-- What becomes of a unit that was not committed: how many events the next one may have.
local function after_failure(self, events, first, most, err)
  if self.app.is_closed or self.app.is_failed or err.code == "closed" then error(err, 0) end
  local pause = commits.pause_after(err)
  if pause then
    self.app.clock:sleep(pause)
    return first, most
  end
  if most > 1 then return first, 1 end
  local ok, fault = give_back(self, events[first], err)
  if ok then return first + 1, 1 end
  self.app:say("error", ("routes %s wait: %s"):format(self.name, tostring(fault)))
  self.app.clock:sleep(RETRY_MS_MIN)
  return first, 1
end

local function new_cursor(self)
  local upcasts, set = self.app.registry.upcasts, self.set
  if self.cursor and self.upcasts == upcasts and self.signature == set.signature then return end
  if self.cursor then self.cursor:close() end
  local filter = set.filter
  self.cursor = cursor_of(self.app, { types = filter.types, type_prefix = filter.type_prefix,
    has_journals = filter.journals }, self.position)
  self.upcasts, self.signature = upcasts, set.signature
end

-- Reads the next events and routes them; false: there is nothing new. May yield.
local function step(self)
  new_cursor(self)
  local events, position = self.cursor:next(BATCH_MAX)
  if not events then error(position, 0) end
  local first, most = 1, BATCH_MAX
  while first <= #events do
    if self.is_halting then return true end
    local behind, err = batch(self, events, first, most)
    if behind then
      first, most = behind, BATCH_MAX
    else
      first, most = after_failure(self, events, first, most, err)
    end
  end
  local has_moved = position > self.position
  self.position = math.max(self.position, position)
  if self.position - self.saved_to >= SKIPPED_MAX then save(self) end
  checkpoint(self)
  return has_moved
end

local function has_room(self) return self.retry_count < self.app.settings.route_retries_max end

local function read(self)
  while not self.is_halting do
    if not has_room(self) then
      self.room = tasks.future()
      self.room:wait()
    elseif self.set.read_count == 0 then
      return -- All rules are inline.
    elseif alone(self, step) then
      native_task.yield()
    else
      local store = self.app.store
      if tasks.wait(store.wait_growth, store, self.position) == false then return end
    end
  end
end

local function run_reader(self)
  local ok, failure = xpcall(read, errors.catch, self)
  self.reader = nil
  if not ok then self:fail(failure) end
end

--- The reader cannot go on: it says so.
---@param failure catga.Error
function Router:fail(failure)
  local app = self.app
  if app.is_closed or app.is_failed or app.stopping or failure.code == "closed" then return end
  self.status, self.error = "failed", { code = failure.code, message = failure.message }
  app:say("error", ("routes %s stopped: %s%s"):format(self.name, tostring(failure.message),
    failure.traceback or ""))
end

-- The event of a failure, read again; nil: it is there no more.
local function read_event(self, one)
  local store = self.app.store
  local stream = store:stream(one.stream)
  if not stream then return nil end
  local list, err = store:read(stream, one.version, 1)
  if not list then error(err, 0) end
  return list[1] and list[1].version == one.version and list[1] or nil
end

-- Tries a failure again. May yield.
local function try_again(self, one)
  if self.is_halting or self.retries[one.id] ~= one then return end
  local event = read_event(self, one)
  local ok, err = self:unit(function(turn)
    turn.retried = one
    if event then
      route_event(self, turn, event, one)
    else
      self.app:say("warn", ("routes %s: the event at position %d, which was to be tried again, is "
        .. "there no more"):format(self.name, one.position))
    end
  end)
  if ok or self.app.is_closed then return end
  local pause = commits.pause_after(err)
  if not pause then
    ok, err = self:unit(function(turn)
      turn.retried = one
      turn:failed(one.rule, { position = one.position, stream = one.stream, version = one.version,
        type = event and event.type }, err, one.attempts)
    end)
    if ok then return end
    self.app:say("error", ("routes %s wait: %s"):format(self.name, tostring(err)))
  end
  self:retry_at(one, self.app.clock:now() + (pause or RETRY_MS_MIN))
end

-- Does something of the set in a task of its own.
local function spawn(self, fn, ...)
  tasks.spawn(self.app, function(...)
    local ok, failure = xpcall(alone, errors.catch, self, fn, ...)
    if not ok then self:fail(failure) end
  end, ...)
end

--- Runs fn at a time by the wall clock, or when it was set beyond it.
local function at_time(self, time, fn)
  local app = self.app
  local ms = math.min(math.max(0, math.ceil(time - app.clock:now())), LOOK_MS)
  return app.clock:after(ms, function()
    state[1].app = app
    fn()
  end)
end

--- Tries a failure again at a time.
---@param one table
---@param time number  Unix ms
function Router:retry_at(one, time)
  if self.is_halting then return end
  one.due = time
  one.timer = at_time(self, time, function()
    one.timer = nil
    if self.app.clock:now() < time then return self:retry_at(one, time) end
    spawn(self, try_again, one)
  end)
end

--- A failure waits for its next attempt.
---@param one table
function Router:add_retry(one)
  one.id = states.id_of(one.position, one.rule)
  if not self.retries[one.id] then self.retry_count = self.retry_count + 1 end
  self.retries[one.id] = one
  self:retry_at(one, one.due)
end

--- A failure waits no more.
---@param one table
function Router:end_retry(one)
  if not self.retries[one.id] then return end
  self.retries[one.id], self.retry_count = nil, self.retry_count - 1
  if self.room and has_room(self) then self.room:set() end
end

-- The end of a group could not be routed.
local function group_failed(self, found, group, err)
  group.attempts = (group.attempts or 0) + 1
  local rule = found.rule
  if err.retryable and group.attempts < rule.attempts then
    self.groups:postpone(group, self.app.clock:now() + pause_ms({ backoff_ms = rule.backoff },
      group.attempts))
    return self:set_timer()
  end
  local ok, fault = self:unit(function(turn)
    self.groups:drop(turn, group)
    local items, are_sealed = self.groups:stored_items(group)
    turn:give_up(rule, { type = group.last.type, data = items, stream = group.last.stream,
      position = group.last.position, id = group.last.id }, err, group.attempts, {
        aggregate = group.aggregate, key = group.key, first = group.first, last = group.last,
        are_sealed = are_sealed })
  end)
  if ok then return end
  self.app:say("error", ("routes %s wait: %s"):format(self.name, tostring(fault)))
  self.groups:postpone(group, self.app.clock:now() + RETRY_MS_MIN)
  self:set_timer()
end

-- Ends groups whose time is over. May yield.
local function expire(self)
  while not self.is_halting do
    local time, group = self.groups:first_due()
    if not time or time > self.app.clock:now() then break end
    local found = self.set.aggregates[group.aggregate]
    if not found then
      self.groups.due:pop() -- It waits until scripts have the aggregate again.
    else
      local failure
      local ok, err = self:unit(function(turn)
        failure = turn:finish_group(found, group)
        if failure then error(failure, 0) end
      end)
      if not ok then
        if self.app.is_closed or self.app.is_failed then return end
        group_failed(self, found, group, err)
      end
    end
  end
  self:set_timer()
end

--- Waits for the group whose time is over first.
function Router:set_timer()
  local time = not self.is_halting and self.groups:first_due()
  if self.timer then
    if self.timer_at == time then return end
    self.app.clock:cancel(self.timer)
    self.timer = nil
  end
  if not time then return end
  self.timer_at = time
  self.timer = at_time(self, time, function()
    self.timer = nil
    spawn(self, expire)
  end)
end

-- Where a new set begins.
local function first_position(self)
  local place = self.set.after
  if place == "start" then return 0 end
  if place == "end" then return self.app.store:positions() - 1 end
  return place
end

--- Reads what is durable, and begins. A new set is recorded first: what is published from now on is
--- routed. Raises when that cannot be done. May yield.
function Router:start()
  local found = states.load(self.app.store, self.name)
  if found.is_new then
    found.to = first_position(self)
    local ok, err = commits.records(self.app, function(add)
      add(states.PREFIX .. self.name, "RouterReset", { to = found.to })
    end)
    if not ok then error(err, 0) end
  end
  self.position, self.saved_to, self.increments = found.to, found.to, found.increments
  self.groups:recover(found.groups)
  self.status = "running"
  for _, one in pairs(found.failed) do self:add_retry(one) end
  self:set_timer()
  self.reader = tasks.spawn(self.app, run_reader, self)
end

--- Takes the rules of another generation: a turn that is under way ends with the old ones.
---@param set table
function Router:replace(set)
  self.set = set
  spawn(self, function()
    for _, of in pairs(self.groups.by_name) do -- Their aggregate may be back.
      for _, group in pairs(of) do
        if group.due then self.groups:postpone(group, group.due) end
      end
    end
    self:set_timer()
  end)
  if not self.reader and not self.is_halting then
    self.status, self.error = "running", nil
    self.reader = tasks.spawn(self.app, run_reader, self)
  end
end

--- Lets nothing more begin.
function Router:halt()
  if self.is_halting then return end
  self.is_halting = true
  local clock = self.app.clock
  if self.timer then clock:cancel(self.timer) end
  self.timer = nil
  for _, one in pairs(self.retries) do
    if one.timer then clock:cancel(one.timer) end
    one.timer = nil
  end
  if self.room then self.room:set() end
  if self.reader and self.working == 0 and native_task.drop(self.reader) then
    self.reader = nil
  end
end

--- Lets the turn that is under way end, then records where it stands. May yield.
function Router:finish()
  self:halt()
  if self.status == "running" then alone(self, save) end
  self:stop()
end

--- Ends, and records where it stands. May yield.
function Router:stop()
  self:halt()
  if self.status ~= "running" then return end
  self.status = "stopped"
  if self.working == 0 then pcall(save, self) end
  if self.reader then native_task.drop(self.reader) end
  self.reader = nil
end

--- Ends as a crash would.
function Router:abandon()
  self:halt()
  if self.reader then native_task.drop(self.reader) end
  self.reader = nil
end

return M
