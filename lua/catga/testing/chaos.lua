--- A process killed at every record of its journal: the one-line chaos test of a flow.
---
---   local fault = testing.chaos(app_dir_or_function, "OrderProcess", { id = "1" })
---   assert.is_nil(fault)
---
--- The process runs once to its end; then, for each record behind its start, an app is opened on
--- what a kill at that record would have left, and must come to the same end. What was journaled
--- before the kill must still be there, in order; no completed step may complete again, none may be
--- undone twice; and when the process is compensated, what has an undo must have been undone.
local M = {}

local LATER_MS = 60000 -- How much later than the first run the apps after a kill begin.

-- Faults of one journal.
local function check_journal(records, before)
  for i, record in ipairs(before) do
    local is = records[i]
    if not is or is.id ~= record.id then return ("record %d is not what it was"):format(i) end
  end
  local done, undone = {}, {}
  for _, record in ipairs(records) do
    local op = type(record.data) == "table" and record.data.op
    if record.type == "ProcessStepCompleted" then
      if done[op] then return ("operation %s completed twice"):format(op) end
      done[op] = true
    elseif record.type == "ProcessStepCompensated" then
      if undone[op] then return ("operation %s was undone twice"):format(op) end
      undone[op] = true
    end
  end
end

local function outcome_of(json, status, result, err, opts)
  if opts.same == false then return status end
  return json.encode { status = status, result = result, code = err and err.code }
end

local function drive(opts, app, id)
  if opts.drive then
    app:settle()
    opts.drive(app, id)
  end
end

local function below(records, position)
  local list = {}
  for _, record in ipairs(records) do
    if record.position < position then list[#list + 1] = record end
  end
  return list
end

-- What goes wrong after a kill below `position`; nil: nothing.
local function kill_at(open, source, whole, id, position, expected, opts)
  local memory, behind = whole:snapshot(position) -- A commit is there as a whole, or not.
  local before = below(whole:journal(id), behind)
  if #before == 0 then return nil end
  if opts.reset then opts.reset() end
  local app = assert(open(source, opts, { memory = memory,
    start = whole.clock:now() + LATER_MS }))
  drive(opts, app, id)
  local status, result, err = app:wait(id)
  local fault = check_journal(app:journal(id), before)
  local is = outcome_of(app.app.json, status, result, err, opts)
  local lines = table.concat(app.lines, "\n")
  app:stop()
  if fault then return fault end
  if is ~= expected then
    return ("it ended with %s instead of %s (%s)\n%s"):format(is, expected, tostring(err), lines)
  end
end

--- Kills a process at every record of its journal. May yield.
---@param open fun(source: any, opts: table, more: table): catga.TestApp?
---@param source string|fun()
---@param name string
---@param input any
---@param opts { drive: fun(app: catga.TestApp, id: string)?, same: boolean?, reset: fun()?,
---  settings: table?, stubs: table? }?  drive: does what the outside does, also after each kill, so
---  give messages ids; same = false: only the status must be the same; reset: before each life
---@return string? fault
---@return integer kills
function M.run(open, source, name, input, opts)
  opts = opts or {}
  if opts.reset then opts.reset() end
  local whole = assert(open(source, opts, {}))
  local id, refused = whole:start(name, input)
  if not id then
    whole:stop()
    return tostring(refused), 0
  end
  drive(opts, whole, id)
  local status, result, err = whole:wait(id)
  local expected = outcome_of(whole.app.json, status, result, err, opts)
  local fault = check_journal(whole:journal(id), {})
  local kills = 0
  for position = 2, whole:position() - 1 do
    if fault then break end
    fault = kill_at(open, source, whole, id, position, expected, opts)
    kills = kills + 1
    if fault then fault = ("killed at record %d: %s"):format(position, fault) end
  end
  whole:stop()
  return fault, kills
end

return M
