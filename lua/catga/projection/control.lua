--- What can be done with projections from outside: pause, resume, stop, start, rebuild.
---
--- A pause is durable: a record in the stream `$projection-<name>`, for the directory of names the
--- stream `$projections`. A stop lasts until the projection, or the program, is started again.
local errors = require "catga.error"
local commit = require "catga.commit"
local registries = require "catga.registry"
local places = require "catga.projection.place"
local status = require "catga.projection.status"
local models = require "catga.model"
local lazy = require "catga.lazy"
local faults = lazy.module "catga.projection.faults"
local inline = lazy.module "catga.projection.inline"

local M = {}

local STREAM = "$projections" -- The newest record says of all which are paused.

--- Which projections are paused, as the log says.
---@param app catga.App
---@return table<string, { time: number, note: string? }>
function M.read_paused(app)
  local store = app.store
  local stream = store:stream(STREAM)
  local count = stream and store:count(stream) or 0
  local records = count > 0 and store:read(stream, count - 1, 1)
  local data = records and records[1] and records[1].data
  local paused = {}
  for name, one in pairs(data and data.paused or {}) do paused[name] = one end
  return paused
end

-- Writes which projections are paused. May yield.
local function write_paused(app, paused)
  return commit.records(app, function(add)
    add(STREAM, "ProjectionsPaused", { paused = paused })
  end)
end

-- The runners of a name, or nil and an error.
local function find(app, name)
  local self = app.projections
  local runner = self.runners[name]
  if runner then return self:runners_of(name) end
  local near = type(name) == "string" and registries.suggest(name, self.runners)
  return nil, errors.new("unknown_projection", ("no projection is called %s%s"):format(
    tostring(name), near and "; did you mean " .. near .. "?" or ""))
end

local function halt(runner, state)
  if runner.is_inline then inline.flush(runner) end
  runner:stop(state)
end

--- One projection: see lua/catga/projection/status.lua. May yield.
---@param app catga.App
---@param name string
---@return table? projection
---@return catga.Error? err  "unknown_projection"
function M.get(app, name)
  local list, err = find(app, name)
  if not list then return nil, err end
  return status.of(app, name)
end

--- All projections, by name.
---@param app catga.App
---@return table[]
function M.list(app)
  local list = {}
  for _, name in ipairs(registries.sorted_names(app.projections.runners)) do
    list[#list + 1] = status.of(app, name)
  end
  return list
end

--- The events that a projection has passed over, the newest first. May yield.
---@param app catga.App
---@param name string
---@param opts { max: integer? }?  1 to 10,000, default 100
---@return table[]? list  number, position, type, stream, code, message, time
---@return catga.Error? err
function M.skipped(app, name, opts)
  local list, err = find(app, name)
  if not list then return nil, err end
  local runner = list[1]
  return faults.list(runner.place, name, runner.slot, opts and opts.max or 100)
end

--- Handles no more events until it is resumed, also over a restart; reads go on. May yield.
---@param app catga.App
---@param name string
---@param opts { note: string? }?
---@return table? projection
---@return catga.Error? err
function M.pause(app, name, opts)
  local list, err = find(app, name)
  if not list then return nil, err end
  local self, note = app.projections, opts and opts.note
  if note ~= nil and type(note) ~= "string" then error("pause: the note is a string", 2) end
  local before = self.paused[name]
  self.paused[name] = { time = app.clock:now(), note = note }
  local ok
  ok, err = write_paused(app, self.paused)
  if not ok then
    self.paused[name] = before
    return nil, err
  end
  for _, runner in ipairs(list) do halt(runner, "paused") end
  self:moved()
  return status.of(app, name)
end

local function go_on(list)
  for _, runner in ipairs(list) do
    if runner.status ~= "running" then runner:start() end
  end
end

--- Goes on after a pause. May yield.
---@param app catga.App
---@param name string
---@return table? projection
---@return catga.Error? err
function M.resume(app, name)
  local list, err = find(app, name)
  if not list then return nil, err end
  local self = app.projections
  local before = self.paused[name]
  if before then
    self.paused[name] = nil
    local ok
    ok, err = write_paused(app, self.paused)
    if not ok then
      self.paused[name] = before
      return nil, err
    end
  end
  go_on(list)
  return status.of(app, name)
end

--- Handles no more events until it is started, or the program is. May yield.
---@param app catga.App
---@param name string
---@return table? projection
---@return catga.Error? err
function M.stop(app, name)
  local list, err = find(app, name)
  if not list then return nil, err end
  for _, runner in ipairs(list) do
    if runner.status == "running" then halt(runner, "stopped") end
  end
  app.projections:moved()
  return status.of(app, name)
end

--- Starts one that was stopped, or has stopped because of an event that it cannot handle.
---@param app catga.App
---@param name string
---@return table? projection
---@return catga.Error? err  "conflict": it is paused
function M.start(app, name)
  local list, err = find(app, name)
  if not list then return nil, err end
  if app.projections.paused[name] then
    return nil, errors.new("conflict", ("projection %s is paused; resume it"):format(name))
  end
  go_on(list)
  return status.of(app, name)
end

-- Waits until a build serves: true, or nil and why it does not. May yield.
local function wait_for_build(self, runner)
  local name = runner.name
  self:wait_until(function()
    return runner.is_serving or runner.status ~= "running" or self.runners[name] ~= runner
  end)
  if runner.is_serving then return true end
  return nil, errors.new("projection_failed", ("projection %s was not rebuilt: %s"):format(name,
    runner.error and runner.error.message or "it is " .. runner.status))
end

-- Drops a build that has failed. May yield.
local function give_up(self, runner)
  runner:stop()
  if runner.definition.lifecycle ~= "live" then
    local ok, err = models.await(self.models:drop(runner.name, runner.slot))
    if not ok then error(err, 0) end
  end
  runner.place:retire()
end

--- Builds it anew beside the one that serves; that is swapped when the new one has caught up.
--- Returns when it has begun. May yield.
---@param app catga.App
---@param name string
---@param opts { wait: boolean? }?  wait: return when it serves
---@return table? projection
---@return catga.Error? err  "busy": a version is being built already; "conflict": it is paused
function M.rebuild(app, name, opts)
  local list, err = find(app, name)
  if not list then return nil, err end
  local self = app.projections
  if self.paused[name] then
    return nil, errors.new("conflict", ("projection %s is paused; resume it"):format(name))
  end
  local former, newest = self.runners[name], self.runners[name]
  if not newest.is_serving and newest.status == "failed" and self.former[name] then
    former = self.former[name] -- What could not be built is given up.
  end
  if not former.is_serving or self.building then
    return nil, errors.new("busy", ("projection %s is being built already"):format(name),
      { retryable = true })
  end
  self.building = true
  local ok, failure = pcall(function()
    if newest ~= former then give_up(self, newest) end
    local definition = newest.definition
    local place = self:open_place(definition, places.next_slot(math.max(newest.slot,
      former.version == newest.version and former.slot or 0)))
    self.former[name] = former
    self.runners[name] = self:runner(definition, place)
    self.runners[name]:start()
  end)
  self.building = nil
  if not ok then return nil, errors.from(failure) end
  if opts and opts.wait then
    local runner = self.runners[name]
    ok, err = wait_for_build(self, runner)
    if not ok then return nil, err end
  end
  return status.of(app, name)
end

local function text_of(list) return list and table.concat(list, "\0") or "" end

--- Do two definitions have the same SQL tables?
---@param a table
---@param b table
---@return boolean
function M.same_tables(a, b)
  return text_of(a.tables) == text_of(b.tables) and text_of(a.migrations) == text_of(b.migrations)
end

return M
