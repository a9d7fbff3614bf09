--- Finding and showing dead letters. Nothing of them is in memory: their streams are looked
--- through, the closed ones by their names only.
local errors = require "catga.error"
local native_task = require "catga.native.task"
local presenter = require "catga.event"
local dead_letters = require "catga.dead_letters"

local cause = require "catga.dead_letters.cause"

local M = {}

local PAGE = 1000       -- Names looked at before others run.
local RECORDS_MAX = 10000 -- Of one letter.
local PARKED_MAX = 10000  -- Of one subscription.
local MESSAGE_PREFIX = "$message-"

--- A dead letter as it is shown.
---@class catga.Letter : catga.NewLetter
---@field id string
---@field status "open"|"retrying"|"retried"|"purged"
---@field is_open boolean         it is neither retried well nor purged
---@field reason { code: string, message: string }
---@field edited boolean?         the data was changed
---@field retries integer
---@field closed number?          Unix ms
---@field last integer            version of its last record

local APPLY = {}

function APPLY.LetterAdded(letter, data)
  for field, value in pairs(data) do letter[field] = value end
end

function APPLY.LetterData(letter, data) letter.data = data.data end

function APPLY.LetterEdited(letter, data)
  letter.data, letter.edited, letter.data_left_out = data.data, true, nil
end

function APPLY.LetterRetrying(letter, data)
  letter.message, letter.retries = data.message, letter.retries + 1
end

function APPLY.LetterFailed(letter, data)
  letter.message, letter.reason, letter.last_failed = nil, data.reason, data.time
  letter.traceback, letter.causes = data.traceback, data.causes
  letter.attempts = letter.attempts + data.attempts
end

function APPLY.LetterClosed(letter, data, record)
  letter.message, letter.status, letter.closed = nil, data.how, record.time
  letter.is_open = false
end

-- The letter that records tell of.
local function fold(app, id, records)
  local letter = { id = id, status = "open", is_open = true, retries = 0 }
  for _, record in ipairs(records) do
    local apply = APPLY[record.type]
    if apply then apply(letter, record.data, record) end
    letter.last = record.version
  end
  if not letter.kind then return nil end -- Its beginning was scavenged.
  if letter.message then
    local stream = app.store:stream(MESSAGE_PREFIX .. letter.message)
    if stream and app.store:is_unfinished(stream) then letter.status = "retrying" end
  end
  letter.message = nil
  return letter
end

local function read_letter(app, stream, id)
  local records, err = app.store:read(stream, 0, RECORDS_MAX)
  if not records then return nil, err end
  return fold(app, id, records)
end

local function not_found(id)
  return nil, errors.new("not_found", ("there is no dead letter %s"):format(tostring(id)))
end

--- The subscription and position that an id of a parked event names; nil: it is another id.
---@param id string
---@return string? name
---@return integer? position
function M.parked_id(id)
  local name, position = tostring(id):match("^(.+)@(%d+)$")
  return name, tonumber(position)
end

-- A parked event of a subscription as a letter.
local function of_parked(name, one)
  local letter = { id = ("%s@%d"):format(name, one.position), kind = "subscription", source = name,
    type = one.type, status = one.replaying and "retrying" or "open", is_open = true,
    reason = one.error or { code = "parked", message = one.reason }, attempts = one.attempts,
    traceback = one.traceback, causes = one.causes, position = one.position,
    stream = one.stream, version = one.version, correlation_id = one.correlation_id,
    first_failed = one.first_failed or one.time, last_failed = one.time, retries = 0 }
  letter.group = cause.group(letter)
  return letter
end

local function get_parked(app, name, position)
  local list = app.subscriptions:parked(name, { after = position - 1, max = 1 })
  local one = list and list[1]
  if not one or one.position ~= position then return not_found(name .. "@" .. position) end
  return of_parked(name, one)
end

--- The event that a letter speaks of; nil: it has none, or it is there no more.
---@param app catga.App
---@param letter catga.Letter
---@return any data
function M.event_data(app, letter)
  local stream = letter.stream and letter.version and app.store:stream(letter.stream)
  local list = stream and app.store:read(stream, letter.version, 1)
  local event = list and list[1]
  if not event or event.version ~= letter.version then return nil end
  local ok, shown = pcall(presenter.present, app, event)
  return ok and shown and shown.data or nil
end

--- One letter, open or closed.
---@param app catga.App
---@param id string
---@return catga.Letter? letter
---@return catga.Error? err  "not_found"
function M.get(app, id)
  local name, position = M.parked_id(id)
  if name then return get_parked(app, name, position) end
  local stream = type(id) == "string" and #id <= 100
    and app.store:stream(dead_letters.PREFIX .. id)
  if not stream or app.store:count(stream) == 0 then return not_found(id) end
  local letter, err = read_letter(app, stream, id)
  if err then return nil, err end
  if not letter then return not_found(id) end
  return letter
end

local EQUAL = { "kind", "source", "group", "type" }

--- Does a letter fit a filter?
---@param letter catga.Letter
---@param filter { kind: string?, source: string?, group: string?, type: string?, code: string?,
---  status: string?, before: number? }
---@return boolean
function M.fits(letter, filter)
  for _, field in ipairs(EQUAL) do
    if filter[field] ~= nil and letter[field] ~= filter[field] then return false end
  end
  if filter.code and letter.reason.code ~= filter.code then return false end
  if filter.status and filter.status ~= "all" and letter.status ~= filter.status then
    return false
  end
  return not filter.before or letter.last_failed < filter.before
end

-- Letters of the log, the oldest first. False: fn wants no more.
local function each_stored(app, filter, after, fn)
  local store, prefix = app.store, dead_letters.PREFIX
  local with_closed = filter.status and filter.status ~= "open" and filter.status ~= "retrying"
  local name = after and prefix .. after or ""
  repeat
    local names, err = store:streams(prefix, name, PAGE)
    if not names then error(err, 0) end
    for _, one in ipairs(names) do
      name = one
      local stream = store:stream(one)
      if stream and (with_closed or store:is_unfinished(stream)) then
        local letter, fault = read_letter(app, stream, one:sub(#prefix + 1))
        if fault then error(fault, 0) end
        if letter and M.fits(letter, filter) and not fn(letter) then return false end
      end
    end
    if #names == PAGE then native_task.yield() end
  until #names < PAGE
  return true
end

-- Parked events, by the names of the subscriptions and by position.
local function each_parked(app, filter, after, fn)
  local from, behind = M.parked_id(after or "")
  for _, one in ipairs(app.subscriptions:list()) do
    local name = one.name
    if one.parked > 0 and (not filter.source or filter.source == name)
      and (not from or name >= from) then
      local position = name == from and behind or 0
      local list, err = app.subscriptions:parked(name, { after = position, max = PARKED_MAX })
      if not list then error(err, 0) end
      for _, entry in ipairs(list) do
        local letter = of_parked(name, entry)
        if M.fits(letter, filter) and not fn(letter) then return end
      end
    end
  end
end

--- Calls fn for letters that fit: those of the log, the oldest first, then parked events; until it
--- gives false. Open ones only, unless the filter says another status. May yield.
---@param app catga.App
---@param filter table      see fits
---@param after string?     id
---@param fn fun(letter: catga.Letter): boolean
function M.each(app, filter, after, fn)
  local is_parked = after and M.parked_id(after)
  if not is_parked and (not filter.kind or filter.kind ~= "subscription") then
    if not each_stored(app, filter, after, fn) then return end
    after = nil
  end
  if not filter.kind or filter.kind == "subscription" then each_parked(app, filter, after, fn) end
end

return M
