--- Where snapshots of aggregates may be kept: in the log (the default) or in memory.
local state = require "catga.state"
local unit_of = require "catga.unit".of
local INTERNAL = require "catga.flags".INTERNAL

local M = {}

local LOOK_MAX = 16     -- Records of a snapshot stream that are looked at, newest first.
local COUNT_MAX = 10000 -- Snapshots in memory unless told otherwise.

local TAKEN, DROPPED = "SnapshotTaken", "SnapshotDropped"

local function stream_of(name, id) return "$snapshot-" .. name .. "-" .. id end

-- Appends a record: in the open unit of work, or as a commit of its own.
local function append(name, id, event)
  local task = state[1]
  local unit = unit_of(task)
  local version, err = unit:append(stream_of(name, id), { event }, "any", INTERNAL)
  if task.in_unit or task.limit then
    if not version then error(err, 0) end
    return
  end
  task.unit = nil
  if not version then error(err, 0) end
  local ok, fault = unit:commit()
  if not ok then error(fault, 0) end
end

--- The stream `$snapshot-<Name>-<id>` of the app's own log.
---@type catga.SnapshotStore
M.log = {
  get = function(name, id, max_version)
    local store = state[1].app.store
    local number = store:stream(stream_of(name, id))
    if not number then return nil end
    local last = store:count(number) - 1
    for version = last, math.max(0, last - LOOK_MAX + 1), -1 do
      local events = store:read(number, version, 1)
      local event = events and events[1] -- A damaged record is passed over.
      if event and event.type == DROPPED then return nil end
      local snapshot = event and event.data
      if type(snapshot) == "table" and type(snapshot.version) == "number"
        and snapshot.version <= max_version then
        return snapshot
      end
    end
  end,
  put = function(name, id, snapshot) append(name, id, { type = TAKEN, data = snapshot }) end,
  drop = function(name, id)
    local store = state[1].app.store
    local number = store:stream(stream_of(name, id))
    if not number or store:count(number) == 0 then return end
    append(name, id, { type = DROPPED, data = {} })
  end,
}

--- A store that keeps the newest snapshot of each aggregate in memory, until the scripts are loaded
--- anew.
---@param opts { max: integer? }?  at most so many, default 10000; then the oldest go
---@return catga.SnapshotStore
function M.memory(opts)
  local max = opts and opts.max or COUNT_MAX
  if type(max) ~= "number" or max < 1 or max % 1 ~= 0 then
    error("catga.aggregate.memory_snapshots: max is a whole number from 1, not " .. tostring(max),
      2)
  end
  local kept, order, first, last = {}, {}, 1, 0
  local function forget_oldest()
    local key = order[first]
    order[first] = nil
    first = first + 1
    kept[key] = nil
  end
  return {
    get = function(name, id, max_version)
      local snapshot = kept[stream_of(name, id)]
      if snapshot and snapshot.version <= max_version then return snapshot end
    end,
    put = function(name, id, snapshot)
      local key = stream_of(name, id)
      if kept[key] == nil then
        last = last + 1
        order[last] = key
        if last - first >= max then forget_oldest() end
      end
      kept[key] = snapshot
    end,
    drop = function(name, id)
      local key = stream_of(name, id)
      if kept[key] ~= nil then kept[key] = false end -- Its place in the order stays.
    end,
  }
end

return M
