--- Reading a projection's documents from outside of its handlers: committed ones.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local duration = require "catga.duration"
local json = require "catga.native.json"
local native = require "catga.native.model"
local documents = require "catga.projection.documents"
local inline = require "catga.lazy".module "catga.projection.inline"

local M = {}

local FIND_MAX = 10000
local FIND_DEFAULT = 100
local ROWS_MAX = 100000
local OPTIONS = { order = true, max = true, offset = true }

---@class catga.Model
---@field projections catga.Projections
---@field name string
---@field after integer?       position that reads must have seen
---@field timeout_ms number?   how long they wait for it
local Model = {}
Model.__index = Model

---@param projections catga.Projections
---@param name string
---@param opts { after: integer?, timeout: string? }?
---@return catga.Model
function M.new(projections, name, opts)
  local self = setmetatable({ projections = projections, name = name }, Model)
  if opts then
    self.after = opts.after
    self.timeout_ms = opts.timeout and duration.ms(opts.timeout, "timeout")
  end
  return self
end

--- Waits for a job of the read models: what it was for, or nil and an error. May yield.
---@param job catga.ModelJob?
---@param err catga.Error?
function M.await(job, err)
  if not job then return nil, err end
  tasks.wait(job.wait, job)
  return job:take()
end

local function whole(value, least, most)
  return type(value) == "number" and value % 1 == 0 and value >= least and value <= most
end

local function wrong(text) error("find: " .. text, 4) end

--- Checks the arguments of find; raises in the caller of find.
---@param filter table?
---@param opts table?
---@return { where: table, max: integer, offset: integer, order: string?, is_descending: boolean }
function M.prepare(filter, opts)
  filter, opts = filter or {}, opts or {}
  if type(filter) ~= "table" then wrong("the filter is a table of field = value") end
  if type(opts) ~= "table" then wrong("the options are a table") end
  for field in pairs(filter) do
    if type(field) ~= "string" then wrong("the filter is a table of field = value") end
  end
  for name in pairs(opts) do
    if not OPTIONS[name] then
      wrong(("unknown option \"%s\"; there are max, offset, order"):format(tostring(name)))
    end
  end
  local max, offset, order = opts.max or FIND_DEFAULT, opts.offset or 0, opts.order
  if not whole(max, 1, FIND_MAX) then wrong("max is a whole number from 1 to 10,000") end
  if not whole(offset, 0, 2 ^ 31 - 1) then wrong("offset is a whole number from 0") end
  if order ~= nil and (type(order) ~= "string" or order == "" or order == "-") then
    wrong("order is the name of a field, with \"-\" before it to turn it round")
  end
  local is_descending = order ~= nil and order:sub(1, 1) == "-"
  return { where = filter, max = max, offset = offset,
    order = is_descending and order:sub(2) or order, is_descending = is_descending }
end

--- The job of a find that prepare has checked, or nil and an error.
---@param is_inside boolean?  it sees the open transaction
---@return catga.ModelJob?
---@return catga.Error?
function M.find_job(models, name, version, find, is_inside)
  return models:find(name, version, find.where, find.max, find.offset, find.order,
    find.is_descending, is_inside)
end

--- What a find has given: documents and their keys.
---@param list string[]
---@return table[] docs
---@return string[] keys
function M.decode(list)
  local docs, keys = {}, {}
  for i = 1, #list, 2 do
    keys[#keys + 1] = list[i]
    docs[#docs + 1] = json.decode(list[i + 1])
  end
  return docs, keys
end

--- Runs a find that prepare has checked. May yield.
---@return table[]? docs
---@return string[]|catga.Error keys
function M.run(models, name, version, find)
  local list, err = M.await(M.find_job(models, name, version, find))
  if not list then return nil, err end
  return M.decode(list)
end

-- What the message that is handled, or one that led to it, must have seen.
local function asked_after(self)
  if self.after then return self.after, self.timeout_ms end
  local ctx = state[1] and state[1].ctx
  while ctx do
    local after = rawget(ctx, "after")
    if after then return after, rawget(ctx, "after_timeout_ms") end
    ctx = rawget(ctx, "parent")
  end
end

local reading

-- Calls fn with the place of the version that serves, and its runner if it is inline, when it has
-- seen what it must: its results, or nil and an error. Again when another version has taken over
-- before it has begun to read. May yield.
function reading(self, fn, ...)
  local projections = self.projections
  local after, timeout_ms = asked_after(self)
  if after then
    local ok, err = projections:await(self.name, after, timeout_ms
      or projections.app.settings.after_timeout)
    if not ok then return nil, err end
  end
  local place, runner = projections:serving(self.name)
  if not place then return nil, runner end
  local first, second, third = place:read(fn, place, runner, self.name, ...)
  if first == inline.AGAIN then return reading(self, fn, ...) end
  return first, second, third
end

local function get(place, runner, name, key)
  if runner then return inline.get(runner, key) end
  local list, err = M.await(place:get():fetch(name, place.slot, { key }))
  if not list then return nil, err end
  return list[1]
end

local function find_docs(place, runner, name, find)
  if runner then inline.flush(runner) end
  if not place:serves() then return inline.AGAIN end
  return M.run(place:get(), name, place.slot, find)
end

local function ask_rows(place, _, _, query, max, timeout_ms)
  return M.await(place:get():query(query, max, timeout_ms))
end

--- A document; nil when there is none. May yield.
---
--- ```lua
--- local order = catga.model("OrderSummary"):get("42")
--- ```
---@param key string|integer
---@return table? doc
---@return catga.Error? err
function Model:get(key)
  local text, err = reading(self, get, documents.key(key, "get"))
  if not text then return nil, err end
  return json.decode(text)
end

--- Documents whose fields have the given values, and their keys. Looks at every document. May
--- yield.
---
--- ```lua
--- local orders, ids = catga.model("OrderSummary"):find({ paid = true }, { order = "-total" })
--- ```
---@param filter table<string, string|number|boolean|lightuserdata>?  top-level fields; catga.null:
---  the field is null. Default: all documents
---@param opts { order: string?, max: integer?, offset: integer? }?  order: a field, "-field" for
---  the greatest first, default by key; max: 1 to 10,000, default 100; offset: how many to pass
---@return table[]? docs
---@return string[]|catga.Error keys  in the order of docs; or the error
function Model:find(filter, opts)
  return reading(self, find_docs, M.prepare(filter, opts))
end

--- Rows of a SELECT on the projection's tables, and on `documents`: key, doc (JSON). May yield.
---
--- ```lua
--- local rows = catga.model("Sales"):rows("SELECT * FROM revenue WHERE month >= ?", "2011-01")
--- ```
---@param text string  one SELECT
---@param ... string|number|boolean|lightuserdata|nil  values of its parameters
---@return table[]? rows  by column; NULL is nil; at most 100,000
---@return string[]|catga.Error columns  or the error: "invalid", "timeout"
function Model:rows(text, ...)
  if type(text) ~= "string" then error("rows: the query is a string, got " .. type(text), 2) end
  if not self.projections:definition(self.name).tables then
    error(("rows: projection %s has no tables"):format(self.name), 2)
  end
  local query = native.statements()
  query:add(1, text, ...)
  local rows, columns, is_cut = reading(self, ask_rows, query, ROWS_MAX,
    self.projections.app.settings.sql_timeout)
  if rows and is_cut then
    return nil, errors.new("limit", ("the query has more than %d rows; add LIMIT"):format(ROWS_MAX))
  end
  return rows, columns
end

return M
