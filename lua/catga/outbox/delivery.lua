--- One delivery of a message: its handler as a unit of work with the record of its end in the same
--- commit, and what becomes of the message when it fails.
local state = require "catga.state"
local errors = require "catga.error"
local native_task = require "catga.native.task"
local units = require "catga.unit"
local commits = require "catga.commit"
local pause_ms = require "catga.process.steps".pause_ms
local lazy = require "catga.lazy"
local messages = require "catga.outbox.message"
local dead_letters = lazy.module "catga.dead_letters"
local letters = lazy.module "catga.outbox.letters"
local causes = lazy.module "catga.dead_letters.cause"

local M = {}

local LOOK_MS = 1000    -- When a handler that cannot be interrupted now is looked at again.
local CRASHES_MAX = 3   -- Attempts of a message behind which the program ended.
local VALUE_BYTES_MAX = 64 * 1024 -- Of an outcome that is kept.

local function stream_name(message) return messages.PREFIX .. message.id end

-- The outcome, as the record has it: what JSON cannot hold, or is large, is left out.
local function outcome(app, value)
  if value == nil then return {} end
  local json = app.store:encode({ value = value }, "outcome")
  if json and #json <= VALUE_BYTES_MAX then return { value = value } end
  return { value_left_out = true }
end

-- What the mediator runs: inside the unit of work, perhaps in a task of a hedge.
local function run(data, ctx)
  local message = ctx.entry.message
  local value, err = message.perform(data, ctx)
  if value == nil and err ~= nil then return nil, err end
  local app = ctx.app
  if message.kind == "letter" then
    local closed, fault = dead_letters.stage(message.letter, "LetterClosed", { how = "retried" })
    if not closed then return nil, fault end
  end
  local version, fault = units.of(state[1]):append(stream_name(message),
    { { type = "MessageHandled", data = outcome(app, value) } }, message.version, messages.CLOSES)
  if not version then return nil, fault end
  return value -- Policies around it may keep it.
end

-- The mediator's entry for a message, and what is given of its envelope; or nil and an error.
local function entry_of(app, message)
  local entry = { name = message.name, kind = "command", app = app, run = run, message = message,
    registry = app.registry, counter = { calls = 0, failures = 0 } }
  local opts = { id = message.id, key = message.key or message.id, has_key = message.key ~= nil,
    attempt = message.attempts + 1, correlation_id = message.correlation_id,
    causation_id = message.causation_id, hops = message.hops }
  if message.kind ~= "command" then
    message.perform = letters.performer(app, message)
    return entry, opts
  end
  local handler = app.registry.handlers[message.name]
  if not handler or handler.kind ~= "command" then
    return nil, app.registry:unknown("command", message.name)
  end
  message.perform, entry.counter, entry.registry = handler.run, handler.counter, handler.registry
  -- A batch would be one unit of work of several messages, without their ends.
  entry.outer = not handler.run_list and handler.outer or nil
  return entry, opts
end

-- A policy has answered without the handler, such as a cache or a fallback: that is the end of it.
local function record_end(app, message, value)
  return commits.records(app, function(add)
    add(stream_name(message), "MessageHandled", outcome(app, value), messages.CLOSES)
  end)
end

-- Hands the message to its handler; true, or nil and an error.
local function call(app, message)
  local entry, opts = entry_of(app, message)
  if not entry then return nil, opts end
  local task = state[1]
  local value, err = app.mediator:run(entry, message.data, opts)
  task.interrupt = nil
  if value == nil and err ~= nil then return nil, err end
  if not app.store:is_unfinished(message.stream) then return true end
  return record_end(app, message, value)
end

local function expire(message, now)
  local task = message.task
  message.deadline = now + LOOK_MS
  task.interrupt = errors.new("timeout", ("the delivery took longer than its timeout of %d ms")
    :format(message.timeout), { retryable = true })
  if not native_task.interrupt(task) then task.interrupt = nil end
end

local watch

local function look_at_deadlines(outbox)
  outbox.sweep = nil
  local now, first = outbox.app.clock:mono(), nil
  for message in pairs(outbox.out) do
    if message.task then
      if message.deadline <= now then expire(message, now) end
      first = math.min(first or message.deadline, message.deadline)
    end
  end
  if first then watch(outbox, first) end
end

-- Looks at what is being handled at a time, or before.
function watch(outbox, deadline)
  if outbox.sweep then
    if outbox.sweep_at <= deadline then return end
    outbox.app.clock:cancel(outbox.sweep)
  end
  outbox.sweep_at = deadline
  outbox.sweep = outbox:after(deadline - outbox.app.clock:mono(), function()
    look_at_deadlines(outbox)
  end)
end

local function describe(message)
  return ("message %s (%s %s)"):format(message.id, message.kind, message.name)
end

-- A record could not be committed: the message waits for space, or until the next start.
local function not_recorded(outbox, message, fault)
  local app = outbox.app
  if app.is_closed or outbox.is_halting then return end
  local pause = commits.pause_after(fault)
  if pause then return outbox:postpone(message, app.clock:now() + pause) end
  app:say("error", ("outbox: %s waits until the next start: %s"):format(describe(message),
    fault.message))
end

-- What is a dead letter of it.
local function letter_of(message, err)
  local letter = { kind = message.kind == "handler" and "handler" or "message",
    source = message.name, type = message.name, data = message.data, reason = err,
    attempts = message.attempts, correlation_id = message.correlation_id,
    first_failed = message.first_failed, detail = { message = message.id, key = message.key,
      group = message.group, attempts = message.options.attempts,
      backoff = message.options.backoff, timeout = message.options.timeout,
      priority = message.priority } }
  if message.kind == "handler" then
    local event = message.event
    letter.source = message.handler.at
    letter.stream, letter.version, letter.position = event.stream, event.version, event.position
    letter.detail.handler, letter.detail.event = message.handler, event
  end
  return letter
end

-- The records with which a message that has failed in the end is closed.
local function last_records(app, message, err)
  if message.kind == "letter" then
    return message.letter, { { stream = dead_letters.PREFIX .. message.letter,
      type = "LetterFailed", flags = messages.CHANGES, data = { reason = causes.reason(err),
        attempts = message.attempts, traceback = causes.traceback(err),
        causes = causes.causes(err), time = app.clock:now() } } }
  end
  return dead_letters.records(app, letter_of(message, err))
end

-- Makes a message a dead letter; true when it is closed. May yield.
local function bury(outbox, message, err)
  local app = outbox.app
  local stored = outbox:read(message.stream)
  if stored then message.data = stored.data end -- Handlers may have changed what they were given.
  local id, records = last_records(app, message, err)
  local ok, fault = commits.records(app, function(add)
    for _, record in ipairs(records) do
      add(record.stream, record.type, record.data, record.flags)
    end
    add(stream_name(message), "MessageDead", { letter = id }, messages.CLOSES)
  end)
  if not ok then return not_recorded(outbox, message, fault) end
  app:say("warn", ("%s is a dead letter (%s) after %d attempt%s: %s"):format(describe(message), id,
    message.attempts, message.attempts == 1 and "" or "s", tostring(err)))
  return true
end

-- Decides what becomes of a message whose delivery has failed; true when it is closed. May yield.
local function failed(outbox, message, err)
  local app = outbox.app
  if app.is_closed or app.is_failed then return end
  local pause = commits.pause_after(err)
  if pause then return not_recorded(outbox, message, err) end -- It says nothing about the message.
  if not app.store:is_unfinished(message.stream) then return true end -- Somebody has closed it.
  local now = app.clock:now()
  outbox.failed = outbox.failed + 1
  message.attempts, message.crashes = message.attempts + 1, 0
  message.first_failed = message.first_failed or now
  message.reason = causes.reason(err)
  if not err.retryable or message.attempts >= message.attempts_max then
    return bury(outbox, message, err)
  end
  local due = now + pause_ms({ backoff_ms = message.backoff }, message.attempts)
  local ok, fault = commits.records(app, function(add)
    add(stream_name(message), "MessageFailed", messages.change(message, due), messages.CHANGES)
  end)
  if not ok then return not_recorded(outbox, message, fault) end
  outbox:postpone(message, due)
end

-- Why a message is not to be tried any more, though no attempt has failed just now.
local function refusal(app, message)
  if message.expires and app.clock:now() > message.expires then
    return errors.new("expired", "it was not handled before it expired")
  end
  if message.crashes > 0 and (message.crashes >= CRASHES_MAX
    or message.attempts >= message.attempts_max) then
    return errors.new("crashed", ("the program ended %d times while it was handled")
      :format(message.crashes))
  end
end

-- One that was there at the start may have ended the program before: what follows is recorded.
local function record_start(outbox, message)
  if message.position >= outbox.first_new or message.due > outbox.started then return true end
  local at
  local ok, err = commits.records(outbox.app, function(add)
    at = add(stream_name(message), "MessageStarted", messages.change(message), messages.CHANGES)
  end)
  if ok then message.version, message.is_started = at, true end
  return ok, err
end

local function deliver(outbox, message)
  local app = outbox.app
  local why = refusal(app, message)
  if why then return bury(outbox, message, why) end
  local recorded, fault = record_start(outbox, message)
  if not recorded then return not_recorded(outbox, message, fault) end
  message.task, message.deadline = state[1], app.clock:mono() + message.timeout
  if not outbox.sweep or outbox.sweep_at > message.deadline then watch(outbox, message.deadline) end
  local ok, value, err = xpcall(call, errors.catch, app, message)
  if not ok then value, err = nil, value end
  message.task = nil
  if value then
    outbox.handled = outbox.handled + 1
    return true
  end
  return failed(outbox, message, errors.from(err))
end

--- Delivers a message. May yield.
---@param outbox catga.Outbox
---@param message catga.Message
---@return boolean? is_closed
function M.run(outbox, message)
  outbox.out[message] = true
  local ok, is_closed = xpcall(deliver, errors.catch, outbox, message)
  outbox.out[message] = nil
  if not ok then error(is_closed, 0) end
  return is_closed
end

--- Records that what was under way at a graceful stop was ended by it. May yield.
---@param outbox catga.Outbox
function M.release(outbox)
  local list = {}
  for message in pairs(outbox.out) do
    if message.is_started and outbox.app.store:is_unfinished(message.stream) then
      list[#list + 1] = message
    end
  end
  outbox.out = {}
  if #list == 0 then return end
  commits.records(outbox.app, function(add)
    for _, message in ipairs(list) do
      add(stream_name(message), "MessageReleased", messages.change(message), messages.CHANGES)
    end
  end)
end

return M
