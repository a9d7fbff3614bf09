--- What an operator remembers by key: entries, which of them have changed since the last
--- checkpoint, and a bound on how many there are.
---
--- An operator is a table with `reset`, `changes`, `dump` and `load`; a change is a line of JSON,
--- `[operator, kind, key, ...]`, see lua/catga/stream/journal.lua. The key of a chain without
--- group_by is ROOT, null in JSON.
local errors = require "catga.error"
local json = require "catga.native.json"
local raw = require "catga.sandbox".raw

local M = {}

local CHUNK_BYTES = 64 * 1024 -- Items of a list are written in changes of about so many bytes.

M.ROOT = setmetatable({}, { __tostring = function() return "(no key)" end })
local ROOT = M.ROOT

---@class catga.StreamEntry
---@field k any           its key
---@field dirty boolean?  it has changed since the last checkpoint
---@field gone boolean?   it was dropped

---@class catga.StreamState
---@field node table      whose state it is
---@field by table<any, catga.StreamEntry>
---@field count integer
---@field max integer
---@field dirty catga.StreamEntry[]
---@field dirty_count integer
local State = {}
State.__index = State
M.State = State

--- State without entries.
---@param node table    the operator's node: id, kind, at
---@param max integer   how many entries there may be
---@param make fun(k: any): catga.StreamEntry
---@return catga.StreamState
function M.new(node, max, make)
  return setmetatable({ node = node, max = max, make = make, by = {}, count = 0, dirty = {},
    dirty_count = 0 }, State)
end

local KEYS = { string = true, number = true, boolean = true }

--- Raises unless a value can be a key.
---@param node table
---@param k any
function M.check_key(node, k)
  if k == ROOT or KEYS[type(k)] and k == k then return end
  error(errors.new("invalid", ("%s (%s): a key of group_by is a string, a number or a boolean, "
    .. "not %s"):format(node.kind, node.at, type(k))), 0)
end

--- A new entry for a key that has none. Raises when there are too many.
---@param k any
---@return catga.StreamEntry
function State:open(k)
  M.check_key(self.node, k)
  if self.count >= self.max then
    error(errors.new("limit", ("%s (%s) has state for %d keys, which is stream_keys_max; raise it "
      .. "in catga.lua, or group by less"):format(self.node.kind, self.node.at, self.count)), 0)
  end
  local e = self.make(k)
  e.k = k
  self.by[k] = e
  self.count = self.count + 1
  return e
end

--- The entry of a key; made when there is none.
---@param k any  nil: the chain has no keys
---@return catga.StreamEntry
function State:get(k)
  if k == nil then k = ROOT end
  return self.by[k] or self:open(k)
end

--- An entry has changed.
---@param e catga.StreamEntry
function State:touch(e)
  if e.dirty then return end
  e.dirty = true
  local n = self.dirty_count + 1
  self.dirty_count, self.dirty[n] = n, e
end

--- Drops an entry.
---@param e catga.StreamEntry
function State:forget(e)
  self.by[e.k] = nil
  self.count = self.count - 1
  e.gone = true
  self:touch(e)
end

--- Drops all of them.
function State:reset()
  self.by, self.count, self.dirty, self.dirty_count = {}, 0, {}, 0
end

--- JSON of a key.
---@param k any
---@return string
function M.key_text(k)
  if k == ROOT then return "null" end
  return assert(json.encode(k))
end

--- The key that was written so.
---@param value any
---@return any
function M.key_of(value)
  if value == json.null or value == nil then return ROOT end
  return value
end

--- Hands the changed entries to `write`, in the order of their first change.
---@param write fun(e: catga.StreamEntry, add: fun(text: string))
---@param add fun(text: string)
function State:changes(write, add)
  local id = self.node.id
  for i = 1, self.dirty_count do
    local e = self.dirty[i]
    e.dirty = nil
    if e.gone then
      if e.is_saved then add(("[%d,\"x\",%s]"):format(id, M.key_text(e.k))) end
    else
      write(e, add)
      e.is_saved = true
    end
  end
  self.dirty, self.dirty_count = {}, 0
end

--- Hands all entries to `write`.
---@param write fun(e: catga.StreamEntry, add: fun(text: string), is_whole: true)
---@param add fun(text: string)
function State:dump(write, add)
  for _, e in raw.next, self.by do write(e, add, true) end
end

--- JSON of a value that an operator keeps. Raises, naming the operator, when it cannot be stored.
---@param node table
---@param value any
---@return string
function M.encode(node, value)
  local text, err = json.encode(value)
  if text then return text end
  error(errors.new("invalid", ("%s (%s): its state cannot be stored: %s"):format(node.kind, node.at,
    err.message)), 0)
end

--- Writes items of a list as changes of bounded size: `[id, kind, key, [items...]]`, or
--- `[id, kind, key, [items...], [times...]]`.
---@param node table
---@param kind string
---@param key string     JSON of the key, and of what else comes before the items
---@param list any[]
---@param from integer
---@param to integer
---@param times number[]?
---@param add fun(text: string)
function M.write_items(node, kind, key, list, from, to, times, add)
  local texts, stamps, bytes, n = {}, {}, 0, 0
  local function flush()
    if n == 0 then return end
    local behind = times and ",[" .. table.concat(stamps, ",", 1, n) .. "]" or ""
    local items = table.concat(texts, ",", 1, n)
    add(("[%d,\"%s\",%s,[%s]%s]"):format(node.id, kind, key, items, behind))
    bytes, n = 0, 0
  end
  for i = from, to do
    local text = M.encode(node, list[i])
    if n > 0 and bytes + #text > CHUNK_BYTES then flush() end
    n, bytes = n + 1, bytes + #text
    texts[n] = text
    if times then stamps[n] = ("%.17g"):format(times[i]) end
  end
  flush()
end

--- A function that makes an initial value anew: what the script gave, or what its function gives.
---@param initial any
---@return fun(): any
function M.maker(initial)
  if type(initial) == "function" then return initial end
  if type(initial) ~= "table" then return function() return initial end end
  local text = assert(json.encode(initial))
  return function() return (json.decode(text)) end
end

return M
