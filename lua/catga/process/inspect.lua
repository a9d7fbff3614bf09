--- Does a script still do what a journal holds? Replays a process as a shadow and says so, with the
--- place in the script where it asks for something else.
local errors = require "catga.error"
local journal = require "catga.process.journal"
local shadow = require "catga.process.shadow"
local engine = require "catga.process.engine"
local codec = require "catga.native.json"
local raw = require "catga.sandbox".raw

local M = {}

-- Statuses of processes whose body has come to its end by an error, unless it was abandoned.
local BY_ERROR = { ProcessFailed = true, ProcessCompensated = true,
  ProcessCompensationFailed = true }

-- The strands that stopped where something new would happen, the body's own first.
local function stops(p)
  local list = {}
  for b in raw.pairs(p.branches or {}) do
    if type(b.stopped) == "table" then list[#list + 1] = b.stopped end
  end
  table.sort(list, function(a, b) return tostring(a.key) < tostring(b.key) end)
  if type(p.stopped) == "table" then table.insert(list, 1, p.stopped) end
  return list
end

-- Was the body abandoned, by a cancel or a timeout?
local function was_abandoned(app, stream)
  local records = journal.records(app, stream) or {}
  for i = #records, 1, -1 do
    local type = records[i].type
    if type == "ProcessCancelRequested" or type == "ProcessTimedOut" then return true end
    if type == "ProcessRetried" then return false end
  end
  return false
end

-- What differs at the end of a process that has ended: what is expected, what the script does, and
-- where it is; nil: nothing.
local function compare_end(p)
  local last, ended = p.shadow.last, p.shadow.ended
  local is_completed = last.type == "ProcessCompleted"
  if not is_completed and (not BY_ERROR[last.type] or was_abandoned(p.app, p.stream)) then
    return nil
  end
  local expected = is_completed and "the end of execute" or "the end of execute by an error"
  if not ended then
    local first = stops(p)[1]
    return { expected = expected, asked = first.asked, at = first.at, op = first.key }
  end
  local found = { expected = expected, op = p.op + 1, at = journal.body_place(p) }
  if ended.ok ~= is_completed then
    found.asked = ended.ok and "its end with a result" or "the error " .. tostring(ended.result)
    return found
  end
  if not is_completed then return nil end
  local recorded = p.app.store:encode(last.data.result, "result")
  local is, fault = p.app.store:encode(ended.result, "result")
  if is == recorded then return nil end
  found.expected = "the result " .. tostring(recorded)
  found.asked = "the result " .. (is or tostring(fault))
  return found
end

local function verdict(p, status, failure)
  if status == "stopped" then return nil, failure end
  local found = p.diverged
  if found then
    found = { expected = found.recorded, asked = found.asked, at = found.at, op = found.op }
  elseif engine.STATUS_OF[p.shadow.last.type] then
    found = compare_end(p)
  end
  local list = {}
  for i, one in ipairs(not found and not p.shadow.ended and stops(p) or {}) do
    list[i] = { op = one.key, waits_for = one.asked, at = one.at }
  end
  return { id = p.id, name = p.class.name, records = p.shadow.count,
    verdict = found and "diverged" or "same", op = found and found.op,
    expected = found and found.expected, asked = found and found.asked, at = found and found.at,
    strands = codec.array(list) }
end

--- Replays the journal of a process, running or not, by the scripts as they are, without effect:
--- { id, name, records, verdict = "same" } and, of one that has not ended, `strands`, where it
--- stands; or verdict = "diverged" with op, expected, asked and at (file:line). May yield.
---@param from catga.Engine
---@param id string
---@return table? verdict
---@return catga.Error? err
function M.replay(from, id)
  local stream, err = shadow.stream_of(from.app, id)
  if not stream then return nil, err end
  local ok, value, failure = pcall(shadow.with, from.app, id, stream, verdict)
  if not ok then return nil, errors.from(value) end
  return value, failure
end

return M
