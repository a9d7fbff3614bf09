--- Running steps: the operations of a process body that have effects; live or from the journal.
---
--- The n-th operation of a strand is journaled under the number n. On replay a recorded operation
--- is compared by kind and name and answered from the journal; a step that has not completed runs.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local retries = require "catga.lazy".module "catga.policy.retry"

local M = {}

local catch = errors.catch
local plain_random = require "catga.sandbox".raw.random

local BACKOFF_MS_MAX = 3600000 -- Longest pause between attempts.
local CONFLICT_RUNS_MAX = 10   -- How often an attempt runs again when its commit met a conflict.

local checkpoint, begin, key_of = strands.checkpoint, strands.begin, strands.key_of

-- What an attempt came to: a step that raises, or returns nil and an error, or took too long has
-- failed. Takes what xpcall returned.
local function judge(task, step, ok, value, err)
  if ok and value == nil and err ~= nil then ok, value = false, errors.from(err) end
  if not ok and type(value) ~= "table" then value = errors.from(value) end -- The handler failed.
  if not (task.timer or task.timed_out) then return ok, value, false end
  if not tasks.end_limit(task) then return ok, value, false end
  return false, errors.new("timeout", ("step %s took longer than its timeout of %d ms")
    :format(step.name, step.timeout_ms), { retryable = true }), true
end

--- Runs one attempt of a step or undo: outside of the flow's determinism, in a unit of work.
--- May yield. Leaves task.unit to the caller.
---@param task catga.Task
---@param step catga.Step
---@param fn function
---@return boolean ok
---@return any value_or_error
---@return boolean timed_out
function M.attempt(task, step, fn, ...)
  task.flow, task.limit = nil, step
  local ok, value, err = xpcall(fn, catch, ...)
  task.flow, task.limit = true, nil
  return judge(task, step, ok, value, err)
end

-- Journals a completion together with what the step staged.
local function complete(task, p, step, op, value, args)
  local unit = task.unit
  task.unit = nil
  local ok, result = journal.completed(p, step, op, value, args, unit)
  if ok and unit then unit:committed() end
  if ok and p.halt then
    p.in_doubt = false
    checkpoint(p)
  end
  return ok, result
end

--- How long to wait before another attempt: doubles with every failure; half of it is jitter, which
--- is not the flow's own randomness.
---@param step { backoff_ms: number }
---@param failures integer
---@param failure catga.Error?  it may say itself when there is use in another attempt
---@return number ms
function M.pause_ms(step, failures, failure)
  local least = failure and failure.retry_after_ms or 0
  if step.retry then
    local before = failures > 1 and step.backoff_ms * 2 ^ math.min(failures - 2, 30) or 0
    return math.ceil(math.max(least, retries.pause(step.retry, failures, before, plain_random)))
  end
  local ms = math.min(step.backoff_ms * 2 ^ (failures - 1), BACKOFF_MS_MAX)
  return math.max(least, math.floor(ms * (0.5 + plain_random() * 0.5)))
end

-- May the step be tried again after that failure?
local function is_retried(step, failure)
  if step.retry then return retries.is_retried(step.retry, failure) end
  return failure.retryable
end

-- Has the attempt failed with a conflict that its unit of work has met already?
local function has_met(task, failure)
  return task.unit ~= nil and task.unit.conflict == failure
end

-- What the attempt holds until its unit of work has ended is let go.
local function let_go(task, ...)
  if task.holds then tasks.let_go(task) end
  return ...
end

-- Commits what an attempt came to; a conflict at the commit, or one that the attempt has met and
-- failed with, runs it again at once, unless the step may run at most once: then one at the commit
-- leaves it in doubt.
local function commit_unit(task, p, step, op, args, ok, value, timed_out, fn, ...)
  local conflict
  for _ = 1, CONFLICT_RUNS_MAX do
    if ok then
      ok, value = complete(task, p, step, op, value, args)
      if ok then return true, value end
      if value.code ~= "conflict" or step.at_most_once then
        return false, value, step.at_most_once
      end
    elseif step.at_most_once or not has_met(task, value) then
      return false, value, timed_out
    end
    conflict = value
    p.nth, task.unit = 0, nil
    ok, value, timed_out = M.attempt(task, step, fn, ...)
  end
  task.unit = nil
  conflict.retryable = true
  return false, conflict
end

local function commit(task, ...) return let_go(task, commit_unit(task, ...)) end

local function attempt_and_commit(task, p, step, op, args, fn, ...)
  p.nth = 0
  local ok, value, timed_out = M.attempt(task, step, fn, ...)
  return commit(task, p, step, op, args, ok, value, timed_out, fn, ...)
end

-- The operation that may have been attempted before a crash is over.
local function done_with_doubt(p)
  p.failures, p.attempt = false, 1
  if p.doubt and p.op >= p.doubt then p.doubt, p.in_doubt = false, false end
end
M.done_with_doubt = done_with_doubt

-- The arguments for the undo; what cannot be stored fails the step before it begins.
local function arguments(p, step, key, ...)
  if not step.undo then return nil end
  local ok, args = pcall(journal.arguments, p, ...)
  if ok then return args end
  local failures = (p.failures or 0) + 1
  done_with_doubt(p)
  error(journal.failed(p, step, key, failures, errors.from(args), nil, false), 0)
end

-- The outcome of a recorded operation.
local function answer(p, step, key, recorded, ...)
  if recorded.error then error(journal.failure_of(step.name, recorded.error), 0) end
  if recorded.done then return recorded.result end
  local failure = errors.new("in_doubt", ("step %s may run at most once and was under way when the "
    .. "program ended; whether it had its effect is not known"):format(step.name))
  error(journal.failed(p, step, key, 1, failure, nil, true, arguments(p, step, key, ...)), 0)
end

-- Somebody gave the step a result.
local function skip(task, p, step, key, args)
  local result = p.skipped.result
  p.skipped, task.unit = false, nil
  done_with_doubt(p)
  local ok, value = journal.completed(p, step, key, result, (args or "") .. ',"skipped":true')
  if ok then return value end
  error(value, 0)
end

-- The pause before another attempt; ends early when somebody gives the step a result.
local function pause(p, step, due)
  p.retrying = true
  strands.nap(p, due, function() return p.skipped end,
    { kind = "retry", name = step.name, due = due })
  p.retrying = false
end

-- Attempts after a failed one, until the step completes or its attempts are used up; raises then.
local function retry(task, p, step, key, args, failure, timed_out, fn, ...)
  local doubt = timed_out or p.doubt == p.op
  local failures = (p.failures or 0) + 1
  while true do
    task.unit = nil
    local again = failures < step.attempts and is_retried(step, failure)
    local due = again and p.app.clock:now() + M.pause_ms(step, failures, failure) or nil
    local stored = journal.failed(p, step, key, failures, failure, due, doubt, args)
    if p.halt then checkpoint(p) end
    if not again then
      done_with_doubt(p)
      error(stored, 0)
    end
    pause(p, step, due)
    strands.go_live(p, "step " .. step.name)
    p.attempt = failures + 1
    local ok, value
    if p.skipped then return skip(task, p, step, key, args) end
    ok, value, timed_out = attempt_and_commit(task, p, step, key, args, fn, ...)
    if ok then
      done_with_doubt(p)
      return value
    end
    doubt = doubt or timed_out
    failure, failures = value, failures + 1
  end
end

-- An operation of which the journal may tell something.
local function replay(p, step, op, key, ...)
  local recorded = journal.recorded(p, op, "step", step.name)
  if not recorded or p.shadow and not recorded.done then return false end
  if recorded.args ~= nil and step.undo then
    journal.check_arguments(p, op, step, recorded.args, ...)
  end
  if recorded.done then strands.take_turn(p, recorded, "step " .. step.name) end
  return true, answer(p, step, key, recorded, ...)
end

local function run_live(task, p, step, op, key, fn, ...)
  if p.shadow then strands.go_live(p, "step " .. step.name, key) end
  local is_doubtful = p.doubt == op
  if p.halt and not is_doubtful then checkpoint(p) end
  local args = arguments(p, step, key, ...)
  if is_doubtful and step.undo then
    p.in_doubt = { step = step, op = key, args = args, failures = (p.failures or 0) + 1 }
  end
  strands.go_live(p, "step " .. step.name, key)
  if p.halt then checkpoint(p) end
  if step.at_most_once then journal.started(p, step, key, args) end
  if p.due then -- Recovered in the pause before an attempt.
    local due = p.due
    p.due = false
    pause(p, step, due)
    if p.skipped then return skip(task, p, step, key, args) end
  end
  if p.failures or is_doubtful then p.attempt = (p.failures or 0) + (is_doubtful and 2 or 1) end
  local ok, value, timed_out = attempt_and_commit(task, p, step, key, args, fn, ...)
  if ok then
    done_with_doubt(p)
    return value
  end
  return retry(task, p, step, key, args, value, timed_out, fn, ...)
end

-- An operation with something special about it: its step has an undo or may run at most once, the
-- process replays, was recovered, is to halt, or has branches.
local function run_special(task, p, step, op, fn, ...)
  local key = key_of(p, op)
  if p.history then
    local is_known, result = replay(p, step, op, key, ...)
    if is_known then return result end
  end
  local value = run_live(task, p, step, op, key, fn, ...)
  if p.floor then strands.drop_floor(p) end
  if not (p.doubt or p.history or p.floor or p.prefix) then p.special = p.halt or p.paused end
  return value
end

-- What is left to do when an attempt was not simply done and journaled.
local function conclude(task, p, step, op, ok, value, err, fn, ...)
  local timed_out
  ok, value, timed_out = judge(task, step, ok, value, err)
  ok, value, timed_out = commit(task, p, step, op, nil, ok, value, timed_out, fn, ...)
  if ok then return value end
  return retry(task, p, step, op, nil, value, timed_out, fn, ...)
end

--- Runs the next operation of the body as a step. The usual case is written out here: it is the
--- hot path of every process.
---@param task catga.Task
---@param p catga.Instance
---@param step catga.Step
---@param fn function
---@return any result  decoded from the journal
function M.run(task, p, step, fn, ...)
  local op = begin(p, step.name)
  if step.guard then fn = step.guard(fn) end
  if p.special or step.special then
    return strands.operate(p, run_special, task, p, step, op, fn, ...)
  end
  p.nth = 0
  task.flow, task.limit = nil, step
  local ok, value, err = xpcall(fn, catch, ...)
  task.flow, task.limit = true, nil
  if ok and (value ~= nil or err == nil) and not (task.unit or task.timer or task.timed_out
    or task.holds) then
    local done, result, time = p.app.store:journal(p.stream, "ProcessStepCompleted", 0,
      step.heads[op] or journal.head_of(step, op), "result", value)
    if done then
      p.now = time
      if p.special then strands.arrived(p) end
      return result
    end
  end
  return strands.operate(p, conclude, task, p, step, op, ok, value, err, fn, ...)
end

--- The method that a script calls as self:name(...).
---@param class catga.ProcessClass
---@param step catga.Step
---@return function
function M.wrap(class, step)
  local fn, run = step.fn, M.run
  return function(self, ...)
    local task = state[1]
    if not task or not task.process then
      error(("step %s of process %s is called outside of a process; start one with "
        .. "catga.start(\"%s\", input)"):format(step.name, class.name, class.name), 2)
    end
    if not task.flow then return fn(self, ...) end -- Inside a step it is a plain call.
    return run(task, task.process, step, fn, self, ...)
  end
end

return M
