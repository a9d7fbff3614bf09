--- A handler of `catga.on` has failed: what it was to do goes into the outbox, which tries it
--- again, also after a restart, until it is a dead letter.
local errors = require "catga.error"
local pause_ms = require "catga.process.steps".pause_ms
local dead_letters = require "catga.dead_letters"
local causes = require "catga.dead_letters.cause"
local enqueue = require "catga.outbox.enqueue"
local letters = require "catga.outbox.letters"

local M = {}

local function keep(app, op, position, place, cause, err)
  local settings, now = app.settings, app.clock:now()
  local event = { id = op.id, stream = op.name, version = op.version, position = position,
    correlation_id = cause.correlation_id, causation_id = cause.causation_id,
    hops = cause.hops }
  local function bury()
    return dead_letters.add(app, { kind = "handler", source = place.at, type = op.type,
      reason = err, stream = op.name, version = op.version, position = position,
      correlation_id = cause.correlation_id, detail = { handler = place, event = event } })
  end
  if not err.retryable or settings.event_attempts == 1 then return bury() end
  local id, fault = enqueue.put(app, { kind = "handler", name = op.type, handler = place,
    event = event, made = 1, first_failed = now, reason = causes.reason(err),
    attempts = settings.event_attempts, backoff = settings.event_backoff,
    due = now + pause_ms({ backoff_ms = settings.event_backoff }, 1) })
  if fault and fault.code == "limit" then return bury() end -- The outbox is full.
  return id, fault
end

--- Sees to a handler that has failed with a stored event. May yield.
---@param app catga.App
---@param op catga.Staged     the event
---@param position integer?
---@param entry catga.Entry   the handler
---@param entries catga.Entry[]  all of that type, of its generation
---@param cause table         metadata of the event
---@param err catga.Error
function M.failed(app, op, position, entry, entries, cause, err)
  if app.is_closed or app.is_failed then return end
  local place = letters.place_of(entries, entry)
  local ok, kept, fault = xpcall(keep, errors.catch, app, op, position, place, cause, err)
  if not ok then kept, fault = nil, kept end
  if kept or app.is_closed or app.is_failed then return end
  app:say("error", ("event %s at position %s: that its handler at %s failed could not be recorded: "
    .. "%s"):format(op.type, tostring(position), place.at, tostring(fault)))
end

return M
