--- The documents of one version of a projection, as its handlers see them: what the batch has
--- changed, over a cache of what was read, over the database.
---
--- A document is kept as JSON text, never as a table: what a handler holds on to, or puts into two
--- documents, cannot change what is stored. A change is undone when the handler that made it fails.
local tasks = require "catga.task"
local sandbox = require "catga.sandbox"
local json = require "catga.native.json"
local native = require "catga.native.model"
local errors = require "catga.error"
local new_table = require "table.new"

local M = {}

local CACHE_COUNT = 8192              -- Documents of one generation of the cache; there are two.
local CACHE_BYTES = 16 * 1024 ^ 2     -- Bytes of JSON of one generation.
local PREFETCH_MAX = 2000             -- Documents read ahead for one batch.
local KEY_BYTES_MAX = 1024
local SMALL = 32                      -- Changes of a batch: the next table begins small.
local ROWS_MAX = 100000               -- Rows of one query of a handler.
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
---@field statements userdata? SQL of this batch that was not sent yet; nil: there are no tables
---@field event_size integer   of the statements when the running event began
---@field is_open boolean?     a transaction is open, with what was sent of this batch
---@field is_torn boolean?     some of what the running handler did was sent: it cannot be undone
---@field broken table?        { error, position }: a statement that was sent has failed
---@field has_read boolean?    a document was read, so there is a cache
---@field missing table?       keys that atomic handlers could not read, see M.MISSING
---@field under table[]?       further layers below `changed`, see lua/catga/projection/inline.lua
local Documents = {}
Documents.__index = Documents

--- Raised in a handler that must not wait and asks for a document that is not in memory; the key
--- is in `missing`. Whoever runs the handler takes back what it did, reads, and runs it again.
M.MISSING = errors.new("missing", "a document is not in memory yet: no error of the handler")

---@param app catga.App
---@param models catga.Models
---@param name string
---@param version integer
---@param has_tables boolean?  SQL tables stand beside the documents
---@return catga.Documents
function M.new(app, models, name, version, has_tables)
  return setmetatable({ app = app, models = models, name = name, version = version,
    changed = {}, changed_count = 0, changed_bytes = 0, undo = {}, undo_count = 0,
    young = {}, young_count = 0, young_bytes = 0, old = {}, hints = {},
    statements = has_tables and native.statements() or nil, event_size = 0 }, Documents)
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
  self.has_read = true
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
  local under = self.under
  for i = 1, under and #under or 0 do
    text = under[i][key]
    if text ~= nil then return text end
  end
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
  for field, value in sandbox.raw.pairs(event.data) do
    if value == key then
      self.hints[event.type] = field
      return
    end
  end
end

local function lookup(self, key)
  local text = known(self, key)
  if text == nil then
    if self.missing then
      self.missing[key] = true
      error(M.MISSING, 0)
    end
    learn(self, key)
    local job = self.models:fetch(self.name, self.version, { key }, true)
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

-- Sends what was not sent yet into the open transaction: the job, or nil when there is nothing.
local function stage(self)
  local statements = self.statements
  if next(self.changed) == nil and statements:size() == 0 then return nil end
  self.is_torn = self.is_torn or self.undo_count > 0 or statements:size() > self.event_size
  self.is_open = true
  local job = self.models:stage(self.name, self.version, self:collect(), statements)
  statements:cut(0)
  self.event_size, self.undo_count = 0, 0
  return job
end

-- Runs a job of the models inside the transaction of this batch, behind all that was done so far.
local function inside(self, start)
  local before = stage(self)
  local job, fault = start()
  if not job then error(fault, 0) end
  tasks.wait(job.wait, job)
  if before then
    local ok, err, mark = before:take()
    if not ok then
      self.broken = { error = err, position = mark }
      error(err, 0)
    end
  end
  return job:take()
end

local function refuse_missing(self, what)
  if self.missing then
    error(("%s cannot be used in %s: it would have to wait"):format(what, self.atomic), 3)
  end
end

--- Finds documents; see catga.Model.find. A projection with tables finds what was done so far, also
--- by this handler. Others find documents as the events before this one have left them, and commit
--- these first, so use it where `get` does not do. May yield.
---@return table[] docs
---@return string[] keys
function Documents:find(filter, opts)
  refuse_missing(self, "model:find")
  local reader = require "catga.model"
  local find = reader.prepare(filter, opts)
  if self.statements then
    local list, err = inside(self, function()
      return reader.find_job(self.models, self.name, self.version, find, true)
    end)
    if not list then error(err, 0) end
    return reader.decode(list)
  end
  if self.undo_count > 0 then
    error("model:find does not see what this handler has changed: call it before put, update or "
      .. "delete", 2)
  end
  self.flush()
  local docs, keys = reader.run(self.models, self.name, self.version, find)
  if not docs then error(keys, 0) end
  return docs, keys
end

local function need_tables(self, what)
  if not self.statements then
    error(("%s: projection %s has no tables; give it some: projection.tables = { \"CREATE TABLE "
      .. "...\" }"):format(what, self.name), 3)
  end
end

--- Changes the projection's tables by an INSERT, UPDATE or DELETE, in the transaction of the
--- checkpoint. It runs with its batch, so an error of SQLite's does not raise here: it is an
--- error of the event, as if the handler had raised it.
---
--- ```lua
--- model:sql("UPDATE stock SET count = count - ? WHERE sku = ?", event.count, event.sku)
--- ```
---@param text string  one statement
---@param ... string|number|boolean|lightuserdata|nil  values of its parameters
function Documents:sql(text, ...)
  need_tables(self, "model:sql")
  if type(text) ~= "string" then
    error("model:sql: the statement is a string, got " .. type(text), 2)
  end
  self.statements:add(self.event.position, text, ...)
end

--- Asks the projection's tables, and the view `documents`: what was done so far, also by this
--- handler. Each call waits for the database, so use `sql` alone where it does. May yield.
---
--- ```lua
--- local row = model:rows("SELECT total FROM revenue WHERE month = ?", event.month)[1]
--- ```
---@param text string  one SELECT
---@param ... string|number|boolean|lightuserdata|nil
---@return table[] rows  by column; NULL is nil
function Documents:rows(text, ...)
  need_tables(self, "model:rows")
  refuse_missing(self, "model:rows")
  local query = native.statements()
  query:add(self.event.position, text, ...)
  local rows, err = inside(self, function() return self.models:query(query, ROWS_MAX, 0, true) end)
  if not rows then error(err, 0) end
  return rows
end

--- Keeps documents that were written in the cache.
---@param changes table<string, string|false>
function Documents:remember_all(changes)
  for key, text in sandbox.raw.pairs(changes) do remember(self, key, text) end
end

--- Begins an event.
---@param event table
function Documents:begin(event)
  self.event = event
  self.undo_count = 0
  if self.statements then self.event_size, self.is_torn = self.statements:size(), nil end
end

--- Takes back what the handler of the running event has changed.
function Documents:take_back()
  for i = self.undo_count - 1, 1, -2 do
    local before = self.undo[i + 1]
    if before == NONE then before = nil end
    self.changed[self.undo[i]] = before
  end
  self.undo_count = 0
  if self.statements then self.statements:cut(self.event_size) end
end

--- Forgets all that is not committed, and what was read meanwhile.
function Documents:reset()
  self.changed, self.changed_count, self.changed_bytes, self.undo_count = {}, 0, 0, 0
  self.young, self.young_count, self.young_bytes, self.old = {}, 0, 0, {}
  self.is_open, self.is_torn, self.broken = nil, nil, nil
  if self.statements then self.statements:cut(0) end
end

--- What has changed since the last call, to be written; from now on it is taken as written.
---@return table<string, string|false>
function Documents:collect()
  local changed = self.changed
  if self.has_read then self:remember_all(changed) end -- Else nothing of it is in the cache.
  self.changed = self.changed_count > SMALL and new_table(0, self.changed_count) or {}
  self.changed_count, self.changed_bytes = 0, 0
  return changed
end

-- The keys that an event will probably ask for: those of its fold, or what the last one of its type
-- has asked for.
local function guess(self, event, keys_of)
  local of = keys_of and keys_of[event.type]
  if of then
    local ok, keys = pcall(of, event.data, event)
    return ok and keys or nil
  end
  local field = self.hints[event.type]
  return field ~= nil and type(event.data) == "table" and event.data[field] or nil
end

-- Adds a key that has to be read, once.
local function want(self, wanted, key)
  if type(key) == "string" and #key <= KEY_BYTES_MAX and not wanted.seen[key]
    and known(self, key) == nil then
    wanted.seen[key] = true
    wanted.keys[#wanted.keys + 1] = key
  end
end

--- Begins to read the documents that a batch will probably ask for.
---@param events table[]
---@param keys_of table<string, function>?  of folds, by type of event
---@return { job: catga.ModelJob, keys: string[] }?
function Documents:prefetch(events, keys_of)
  if next(self.hints) == nil and not (keys_of and next(keys_of)) then return nil end
  local wanted = { keys = {}, seen = {} }
  for i = 1, #events do
    local keys = guess(self, events[i], keys_of)
    if type(keys) == "table" then
      for k = 1, #keys do want(self, wanted, keys[k]) end
    else
      want(self, wanted, keys)
    end
    if #wanted.keys >= PREFETCH_MAX then break end
  end
  return self:read_ahead(wanted.keys)
end

--- Begins to read documents.
---@param keys string[]
---@return { job: catga.ModelJob, keys: string[] }?  nil: there are none
function Documents:read_ahead(keys)
  if #keys == 0 then return nil end
  return { job = self.models:fetch(self.name, self.version, keys, true), keys = keys }
end

--- Waits for a prefetch and keeps what it brought. It is a guess: when it fails, the handlers read
--- by themselves. May yield.
---@param prefetch { job: catga.ModelJob, keys: string[] }?
---@return boolean ok
---@return catga.Error? err
function Documents:prefetched(prefetch)
  if not prefetch then return true end
  local job = prefetch.job
  tasks.wait(job.wait, job)
  local list, err = job:take()
  if not list then return false, err end
  for i = 1, #list do
    local key = prefetch.keys[i]
    if known(self, key) == nil then remember(self, key, list[i]) end
  end
  return true
end

--- JSON of a document as its readers see it, if it is in memory; false: there is no such document.
---@param key string
---@return string|false|nil
function Documents:peek(key) return known(self, key) end

return M
