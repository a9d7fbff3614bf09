--- Schedules come, change and go: what scripts declare, and what was made while the app ran, is
--- compared with what the log knows.
local errors = require "catga.error"
local registries = require "catga.registry"
local commits = require "catga.commit"
local calendar = require "catga.schedule.calendar"
local definitions = require "catga.schedule.definition"
local directory = require "catga.schedule.directory"
local runners = require "catga.schedule.runner"
local states = require "catga.schedule.state"

local M = {}

local RECORDS_MAX = 500 -- Of one commit.

-- A schedule that was made while the app ran, as a definition; nil: there is none, or it is wrong.
-- Its process may come back when it is not in the scripts: until then its starts fail.
local function stored_definition(self, name)
  local data = states.load_definition(self.app.store, name)
  if not data then return nil end
  local definition, err = definitions.check(name, data.cron, data.process, data.input, data.options)
  if definition then
    definition.zone, err = calendar.zone(self.app, definition.timezone)
    if definition.zone then return definition end
  end
  self.app:say("error", ("schedule %s does not run: %s"):format(name, err.message))
end

-- The state of a schedule that is taken up, and whether that is to be recorded.
local function state_of(self, name, now, signature)
  local stored, was_removed = states.load(self.app.store, name)
  if stored and not was_removed then return stored end
  local state = states.new(now, signature)
  if stored then
    state.paused, state.note, state.running = stored.paused, stored.note, stored.running
  end
  return state, "ScheduleAdded"
end

-- Takes a definition up. What is to be recorded of the schedule before it runs: the type.
local function take(self, definition)
  local name, now = definition.name, self.app.clock:now()
  local signature = runners.signature(definition)
  local schedule = self.items[name]
  if schedule then
    schedule.definition, schedule.failure = definition, nil
    if schedule.state.signature ~= signature then self:work(schedule, schedule.change) end
    return schedule
  end
  local state, kind = state_of(self, name, now, signature)
  if state.signature ~= signature then
    kind, state.to, state.signature = "ScheduleChanged", now, signature
  end
  schedule = runners.new(self, definition, state)
  self.items[name], self.count = schedule, self.count + 1
  return schedule, kind
end

-- The same; what is wrong with one schedule does not concern the others.
local function take_safely(self, definition, records)
  local ok, schedule, kind = xpcall(take, errors.catch, self, definition)
  if not ok then
    self.app:say("error", ("schedule %s: %s"):format(definition.name, tostring(schedule)))
  elseif kind then
    records[#records + 1] = { name = schedule.name, kind = kind, state = schedule.state }
  end
end

-- Takes out what is in no definition any more.
local function drop(self, name, records)
  local schedule = self.items[name]
  local ok, state = true, schedule and schedule.state
  if not state then ok, state = pcall(states.load, self.app.store, name) end
  self:remove(name)
  if ok and state then
    records[#records + 1] = { name = name, kind = "ScheduleRemoved", state = state }
  end
end

-- Lists all names anew when reading the changes back would cost more than that.
local function list_names(self)
  if not directory.is_list_due(self.increments, self.count) then return end
  commits.records(self.app, function(add)
    self.increments = directory.list(add, self.app.json, self:names())
  end)
end

-- Commits records of many schedules, and what has changed in the directory. May yield.
local function record(self, records, added, removed)
  local first, has_names = 1, #added + #removed > 0
  while first <= #records or has_names do
    local ok, err = commits.records(self.app, function(add)
      if has_names then directory.record(add, self.app.json, added, removed) end
      for i = first, math.min(first + RECORDS_MAX - 1, #records) do
        local one = records[i]
        add(states.PREFIX .. one.name, one.kind, { state = states.stored(one.state) })
      end
    end)
    if not ok then error(err, 0) end
    if has_names then self.increments = self.increments + 1 end
    first, has_names = first + RECORDS_MAX, false
  end
  list_names(self)
end

--- Brings the schedules in line with what scripts and calls have defined. May yield.
---@param self catga.Schedules
---@param known table<string, boolean>  the names that there were
function M.reconcile(self, known)
  local declared, records, added, removed = self.app.registry.schedules or {}, {}, {}, {}
  for _, name in ipairs(registries.sorted_names(declared)) do
    take_safely(self, declared[name], records)
    if not known[name] then added[#added + 1] = name end
  end
  for _, name in ipairs(registries.sorted_names(known)) do
    local definition = not declared[name] and stored_definition(self, name)
    if definition then
      take_safely(self, definition, records)
    elseif not declared[name] then
      drop(self, name, records)
      removed[#removed + 1] = name
    end
  end
  record(self, records, added, removed)
end

-- Records a definition, or its end, with the state and the directory. May yield.
local function record_definition(self, kind, data, state_kind, schedule, added, removed)
  local ok, err = commits.records(self.app, function(add)
    directory.record(add, self.app.json, added, removed)
    add(states.DEFINED_PREFIX .. schedule.name, kind, data)
    add(states.PREFIX .. schedule.name, state_kind, { state = states.stored(schedule.state) })
  end)
  if not ok then return nil, err end
  self.increments = self.increments + 1
  list_names(self)
  return true
end

local function check_new(self, definition)
  local ok, err = definitions.finish(definition, self.app, self.app.registry)
  if not ok then return nil, err end
  local there = self.items[definition.name]
  if there then
    return nil, errors.new("exists", ("there is a schedule %s already%s"):format(definition.name,
      there.definition.at and ", at " .. there.definition.at or ""))
  end
  if self.count >= self.app.settings.schedules_max then
    return nil, errors.new("limit", ("there are %d schedules already (schedules_max)"):format(
      self.count))
  end
  return true
end

--- Makes a schedule while the app runs. May yield.
---@param self catga.Schedules
---@param definition catga.ScheduleDefinition
---@return boolean? ok
---@return catga.Error? err
function M.create(self, definition)
  local ok, err = check_new(self, definition)
  if not ok then return nil, err end
  local schedule = take(self, definition) -- From now on the name is taken.
  schedule.state.paused, schedule.state.note = nil, nil
  ok, err = self:apart(schedule, function()
    return record_definition(self, "ScheduleCreated", { cron = definition.text,
      process = definition.process, input = self.app.json.decode(definition.input),
      options = definition.options }, "ScheduleAdded", schedule, { definition.name }, {})
  end)
  if not ok then
    self:remove(definition.name)
    return nil, err
  end
  schedule:arm()
  return true
end

--- Ends a schedule that was made while the app ran. May yield.
---@param self catga.Schedules
---@param name string
---@return boolean? ok
---@return catga.Error? err
function M.delete(self, name)
  local schedule, err = self:find(name)
  if not schedule then return nil, err end
  if schedule.definition.at then
    return nil, errors.new("invalid", ("schedule %s is one of the scripts (%s): take it out there, "
      .. "or pause it"):format(name, schedule.definition.at))
  end
  return self:apart(schedule, function()
    if schedule.is_ended then return self:find(name) end
    local ok, fault = record_definition(self, "ScheduleDeleted", {}, "ScheduleRemoved", schedule,
      {}, { name })
    if ok then self:remove(name) end
    return ok, fault
  end)
end

return M
