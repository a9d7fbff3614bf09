--- Ad-hoc SQL over the read models, read-only: on a running program, and on closed data.
---
--- A query has a connection and a thread of its own, so it keeps nobody waiting. It sees, for each
--- projection, a view with its name (key, doc: JSON) and its own tables: by their names alone while
--- only one projection has such a table, else as "Projection".table. The documents of one with
--- tables are "Projection".documents as well, for a table may be called like the projection. A
--- query "on" one projection is run by that one's own thread; that is how those in memory are
--- reached.
local errors = require "catga.error"
local json = require "catga.native.json"
local native = require "catga.native.model"
local duration = require "catga.duration"
local models = require "catga.model"
local places = require "catga.projection.place"

local M = {}

local ATTACHED_MAX = 10 -- Files of one query: SQLite's own bound.
local AT_ONCE_MAX = 4   -- Queries with a connection of their own.
local OPTIONS = { on = true, params = true, max = true, timeout = true }

local function quoted(name) return '"' .. name:gsub('"', '""') .. '"' end

local function statement(text, params)
  local list = native.statements()
  local count = params and (params.n or #params) or 0
  list:add(1, text, unpack(params or {}, 1, count))
  return list
end

-- The projections that have a file of their own and serve: { name, path } in the order in which
-- they should be attached, those first that the query names.
local function files_of(app, reader, text)
  local rows, err = models.await(reader:run(statement(
    "SELECT projection, version FROM catga_checkpoints WHERE serving ORDER BY projection")))
  if not rows then return nil, err end
  local named, others = {}, {}
  for _, row in ipairs(rows) do
    local path = places.path(app, row.projection, row.version)
    local file = io.open(path, "r")
    if file then
      file:close()
      local list = text:find(row.projection, 1, true) and named or others
      list[#list + 1] = { name = row.projection, path = path }
    end
  end
  for _, one in ipairs(others) do named[#named + 1] = one end
  return named
end

-- The view of a projection's documents under its name, unless one of its tables is called so.
local function add_view(reader, name)
  local schema = quoted(name)
  local taken, err = models.await(reader:run(statement(
    ("SELECT 1 FROM %s.sqlite_schema WHERE name = ? COLLATE NOCASE"):format(schema), { name })))
  if not taken or taken[1] then return taken, err end
  return models.await(reader:run(statement(
    ("CREATE TEMP VIEW %s AS SELECT key, doc FROM %s.documents"):format(schema, schema))))
end

-- Attaches the files and makes the views of their documents. May yield.
local function attach(app, reader, text)
  local files, err = files_of(app, reader, text)
  if not files then return nil, err end
  local list = native.statements()
  for i = 1, math.min(#files, ATTACHED_MAX) do
    local name = quoted(files[i].name)
    list:add(1, "ATTACH ? AS " .. name, files[i].path)
  end
  list:add(1, "SELECT 1")
  local ok
  ok, err = models.await(reader:run(list))
  for i = 1, ok and math.min(#files, ATTACHED_MAX) or 0 do
    ok, err = add_view(reader, files[i].name)
    if not ok then break end
  end
  if not ok then return nil, err end
  return models.await(reader:run(statement("PRAGMA query_only = 1")))
end

local function exists(path)
  local file = io.open(path, "r")
  if file then file:close() end
  return file ~= nil
end

-- Runs the query on a connection of its own. May yield.
local function run_apart(app, text, query, max, timeout_ms)
  local path = app.data and app.data .. "/models.sqlite"
  if not path then
    return nil, errors.new("invalid", "the store is in memory, so are its read models: name the "
      .. "projection to ask, on = name")
  end
  if not exists(path) then
    return nil, errors.new("not_found", "there are no read models yet: no projection has run")
  end
  if (app.sql_count or 0) >= AT_ONCE_MAX then
    return nil, errors.new("busy", ("%d queries run already"):format(AT_ONCE_MAX),
      { retryable = true })
  end
  local reader, err = native.open(path, true)
  if not reader then return nil, err end
  app.sql_count = (app.sql_count or 0) + 1
  local ok, rows, columns, is_cut = pcall(function()
    local attached, fault = attach(app, reader, text)
    if not attached then return nil, fault end
    return models.await(reader:query(query, max, timeout_ms))
  end)
  app.sql_count = app.sql_count - 1
  reader:close()
  if not ok then error(rows, 0) end
  return rows, columns, is_cut
end

local function run_on(app, name, query, max, timeout_ms)
  local projections = app.projections
  local is_known, unknown = pcall(projections.definition, projections, name)
  if not is_known then return nil, unknown end
  local place, err = projections:serving(name)
  if not place then return nil, err end
  return place:read(function()
    return models.await(place:get():query(query, max, timeout_ms))
  end)
end

--- Runs a SELECT. Whatever else raises "invalid". May yield.
---@param app catga.App
---@param text string
---@param opts { on: string?, params: any[]?, max: integer?, timeout: string? }?  on: one
---  projection; max: rows, default the setting sql_rows_max; timeout: default sql_timeout
---@return table[]? rows        by column; NULL is nil
---@return string[]|catga.Error columns  in order; or the error: "invalid", "timeout", "not_found"
---@return boolean? is_cut      there were more rows than max
function M.run(app, text, opts)
  opts = opts or {}
  if type(text) ~= "string" then error("sql: the query is a string, got " .. type(text), 2) end
  for name in pairs(opts) do
    if not OPTIONS[name] then
      error(("sql: unknown option %s; there are max, on, params, timeout"):format(
        tostring(name)), 2)
    end
  end
  local max = math.min(opts.max or app.settings.sql_rows_max, app.settings.sql_rows_max)
  local timeout_ms = app.settings.sql_timeout
  if opts.timeout then timeout_ms = math.min(timeout_ms, duration.ms(opts.timeout, "timeout")) end
  local query = statement(text, opts.params)
  if opts.on then return run_on(app, opts.on, query, max, timeout_ms) end
  return run_apart(app, text, query, max, timeout_ms)
end

--- Rows as JSON has them: a document each, with null where there is nothing.
---@param rows table[]
---@param columns string[]
---@return table[] list
function M.documents(rows, columns)
  for _, row in ipairs(rows) do
    for _, column in ipairs(columns) do
      if row[column] == nil then row[column] = json.null end
    end
  end
  return json.array(rows)
end

return M
