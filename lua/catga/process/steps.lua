--- Running the operations of a process body: steps, sends, sleeps; live or from the journal.
---
--- The n-th operation of the body is journaled under the number n. On replay a recorded operation
--- is compared by kind and name and answered from the journal; a step that has not completed runs.
local state = require "catga.state"
local errors = require "catga.error"
local duration = require "catga.duration"
local tasks = require "catga.task"
local journal = require "catga.process.journal"
local native_task = require "catga.native.task"
local random = require "catga.process.random"

local M = {}

local catch = errors.catch
local plain_random = require "catga.sandbox".raw.random

local LOOK_MS = 60000          -- How often a durable timer looks whether the clock has jumped.
local BACKOFF_MS_MAX = 3600000 -- Longest pause between attempts.
local CONFLICT_RUNS_MAX = 10   -- How often an attempt runs again when its commit met a conflict.
local TURN_OPS = 128           -- Operations after which a body lets others run.
local can_park = native_task.can_park

--- Between operations, when p.halt (and so p.special) is set: a cancelled process leaves its body
--- here, one of a stopping app waits here for the next start of the program. Does not return.
---@param p catga.Instance
function M.checkpoint(p)
  if p.cancelled then p.app.engine:undo_cancelled(p) end
  native_task.abandon()
end
local checkpoint = M.checkpoint

-- An operation has to wait for its record, and where that is not possible it must not begin: below
-- a C function. It is not counted then, so the body goes on the same way in every run.
local function begin(p, what)
  if not can_park() then
    error(what .. " is called below a C function such as table.sort, string.gsub or require, where "
      .. "nothing can wait; call it before or after", 3)
  end
  local op = p.op + 1
  p.op = op
  if op % TURN_OPS == 0 then native_task.yield() end
  return op
end

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
  if ok and p.halt then checkpoint(p) end
  return ok, result
end

--- How long to wait before another attempt: doubles with every failure; half of it is jitter, which
--- is not the flow's own randomness.
---@param step { backoff_ms: number }
---@param failures integer
---@return number ms
function M.pause_ms(step, failures)
  local ms = math.min(step.backoff_ms * 2 ^ (failures - 1), BACKOFF_MS_MAX)
  return math.floor(ms * (0.5 + plain_random() * 0.5))
end

local function wait_until(p, due)
  local clock = p.app.clock
  while true do
    local ms = due - clock:now()
    if ms <= 0 then return end
    tasks.wait(clock.sleep, clock, math.min(math.ceil(ms), LOOK_MS))
  end
end
M.wait_until = wait_until

-- The same in the body of a process, which then leaves or goes on.
local function wait_in_flow(task, p, due)
  task.flow = nil
  wait_until(p, due)
  task.flow = true
  if p.halt then checkpoint(p) end
end

-- Has the attempt failed with a conflict that its unit of work has met already?
local function has_met(task, failure)
  return task.unit ~= nil and task.unit.conflict == failure
end

-- Commits what an attempt came to; a conflict at the commit, or one that the attempt has met and
-- failed with, runs it again at once, unless the step may run at most once: then one at the commit
-- leaves it in doubt.
local function commit(task, p, step, op, args, ok, value, timed_out, fn, ...)
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

local function attempt_and_commit(task, p, step, op, args, fn, ...)
  p.nth = 0
  local ok, value, timed_out = M.attempt(task, step, fn, ...)
  return commit(task, p, step, op, args, ok, value, timed_out, fn, ...)
end

-- The operation that may have been attempted before a crash is over.
local function done_with_doubt(p)
  p.failures, p.attempt = nil, nil
  if p.doubt and p.op >= p.doubt then p.doubt, p.in_doubt = nil, nil end
end

-- The arguments for the undo; what cannot be stored fails the step before it begins.
local function arguments(p, step, op, ...)
  if not step.undo then return nil end
  local ok, args = pcall(journal.arguments, p, ...)
  if ok then return args end
  done_with_doubt(p)
  error(journal.failed(p, step, op, (p.failures or 0) + 1, errors.from(args), nil, false), 0)
end

-- The outcome of a recorded operation.
local function answer(p, step, op, recorded, ...)
  if recorded.error then error(errors.from(recorded.error), 0) end
  if recorded.done then return recorded.result end
  local failure = errors.new("in_doubt", ("step %s may run at most once and was under way when the "
    .. "program ended; whether it had its effect is not known"):format(step.name))
  error(journal.failed(p, step, op, 1, failure, nil, true, arguments(p, step, op, ...)), 0)
end

-- Attempts after a failed one, until the step completes or its attempts are used up; raises then.
local function retry(task, p, step, op, args, failure, timed_out, fn, ...)
  local doubt = timed_out or p.doubt == op
  local failures = (p.failures or 0) + 1
  while true do
    task.unit = nil
    local again = failure.retryable and failures < step.attempts
    local due = again and p.app.clock:now() + M.pause_ms(step, failures) or nil
    local stored = journal.failed(p, step, op, failures, failure, due, doubt, args)
    if p.halt then checkpoint(p) end
    if not again then
      done_with_doubt(p)
      error(stored, 0)
    end
    wait_in_flow(task, p, due)
    p.attempt = failures + 1
    local ok, value
    ok, value, timed_out = attempt_and_commit(task, p, step, op, args, fn, ...)
    if ok then
      done_with_doubt(p)
      return value
    end
    doubt = doubt or timed_out
    failure, failures = value, failures + 1
  end
end

-- An operation with something special about it: its step has an undo or may run at most once, the
-- process replays, was recovered, or is to halt.
local function run_special(task, p, step, op, fn, ...)
  if p.history then
    local recorded = journal.recorded(p, op, "step", step.name)
    if recorded then return answer(p, step, op, recorded, ...) end
  end
  if p.halt and p.doubt ~= op then checkpoint(p) end
  local args = arguments(p, step, op, ...)
  if p.doubt == op then p.in_doubt = journal.in_doubt(step, op, args) end
  if p.halt then checkpoint(p) end
  if step.at_most_once then journal.started(p, step, op, args) end
  if p.due then -- Recovered in the pause before an attempt.
    local due = p.due
    p.due = nil
    wait_in_flow(task, p, due)
  end
  if p.failures or p.doubt == op then p.attempt = (p.failures or 0) + (p.doubt == op and 2 or 1) end
  local ok, value, timed_out = attempt_and_commit(task, p, step, op, args, fn, ...)
  if ok then
    done_with_doubt(p)
    if not (p.doubt or p.history) then p.special = p.halt end
    return value
  end
  return retry(task, p, step, op, args, value, timed_out, fn, ...)
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
  if p.special or step.special then return run_special(task, p, step, op, fn, ...) end
  p.nth = 0
  task.flow, task.limit = nil, step
  local ok, value, err = xpcall(fn, catch, ...)
  task.flow, task.limit = true, nil
  if ok and (value ~= nil or err == nil) and not (task.unit or task.timer or task.timed_out) then
    local done, result, time = p.app.store:journal(p.stream, "ProcessStepCompleted", 0,
      step.heads[op] or journal.head_of(step, op), "result", value)
    if done then
      p.now = time
      if p.special then checkpoint(p) end
      return result
    end
  end
  return conclude(task, p, step, op, ok, value, err, fn, ...)
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

-- Sends a command from inside a step; raises when it fails.
local function send_in_step(p, name, data)
  local nth = p.nth + 1
  p.nth = nth
  local value, err = p.app.mediator:send_in_step(p, name, data, p.path or p.op, nth, p.attempt)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

local function current(what)
  local task = state[1]
  local p = task and task.process
  if not p then error("self:" .. what .. " is called outside of a process", 3) end
  return task, p
end

--- Methods of `self` that every process has.
M.verbs = {}
local verbs = M.verbs

--- Sends a command; in the body an implicit step named after it. Raises when the command fails.
function verbs.send(_, name, data)
  local task, p = current("send")
  if type(name) ~= "string" then error("self:send needs the name of a command", 2) end
  if not task.flow then return send_in_step(p, name, data) end
  local step = p.class:implicit_step(name)
  local send = step.send
  if not send then
    send = function(_, input) return send_in_step(state[1].process, name, input) end
    step.send = send
  end
  return M.run(task, p, step, send, p.class.self, data)
end

--- Runs a function as a step of that name; undo by compensate_<name>.
function verbs.step(_, name, fn)
  local task, p = current("step")
  if type(name) ~= "string" or type(fn) ~= "function" then
    error("self:step(name, fn) needs a name and a function", 2)
  end
  if not task.flow then return fn() end
  return M.run(task, p, p.class:implicit_step(name), fn)
end

--- Waits; in the body a durable timer, inside a step a plain pause.
function verbs.sleep(_, text)
  local task, p = current("sleep")
  local ms = duration.ms(text, "self:sleep")
  if not task.flow then
    tasks.wait(p.app.clock.sleep, p.app.clock, ms)
    return
  end
  local op = begin(p, "self:sleep")
  local recorded = p.history and journal.recorded(p, op, "timer", "sleep")
  if recorded and recorded.fired then return end
  local due = recorded and recorded.due or p.app.clock:now() + ms
  if not recorded then journal.timer_set(p, op, due) end
  if p.halt then checkpoint(p) end
  p.waiting = true
  wait_in_flow(task, p, due)
  p.waiting = nil
  journal.timer_fired(p, op)
  if p.halt then checkpoint(p) end
end

--- Milliseconds since the Unix epoch; in the body the time of the last journaled operation.
function verbs.now(_)
  local task, p = current("now")
  if task.flow then return p:time() end
  return p.app.clock:now()
end

--- A random number from 0 to 1 (excluded), the same on every replay.
function verbs.random(_)
  local task, p = current("random")
  if task.flow then return p:random() end
  return math.random()
end

--- A random UUID (version 4), the same on every replay.
function verbs.uuid(_)
  local task, p = current("uuid")
  return random.uuid(task.flow and function() return p:random() end or math.random)
end

--- A new id of the host, never given before.
function verbs.new_id(_)
  local task, p = current("new_id")
  if not task.flow then return p.app:new_id() end
  return M.run(task, p, p.class:implicit_step("new_id"), function() return p.app:new_id() end)
end

return M
