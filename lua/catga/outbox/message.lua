--- A message of the outbox as the log has it. Each has a stream of its own, `$message-<id>`, which
--- is unfinished as long as the message waits or is handled; so what waits is known without an
--- index and costs no Lua memory.
---
---   MessageEnqueued   { kind, name, data?, key?, group?, priority?, due?, attempts?, ... }
---   MessageStarted    an attempt begins; recorded when one before may have ended the program
---   MessageFailed     an attempt has failed; due: the next one
---   MessageReleased   the attempt was ended by a graceful stop, it does not count
---   MessageDue        somebody has changed when it is due
---   MessageHandled    { value? }; in one commit with what its handler has staged
---   MessageDead       { letter }; in one commit with the letter
---   MessageCancelled
---
--- The second to fifth hold all that has changed, { attempts, crashes, due, first_failed, reason },
--- so the first and the last record are enough.
local flags = require "catga.flags"

local M = {}

M.PREFIX = "$message-"
M.OPENS = flags.INTERNAL + flags.OPENS
M.CHANGES = flags.INTERNAL
M.CLOSES = flags.INTERNAL + flags.CLOSES

--- Priorities and what they are in the order of what is ready.
M.RANKS = { high = 0, normal = 1, low = 2 }

--- One message.
---@class catga.Message
---@field id string
---@field stream integer        number of its stream; never stale while it waits
---@field version integer       of its last record
---@field position integer
---@field time number           when it was enqueued, Unix ms
---@field kind "command"|"handler"|"letter"
---@field name string           of the command, or event
---@field data any
---@field key string?
---@field group string?
---@field rank integer          by its priority
---@field due number            Unix ms
---@field attempts integer      that have failed
---@field attempts_max integer
---@field backoff number        ms
---@field timeout number        ms
---@field expires number?       Unix ms
---@field crashes integer       attempts behind which the program ended
---@field first_failed number?
---@field reason { code: string, message: string }?  of the last failure
---@field status "waiting"|"handled"|"dead"|"cancelled"
---@field letter string?        it retries that letter, or has become it
---@field handler table?        of kind "handler": where it is
---@field event table?          of kind "handler": { id, stream, version, position, ... }
---@field hops integer?         of the message that has led to it

local ENDS = { MessageHandled = "handled", MessageDead = "dead", MessageCancelled = "cancelled" }

-- What the last record says.
local function apply(message, record)
  local data = record.data
  message.version = record.version
  message.status = ENDS[record.type] or "waiting"
  if ENDS[record.type] then
    message.ended, message.value = record.time, data.value
    message.letter = data.letter or message.letter
    return
  end
  message.attempts, message.crashes = data.attempts, data.crashes or 0
  message.first_failed, message.reason = data.first_failed, data.reason
  message.due = data.due or message.due
  if record.type == "MessageStarted" then
    message.crashes = message.crashes + 1
    message.attempts = message.attempts + 1
  end
end

--- Reads a message. An attempt that was begun and has no end counts as failed: so this is not for
--- one that is being handled.
---@param app catga.App
---@param stream integer
---@return catga.Message? message  nil: it is there no more
---@return catga.Error? err
function M.read(app, stream)
  local store, settings = app.store, app.settings
  local list, err = store:read(stream, 0, 1)
  if not list then return nil, err end
  local first = list[1]
  if not first or first.version ~= 0 then return nil end
  local data, cause = first.data, first.metadata or {}
  local message = { id = first.stream:sub(#M.PREFIX + 1), stream = stream, version = 0,
    position = first.position, time = first.time, kind = data.kind, name = data.name,
    data = data.data, key = data.key, group = data.group, priority = data.priority,
    rank = M.RANKS[data.priority or "normal"],
    due = data.due or first.time, attempts = data.made or 0,
    attempts_max = data.attempts or settings.outbox_attempts,
    backoff = data.backoff or settings.outbox_backoff,
    timeout = data.timeout or settings.outbox_timeout, expires = data.expires, crashes = 0,
    first_failed = data.first_failed, reason = data.reason, status = "waiting",
    letter = data.letter, handler = data.handler, event = data.event,
    correlation_id = cause.correlation_id, causation_id = cause.causation_id, hops = cause.hops,
    options = data }
  if data.event then
    message.correlation_id = data.event.correlation_id
    message.causation_id, message.hops = data.event.causation_id, data.event.hops
  end
  local count = store:count(stream)
  if count == 1 then return message end
  list, err = store:read(stream, count - 1, 1)
  if not list then return nil, err end
  if list[1] then apply(message, list[1]) end
  return message
end

--- What a record holds that changes a message.
---@param message catga.Message
---@param due number?
---@return table
function M.change(message, due)
  return { attempts = message.attempts, crashes = message.crashes > 0 and message.crashes or nil,
    due = due or message.due, first_failed = message.first_failed, reason = message.reason }
end

return M
