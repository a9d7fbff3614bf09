--- Undoing a process: its completed steps in reverse order of their completion records, each undo
--- journaled, retried, and gone on with after a crash.
local errors = require "catga.error"
local journal = require "catga.process.journal"
local steps = require "catga.process.steps"
local state = require "catga.state"
local native_task = require "catga.native.task"

local M = {}

local function undo_step(class, name)
  return class.steps[name] or class.implicit_step and class:implicit_step(name)
end

-- Arguments as stored: a list, or a list with the places of nil.
local function unpack_args(args)
  if args == nil then return 0, {} end
  if args.nils then
    local values, n = {}, #args.args
    for i = 1, n do values[i] = args.args[i] end
    for _, place in ipairs(args.nils) do values[place] = nil end
    return n, values
  end
  return #args, args
end

--- What is to be undone, last completion first.
---@param class catga.ProcessClass
---@param records table[]
---@return table[] list  { op, step, result, args }
function M.list(class, records)
  local list, undone = {}, {}
  for _, record in ipairs(records) do
    local data = record.data
    if record.type == "ProcessStepCompensated" then
      undone[data.op] = true
    elseif record.type == "ProcessStepCompleted"
      or record.type == "ProcessStepFailed" and data.final and data.in_doubt then
      list[#list + 1] = data
    elseif record.type == "ProcessCancelRequested" and data.in_doubt then
      list[#list + 1] = data.in_doubt
    end
  end
  local due = {}
  for i = #list, 1, -1 do
    local data = list[i]
    local step = undo_step(class, data.step)
    if step and step.undo and not undone[data.op] then
      due[#due + 1] = { op = data.op, step = step, result = data.result, args = data.args }
    end
  end
  return due
end

local function undo_one(task, p, item)
  local step = item.step
  local n, args = unpack_args(item.args)
  local failures = 0
  p.path = item.op .. "/undo"
  while true do
    p.nth, p.attempt = 0, failures + 1
    local ok, value = steps.attempt(task, step, step.undo, p.class.self, item.result,
      unpack(args, 1, n))
    local unit = task.unit
    task.unit = nil
    if ok then
      ok, value = journal.compensated(p, step, item.op, value, unit)
      if ok then
        if unit then unit:committed() end
        return true
      end
    end
    failures = failures + 1
    local again = (value.retryable or value.code == "conflict") and failures < step.attempts
    journal.undo_failed(p, step, item.op, failures, value)
    if not again then return false, value end
    task.flow = nil
    steps.wait_until(p, p.app.clock:now() + steps.pause_ms(step, failures))
    task.flow = true
  end
end

--- Undoes what is left to undo. May yield.
---@param p catga.Instance
---@param list table[]
---@return boolean ok
---@return catga.Error? err
function M.run(p, list)
  local task = state[1]
  task.flow = true
  for _, item in ipairs(list) do
    if p.halt then native_task.abandon() end
    local ok, err = undo_one(task, p, item)
    if not ok then
      return false, errors.new(err.code, ("undo of step %s failed: %s"):format(item.step.name,
        err.message), { retryable = err.retryable })
    end
  end
  return true
end

return M
