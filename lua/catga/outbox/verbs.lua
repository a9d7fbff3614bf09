--- What can be done with messages of the outbox from outside.
local errors = require "catga.error"
local commits = require "catga.commit"
local native_task = require "catga.native.task"
local messages = require "catga.outbox.message"
local outboxes = require "catga.outbox"
local inbox = require "catga.lazy".module "catga.inbox"

local M = {}

local LIST_MAX, LIST_DEFAULT = 10000, 100
local LOOKS = 1000 -- Messages looked at before others run.

--- A message as it is shown.
---@param app catga.App
---@param message catga.Message
---@return table
local function shown(app, message)
  local outbox, status = app.outbox, message.status
  if status == "waiting" then
    local group = outbox and message.group and outbox.groups[message.group]
    for one in pairs(outbox and outbox.out or {}) do
      if one.id == message.id then status = "running" end
    end
    if status == "waiting" and message.due > app.clock:now() then
      status = message.attempts > 0 and "failed" or "delayed"
    elseif status == "waiting" and group and group.head ~= message.stream then
      status = "held"
    end
  end
  return { id = message.id, kind = message.kind, name = message.name, status = status,
    key = message.key, group = message.group, priority = message.priority or "normal",
    enqueued = message.time, due = message.due, attempts = message.attempts,
    attempts_max = message.attempts_max, expires = message.expires, reason = message.reason,
    ended = message.ended, letter = message.letter, age = message.status == "waiting"
      and math.max(0, app.clock:now() - message.time) or nil }
end

local function invalid(format, ...) return nil, errors.new("invalid", format:format(...)) end

--- Messages that wait, by id, the oldest first. May yield.
---@param app catga.App
---@param opts { group: string?, name: string?, after: string?, max: integer? }?  max: 1 to 10,000,
---  default 100
---@return table[]? list  { id, kind, name, status, key?, group?, priority, enqueued, due, attempts,
---  attempts_max, expires?, reason?, age }; status: waiting, running, delayed, failed: between two
---  attempts, held: another one of its group goes first
---@return catga.Error|string|nil after  for the next call; nil: that was all
function M.list(app, opts)
  opts = opts or {}
  local max = opts.max or LIST_DEFAULT
  if type(max) ~= "number" or max % 1 ~= 0 or max < 1 or max > LIST_MAX then
    return invalid("outbox: max is a whole number from 1 to %d", LIST_MAX)
  end
  local store, list = app.store, {}
  local name = opts.after and messages.PREFIX .. opts.after or ""
  repeat
    local names, err = store:streams(messages.PREFIX, name, LOOKS)
    if not names then return nil, err end
    for _, one in ipairs(names) do
      name = one
      local stream = store:stream(one)
      local message, fault = nil, nil
      if stream and store:is_unfinished(stream) then message, fault = messages.read(app, stream) end
      if fault then return nil, fault end
      if message and (not opts.group or message.group == opts.group)
        and (not opts.name or message.name == opts.name) then
        if #list == max then return list, list[#list].id end
        list[#list + 1] = shown(app, message)
      end
    end
    if #names == LOOKS then native_task.yield() end
  until #names < LOOKS
  return list
end

local function find(app, id)
  local stream = type(id) == "string" and #id <= 100 and app.store:stream(messages.PREFIX .. id)
  local message, err
  if stream and app.store:count(stream) > 0 then message, err = messages.read(app, stream) end
  if message then return message end
  return nil, err or errors.new("not_found", ("there is no message %s in the outbox"):format(
    tostring(id)))
end

--- One message, also one that is closed, with its data and outcome.
---@param app catga.App
---@param id string
---@return table? message
---@return catga.Error? err  "not_found"
function M.get(app, id)
  local message, err = find(app, id)
  if not message then return nil, err end
  local all = shown(app, message)
  all.data, all.value, all.correlation_id = message.data, message.value, message.correlation_id
  return all
end

-- A message that waits and is not under way, or nil and an error.
local function find_waiting(app, id)
  local message, err = find(app, id)
  if not message then return nil, err end
  if message.status ~= "waiting" then
    return nil, errors.new("conflict", ("the message %s is %s"):format(id, message.status))
  end
  for one in pairs(outboxes.of(app).out) do
    if one.id == id then
      return nil, errors.new("busy", ("the message %s is being handled"):format(id),
        { retryable = true })
    end
  end
  return message
end

--- Cancels a message: it will not be handled. Its key is free again. May yield.
---@param app catga.App
---@param id string
---@return boolean? ok
---@return catga.Error? err  "not_found", "conflict": it was handled, "busy": it is being handled
function M.cancel(app, id)
  local message, err = find_waiting(app, id)
  if not message then return nil, err end
  if message.kind == "letter" then
    return invalid("the message %s retries the dead letter %s; purge that one when it has failed",
      id, message.letter)
  end
  local key_stream = message.key and inbox.stream_name(message.name, message.key)
  local ok, fault = commits.records(app, function(add)
    add(messages.PREFIX .. id, "MessageCancelled", {}, messages.CLOSES)
    if key_stream then add(key_stream, "CommandCancelled", {}) end
  end)
  if not ok then return nil, fault end
  outboxes.of(app):removed(message)
  return true
end

--- Makes a message due now, that was delayed or waits for its next attempt. May yield.
---@param app catga.App
---@param id string
---@return boolean? ok
---@return catga.Error? err  "not_found", "conflict": it was handled, "busy": it is being handled
function M.retry(app, id)
  local message, err = find_waiting(app, id)
  if not message then return nil, err end
  local now = app.clock:now()
  if message.due <= now then return true end
  local ok, fault = commits.records(app, function(add)
    add(messages.PREFIX .. id, "MessageDue", messages.change(message, now), messages.CHANGES)
  end)
  if not ok then return nil, fault end
  outboxes.of(app):hasten(message)
  return true
end

--- How the outbox stands.
---@param app catga.App
---@return { waiting: integer, due: integer, delayed: integer, working: integer, handled: integer,
---  failed: integer, recovering: boolean?, oldest: number?, oldest_age: number? }  due: waits and
---  could be handled now; delayed: until later, also between two attempts; handled, failed
---  attempts: since the start; recovering: not all are counted yet; oldest: since when the first of
---  those that could be handled is due, Unix ms; oldest_age: that in ms
function M.status(app)
  if app.outbox then return app.outbox:status() end
  return { waiting = 0, due = 0, delayed = 0, working = 0, handled = 0, failed = 0 }
end

return M
