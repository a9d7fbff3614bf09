--- One delivery of an event: the handler as a unit of work with the record of its end in the same
--- commit, and what becomes of the event when it fails.
local state = require "catga.state"
local errors = require "catga.error"
local duration = require "catga.duration"
local units = require "catga.unit"
local present = require "catga.event"
local pause_ms = require "catga.process.steps".pause_ms
local commits = require "catga.commit"
local INTERNAL = require "catga.flags".INTERNAL
local storable_text = require "catga.process.journal".storable_text
local journal = require "catga.subscription.journal"

local causes = require "catga.lazy".module "catga.dead_letters.cause"

local M = {}

local REASON_BYTES_MAX = 1000
local MESSAGE_BYTES_MAX = 4000

--- Envelope of an event from a subscription. What ack, retry and park say holds for the whole
--- delivery once the handler has returned; one that raises has failed, whatever it said.
---@class catga.DeliveryCtx : catga.Ctx
---@field name string             type of the event
---@field time integer            when it was stored
---@field subscription string?    name
---@field forgotten string[]?     paths of personal fields whose person was forgotten
---@field ack fun(self)           it is handled, as when the handler returns
---@field retry fun(self, delay: string?)   another attempt; what was appended is taken back
---@field park fun(self, reason: string?)   no further attempt; what was appended is taken back

local function attempts_of(entry)
  return entry.attempts == 1 and "1 attempt" or entry.attempts .. " attempts"
end

local function ack(ctx) ctx.delivery.decision = nil end

local function retry(ctx, delay)
  ctx.delivery.decision = errors.new("retry", "the handler asked for another attempt", {
    retryable = true, is_decision = true, delay_ms = delay and duration.ms(delay, "ctx:retry") })
end

--- An error that parks an event, whoever decides it.
---@param reason string?
---@return catga.Error
function M.park_error(reason)
  reason = reason == nil and "no reason was given" or tostring(reason)
  return errors.new("parked", storable_text(reason, REASON_BYTES_MAX), { is_decision = true,
    is_parked = true })
end

local function park(ctx, reason) ctx.delivery.decision = M.park_error(reason) end

--- What is kept of the error with which a delivery failed.
---@param err catga.Error
---@return { code: string, message: string }
function M.storable(err)
  return { code = storable_text(tostring(err.code), REASON_BYTES_MAX),
    message = storable_text(tostring(err.message), MESSAGE_BYTES_MAX) }
end

-- The record that an event is done.
local function end_record(runner, entry)
  if entry.is_replay then return "SubscriptionUnparked", { positions = { entry.position } } end
  local to = runner.window:position_after(entry)
  entry.saved_to = to
  return "SubscriptionMoved", { to = to, done = to < entry.position and { entry.position } or nil }
end

-- Adds the record that the event is done to the unit, when there is anything in it to go along
-- with: what only reads is recorded later, many at once.
local function stage(runner, entry)
  local task = state[1]
  local unit = task.unit
  if not runner.name or not (entry.is_replay or unit and unit.n > 0) then return true end
  unit = unit or units.of(task)
  entry.mark = entry.mark or runner:begin_change()
  local kind, data = end_record(runner, entry)
  local version, err = unit:append(journal.PREFIX .. runner.name, { { type = kind, data = data } },
    "any", INTERNAL)
  return version and true, err
end

-- What the mediator runs: inside the unit of work, around the behaviors and the handler.
local function run(data, ctx)
  local entry, runner = state[1].delivery, state[1].subscription
  ctx.delivery, ctx.ack, ctx.retry, ctx.park = entry, ack, retry, park
  ctx.time, ctx.subscription, ctx.forgotten = entry.time, runner.name, entry.forgotten
  entry.decision, entry.saved_to = nil, nil
  local value, err = entry.run(data, ctx)
  if value == nil and err ~= nil then return nil, err end
  if entry.decision then return nil, entry.decision end
  return stage(runner, entry)
end

-- The mediator's entry for events of a type.
local function entry_of(definition, app, type)
  local entries = definition.entries
  local found = entries[type]
  if not found then
    found = { name = type, kind = "event", app = app, run = run, outer = definition.entry.outer,
      counter = definition.entry.counter }
    entries[type] = found
  end
  return found
end

--- The event of a delivery as a handler may have it: read again unless this is the first attempt,
--- because a handler may have changed it.
---@param runner catga.SubscriptionRunner
---@param entry catga.Delivery
---@return table? event  nil without an error: it is there no more, or an upcaster drops it
---@return catga.Error? err
function M.event(runner, entry)
  local event = entry.event
  if event then runner.held_bytes = runner.held_bytes - entry.bytes end
  entry.event, entry.bytes = nil, nil
  if not event then
    local store = runner.app.store
    local stream = store:stream(entry.stream)
    local list, err = nil, nil
    if stream then list, err = store:read(stream, entry.version, 1) end
    if err then return nil, err end
    event = list and list[1]
    if not event or event.version ~= entry.version then return nil end
  end
  local ok, shown = xpcall(present.present, errors.catch, runner.app, event)
  if not ok then return nil, shown end
  if shown and runner.is_wanted and not runner.is_wanted(shown) then return nil end
  return shown
end

--- Records the end of an event in a commit of its own. May yield.
---@param runner catga.SubscriptionRunner
---@param entry catga.Delivery
---@return boolean? ok
---@return catga.Error? err
function M.record_done(runner, entry)
  if not runner.name then return true end
  entry.mark = entry.mark or runner:begin_change()
  local kind, data = end_record(runner, entry)
  return commits.records(runner.app, function(add)
    add(journal.PREFIX .. runner.name, kind, data)
  end)
end

-- Hands the event to the handler; true, or nil and an error.
local function call(runner, entry)
  local event, err = M.event(runner, entry)
  if not event and not err then return M.record_done(runner, entry) end
  if not event then return nil, err end
  local task, definition = state[1], runner.definition
  local cause = type(event.metadata) == "table" and event.metadata or {}
  task.delivery, task.subscription = entry, runner
  entry.run, entry.time, entry.forgotten = definition.entry.run, event.time, event.forgotten
  entry.correlation_id = cause.correlation_id
  local value, failure = runner.app.mediator:run(entry_of(definition, runner.app, event.type),
    event.data, { id = event.id, key = event.id .. "/" .. (runner.name or "subscription"),
      attempt = entry.attempts + 1, correlation_id = cause.correlation_id,
      causation_id = cause.causation_id, stream = event.stream, version = event.version,
      position = event.position, hops = cause.hops })
  task.delivery, task.subscription, task.interrupt = nil, nil, nil
  return value, failure
end

local function describe(runner, entry)
  return ("subscription %s: %s at position %d (%s, version %d)"):format(runner.name or "without "
    .. "a name", entry.type, entry.position, entry.stream, entry.version)
end

-- A record of an event could not be committed: it waits for space, or all of it stops.
local function not_recorded(runner, entry, fault)
  if runner.app.is_closed then return end
  local pause = commits.pause_after(fault)
  if pause then return runner:delay(entry, pause) end
  runner:fail(fault, entry)
end

-- Stores the event among the parked ones and ends its delivery. May yield.
local function park_event(runner, entry, err)
  local parked = runner.parked[entry.position]
  if not parked and runner.parked_count >= runner.definition.parked_max then
    return runner:fail(errors.new("limit", ("%d events are parked (parked_max); replay or drop "
      .. "some, then resume"):format(runner.parked_count)), entry)
  end
  local mark = runner:begin_change()
  local at
  local ok, fault = commits.records(runner.app, function(add)
    at = add(journal.PARKED_PREFIX .. runner.name, "EventParked", { position = entry.position,
      stream = entry.stream, version = entry.version, type = entry.type,
      attempts = entry.attempts, reason = err.is_parked and err.message or "failed",
      error = not err.is_parked and M.storable(err) or nil, first_failed = entry.first_failed,
      traceback = causes.traceback(err), causes = causes.causes(err),
      correlation_id = entry.correlation_id })
    add(journal.PREFIX .. runner.name, "SubscriptionParked", { position = entry.position,
      at = at })
  end)
  runner:end_change(mark)
  if not ok then return not_recorded(runner, entry, fault) end
  runner:parked_now(entry, at)
  runner.app:say("warn", ("%s is parked after %s: %s"):format(describe(runner, entry),
    attempts_of(entry), err.message))
end

-- The last attempt has failed, or there is no use in another one. May yield.
local function give_up(runner, entry, err)
  local policy = err.is_parked and "park" or runner.definition.on_failure
  if policy == "park" and runner.name then return park_event(runner, entry, err) end
  if policy == "skip" then
    runner.app:say("warn", ("%s is skipped after %s: %s"):format(describe(runner, entry),
      attempts_of(entry), err.message))
    return runner:done(entry)
  end
  runner:fail(err, entry)
end

--- Decides what becomes of an event whose delivery has failed. May yield.
---@param runner catga.SubscriptionRunner
---@param entry catga.Delivery
---@param err catga.Error
function M.failed(runner, entry, err)
  if runner.app.is_closed or runner.app.is_failed then return end
  local pause = not err.is_decision and commits.pause_after(err)
  if pause then return runner:delay(entry, pause) end -- It says nothing about the event.
  entry.attempts = entry.attempts + 1
  entry.first_failed = entry.first_failed or runner.app.clock:now()
  if not err.is_decision then runner:note_error(entry, err) end
  if entry.is_replay then runner.attempts[entry.position] = entry.attempts end
  if err.is_parked or not err.retryable or entry.attempts >= runner.definition.attempts then
    return give_up(runner, entry, err)
  end
  if runner.name then
    local ok, fault = commits.records(runner.app, function(add)
      add(journal.PREFIX .. runner.name, "SubscriptionFailed", { position = entry.position,
        attempts = entry.attempts })
    end)
    if not ok then return not_recorded(runner, entry, fault) end
    runner:changed()
  end
  runner:delay(entry, err.delay_ms or pause_ms({ backoff_ms = runner.definition.backoff },
    entry.attempts))
end

--- Delivers an event to the handler. Must run in a task that is nobody else's. May yield.
---@param runner catga.SubscriptionRunner
---@param entry catga.Delivery
function M.run(runner, entry)
  entry.task = state[1]
  runner:began(entry)
  local ok, value, err = xpcall(call, errors.catch, runner, entry)
  if not ok then value, err = nil, value end
  entry.task = nil
  runner:ended(entry)
  if entry.mark then
    runner:end_change(entry.mark)
    entry.mark = nil
  end
  if value then return runner:done(entry) end
  entry.saved_to = nil
  M.failed(runner, entry, err)
end

return M
