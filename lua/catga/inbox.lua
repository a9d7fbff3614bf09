--- The inbox: keys of messages that were handled, with their outcomes, remembered in the log for
--- `inbox_window`.
---
--- The stream `$outcome-<name>-<key>` holds `CommandAccepted { id, hash }` when the message was
--- enqueued, and `CommandHandled { value, hash?, id? }` when it was handled; `CommandCancelled`
--- frees the key. So a repeated key meets optimistic concurrency, also when both are under way.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local native_task = require "catga.native.task"
local host = require "catga.lazy".module "catga.native.host"

local M = {}

M.PREFIX = "$outcome-"
M.KEY_BYTES_MAX = 512

local MESSAGE_PREFIX = "$message-"
local HASH_DIGITS = 32   -- Of SHA-256: 128 bits.
local DEPTH_MAX = 100    -- Of data that is hashed; the codec takes no more.
local PAGE = 1000        -- Names looked at before others run.

local ESCAPES = { ["%"] = "%25", ["-"] = "%2D" }

--- Is it a key? A string of 1 to 512 bytes of UTF-8.
---@param key any
---@return boolean
function M.is_key(key)
  return type(key) == "string" and key ~= "" and #key <= M.KEY_BYTES_MAX
    and json.encode(key) ~= nil
end

--- What the streams of a command begin with: a hyphen ends the name.
---@param name string
---@return string
function M.prefix(name) return M.PREFIX .. name:gsub("[%%-]", ESCAPES) .. "-" end

--- The stream of a key.
---@param name string  of the command
---@param key string
---@return string
function M.stream_name(name, key) return M.prefix(name) .. key end

local add

-- A text that is the same for equal values that JSON cannot hold, whatever the order of keys in
-- memory is.
local function add_table(parts, value, depth)
  local is_list, count = true, 0
  for key in pairs(value) do
    count = count + 1
    if type(key) ~= "number" then is_list = false end
  end
  if is_list and count == #value then
    parts[#parts + 1] = count == 0 and (json.encode(value) or "{}") or "["
    for i = 1, count do add(parts, value[i], depth) end
    return
  end
  local keys, texts = {}, {}
  for key in pairs(value) do
    local text = tostring(key)
    keys[#keys + 1], texts[text] = text, value[key]
  end
  table.sort(keys)
  parts[#parts + 1] = "{"
  for _, text in ipairs(keys) do
    add(parts, text, depth)
    add(parts, texts[text], depth)
  end
  parts[#parts + 1] = "}"
end

function add(parts, value, depth)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = #value .. ":" .. value
  elseif kind == "number" then
    parts[#parts + 1] = ("n%.17g"):format(value)
  elseif kind == "table" and depth < DEPTH_MAX then
    add_table(parts, value, depth + 1)
  else
    parts[#parts + 1] = tostring(kind == "userdata" and json.encode(value) or value) .. ";"
  end
end

--- A hash of the data of a message: the same for equal data.
---@param data any
---@return string  32 hexadecimal digits
function M.hash(data)
  local text = json.encode(data) -- Keys are in the order of their bytes.
  if not text then
    local parts = {}
    add(parts, data, 0)
    text = table.concat(parts, ",")
  end
  return host.sha256(text):sub(1, HASH_DIGITS)
end

--- What is known of a key.
---@class catga.InboxEntry
---@field is_known boolean     something with this key came within the window
---@field is_handled boolean   and `value` is its outcome; else it waits in the outbox
---@field value any
---@field id string?           of the message in the outbox
---@field hash string?         of its data
---@field expect integer|"none"  what a record that is added has to expect

local function entry_of(kind, data)
  return { is_known = kind ~= "CommandCancelled", is_handled = kind == "CommandHandled",
    value = data.value, id = data.id, hash = data.hash }
end

--- Is the last record of a key so old that it is not known any more? A key whose message waits in
--- the outbox is known as long as it waits.
---@param app catga.App
---@param record table
---@param before number  Unix ms
---@return boolean
function M.is_over(app, record, before)
  if app.settings.inbox_window == 0 or record.time > before then return false end
  if record.type ~= "CommandAccepted" then return true end
  local stream = app.store:stream(MESSAGE_PREFIX .. record.data.id)
  return not (stream and app.store:is_unfinished(stream))
end

--- What the stream of a key holds, or the open unit has staged for it. May yield.
---@param app catga.App
---@param name string  of the stream
---@return catga.InboxEntry? entry
---@return catga.Error? err
function M.find(app, name)
  local store = app.store
  local stream = store:stream(name)
  if not stream then return { is_known = false, expect = "none" } end
  local unit = state[1].unit
  if unit then unit:refresh() end
  for i = unit and unit.n or 0, 1, -1 do
    local op = unit.ops[i]
    if op.stream == stream then
      local entry = entry_of(op.type, json.decode(op.data))
      entry.expect = store:count(stream) + unit:staged_count(stream) - 1
      return entry
    end
  end
  local count = store:count(stream)
  if count == 0 then return { is_known = false, expect = "none" } end
  local list, err = store:read(stream, count - 1, 1, true)
  if not list then return nil, err end
  local record, window = list[1], app.settings.inbox_window
  if not record or M.is_over(app, record, app.clock:now() - window) then
    return { is_known = false, expect = count - 1 }
  end
  local ok, fault = store:wait(record.position) -- It may not be durable yet.
  if not ok then return nil, fault end
  local entry = entry_of(record.type, record.data)
  entry.expect = count - 1
  return entry
end

--- The error when a key was used before with other data.
---@param entry catga.InboxEntry
---@param hash string?
---@param name string
---@param key string
---@return catga.Error?
function M.differs(entry, hash, name, key)
  if not hash or not entry.hash or entry.hash == hash then return nil end
  return errors.new("conflict", ("command %s: the key \"%s\" was used before with other data; "
    .. "another message needs another key"):format(name, key))
end

--- How many keys are remembered. Looks at all of them. May yield.
---@param app catga.App
---@return { count: integer, waiting: integer, oldest: number?, window: number }  waiting: of those,
---  how many are enqueued and not handled; oldest: Unix ms; window: ms, 0: for ever
function M.status(app)
  local store, now, window = app.store, app.clock:now(), app.settings.inbox_window
  local result, after = { count = 0, waiting = 0, window = window }, ""
  repeat
    local names = assert(store:streams(M.PREFIX, after, PAGE))
    for _, name in ipairs(names) do
      after = name
      local stream = store:stream(name)
      local list = stream and assert(store:read(stream, store:count(stream) - 1, 1, true))
      local record = list and list[1]
      if record and not M.is_over(app, record, now - window)
        and record.type ~= "CommandCancelled" then
        result.count = result.count + 1
        if record.type == "CommandAccepted" then result.waiting = result.waiting + 1 end
        result.oldest = math.min(result.oldest or record.time, record.time)
      end
    end
    if #names == PAGE then native_task.yield() end
  until #names < PAGE
  return result
end

return M
