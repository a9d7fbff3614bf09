--- Large values of journals: over blob_size they are not in the record itself but stored once, by
--- the hash of their JSON, in a stream of their own, $blob-<hash>, in parts. The record names the
--- hash.
---
--- A record with "blob": { "hash", "size", "field" } has the value in the place of that field.
local errors = require "catga.error"
local host = require "catga.native.host"
local json = require "catga.native.json"
local commits = require "catga.commit"

local M = {}

local PREFIX = "$blob-"
local PART_BYTES = 131072 -- Of the text in one record; less where message_size_max is small.
local PAGE = 16           -- Parts read at once: up to 2 MiB.

-- The end of a part that begins at a byte: no character is cut in two.
local function part_end(text, from, size)
  local to = math.min(from + size - 1, #text)
  while to < #text and to > from and text:byte(to + 1) >= 128 and text:byte(to + 1) < 192 do
    to = to - 1
  end
  return to
end

-- A text of quotes and control characters is up to six times as long as a JSON string.
local function parts_of(app, text)
  local size = math.max(64, math.min(PART_BYTES, math.floor(app.settings.message_size_max / 8)))
  local parts, from = {}, 1
  while from <= #text do
    local to = part_end(text, from, size)
    parts[#parts + 1] = text:sub(from, to)
    from = to + 1
  end
  return parts
end

-- Adds the parts that are not there yet, from `have` on, one commit each.
local function add_parts(app, name, parts, have)
  for i = have + 1, #parts do
    local ok, err = commits.records(app, function(add)
      add(name, "BlobPart", { part = i, parts = #parts, text = parts[i] })
    end)
    if not ok then return nil, err end
  end
  return true
end

--- Was a record refused only because its value is too large to be in it?
---@param app catga.App
---@param err catga.Error
---@return boolean
function M.is_too_large(app, err)
  return err.code == "limit" and not commits.is_behind(err)
    and err.message:find("message_size_max", 1, true) ~= nil and app.settings.blob_size_max > 0
end

--- Stores a value, durable when this returns, unless it is there already. May yield.
---@param app catga.App
---@param value any
---@param name string  what it is, for errors
---@return string? reference  JSON of { hash, size }, without its braces
---@return string|catga.Error text  the value's JSON
function M.put(app, value, name)
  local text, err = json.encode(value)
  if not text then return nil, errors.from(err) end
  local max = app.settings.blob_size_max
  if #text > max then
    return nil, errors.new("limit", ("%s has %d bytes of JSON; the setting blob_size_max allows %d")
      :format(name, #text, max))
  end
  local hash = host.sha256(text)
  local stream_name = PREFIX .. hash
  local stream = app.store:stream(stream_name, true)
  local parts = parts_of(app, text)
  local ok
  ok, err = add_parts(app, stream_name, parts, app.store:count(stream))
  if not ok then return nil, err end
  return ('"hash":"%s","size":%d'):format(hash, #text), text
end

--- Reads a value back. Raises an error value when it is not there as it was.
---@param app catga.App
---@param hash string
---@return any value
function M.get(app, hash)
  local stream = app.store:stream(PREFIX .. tostring(hash))
  local parts, from = {}, 0
  local count = stream and app.store:count(stream) or 0
  while from < count do
    local some, err = app.store:read(stream, from, PAGE)
    if not some then error(err, 0) end
    for _, record in ipairs(some) do parts[record.data.part] = record.data.text end
    from = some[1] and some[#some].version + 1 or count
  end
  local text = table.concat(parts)
  if host.sha256(text) ~= hash then
    error(errors.new("damaged", ("the large value %s is not in the log as it was"):format(
      tostring(hash))), 0)
  end
  return (json.decode(text))
end

--- Puts the value into the data of a record that names one, in place.
---@param app catga.App
---@param record table
---@return table record
function M.resolve(app, record)
  local data = record.data
  local blob = type(data) == "table" and data.blob
  if type(blob) ~= "table" or not blob.field then return record end
  data[blob.field], data["nil"], data.blob = M.get(app, blob.hash), nil, nil
  return record
end

return M
