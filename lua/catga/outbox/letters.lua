--- What the outbox delivers beside commands: handlers of events once more, and dead letters that
--- are retried; and how letters of messages and handlers are retried.
local state = require "catga.state"
local errors = require "catga.error"
local presenter = require "catga.event"
local lazy = require "catga.lazy"
local dead_letters = require "catga.dead_letters"
local reading = lazy.module "catga.dead_letters.read"

local M = {}

local function file_of(at) return at:match("^(.*):%d+$") or at end

--- Where a handler of an event is: the file of its script, and which of its type it is in it.
---@param entries catga.Entry[]  of its type
---@param entry catga.Entry
---@return { file: string, nth: integer, at: string }
function M.place_of(entries, entry)
  local file, nth = file_of(entry.at), 0
  for _, other in ipairs(entries) do
    if file_of(other.at) == file then nth = nth + 1 end
    if other == entry then break end
  end
  return { file = file, nth = nth, at = entry.at }
end

-- The handler at a place, and which one of its type it is.
local function find_handler(app, type, place)
  local nth = 0
  for i, entry in ipairs(app.registry.events[type] or {}) do
    if file_of(entry.at) == place.file then
      nth = nth + 1
      if nth == place.nth then return entry, i end
    end
  end
  return nil, errors.new("unknown_handler", ("%s has no handler number %d for %s any more")
    :format(place.file, place.nth, type))
end

-- The event as handlers see it; nil without an error: it is there no more.
local function read_event(app, ref)
  local stream = app.store:stream(ref.stream)
  if not stream then return nil end
  local list, err = app.store:read(stream, ref.version, 1)
  if not list then return nil, err end
  local event = list[1]
  if not event or event.version ~= ref.version then return nil end
  return presenter.present(app, event)
end

-- Calls a handler of an event once more, with the stored data or other.
local function handle_event(app, type, place, ref, data)
  local entry, nth = find_handler(app, type, place)
  if not entry then return nil, nth end
  if data == nil then
    local event, err = read_event(app, ref)
    if err then return nil, err end
    if not event then
      app:say("warn", ("the handler at %s is not tried again: event %s (%s, version %d) is not "
        .. "there any more"):format(place.at, type, ref.stream, ref.version))
      return true
    end
    data = event.data
  end
  local parent = state[1].ctx
  local value, err = app.mediator:run(entry, data, { id = ref.id, key = ref.id .. "/" .. nth,
    attempt = parent and parent.attempt, correlation_id = ref.correlation_id,
    causation_id = ref.causation_id, version = ref.version, position = ref.position,
    stream = ref.stream, hops = ref.hops })
  if value == nil and err ~= nil then return nil, err end
  return true
end

local function handle_command(app, letter)
  local entry, detail = app.registry.handlers[letter.source], letter.detail or {}
  if not entry or entry.kind ~= "command" then
    return nil, app.registry:unknown("command", letter.source)
  end
  local value, err = app.mediator:run(entry, letter.data, { id = detail.message,
    key = detail.key or detail.message, has_key = detail.key ~= nil,
    correlation_id = letter.correlation_id })
  if value == nil and err ~= nil then return nil, err end
  return true
end

--- Does again what failed; see dead_letters.retriers. May yield.
---@param app catga.App
---@param letter catga.Letter
---@return boolean? ok
---@return catga.Error? err
function M.retry(app, letter)
  if letter.kind == "message" then return handle_command(app, letter) end
  local detail = letter.detail
  return handle_event(app, letter.type, detail.handler, detail.event, letter.data)
end

local function retry_letter(app, id)
  local letter, err = reading.get(app, id)
  if not letter then return nil, err end
  if not letter.is_open then return true end -- It was purged meanwhile.
  local name = dead_letters.retriers[letter.kind]
  if not name then
    return nil, errors.new("invalid", ("letters of kind %s cannot be retried"):format(letter.kind))
  end
  return require(name).retry(app, letter)
end

--- What a message of another kind than "command" does; called in its unit of work.
---@param app catga.App
---@param message catga.Message
---@return fun(): any, catga.Error?
function M.performer(app, message)
  if message.kind == "letter" then
    return function() return retry_letter(app, message.letter) end
  end
  return function()
    return handle_event(app, message.name, message.handler, message.event, message.data)
  end
end

return M
