--- Projections: read models that are built from the log's events by handlers, and their lives from
--- start to stop, over reloads, new versions and rebuilds. See docs/projections.md.
---
--- Everything here can be rebuilt from the log: a version is a table of documents, perhaps with SQL
--- tables beside it, with a checkpoint in the same database. A new version, or the same one built
--- anew, is built beside the one that serves reads, and takes over when it has caught up.
---
--- `lua/catga/projection/`: definition, group: what a script says; place: where a version is;
--- runner, lanes, faults: one version at work; documents: what its handlers see; inline: handlers
--- that run with the units of work; control, status: what can be done from outside; query: SQL.
local errors = require "catga.error"
local lazy = require "catga.lazy"
local tasks = require "catga.task"
local registries = require "catga.registry"
local host = require "catga.native.host"
local runners = lazy.module "catga.projection.runner"
local places = lazy.module "catga.projection.place"
local definitions = lazy.module "catga.projection.definition"
local inline = lazy.module "catga.projection.inline"
local control = lazy.module "catga.projection.control"
local model = lazy.module "catga.model"

local M = {}

--- Defines a projection; the script fills in its fields, see lua/catga/projection/definition.lua.
---@param registry catga.Registry
---@param name string  1 to 200 bytes: letters, digits, "_", "-" and "."
---@return table face
function M.define(registry, name) return definitions.define(registry, name) end

---@class catga.Projections
---@field app catga.App
---@field models catga.Models?              `models.sqlite`; open once there is a projection
---@field runners table<string, catga.Runner>  by name: of the version that the scripts define
---@field former table<string, catga.Runner>   by name: of the version that serves until then
---@field served table<string, catga.ModelPlace>  by name: where the version is that serves reads
---@field waiters table[]                   { is_reached, future }
---@field stored table[]                    checkpoints when the models were opened
---@field paused table<string, table>       by name: { time, note } of those that are paused
local Projections = {}
Projections.__index = Projections

---@param app catga.App
---@return catga.Projections
function M.new(app)
  return setmetatable({ app = app, runners = {}, former = {}, served = {}, waiters = {},
    stored = {}, paused = {} }, Projections)
end

-- Reads all checkpoints: name, version (a slot), position, is_serving.
local function checkpoints(self)
  local list, err = model.await(self.models:list())
  if not list then error(err, 0) end
  local found = {}
  for i = 1, #list, 4 do
    found[#found + 1] = { name = list[i], slot = tonumber(list[i + 1]),
      position = tonumber(list[i + 2]), is_serving = list[i + 3] == "1" }
  end
  return found
end

-- The error for a checkpoint beyond the log's tail; nil when it is not.
local function beyond_tail(self, name, slot, position, path)
  local last = self.app.store:positions() - 1
  if position <= last then return nil end
  return errors.new("corrupt", ("read model %s (version %d) stands at position %d, but the "
    .. "event log ends at position %d: the log has lost durable events. Bring back the log's "
    .. "files; or, to go on with this log, delete %s and the files beside it that begin with "
    .. "its name: the read models are then rebuilt"):format(name, places.version_of(slot), position,
    last, path or "the read models"), { is_lost = true })
end

-- Whether a log may lose its end, as read models show that it has.
local function may_lose(self)
  return self.app.settings.durability ~= "fsync" and self.path ~= nil
end

local function say_lost(self)
  self.app:say("warn", ("the event log has lost its end, as durability = \"%s\" allows; all read "
    .. "models are rebuilt"):format(self.app.settings.durability))
end

local function open(self)
  local err
  self.path = self.app.data and self.app.data .. "/models.sqlite"
  self.models, err = require("catga.native.model").open(self.path)
  if not self.models then error(err, 0) end
  local found = checkpoints(self)
  local lost
  for _, one in ipairs(found) do
    lost = lost or beyond_tail(self, one.name, one.slot, one.position, self.path)
  end
  if not lost then return found end
  self.models:close()
  self.models = nil
  if not may_lose(self) then error(lost, 0) end
  say_lost(self)
  places.remove(self.path)
  return open(self)
end

-- Deletes files of versions that nobody knows any more: they were swapped just before a kill.
local function remove_strays(self)
  local directory = places.directory(self.app)
  local entries = directory and host.list(directory)
  local known = {}
  for _, one in ipairs(self.stored) do known[places.path(self.app, one.name, one.slot)] = true end
  for _, entry in ipairs(entries or {}) do
    local path = directory .. "/" .. entry.name
    if path:find("%.sqlite$") and not known[path] then places.remove(path) end
  end
end

-- The stored slots of a version: the one that serves, and the newest.
local function stored_slots(self, definition)
  local serving, newest
  for _, one in ipairs(self.stored) do
    if one.name == definition.name and places.version_of(one.slot) == definition.version then
      if one.is_serving then serving = one.slot end
      if not newest or one.slot > newest then newest = one.slot end
    end
  end
  return serving, newest
end

-- The place of a version with tables of its own; a new build when what is stored does not fit.
local function open_own(self, definition, slot)
  local place = places.new(self, definition.name, slot, "file")
  local position = place:define()
  local lost = beyond_tail(self, definition.name, slot, position, place.path)
  if lost then
    place:close()
    if not may_lose(self) then error(lost, 0) end
    say_lost(self)
    places.remove(place.path)
    return open_own(self, definition, slot)
  end
  local fits, err = place:set_up(definition)
  if fits then return place, position end
  place:close()
  if err then error(err, 0) end
  return open_own(self, definition, places.next_slot(slot))
end

-- Makes a runner of a version at a place; is_serving: it serves reads.
local function add(self, definition, place, position, is_serving)
  local runner = runners.new(self, definition, place, position)
  runner.is_serving = is_serving
  if is_serving then self.served[definition.name] = place end
  return runner
end

--- Makes the place of a slot of a definition, with its entry in `models.sqlite`. May yield.
---@param definition table
---@param slot integer
---@return catga.ModelPlace place
---@return integer position
---@return boolean is_serving
function Projections:open_place(definition, slot)
  if definition.lifecycle == "live" then
    local place = places.new(self, definition.name, slot, "memory")
    place:define()
    if definition.tables then
      local fits, err = place:set_up(definition)
      if not fits then error(err, 0) end
    end
    return place, 0, false
  end
  if not definition.tables then
    local place = places.new(self, definition.name, slot)
    local position, is_serving = place:define()
    return place, position, is_serving
  end
  local place, position = open_own(self, definition, slot)
  local _, is_serving = model.await(self.models:define(definition.name, place.slot, true))
  if _ == nil then error(is_serving, 0) end
  return place, position, is_serving
end

-- The version that serves when the scripts define another one: it stays where it is.
local function serve_stored(self, name)
  for _, one in ipairs(self.stored) do
    if one.name == name and one.is_serving and not self.served[name] then
      local host_path = places.path(self.app, name, one.slot)
      local file = host_path and io.open(host_path, "r")
      if file then file:close() end
      self.served[name] = places.new(self, name, one.slot, file and "file" or nil)
    end
  end
end

-- Makes what the definition's version needs and starts its runner; one that serves while the same
-- version is built anew goes on.
local function launch(self, definition)
  local name = definition.name
  local serving, newest = stored_slots(self, definition)
  local place, position, is_serving = self:open_place(definition, newest or definition.version)
  local runner = add(self, definition, place, position, is_serving)
  if not is_serving and serving and definition.lifecycle ~= "live" then
    local before, at = self:open_place(definition, serving)
    if before.slot == serving then
      self.former[name] = add(self, definition, before, at, true)
    else
      before:close()
    end
  end
  if not is_serving then serve_stored(self, name) end
  self.runners[name] = runner
  if next(definition.handlers) == nil then
    self.app:say("warn", ("projection %s handles no events"):format(name))
  end
  local former = self.former[name]
  if self.paused[name] then
    runner:stop("paused")
    if former then former:stop("paused") end
    return
  end
  runner:start()
  if former then former:start() end
end

-- Starts, in the order of names, the projections that have no runner yet.
local function launch_new(self)
  local defined = self.app.registry.projections
  if next(defined) == nil then return end
  if not self.models then
    self.stored = open(self)
    remove_strays(self)
    self.paused = control.read_paused(self.app)
  else
    self.stored = checkpoints(self)
  end
  for _, name in ipairs(registries.sorted_names(defined)) do
    if not self.runners[name] then launch(self, defined[name]) end
  end
end

-- Is it one whose model must be there before the app serves, and not yet?
local function is_awaited(runner)
  local lifecycle = runner.definition.lifecycle
  if runner.status ~= "running" then return false end
  return lifecycle == "live" and not runner.is_serving
    or lifecycle == "inline" and not runner.is_inline
end

local function none_awaited(self)
  for _, runner in pairs(self.runners) do
    if is_awaited(runner) and not self.former[runner.name] then return false end
  end
  return true
end

-- Waits for what `is_reached` says. May yield.
local function wait(self, is_reached)
  if self.is_stopping or is_reached() then return end
  local future = tasks.future()
  self.waiters[#self.waiters + 1] = { is_reached = is_reached, future = future }
  future:wait()
end

--- Opens the read models and starts all projections; must run in a task. Inline and live ones have
--- caught up when it returns. Raises when it cannot: a checkpoint beyond the log's tail is proof of
--- a lost log. May yield.
function Projections:start()
  local ok, failure = xpcall(launch_new, errors.catch, self)
  self.is_started = true
  self:moved()
  if ok then return wait(self, function() return none_awaited(self) end) end
  if self.app.on_fatal then self.app.on_fatal(failure) end
  error(failure, 0)
end

-- What a reload means for a projection that runs.
local function replace(self, runner, definition)
  local name = runner.name
  if definition and definition.version == runner.version
    and definition.lifecycle == runner.definition.lifecycle
    and control.same_tables(definition, runner.definition) then
    runner.definition = definition
    if runner.status == "failed" then runner:start() end
    return
  end
  self.runners[name] = nil
  if definition and runner.is_serving then
    self.former[name] = runner -- It goes on until the new version takes over.
  else
    runner:stop()
  end
end

--- Takes over the definitions of a new generation of scripts.
function Projections:reloaded()
  if not self.is_started or self.is_stopping then return end
  local defined = self.app.registry.projections
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    replace(self, self.runners[name], defined[name])
  end
  for _, name in ipairs(registries.sorted_names(self.former)) do
    local former, definition = self.former[name], defined[name]
    if not definition then
      self.former[name] = nil
      former:stop()
    elseif definition.version == former.version and not self.runners[name] then
      self.former[name] = nil
      former.definition, self.runners[name] = definition, former
    elseif definition.version == former.version then
      former.definition = definition -- It is being built anew.
    end
  end
  tasks.spawn(self.app, function()
    local ok, failure = xpcall(launch_new, errors.catch, self)
    if not ok then self.app:say("error", "projections: " .. failure.message) end
  end)
end

-- Lets no reader see less than it has seen of the version before: stops that one, and tells whether
-- the new one has come as far.
local function has_passed(runner, former)
  if not runner.wait_until then
    runner.wait_until = former and former:seen() or 0
    if former then former:stop() end
  end
  return runner.reached >= runner.wait_until
end

local function describe_former(former, place)
  if former then return tostring(former.version) end
  return place and tostring(places.version_of(place.slot)) or "nil"
end

--- Makes a runner's version the one that serves reads; called by the runner when it has caught up,
--- and again while it is behind what readers have seen. Raises when it cannot. May yield.
---@param runner catga.Runner
function Projections:take_over(runner)
  local name, before = runner.name, self.served[runner.name]
  local former = self.former[name]
  if not has_passed(runner, former) then return end
  self.served[name] = runner.place -- Jobs run in order: reads from now on come after it.
  if runner.definition.lifecycle ~= "live" then
    local ok, err = model.await(self.models:serve(name, runner.slot))
    if not ok then
      self.served[name] = before
      error(err, 0)
    end
  end
  runner.is_serving, runner.wait_until, self.former[name] = true, nil, nil
  if before or former then
    local is_anew = before and places.version_of(before.slot) == runner.version
    self.app:say("info", is_anew and ("projection %s was rebuilt"):format(name)
      or ("projection %s: version %d took over from version %s"):format(name, runner.version,
        describe_former(former, before)))
  end
  if before then before:retire() end
  self:moved()
end

--- A runner that was about to take over has ended: the version before goes on.
---@param runner catga.Runner
function Projections:stays(runner)
  runner.wait_until = nil
  local former = self.former[runner.name]
  if former and former.status == "stopped" and not self.is_stopping then former:start() end
end

--- The definition of a name; raises for a name that no script defines.
---@param name string
---@return table
function Projections:definition(name)
  local defined = self.app.registry.projections
  if defined[name] then return defined[name] end
  local near = type(name) == "string" and registries.suggest(name, defined)
  error(errors.new("unknown_projection", ("no projection is called %s%s"):format(tostring(name),
    near and "; did you mean " .. near .. "?" or "")), 0)
end

--- A face for reading a projection. Raises for a name that no script defines.
---@param name string
---@param opts { after: integer?, timeout: string? }?
---@return catga.Model
function Projections:model(name, opts)
  self:definition(name)
  return model.new(self, name, opts)
end

-- The runner whose documents readers see, or nil: no script of its version is there.
local function serving_runner(self, name)
  local runner = self.runners[name]
  if runner and runner.is_serving then return runner end
  return self.former[name]
end

--- Where reads of a projection go, or nil and an error. A live one that is still built is waited
--- for. May yield.
---@param name string
---@return catga.ModelPlace? place
---@return catga.Runner|catga.Error|nil runner  of the version that serves, if it is inline; or the
---  error
function Projections:serving(name)
  local runner = self.runners[name]
  if runner and runner.definition.lifecycle == "live" and not self.served[name] then
    wait(self, function() return self.served[name] or runner.status ~= "running" end)
  end
  local place = self.served[name]
  if not place or not place:get() then
    if runner and runner.error then
      return nil, errors.new("projection_failed", ("the read model %s has never been built: %s")
        :format(name, runner.error.message))
    end
    return nil, errors.new("closed", ("the read model %s is not open; it is while the app runs")
      :format(name))
  end
  runner = serving_runner(self, name)
  return place, runner and runner.is_inline and runner or nil
end

-- Why a projection will not come to a position by itself; nil: it may.
local function standstill(self, name)
  local runner = serving_runner(self, name)
  if not runner then return nil end
  if runner.status == "running" or self.runners[name] ~= runner then return nil end
  return runner.error and "has stopped: " .. runner.error.message or "is " .. runner.status
end

local function behind(name, at, position, why)
  return errors.new("behind", ("the read model %s stands at position %s and %d is asked for; it %s")
    :format(name, tostring(at or "?"), position, why), { retryable = true })
end

--- Waits until reads of a projection see all events up to a position. May yield.
---@param name string
---@param position integer
---@param timeout_ms number
---@return boolean ok
---@return catga.Error? err  "behind": not within the timeout, or it is not running
function Projections:await(name, position, timeout_ms)
  local function at()
    local runner = serving_runner(self, name)
    return runner and runner:read_position()
  end
  local function is_reached() return (at() or -1) >= position end
  if is_reached() then return true end
  local app, is_late = self.app, false
  local function is_over() return is_reached() or is_late or standstill(self, name) ~= nil end
  local timer = app.clock:after(timeout_ms, function()
    is_late = true
    self:moved()
  end)
  wait(self, is_over)
  app.clock:cancel(timer)
  if is_reached() then return true end
  return false, behind(name, at(), position, standstill(self, name)
    or ("did not come there within %d ms"):format(timeout_ms))
end

-- Have all that run reached the position?
local function reached(self, position)
  if not self.is_started then return false end
  for _, runner in pairs(self.runners) do
    if runner.status == "running" and runner:read_position() < position then return false end
  end
  return true
end

--- Something moved on or ended: wakes those who wait for it.
function Projections:moved()
  if #self.waiters == 0 then return end
  local waiters, left = self.waiters, {}
  self.waiters = left
  for _, waiter in ipairs(waiters) do
    if self.is_stopping or waiter.is_reached() then
      waiter.future:set()
    else
      left[#left + 1] = waiter
    end
  end
end

--- Waits until something is so; looked at whenever a projection moves on or ends. May yield.
---@param is_so fun(): boolean
function Projections:wait_until(is_so) wait(self, is_so) end

--- A runner for a new build of a version.
---@param definition table
---@param place catga.ModelPlace
---@return catga.Runner
function Projections:runner(definition, place) return add(self, definition, place, 0, false) end

--- Waits until all projections that run have the events up to a position in their documents. A
--- version that is being built counts, one that has failed does not. May yield.
---@param position integer
function Projections:wait_for(position)
  wait(self, function() return reached(self, position) end)
end

--- Both, when a version is being built: the one that serves first.
---@param name string
---@return catga.Runner[]
function Projections:runners_of(name)
  local list = {}
  list[#list + 1] = self.former[name]
  list[#list + 1] = self.runners[name]
  return list
end

--- All projections by name; a version that is being built stands behind the one that serves.
---@return table[]  see lua/catga/projection/status.lua
function Projections:status()
  local list, describe = {}, require("catga.projection.status").describe
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    for _, runner in ipairs(self:runners_of(name)) do list[#list + 1] = describe(runner) end
  end
  return list
end

--- Ends all projections and closes the read models. What is not committed is handled again.
function Projections:stop()
  self.is_stopping = true
  for _, runner in pairs(self.former) do runner:stop() end
  for _, runner in pairs(self.runners) do runner:stop() end
  if self.app.inline then inline.stop(self.app) end
  self:moved()
  for _, runner in pairs(self.former) do runner.place:close() end
  for _, runner in pairs(self.runners) do runner.place:close() end
  for _, place in pairs(self.served) do place:close() end
  if self.models then self.models:close() end
  self.models = nil
end

--- Ends as a crash would: nothing is waited for but the transaction that runs.
Projections.abandon = Projections.stop

return M
