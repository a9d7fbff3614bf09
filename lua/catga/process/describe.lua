--- What a process does, for who looks at it from outside: what it waits for, which step is
--- attempted, which approvals are open; and what a record of a journal says, as text. Changes
--- nothing.
---
--- Of a process that waits and is not in memory its journal tells the same.
local engines = require "catga.process.engine"
local journal = require "catga.process.journal"
local mailbox = require "catga.process.mailbox"
local raw = require "catga.sandbox".raw
local array = require "catga.native.json".array

local M = {}

local LOOKS_MAX = 20000 -- Processes out of memory that one list of approvals looks at.
local LOOK_BACK = 1000  -- Records at the end of a journal in which its wait is looked for.

-- Kinds of waits whose name in the journal is another one.
local KINDS = { child_end = "child", await = "promise" }

-- The number of the operation that a strand has under way, as the journal has it.
local function op_of(s) return s.prefix and s.prefix .. s.op or s.op end

-- Strands whose body goes on, in the order in which they were made.
local function live_strands(p)
  if p.status or p.ending or p.cancelled then return {} end
  local list = engines.strands_of(p)
  table.sort(list, function(a, b) return (a.serial or 0) < (b.serial or 0) end)
  return list
end

-- What a strand waits for, as strand.nap was told; nil: nothing.
local function wait_of(p, s)
  local what = s.waiting
  if type(what) == "number" then
    return { op = op_of(s), kind = "timer", name = "sleep", due = what }
  end
  if type(what) ~= "table" then return nil end
  local name = what.kind == "await" and p.promises and p.promises[what.name] or what.name
  return { op = op_of(s), kind = KINDS[what.kind] or what.kind, name = name, due = what.due }
end

--- What the strands of a process wait for. `kind` is "timer", "signal", "approval", "promise" (its
--- name is the id), "event", "child" (its id) or "retry" (the step that will be attempted again).
---@param p catga.Instance
---@return { op: integer|string, kind: string, name: string, due: number? }[]
function M.waits(p)
  local list = array {}
  for _, s in ipairs(live_strands(p)) do list[#list + 1] = wait_of(p, s) end
  return list
end

--- The steps, or the undo, whose attempts run.
---@param p catga.Instance
---@return { op: integer|string, name: string, attempt: integer, is_undo: boolean? }[]
function M.steps(p)
  local list = array {}
  for _, s in ipairs(engines.strands_of(p)) do
    local step = s.task and s.task.limit
    local undone = s.path and s.path:match("^(.*)/undo$")
    if step then
      list[#list + 1] = { op = undone and (tonumber(undone) or undone) or op_of(s),
        name = step.name, attempt = s.attempt, is_undo = undone and true or nil }
    end
  end
  table.sort(list, function(a, b) return tostring(a.op) < tostring(b.op) end)
  return list
end

local function sorted(set)
  local list = {}
  for name in raw.pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

--- An approval that is waited for.
---@class catga.OpenApproval
---@field process string
---@field name string
---@field approvers string[]?  who may answer; nil: anybody
---@field quorum integer       how many must approve
---@field answers { by: string?, reason: string? }[]  who has approved so far
---@field due number?          Unix ms

-- One that is waited for; `messages`: what was answered.
local function approval_of(id, wait, quorum, approvers, messages)
  local answers = array {}
  for i, message in ipairs(messages) do
    answers[i] = { by = message.data.by, reason = message.data.reason }
  end
  return { process = id, name = wait.name, quorum = quorum, due = wait.due, approvers = approvers,
    answers = answers }
end

--- The approvals that a process in memory waits for.
---@param p catga.Instance
---@return catga.OpenApproval[]
function M.approvals(p)
  local list = array {}
  for _, s in ipairs(p.approvals and live_strands(p) or {}) do
    local what = s.waiting
    local asked = type(what) == "table" and what.kind == "approval" and p.approvals[what.name]
    if asked then
      list[#list + 1] = approval_of(p.id, what, asked.quorum,
        asked.approvers and sorted(asked.approvers), mailbox.list(p, "approval " .. what.name))
    end
  end
  return list
end

-- By type of record: the wait that it begins.
local BEGINS = {}
function BEGINS.ProcessTimerSet(data)
  return { op = data.op, kind = "timer", name = "sleep", due = data.due }
end
function BEGINS.ProcessWaitStarted(data)
  return { op = data.op, kind = KINDS[data.kind] or data.kind, name = data.name, due = data.due }
end
function BEGINS.ProcessStepFailed(data)
  if data.final then return nil end
  return { op = data.op, kind = "retry", name = data.step, due = data.retry_at }
end

-- What the body of a process waits for that is not in memory: the last record with an operation
-- tells it; behind that there are messages and updates only. And what was answered since, if it is
-- an approval.
local function stored_wait(app, stream, id)
  local store, answers = app.store, {}
  local last = store:count(stream) - 1
  for version = last, math.max(0, last - LOOK_BACK), -1 do
    local list = store:read(stream, version, 1)
    local record = list and list[1]
    local data = record and record.data
    if type(data) ~= "table" then return nil end
    if data.op ~= nil and not journal.is_of_update(record) then
      local begins = BEGINS[record.type]
      local wait = begins and begins(data)
      if not wait or wait.kind ~= "approval" then return wait end
      if data.approvers then table.sort(data.approvers) end
      return wait, approval_of(id, wait, data.quorum or 1, data.approvers, answers)
    end
    if record.type == "ProcessApprovalAnswered" then
      table.insert(answers, 1, { data = data })
    end
  end
end

-- The id of a promise by the number of the operation that made it.
local function name_promise(app, stream, wait)
  for _, record in ipairs(journal.records(app, stream) or {}) do
    if record.type == "ProcessPromiseMade" and tostring(record.data.op) == wait.name then
      wait.name = record.data.id
    end
  end
end

--- Adds what there is to see of a process that has not ended to its document: waits, step, steps,
--- approvals.
---@param app catga.App
---@param process table  as lists have it; step: the first that is attempted; steps: all, where
---  branches attempt several
---@return table process
function M.add(app, process)
  local p, stream = app.engine.active[process.id], app.store:stream(journal.PREFIX .. process.id)
  if p then
    local steps, approvals = M.steps(p), M.approvals(p)
    process.waits, process.step = M.waits(p), steps[1]
    process.steps = steps[2] and steps or nil
    process.approvals = approvals[1] and approvals or nil
  elseif app.store:is_unfinished(stream) then
    local wait, approval = stored_wait(app, stream, process.id)
    if wait and wait.kind == "promise" then name_promise(app, stream, wait) end
    process.waits, process.approvals = array { wait }, approval and array { approval } or nil
  end
  return process
end

-- Records behind which a body may wait for an approval, when the process is not in memory.
local function may_ask(record)
  local data = record and record.data
  if not record or record.type == "ProcessTimerSet" then return false end
  return record.type ~= "ProcessWaitStarted" or type(data) == "table" and data.kind == "approval"
end

-- Those of processes that are not in memory.
local function add_stored(app, list)
  local looks = 0
  for _, stream in ipairs(app.store:unfinished(journal.PREFIX)) do
    local id = app.store:name(stream):match("^" .. journal.PREFIX:gsub("%-", "%%-") .. "(.*)$")
    if id and not app.engine.active[id] then
      looks = looks + 1
      if looks > LOOKS_MAX then return end
      if may_ask(app.store:read(stream, app.store:count(stream) - 1, 1)[1]) then
        local _, approval = stored_wait(app, stream, id)
        list[#list + 1] = approval
      end
    end
  end
end

--- The approvals that processes wait for, by the ids of the processes. Looks at 20,000 processes
--- that are not in memory at most.
---@param app catga.App
---@param max integer
---@return catga.OpenApproval[]
function M.all_approvals(app, max)
  local list = array {}
  for _, p in raw.pairs(app.engine.active) do
    if p.approvals then
      for _, approval in ipairs(M.approvals(p)) do list[#list + 1] = approval end
    end
  end
  add_stored(app, list)
  table.sort(list, function(a, b)
    if a.process ~= b.process then return a.process < b.process end
    return a.name < b.name
  end)
  for i = #list, max + 1, -1 do list[i] = nil end
  return list
end

local function time_text(ms) return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(ms / 1000)) end

local function because(data) return data.reason and ": " .. tostring(data.reason) or "" end

local function error_text(failure)
  if type(failure) ~= "table" then return tostring(failure) end
  return ("%s: %s"):format(tostring(failure.code), tostring(failure.message))
end

local function wait_text(data)
  return ("%s %s"):format(KINDS[data.kind] or tostring(data.kind), tostring(data.name))
end

-- By type of record: what it says.
local SAYS = {}
function SAYS.ProcessStarted(data)
  return "started " .. tostring(data.name) .. (data.parent and " by " .. data.parent.id or "")
end
function SAYS.ProcessStepStarted(data) return ("step %s begins"):format(data.step) end
function SAYS.ProcessStepCompleted(data)
  return ("step %s %s"):format(data.step, data.skipped and "skipped" or "done")
end
function SAYS.ProcessStepFailed(data)
  return ("step %s failed (attempt %d%s): %s"):format(data.step, data.attempt,
    data.retry_at and ", next at " .. time_text(data.retry_at) or "", error_text(data.error))
end
function SAYS.ProcessTimerSet(data) return "sleeps until " .. time_text(data.due) end
function SAYS.ProcessTimerFired() return "has slept" end
function SAYS.ProcessWaitStarted(data)
  return ("waits for %s%s"):format(wait_text(data), data.due and " until " .. time_text(data.due)
    or "")
end
function SAYS.ProcessWaitCompleted(data)
  return ("got %s%s"):format(wait_text(data), data.error and ": " .. error_text(data.error) or "")
end
function SAYS.ProcessWaitTimedOut(data) return wait_text(data) .. ": timed out" end
function SAYS.ProcessPromiseMade(data) return "made promise " .. tostring(data.id) end
function SAYS.ProcessSignalled(data) return "signal " .. tostring(data.signal) end
function SAYS.ProcessApprovalAnswered(data)
  return ("approval %s: %s%s%s"):format(tostring(data.approval),
    data.approved and "approved" or "rejected", data.by and " by " .. data.by or "", because(data))
end
function SAYS.ProcessPromiseResolved() return "promise resolved" end
function SAYS.ProcessPromiseRejected(data) return "promise rejected: " .. error_text(data.error) end
function SAYS.ProcessChildStarted(data)
  return ("started child %s: %s"):format(data.child, tostring(data.name))
end
function SAYS.ProcessBranchesJoined(data)
  return ("branches of %s joined%s"):format(wait_text(data),
    data.winner and ", first was " .. tostring(data.winner) or "")
end
function SAYS.ProcessLoopRound(data)
  return ("round %s of the loop done"):format(tostring(data.round))
end
function SAYS.ProcessLoopEnded(data)
  return "loop ended" .. (data.error and ": " .. error_text(data.error) or "")
end
function SAYS.ProcessTagged() return "tags changed" end
function SAYS.ProcessPaused(data) return "paused" .. because(data) end
function SAYS.ProcessResumed(data) return "resumed" .. because(data) end
function SAYS.ProcessRetried(data) return "tried again" .. because(data) end
function SAYS.ProcessCompensationStarted(data) return "undoes: " .. error_text(data.error) end
function SAYS.ProcessStepCompensated(data) return ("step %s undone"):format(data.step) end
function SAYS.ProcessCompensationAttemptFailed(data)
  return ("undo of step %s failed (attempt %d): %s"):format(data.step, data.attempt,
    error_text(data.error))
end
function SAYS.ProcessDiverged(data)
  local detail = data.detail
  return ("diverged at %s: %s is recorded, the script asks for %s"):format(tostring(detail.at),
    tostring(detail.recorded), tostring(detail.asked))
end
function SAYS.ProcessCompleted() return "completed" end

-- "ProcessTimedOut" without more to say: "timed out".
local function words_of(type)
  local words = type:gsub("^Process", ""):gsub("(%l)(%u)", "%1 %2"):lower()
  return words
end

--- What a record of a journal says: one line.
---@param record { type: string, data: any }
---@return string
function M.record(record)
  local data, says = record.data, SAYS[record.type]
  if type(data) ~= "table" then return words_of(record.type) end
  local ok, text = pcall(says or function() return nil end, data)
  if ok and text then return text end
  return words_of(record.type) .. (data.error and ": " .. error_text(data.error) or "")
end

return M
