--- Dead letters: what failed after its attempts, kept in the log until it was done after all, or
--- until somebody drops it. This module puts one there; `lua/catga/dead_letters/`: cause, what is
--- kept of a failure; read, finding and showing them; verbs, what can be done with them.
---
--- Each has a stream of its own, `$letter-<id>`, which is unfinished (flags OPENS, CLOSES) as long
--- as the letter is not closed:
---
---   LetterAdded    { kind, source, type?, reason, attempts, traceback?, causes?, group, ... }
---   LetterData     { data }                      as it failed
---   LetterEdited   { data }                      as it is to be retried
---   LetterRetrying { message }                   the message of the outbox that retries it
---   LetterFailed   { reason, attempts, ... }     the retry has failed too: it is open again
---   LetterClosed   { how }                       "retried" or "purged"
local state = require "catga.state"
local errors = require "catga.error"
local flags = require "catga.flags"
local unit_of = require "catga.unit".of
local stage = require "catga.events.stage".run
local lazy = require "catga.lazy"
local encode_json = require "catga.native.json".encode

local causes = lazy.module "catga.dead_letters.cause"
local host = lazy.module "catga.native.host"

local M = {}

M.PREFIX = "$letter-"
M.KEY_PREFIX = "$letterkey-"

local KIND_BYTES_MAX, SOURCE_BYTES_MAX, KEY_BYTES_MAX = 50, 500, 1000

--- By kind, the module that retries such a letter: `retry(app, letter)` does again what failed, in
--- the unit of work that is open, and gives true, or nil and an error (or raises). What it stages
--- and the end of the letter are one commit. It may yield. Letters of subscriptions are retried by
--- the subscription itself.
---@type table<string, string>
M.retriers = {
  message = "catga.outbox.letters",
  handler = "catga.outbox.letters",
  route = "catga.route.letters",
  stream = "catga.stream.retry",
  projection = "catga.projection.retry",
}

--- A dead letter as it is added.
---@class catga.NewLetter
---@field kind "message"|"handler"|"projection"|"subscription"|"stream"|"route"
---@field source string           name of what failed
---@field reason any              an error value, or what was raised: code, message, traceback and
---  causes are taken from it
---@field type string?            of the message or event
---@field data any                of the message; nil: it is found by stream and version
---@field metadata table?
---@field correlation_id string?
---@field attempts integer?       default 1
---@field traceback string?       default: that of the reason
---@field causes table[]?         { code, message } each; default: those of the reason
---@field group string?           what it has in common with others; default: see cause.lua
---@field position integer?       of the event
---@field stream string?          of the event
---@field version integer?        of the event
---@field first_failed number?    Unix ms; default now
---@field last_failed number?     Unix ms; default now
---@field detail table?           what its kind needs to know for a retry
---@field key string?             what makes it the same letter: it is added once

local function check_text(letter, field, bytes_max)
  local value = letter[field]
  if type(value) ~= "string" or value == "" or #value > bytes_max or not encode_json(value) then
    error(("dead letter: its %s is a string of 1 to %d bytes of UTF-8, not %s"):format(field,
      bytes_max, tostring(value)), 4)
  end
end

-- What stands in the record of a letter.
local function facts_of(app, letter)
  check_text(letter, "kind", KIND_BYTES_MAX)
  check_text(letter, "source", SOURCE_BYTES_MAX)
  if letter.reason == nil then error("dead letter: it needs a reason", 4) end
  local now = app.clock:now()
  local facts = { kind = letter.kind, source = letter.source, type = letter.type,
    reason = causes.reason(letter.reason), attempts = letter.attempts or 1,
    traceback = letter.traceback or causes.traceback(letter.reason),
    causes = letter.causes or causes.causes(letter.reason), position = letter.position,
    stream = letter.stream, version = letter.version, correlation_id = letter.correlation_id,
    metadata = letter.metadata, detail = letter.detail,
    first_failed = letter.first_failed or now, last_failed = letter.last_failed or now }
  facts.group = letter.group or causes.group(facts)
  return facts
end

--- The records that make a letter, for a commit that also holds others.
---@param app catga.App
---@param letter catga.NewLetter
---@return string id
---@return { stream: string, type: string, data: table, flags: integer }[] records
function M.records(app, letter)
  local id, facts = app:new_id(), facts_of(app, letter)
  local stream = M.PREFIX .. id
  if not app.store:encode(facts, "letter") then -- What others gave is too large, or no JSON.
    facts.metadata, facts.detail, facts.causes, facts.traceback = nil, nil, nil, nil
  end
  local list = { { stream = stream, type = "LetterAdded", data = facts,
    flags = flags.INTERNAL + flags.OPENS } }
  local data = { data = letter.data }
  if letter.data ~= nil and not app.store:encode(data, "letter") then
    facts.data_left_out, data.data = true, nil -- It cannot be stored.
  end
  if data.data ~= nil then
    list[2] = { stream = stream, type = "LetterData", data = data, flags = flags.INTERNAL }
  end
  return id, list
end

-- The stream that tells of the letter of a key.
local function key_stream(letter)
  check_text(letter, "key", KEY_BYTES_MAX)
  return M.KEY_PREFIX .. host.sha256(letter.kind .. "\0" .. letter.source .. "\0" .. letter.key)
end

-- The id of the letter that was added with a key; the unit may have staged it.
local function known(app, unit, name)
  local stream = app.store:stream(name)
  if not stream then return nil end
  for i = 1, unit and unit.n or 0 do
    local op = unit.ops[i]
    if op.stream == stream then return app.json.decode(op.data).id end
  end
  if app.store:count(stream) == 0 then return nil end
  local records, err = app.store:read(stream, 0, 1)
  if not records then return nil, err end
  return records[1] and records[1].data.id
end

--- Adds a dead letter: staged in the open unit of work, or as a commit of its own that is durable
--- when this returns. With a `key` it is added once. May yield.
---@param app catga.App
---@param letter catga.NewLetter
---@return string? id
---@return catga.Error? err
function M.add(app, letter)
  local name = letter.key ~= nil and key_stream(letter) or nil
  local unit = state[1].unit
  local there, fault
  if name then there, fault = known(app, unit and unit:refresh(), name) end
  if there or fault then return there, fault end
  local id, records = M.records(app, letter)
  if name then
    records[#records + 1] = { stream = name, type = "LetterKnown", data = { id = id },
      flags = flags.INTERNAL, expect = "none" }
  end
  local ok, err = stage(function(open)
    for _, record in ipairs(records) do
      local version, refused = open:append(record.stream,
        { { type = record.type, data = record.data } }, record.expect, record.flags)
      if not version then return nil, refused end
    end
    return true
  end)
  if ok then return id end
  if err and err.code == "conflict" and name then -- Somebody else has added it meanwhile.
    return known(app, nil, name)
  end
  return nil, errors.from(err)
end

--- Stages a record of a letter in the open unit of work.
---@param id string
---@param kind "LetterClosed"|"LetterRetrying"|"LetterEdited"|"LetterFailed"
---@param data table
---@param expect integer?  version of its last record
---@return integer? version
---@return catga.Error? err
function M.stage(id, kind, data, expect)
  local closes = kind == "LetterClosed" and flags.CLOSES or 0
  return unit_of(state[1]):append(M.PREFIX .. id, { { type = kind, data = data } }, expect,
    flags.INTERNAL + closes)
end

return M
