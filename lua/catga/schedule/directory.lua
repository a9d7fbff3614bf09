--- Which schedules there are, as the stream `$schedules-all` tells: so that those are found that
--- scripts have dropped while the program was down, and those that were made while it ran.
---
---   SchedulesChanged { added, removed }
---   SchedulesListed  { names, part, parts }   all of them: what lies before is not needed
local M = {}

M.STREAM = "$schedules-all"

local NAMES_MAX = 1000    -- Of one record.
local CHUNK = 200         -- Records read at once.
local INCREMENTS_MAX = 100 -- Records, and one for each schedule, before all are listed.

-- Collects records backward until those of a list begin.
local function newest_first(store, stream)
  local found, from = {}, store:count(stream) - 1
  while from >= 0 do
    local records, err = store:read(stream, from, CHUNK, true)
    if not records then error(err, 0) end
    for _, record in ipairs(records) do
      found[#found + 1] = record
      if record.type == "SchedulesListed" and record.data.part == 1 then return found end
    end
    if #records == 0 then break end
    from = records[#records].version - 1
  end
  return found
end

--- The names, and how many records reading them took. Raises when it cannot.
---@param store catga.Store
---@return table<string, boolean> names
---@return integer increments
function M.load(store)
  local names = {}
  local stream = store:stream(M.STREAM)
  if not stream or store:count(stream) == 0 then return names, 0 end
  local found = newest_first(store, stream)
  for i = #found, 1, -1 do
    local data = found[i].data
    for _, name in ipairs(data.names or data.added or {}) do names[name] = true end
    for _, name in ipairs(data.removed or {}) do names[name] = nil end
  end
  return names, #found
end

-- The list in parts of NAMES_MAX.
local function parts_of(list)
  local parts = {}
  for i = 1, #list, NAMES_MAX do
    local part = {}
    for k = i, math.min(i + NAMES_MAX - 1, #list) do part[#part + 1] = list[k] end
    parts[#parts + 1] = part
  end
  return parts
end

--- Adds the records of a change to a commit.
---@param add fun(stream: string, type: string, data: table): integer?
---@param json table
---@param added string[]
---@param removed string[]
function M.record(add, json, added, removed)
  for _, part in ipairs(parts_of(added)) do
    add(M.STREAM, "SchedulesChanged", { added = json.array(part), removed = json.array {} })
  end
  for _, part in ipairs(parts_of(removed)) do
    add(M.STREAM, "SchedulesChanged", { added = json.array {}, removed = json.array(part) })
  end
end

--- Is it time to list them all?
---@param increments integer
---@param count integer  schedules
---@return boolean
function M.is_list_due(increments, count) return increments > INCREMENTS_MAX + count end

--- Adds the list of all to a commit.
---@param add fun(stream: string, type: string, data: table): integer?
---@param json table
---@param names string[]
---@return integer records
function M.list(add, json, names)
  local parts = parts_of(names)
  if #parts == 0 then parts = { {} } end
  for i, part in ipairs(parts) do
    add(M.STREAM, "SchedulesListed", { names = json.array(part), part = i, parts = #parts })
  end
  return #parts
end

return M
