--- Putting messages into the outbox: options, and staging in the unit of work.
local errors = require "catga.error"
local duration = require "catga.duration"
local encode_json = require "catga.native.json".encode
local stage = require "catga.events.stage".run
local suggest = require "catga.registry".suggest
local lazy = require "catga.lazy"
local messages = require "catga.outbox.message"
local outboxes = lazy.module "catga.outbox"
local inbox = require "catga.inbox"

local M = {}

local GROUP_BYTES_MAX = 512
local TIME_MAX = 253402300799999 -- The end of the year 9999.
local RACES_MAX = 10             -- How often a key is looked up again that others take meanwhile.

local CHECK = {}

local function fail(option, must, value)
  error(("catga.enqueue: %s %s, not %s"):format(option, must, tostring(value)), 0)
end

local function check_time(option, value)
  if type(value) ~= "number" or value ~= value or value < 0 or value > TIME_MAX then
    fail(option, "is a time in Unix ms", value)
  end
  return math.floor(value)
end

local function check_duration(option, value)
  local ms, fault = duration.parse(value, option)
  if not ms then error("catga.enqueue: " .. fault, 0) end
  return math.ceil(ms)
end

function CHECK.at(value, fields) fields.due = check_time("at", value) end

function CHECK.delay(value, fields, app)
  fields.due = app.clock:now() + check_duration("delay", value)
end

function CHECK.expires(value, fields, app)
  fields.expires = type(value) == "number" and check_time("expires", value)
    or app.clock:now() + check_duration("expires", value)
end

function CHECK.key(value, fields)
  if not inbox.is_key(value) then
    fail("key", ("is a string of 1 to %d bytes of UTF-8"):format(inbox.KEY_BYTES_MAX), value)
  end
  fields.key = value
end

function CHECK.group(value, fields)
  if type(value) ~= "string" or value == "" or #value > GROUP_BYTES_MAX
    or not encode_json(value) then
    fail("group", ("is a string of 1 to %d bytes of UTF-8"):format(GROUP_BYTES_MAX), value)
  end
  fields.group = value
end

function CHECK.priority(value, fields)
  if not messages.RANKS[value] then fail("priority", "is high, normal or low", value) end
  fields.priority = value ~= "normal" and value or nil
end

function CHECK.attempts(value, fields)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 1 or value > 1000000 then
    fail("attempts", "is a whole number from 1 to 1000000", value)
  end
  fields.attempts = value
end

function CHECK.backoff(value, fields) fields.backoff = check_duration("backoff", value) end

function CHECK.timeout(value, fields)
  fields.timeout = check_duration("timeout", value)
  if fields.timeout < 1 then fail("timeout", "is at least 1ms", value) end
end

--- Checks options and gives the fields of the record. Raises.
---@param app catga.App
---@param opts table?
---@return table fields
function M.fields(app, opts)
  local fields = {}
  for option, value in pairs(opts or {}) do
    local check = CHECK[option]
    if not check then
      local near = suggest(tostring(option), CHECK)
      error(("catga.enqueue: there is no option \"%s\"%s"):format(tostring(option),
        near and "; did you mean " .. near .. "?" or "; there are at, attempts, backoff, delay, "
        .. "expires, group, key, priority and timeout"), 0)
    end
    check(value, fields, app)
  end
  if opts and opts.at and opts.delay then
    error("catga.enqueue: give delay or at, not both", 0)
  end
  if fields.group and fields.priority then
    error("catga.enqueue: messages of a group go in order, so they have no priority", 0)
  end
  if fields.expires and fields.expires <= (fields.due or app.clock:now()) then
    error("catga.enqueue: it expires before it is due", 0)
  end
  return fields
end

-- Stages the record of a message; the outbox hears of it when the commit is durable.
local function put(app, unit, id, fields)
  local outbox = outboxes.of(app)
  if outbox.waiting >= app.settings.outbox_max then
    return nil, errors.new("limit", ("%d messages wait in the outbox (outbox_max)"):format(
      outbox.waiting), { retryable = true })
  end
  local name = messages.PREFIX .. id
  local version, err = unit:append(name, { { type = "MessageEnqueued", data = fields } }, "none",
    messages.OPENS)
  if not version then return nil, err end
  outbox:expect(id)
  unit:on_commit(function()
    outbox:arrive(id, fields.due, fields.priority, fields.group)
  end)
  return id
end

--- Stages a message in a unit of work.
---@param app catga.App
---@param unit catga.Unit
---@param fields table  as the record holds them
---@return string? id
---@return catga.Error? err
function M.put_in(app, unit, fields) return put(app, unit, app:new_id(), fields) end

--- Puts a message in: staged in the open unit of work, or as a commit of its own. May yield.
---@param app catga.App
---@param fields table  as the record holds them
---@return string? id
---@return catga.Error? err
function M.put(app, fields)
  return stage(function(unit) return M.put_in(app, unit, fields) end)
end

-- The same for a message with a key: another one with that key gives the id of the first.
local function put_keyed(app, fields)
  local name = inbox.stream_name(fields.name, fields.key)
  local hash = inbox.hash(fields.data)
  return stage(function(unit)
    local found, fault = inbox.find(app, name)
    if not found then return nil, fault end
    if found.is_known then
      fault = inbox.differs(found, hash, fields.name, fields.key)
      if fault then return nil, fault end
      if found.id then return { id = found.id, found = found } end
    end
    local id = app:new_id()
    local version, err = unit:append(name, { { type = "CommandAccepted",
      data = { id = id, hash = hash } } }, found.expect, messages.CHANGES)
    if not version then return nil, err end
    local put_id, refused = put(app, unit, id, fields)
    return put_id and { id = put_id }, refused
  end)
end

--- Enqueues a command. May yield.
---@param app catga.App
---@param name string
---@param data any
---@param opts table?
---@return string? id
---@return catga.Error? err
function M.enqueue(app, name, data, opts)
  local entry = app.registry.handlers[name]
  if not entry or entry.kind ~= "command" then return nil, app.registry:unknown("command", name) end
  local fields = M.fields(app, opts)
  fields.kind, fields.name, fields.data = "command", name, data
  if not fields.key then return M.put(app, fields) end
  local result, err
  for _ = 1, RACES_MAX do
    result, err = put_keyed(app, fields)
    if result or not (err.code == "conflict" and err.retryable) then break end
  end
  if not result then return nil, err end
  if result.found then -- It may not be durable yet.
    local ok, fault = app:flushed()
    if not ok then return nil, fault end
  end
  return result.id
end

return M
