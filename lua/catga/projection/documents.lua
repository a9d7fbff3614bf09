--- The documents of one version of a projection, as its handlers see them: what the batch has
--- changed, over a cache of what was read, over the database.
---
--- A document is kept as JSON text, never as a table: what a handler holds on to, or puts into two
--- documents, cannot change what is stored. A change is undone when the handler that made it fails.
local tasks = require "catga.task"
local json = require "catga.native.json"

local M = {}

local CACHE_COUNT = 8192              -- Documents of one generation of the cache; there are two.
local CACHE_BYTES = 16 * 1024 ^ 2     -- Bytes of JSON of one generation.
local PREFETCH_MAX = 2000             -- Documents read ahead for one batch.
local KEY_BYTES_MAX = 1024
local NONE = {}                       -- In `undo`: the key had not been changed.

---@class catga.Documents
---@field app catga.App
---@field models catga.Models
---@field name string
---@field version integer
---@field changed table<string, string|false>  of this batch: JSON; false: deleted
---@field changed_count integer
---@field changed_bytes integer
---@field undo any[]          what the running handler changed: key and value before, in turn
---@field undo_count integer
---@field young table<string, string|false>  cache: used lately; false: there is no such document
---@field old table<string, string|false>    cache: used before that
---@field hints table<string, string>  by event type: the field that holds the key read last
---@field flush fun()         makes everything before the running event visible to find
local Documents = {}
Documents.__index = Documents

---@param app catga.App
---@param models catga.Models
---@param name string
---@param version integer
---@return catga.Documents
function M.new(app, models, name, version)
  return setmetatable({ app = app, models = models, name = name, version = version,
    changed = {}, changed_count = 0, changed_bytes = 0, undo = {}, undo_count = 0,
    young = {}, young_count = 0, young_bytes = 0, old = {}, hints = {} }, Documents)
end

--- A document's key as text; whole numbers may be keys too. Raises on anything else.
---@param key any
---@param what string  the function that was called, for the error
---@return string
function M.key(key, what)
  if type(key) == "number" and key % 1 == 0 and key >= -2 ^ 53 and key <= 2 ^ 53 then
    return ("%.0f"):format(key)
  end
  if type(key) ~= "string" then
    error(("%s: the key of a document is a string or a whole number, got %s")
      :format(what, type(key)), 3)
  end
  if #key > KEY_BYTES_MAX then
    error(("%s: the key has %d bytes, more than %d"):format(what, #key, KEY_BYTES_MAX), 3)
  end
  return key
end

local function remember(self, key, text)
  if self.young_count >= CACHE_COUNT or self.young_bytes >= CACHE_BYTES then
    self.old, self.young, self.young_count, self.young_bytes = self.young, {}, 0, 0
  end
  if self.young[key] == nil then self.young_count = self.young_count + 1 end
  self.young_bytes = self.young_bytes + (text and #text or 0)
  self.young[key] = text
end

-- JSON of a document; false when there is none; nil when it has to be read.
local function known(self, key)
  local text = self.changed[key]
  if text ~= nil then return text end
  text = self.young[key]
  if text ~= nil then return text end
  text = self.old[key]
  if text ~= nil then remember(self, key, text) end
  return text
end

-- Remembers which field of this type of event holds the keys of documents that have to be read.
local function learn(self, key)
  local event = self.event
  if type(event.data) ~= "table" then return end
  for field, value in pairs(event.data) do
    if value == key then
      self.hints[event.type] = field
      return
    end
  end
end

local function lookup(self, key)
  local text = known(self, key)
  if text == nil then
    learn(self, key)
    local job = self.models:fetch(self.name, self.version, { key })
    tasks.wait(job.wait, job)
    local list, err = job:take()
    if not list then error(err, 0) end
    text = list[1]
    remember(self, key, text)
  end
  return text
end

local function change(self, key, text)
  local before = self.changed[key]
  local n = self.undo_count
  self.undo[n + 1], self.undo[n + 2] = key, before == nil and NONE or before
  self.undo_count = n + 2
  self.changed[key] = text
  self.changed_count = self.changed_count + 1
  self.changed_bytes = self.changed_bytes + (text and #text or 0)
end

local function put(self, key, doc, what)
  if type(doc) ~= "table" then
    error(("%s: a document is a table, got %s"):format(what, type(doc)), 3)
  end
  local text, err = self.app.store:encode(doc, self.name)
  if not text then
    error(("%s: document %s: %s"):format(what, key, err.message), 3)
  end
  change(self, key, text)
end

--- Stores a document, in place of the one under this key.
---@param key string|integer
---@param doc table
function Documents:put(key, doc)
  put(self, M.key(key, "model:put"), doc, "model:put")
end

--- A copy of a document, as the events so far have left it; nil when there is none. May yield.
---@param key string|integer
---@return table?
function Documents:get(key)
  local text = lookup(self, M.key(key, "model:get"))
  return text and json.decode(text) or nil
end

--- Changes a document: fn changes the table that it gets, or returns another one. When there is no
--- such document it begins as an empty one. May yield.
---@param key string|integer
---@param fn fun(doc: table): table?
function Documents:update(key, fn)
  key = M.key(key, "model:update")
  if type(fn) ~= "function" then
    error("model:update: the second argument is a function, got " .. type(fn), 2)
  end
  local text = lookup(self, key)
  local doc = text and json.decode(text) or {}
  local other = fn(doc)
  if other ~= nil then doc = other end
  put(self, key, doc, "model:update")
end

--- Deletes a document; it need not be there.
---@param key string|integer
function Documents:delete(key)
  change(self, M.key(key, "model:delete"), false)
end

--- Finds documents as the events before this one have left them; see catga.Model.find. It commits
--- these first, so use it where `get` does not do. May yield.
---@return table[] docs
---@return string[] keys
function Documents:find(filter, opts)
  if self.undo_count > 0 then
    error("model:find does not see what this handler has changed: call it before put, update or "
      .. "delete", 2)
  end
  local reader = require "catga.model"
  local find = reader.prepare(filter, opts)
  self.flush()
  local docs, keys = reader.run(self.models, self.name, self.version, find)
  if not docs then error(keys, 0) end
  return docs, keys
end

--- Begins an event.
---@param event table
function Documents:begin(event)
  self.event = event
  self.undo_count = 0
end

--- Takes back what the handler of the running event has changed.
function Documents:take_back()
  for i = self.undo_count - 1, 1, -2 do
    local before = self.undo[i + 1]
    if before == NONE then before = nil end
    self.changed[self.undo[i]] = before
  end
  self.undo_count = 0
end

--- What has changed since the last call, to be written; from now on it is taken as written.
---@return table<string, string|false>
function Documents:collect()
  local changed = self.changed
  for key, text in pairs(changed) do remember(self, key, text) end
  self.changed, self.changed_count, self.changed_bytes = {}, 0, 0
  return changed
end

--- Begins to read the documents that a batch will probably ask for, as far as earlier events tell.
---@param events table[]
---@return { job: catga.ModelJob, keys: string[] }?
function Documents:prefetch(events)
  if next(self.hints) == nil then return nil end
  local keys, seen = {}, {}
  for i = 1, #events do
    local event = events[i]
    local field = self.hints[event.type]
    local key = field ~= nil and type(event.data) == "table" and event.data[field]
    if type(key) == "string" and #key <= KEY_BYTES_MAX and not seen[key]
      and known(self, key) == nil then
      seen[key] = true
      keys[#keys + 1] = key
      if #keys == PREFETCH_MAX then break end
    end
  end
  if #keys == 0 then return nil end
  return { job = self.models:fetch(self.name, self.version, keys), keys = keys }
end

--- Waits for a prefetch and keeps what it brought. It is a guess: when it fails, the handlers read
--- by themselves. May yield.
---@param prefetch { job: catga.ModelJob, keys: string[] }?
function Documents:prefetched(prefetch)
  if not prefetch then return end
  local job = prefetch.job
  tasks.wait(job.wait, job)
  local list = job:take()
  for i = 1, list and #list or 0 do remember(self, prefetch.keys[i], list[i]) end
end

return M
