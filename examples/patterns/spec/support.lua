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
  local status, result = app:wait(id)
  return app, id, status, result
end

--- Asserts that a process of a pattern ends so, and comes to the same end after a kill at every
--- record.
---@param pattern string|fun()  name of the file, or what defines it
---@param process string
---@param input any
---@param opts table?  as of testing.chaos; ends: the status, default "completed"
function M.survives(pattern, process, input, opts)
  opts = opts or {}
  local app, _, status = outcome(source_of(pattern), process, input, opts)
  app:stop()
  assert.equal(opts.ends or "completed", status)
  local fault, kills = testing.chaos(source_of(pattern), process, input, opts)
  assert.is_nil(fault)
  assert.is_true(kills > 0)
end

--- The same for processes to which others send signals.
function M.survives_with_others(pattern, process, input)
  local source = source_of(pattern)
  local whole, id, _, result = outcome(source, process, input, {})
  for position = 2, whole:position() - 1 do
    local app = assert(testing.app(source, { memory = whole:snapshot(position) }))
    local status, same = app:wait(id)
    app:stop()
    assert.same({ "completed", result }, { status, same }, "killed at record " .. position)
  end
  whole:stop()
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
