--- Where the documents and tables of one version of a projection are: in `models.sqlite` with those
--- of others; in a file of its own, `models/<name>@<version>.sqlite`, when it has SQL tables; in
--- memory when it is live, or the store is.
---
--- A version that is built anew beside itself has another slot: version + build * 2^31. That is
--- what the database calls a version.
local errors = require "catga.error"
local native = require "catga.native.model"
local models = require "catga.model"
local host = require "catga.native.host"

local M = {}

local BUILD = 2 ^ 31

local SETUP = {
  "CREATE TABLE IF NOT EXISTS catga_tables (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
}

---@class catga.ModelPlace
---@field projections catga.Projections
---@field name string
---@field slot integer
---@field own catga.Models?    a database of its own; nil: the shared one
---@field path string?         of its file
---@field readers integer      reads under way
---@field is_retired boolean?  another version serves: to be dropped when nobody reads it any more
local Place = {}
Place.__index = Place

--- The version of a slot.
---@param slot integer
---@return integer
function M.version_of(slot) return slot % BUILD end

--- The slot of the next build of a version.
---@param slot integer
---@return integer
function M.next_slot(slot) return slot + BUILD end

--- Where versions have files of their own; nil: the store is in memory.
---@param app catga.App
---@return string?
function M.directory(app) return app.data and app.data .. "/models" end

--- The path of a version's own file; nil: the store is in memory.
---@param app catga.App
---@param name string
---@param slot integer
---@return string?
function M.path(app, name, slot)
  return app.data and ("%s/%s@%.0f.sqlite"):format(M.directory(app), name, slot)
end

--- Deletes a database and what SQLite has put beside it.
---@param path string
function M.remove(path)
  for _, ending in ipairs { "", "-wal", "-shm" } do os.remove(path .. ending) end
end

--- The place of a version; `open` must follow when it has a database of its own.
---@param projections catga.Projections
---@param name string
---@param slot integer
---@param own "memory"|"file"|nil
---@return catga.ModelPlace
function M.new(projections, name, slot, own)
  local place = setmetatable({ projections = projections, name = name, slot = slot, readers = 0 },
    Place)
  if own then
    local err
    place.path = own == "file" and M.path(projections.app, name, slot) or nil
    place.own, err = native.open(place.path)
    if not place.own then error(err, 0) end
  end
  return place
end

--- The database.
---@return catga.Models
function Place:get() return self.own or self.projections.models end

--- The checkpoint of the version, which is made when it is missing. May yield.
---@return integer position
---@return boolean is_serving
function Place:define()
  local position, is_serving = models.await(self:get():define(self.name, self.slot, false,
    self.own ~= nil))
  if not position then error(is_serving, 0) end
  return position, is_serving
end

-- Runs statements of the program's own: rows of the last one. May yield.
local function run(place, ...)
  local list = native.statements()
  for _, one in ipairs { ... } do
    if type(one) == "table" then list:add(1, unpack(one)) else list:add(1, one) end
  end
  return models.await(place.own:run(list))
end

local function shape_of(definition)
  return host.sha256(table.concat(definition.tables, ";\n"))
end

-- Makes the tables, and notes what they were made of, in one transaction.
local function make(place, definition, shape)
  local list = { "BEGIN IMMEDIATE" }
  for _, text in ipairs(definition.tables) do list[#list + 1] = text end
  list[#list + 1] = { "INSERT INTO catga_tables VALUES ('shape', ?), ('migrations', '0')", shape }
  list[#list + 1] = "COMMIT"
  return run(place, unpack(list))
end

-- Runs the migrations that were not run yet, each in a transaction of its own.
local function migrate(place, definition, done)
  local migrations = definition.migrations or {}
  for i = done + 1, #migrations do
    local note = { "UPDATE catga_tables SET value = ? WHERE name = 'migrations'", tostring(i) }
    local ok, err = run(place, "BEGIN IMMEDIATE", migrations[i], note, "COMMIT")
    if not ok then return nil, err end
  end
  return true
end

--- Makes the tables of a version, or brings them to what the script says. May yield.
---@param definition table
---@return boolean? fits  false: they were made of something else, so the version must be built anew
---@return catga.Error? err  a statement has failed
function Place:set_up(definition)
  local shape = shape_of(definition)
  local rows, err = run(self, SETUP[1], "SELECT name, value FROM catga_tables")
  local stored = {}
  for _, row in ipairs(rows or {}) do stored[row.name] = row.value end
  if rows and not stored.shape then rows, err = make(self, definition, shape) end
  if not rows then
    return nil, errors.new(err.code, ("projection %s: its tables: %s"):format(self.name,
      err.message))
  end
  if stored.shape and stored.shape ~= shape then return false end
  local done = tonumber(stored.migrations or 0)
  if done > #(definition.migrations or {}) then return false end
  local ok
  ok, err = migrate(self, definition, done)
  if ok then return true end
  return nil, errors.new(err.code, ("projection %s: a migration: %s"):format(self.name,
    err.message))
end

--- Do reads go here?
---@return boolean
function Place:serves() return self.projections.served[self.name] == self end

-- Nobody reads it any more.
local function drop(place)
  if not place.own then return end -- Its tables went with the change of version.
  place.own:close()
  place.own = nil
  if place.path then M.remove(place.path) end
end

--- Another version serves from now on: drops the files as soon as nobody reads them.
function Place:retire()
  self.is_retired = true
  if self.readers == 0 then drop(self) end
end

--- Calls fn for a read, during which the files stay. May yield.
---@param fn function
---@return any ...  its results
function Place:read(fn, ...)
  self.readers = self.readers + 1
  local function finish(...)
    self.readers = self.readers - 1
    if self.is_retired and self.readers == 0 then drop(self) end
    return ...
  end
  return finish(fn(...))
end

--- Closes a database of its own.
function Place:close()
  if self.own then self.own:close() end
  self.own = nil
end

return M
