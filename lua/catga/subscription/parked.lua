--- Parked events of a subscription: those that failed in the end. Listed, delivered again, dropped.
---
--- What is known of one stands in its record in `$parked-<name>`; which of them are still parked is
--- part of the subscription's state.
local errors = require "catga.error"
local commits = require "catga.commit"
local journal = require "catga.subscription.journal"

local M = {}

local POSITIONS_MAX = 1000 -- Of one record.

-- The record of a parked event. Raises when it cannot be read.
local function read(runner, position)
  local store = runner.app.store
  local stream = store:stream(journal.PARKED_PREFIX .. runner.name)
  local list, err
  if stream then list, err = store:read(stream, runner.parked[position].at, 1) end
  if not list or not list[1] then
    error(err or errors.new("corrupt", ("subscription %s: the record of the parked event at "
      .. "position %d is not there"):format(runner.name, position)), 0)
  end
  return list[1]
end

local function positions_of(runner)
  local list = {}
  for position in pairs(runner.parked) do list[#list + 1] = position end
  table.sort(list)
  return list
end

--- Takes up what was parked when the subscription starts: what is to be delivered again, and which
--- keys are kept back.
---@param runner catga.SubscriptionRunner
function M.recover(runner)
  for _, position in ipairs(positions_of(runner)) do
    local one = runner.parked[position]
    if one.replaying or runner.definition.park_blocks then
      local entry = runner:entry(read(runner, position).data)
      if runner.definition.park_blocks then runner.window:block(entry.key) end
      if one.replaying then runner.window:add_replay(entry) end
    end
  end
end

--- The parked events in order of their positions.
---@param runner catga.SubscriptionRunner
---@param after integer  position
---@param max integer
---@return table[] list  { position, stream, version, type, attempts, reason, error?, traceback?,
---  causes?, correlation_id?, first_failed, time, replaying }
function M.list(runner, after, max)
  local list = {}
  for _, position in ipairs(positions_of(runner)) do
    if #list >= max then break end
    if position > after then
      local record = read(runner, position)
      local one = record.data
      one.time, one.replaying = record.time, runner.parked[position].replaying == true
      list[#list + 1] = one
    end
  end
  return list
end

-- The positions that are asked for, "all" or one of them; those under way are left out of all.
local function choose(runner, which)
  if which == "all" then
    local list = {}
    for _, position in ipairs(positions_of(runner)) do
      if not runner.parked[position].replaying then list[#list + 1] = position end
    end
    return list
  end
  local one = runner.parked[which]
  if not one then
    return nil, errors.new("not_found", ("subscription %s has no parked event at position %s")
      :format(runner.name, tostring(which)))
  end
  if one.replaying then
    return nil, errors.new("conflict", ("the parked event at position %d is being delivered again")
      :format(which))
  end
  return { which }
end

-- Commits records of a type for the positions, then calls fn for each. May yield.
local function change(runner, positions, type, fn)
  for first = 1, #positions, POSITIONS_MAX do
    local part = {}
    for i = first, math.min(first + POSITIONS_MAX - 1, #positions) do
      part[#part + 1] = positions[i]
    end
    local mark = runner:begin_change()
    local ok, err = commits.records(runner.app, function(add)
      add(journal.PREFIX .. runner.name, type, { positions = part })
    end)
    runner:end_change(mark)
    if not ok then return nil, err end
    for _, position in ipairs(part) do fn(position) end
  end
  return #positions
end

--- Delivers parked events again, with all their attempts. May yield.
---@param runner catga.SubscriptionRunner
---@param which integer|"all"  position
---@return integer? count
---@return catga.Error? err
function M.replay(runner, which)
  local positions, err = choose(runner, which)
  if not positions then return nil, err end
  for _, position in ipairs(positions) do runner.parked[position].replaying = true end
  local count, fault = change(runner, positions, "SubscriptionReplayed", function(position)
    runner.window:add_replay(runner:entry(read(runner, position).data))
  end)
  runner:pump()
  return count, fault
end

--- Forgets parked events: they will not be handled. May yield.
---@param runner catga.SubscriptionRunner
---@param which integer|"all"
---@return integer? count
---@return catga.Error? err
function M.drop(runner, which)
  local positions, err = choose(runner, which)
  if not positions then return nil, err end
  local keys = {}
  for _, position in ipairs(positions) do
    keys[position] = runner:entry(read(runner, position).data)
    runner.parked[position].replaying = true -- Nobody else may take it meanwhile.
  end
  local count, fault = change(runner, positions, "SubscriptionUnparked", function(position)
    runner:unparked(keys[position])
  end)
  for _, position in ipairs(positions) do
    if not count and runner.parked[position] then runner.parked[position].replaying = nil end
  end
  runner:pump()
  return count, fault
end

return M
