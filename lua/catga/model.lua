--- Reading a projection's documents from outside of its handlers: committed ones.
local tasks = require "catga.task"
local json = require "catga.native.json"
local documents = require "catga.projection.documents"

local M = {}

local FIND_MAX = 10000
local FIND_DEFAULT = 100
local OPTIONS = { order = true, max = true, offset = true }

---@class catga.Model
---@field projections catga.Projections
---@field name string
local Model = {}
Model.__index = Model

---@param projections catga.Projections
---@param name string
---@return catga.Model
function M.new(projections, name)
  return setmetatable({ projections = projections, name = name }, Model)
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

--- Runs a find that prepare has checked. May yield.
---@return table[]? docs
---@return string[]|catga.Error keys
function M.run(models, name, version, find)
  local list, err = M.await(models:find(name, version, find.where, find.max, find.offset,
    find.order, find.is_descending))
  if not list then return nil, err end
  local docs, keys = {}, {}
  for i = 1, #list, 2 do
    keys[#keys + 1] = list[i]
    docs[#docs + 1] = json.decode(list[i + 1])
  end
  return docs, keys
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
  key = documents.key(key, "get")
  local models, version = self.projections:serving(self.name)
  if not models then return nil, version end
  local list, err = M.await(models:fetch(self.name, version, { key }))
  if not list then return nil, err end
  return list[1] and json.decode(list[1]) or nil
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
  local find = M.prepare(filter, opts)
  local models, version = self.projections:serving(self.name)
  if not models then return nil, version end
  return M.run(models, self.name, version, find)
end

return M
