--- What the specs of the patterns share: opening one pattern alone, and killing it at every record.
local testing = require "catga.testing"
local catga = require "catga"
local assert = require "luassert"

local DIR = debug.getinfo(1, "S").source:match("^@(.*)/spec/[^/]*$")

local M = { dir = DIR }

--- A function that defines what one file of the patterns defines.
---@param name string  of the file, without .lua
---@return fun()
function M.define(name)
  return function() dofile(("%s/%s.lua"):format(DIR, name)) end
end

--- Opens one pattern for a function, and stops it.
---@param name string
---@param fn fun(app: catga.TestApp, reopen: fun(): catga.TestApp)  reopen: kills it, opens it again
---@param opts table?  as of testing.app
function M.with(name, fn, opts)
  local app = assert(testing.app(M.define(name), opts))
  local ok, failure = xpcall(fn, function(fault)
    return type(fault) == "string" and debug.traceback(fault, 2) or fault
  end, app, function()
    app = assert(app:crash())
    return app
  end)
  app:stop()
  if not ok then error(failure, 0) end
end

local function source_of(pattern)
  return type(pattern) == "string" and M.define(pattern) or pattern
end

-- How a process ends when nothing happens to it.
local function outcome(source, process, input, opts)
  if opts.reset then opts.reset() end
  local app = assert(testing.app(source, { stubs = opts.stubs }))
  local id = app:start(process, input)
  app:settle()
  if opts.drive then opts.drive(app, id) end
  return app, id, (app:wait(id))
end

-- The types of all events but those of journals, by stream; sorted: branches may change places.
local function facts(app)
  local by_stream = {}
  app:call(function()
    for _, event in ipairs(catga.events.read_all { max = 1000 }) do
      local types = by_stream[event.stream] or {}
      by_stream[event.stream] = types
      types[#types + 1] = event.type
    end
  end)
  for _, types in pairs(by_stream) do table.sort(types) end
  return by_stream
end

-- Asserts that what a process has appended is there once, wherever it was killed.
local function check_facts(source, id, opts, whole)
  local expected = facts(whole)
  if not next(expected) then return end
  for position = 2, whole:position() - 1 do
    if opts.reset then opts.reset() end
    local app = assert(testing.app(source, { stubs = opts.stubs,
      memory = whole:snapshot(position), start = whole.clock:now() }))
    app:settle()
    local has_begun = app:journal(id)[1]
    if has_begun and opts.drive then opts.drive(app, id) end
    if has_begun then app:wait(id) end
    local found = facts(app)
    app:stop()
    if has_begun then assert.same(expected, found, "killed at record " .. position) end
  end
end

--- Asserts that a process of a pattern ends so, comes to the same end after a kill at every record,
--- and has appended what it appends once.
---@param pattern string|fun()  name of the file, or what defines it
---@param process string
---@param input any
---@param opts table?  as of testing.chaos; ends: the status, default "completed"; facts = false:
---  what it appends depends on who was first
function M.survives(pattern, process, input, opts)
  opts = opts or {}
  local source = source_of(pattern)
  local app, id, status = outcome(source, process, input, opts)
  local is_checked = opts.same ~= false and opts.facts ~= false
  local ok, failure = true, nil
  if is_checked then ok, failure = pcall(check_facts, source, id, opts, app) end
  app:stop()
  if not ok then error(failure, 0) end
  assert.equal(opts.ends or "completed", status)
  local fault, kills = testing.chaos(source, process, input, opts)
  assert.is_nil(fault)
  assert.is_true(kills > 0)
end

--- The types of the events of a stream.
---@param app catga.TestApp
---@param stream string
---@return string[] types
function M.types(app, stream)
  return app:call(function()
    local types = {}
    for i, event in ipairs(catga.events.read(stream) or {}) do types[i] = event.type end
    return types
  end)
end

--- Sends a signal.
function M.signal(app, ...) return app:call(catga.processes.signal, ...) end

--- The status of a process.
function M.status(app, id)
  return app:call(function() return (catga.processes.get(id) or {}).status end)
end

return M
