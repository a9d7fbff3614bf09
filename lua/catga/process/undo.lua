--- Undoing a process: its completed steps in reverse order of their completion records, each undo
--- journaled, retried, and gone on with after a crash.
local errors = require "catga.error"
local journal = require "catga.process.journal"
local steps = require "catga.process.steps"
local strands = require "catga.process.strand"
local serializers = require "catga.lazy".module "catga.process.serializer"
local blobs = require "catga.lazy".module "catga.process.blobs"
local state = require "catga.state"
local tasks = require "catga.task"
local native_task = require "catga.native.task"

local M = {}

local LOOK_MS = 60000 -- How often a wait for a time looks whether the clock has jumped.
local CONFLICT_RUNS_MAX = 10 -- How often an undo runs again at once when its commit met a conflict.

-- Outside of the body: nothing wakes it before its time.
local function wait_until(p, due)
  local clock = p.app.clock
  while true do
    local ms = due - clock:now()
    if ms <= 0 then return end
    tasks.wait(clock.sleep, clock, math.min(math.ceil(ms), LOOK_MS))
  end
end

-- Stands for an undo that the scripts no longer have: it had one when its arguments were journaled.
local function undo_is_gone()
  error(errors.new("undo_missing", "the scripts no longer have the undo of this step; bring it "
    .. "back"), 0)
end

-- Arguments as stored: a list, or a list with the places of nil.
local function unpack_args(app, args)
  if args == nil then return 0, {} end
  if args.blob then args = blobs.get(app, args.blob.hash) end
  if args.packed then args = serializers.unpack(args.packed, args.data) end
  if args.nils then
    local values, n = {}, #args.args
    for i = 1, n do values[i] = args.args[i] end
    for _, place in ipairs(args.nils) do values[place] = nil end
    return n, values
  end
  return #args, args
end

-- What the records of a journal say of operations that may have to be undone.
local GATHER = {}
function GATHER.ProcessStepCompensated(g, data)
  g.undone[data.op] = true
  for _, op in ipairs(data.ops or {}) do g.undone[op] = true end
end
function GATHER.ProcessStepCompleted(g, data)
  g.open[data.op], g.settled[data.op] = nil, true
  g.list[#g.list + 1] = data
end
function GATHER.ProcessStepFailed(g, data)
  if data.final then g.open[data.op], g.settled[data.op] = nil, true end
  if not data.in_doubt then return end
  if data.final then g.list[#g.list + 1] = data else g.open[data.op] = data end
end
-- It may have had an effect, unless a later record tells.
function GATHER.ProcessStepStarted(g, data) g.open[data.op] = data end
function GATHER.ProcessCancelRequested(g, data)
  if not data.in_doubt then return end
  -- Engine version 1 wrote one object; there is a list of them where there are branches.
  for _, one in ipairs(data.in_doubt.op and { data.in_doubt } or data.in_doubt) do
    -- A strand may have been ended while its record was on its way.
    if not g.settled[one.op] then g.open[one.op] = one end
  end
end
GATHER.ProcessTimedOut = GATHER.ProcessCancelRequested
-- What finished rounds of a loop have done stays.
function GATHER.ProcessLoopRound(g, data)
  local own, kept = tostring(data.op) .. ".", {}
  for _, one in ipairs(g.list) do
    if tostring(one.op):sub(1, #own) ~= own then kept[#kept + 1] = one end
  end
  g.list = kept
  for op in pairs(g.open) do
    if tostring(op):sub(1, #own) == own then g.open[op] = nil end
  end
end
function GATHER.ProcessLoopEnded(g, data)
  if not data.error then GATHER.ProcessLoopRound(g, data) end -- Else what its last round has done.
end

-- What the journal holds of each operation that may have to be undone, in the order of completion.
local function gather(records)
  local g = { list = {}, undone = {}, open = {}, settled = {} }
  local is_dropped = journal.dropped(records)
  for i, record in ipairs(records) do
    local take = GATHER[record.type]
    if take and not is_dropped(i) then take(g, record.data) end
  end
  local list, undone, open = g.list, g.undone, g.open
  local keys = {}
  for key in pairs(open) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do list[#list + 1] = open[key] end -- One a strand: its last operation.
  return list, undone
end

--- What is to be undone, last completion first.
---@param class catga.ProcessClass
---@param records table[]
---@param takes (fun(op: integer|string): boolean)?  only what it takes
---@return table[] list  { op, step, undo, result, args }
function M.list(class, records, takes)
  local list, undone = gather(records)
  local due = {}
  for i = #list, 1, -1 do
    local data = list[i]
    local step = class.steps[data.step] or class:implicit_step(data.step)
    local undo = step.undo or data.args ~= nil and undo_is_gone or nil
    if undo and not undone[data.op] and (not takes or takes(data.op)) then
      due[#due + 1] = { op = data.op, step = step, undo = undo, result = data.result,
        args = data.args, in_doubt = data.result == nil and not data["nil"] or nil }
    end
  end
  return due
end

-- One attempt, and its record; a conflict at the commit runs it again at once.
local function attempt(task, p, item)
  local n, args = unpack_args(p.app, item.args)
  local ok, value
  for _ = 1, CONFLICT_RUNS_MAX do
    p.nth = 0
    ok, value = steps.attempt(task, item.step, item.undo, p.class.self, item.result,
      unpack(args, 1, n))
    local unit = task.unit
    task.unit = nil
    if not ok then return false, value end
    ok, value = journal.compensated(p, item.step, item.op, value, unit, item.tail)
    if ok then
      if unit then unit:committed() end
      return true
    end
    if value.code ~= "conflict" then return false, value end
  end
  return false, value
end

-- The app stops, or the process was cancelled while a branch of it undid something.
local function leave(p)
  if p.ending then native_task.abandon() end
  strands.checkpoint(p)
end

local function undo_one(task, p, item)
  local step = item.step
  local failures = 0
  p.path = item.op .. "/undo"
  while true do
    p.attempt = failures + 1
    local ok, failure = attempt(task, p, item)
    if ok then return true end
    failures = failures + 1
    local again = (failure.retryable or failure.code == "conflict") and failures < step.attempts
    journal.undo_failed(p, step, item.op, failures, failure)
    if not again then return false, failure end
    if p.halt then leave(p) end
    task.flow = nil
    wait_until(p, p.app.clock:now() + steps.pause_ms(step, failures))
    task.flow = true
    if p.halt then leave(p) end
  end
end

-- What the one undo of the whole process is called with, in the place of the undos of the steps.
local function as_one(p, list, op, failed_step)
  local class, completed, ops = p.class, {}, {}
  for i, item in ipairs(list) do
    local _, args = unpack_args(p.app, item.args)
    completed[i] = { step = item.step.name, result = item.result, args = args,
      in_doubt = item.in_doubt }
    ops[i] = item.op
  end
  return { { op = op, step = class.compensation, undo = class.compensate, result = failed_step,
    args = { completed }, tail = ',"ops":' .. journal.json.encode(ops) } }
end

--- The further member of the record that an undo begins: what the one undo of the whole process
--- will need.
---@param p catga.Instance
---@param failure catga.Error
---@return string? tail
function M.note(p, failure)
  if not (p.class.compensate and failure.failed_step) then return nil end
  return ',"failed_step":' .. journal.json.encode(failure.failed_step)
end

--- Undoes what is left to undo. May yield.
---@param p catga.Instance
---@param list table[]
---@param failed_step string?    whose failure is the reason
---@param op integer|string|nil  under which a process's own undo is journaled, default 0
---@return boolean ok
---@return catga.Error? err
function M.run(p, list, failed_step, op)
  local task = state[1]
  task.flow = true
  if p.class.compensate then list = as_one(p, list, op or 0, failed_step) end
  for _, item in ipairs(list) do
    if p.halt then leave(p) end
    local ok, err = undo_one(task, p, item)
    if not ok then
      return false, errors.new(err.code, ("undo of step %s failed: %s"):format(item.step.name,
        err.message), { retryable = err.retryable })
    end
  end
  return true
end

return M
