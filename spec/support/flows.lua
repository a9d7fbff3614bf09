--- What specs of flows share: a process with a body of theirs and a few steps, what it called, and
--- killing it at every record.
local testing = require "catga.testing"
local catga = require "catga"
local assert = require "luassert"

local M = {}

local calls = {}

local function called(name) calls[#calls + 1] = name end

--- What steps have called since the last start.
---@return string[]
function M.calls() return calls end

--- A process P with this body, the steps task and claim (which has an undo), and a child.
---@param execute fun(self: table, input: any): any
---@return fun()
function M.define_with(execute)
  return function()
    local P = catga.process "P"
    P.execute = execute
    function P.task(_, name, takes)
      if takes then catga.sleep(takes) end
      called(name)
      return name
    end
    function P.claim(_, name) called("claim " .. name) return name end
    function P.compensate_claim(_, _, name) called("release " .. name) end
    local Child = catga.process "Child"
    function Child:execute(name)
      self:sleep("1h")
      return self:work(name)
    end
    function Child.work(_, name) called(name) return name end
  end
end

--- Something that sends signals, { name, value } or the name alone; again they are the same ones.
---@param list (string|any[])[]
---@return fun(app: catga.TestApp, id: string)
function M.signals(list)
  return function(app, id)
    for i, one in ipairs(list) do
      local name, value = one, true
      if type(one) == "table" then name, value = one[1], one[2] end
      app:call(catga.processes.signal, id, name, value, { id = "s" .. i })
      app:settle()
    end
  end
end

--- Starts P and waits for it: status, result, error.
---@param app catga.TestApp
---@param opts { input: any, drive: function? }
function M.start_and_wait(app, opts)
  calls = {}
  local id = assert(app:start("P", opts.input or { id = "x" }))
  app:settle()
  if opts.drive then opts.drive(app, id) end
  return app:wait(id)
end

--- Runs a body once, looks what it called, and kills it at every record: its result.
---@param execute fun(self: table, input: any): any
---@param expected string[]?  what it called
---@param opts { input: any, drive: function?, same: boolean?, ends: string?, more: function? }?
---  more: looks at the app when the process has ended; the others as of testing.chaos
---@return any result
function M.run(execute, expected, opts)
  opts = opts or {}
  local app = assert(testing.app(M.define_with(execute)))
  local status, result, err = M.start_and_wait(app, opts)
  if opts.more then opts.more(app) end
  app:stop()
  assert.equal(opts.ends or "completed", status, tostring(err))
  if expected then assert.same(expected, calls) end
  assert.is_nil((testing.chaos(M.define_with(execute), "P", opts.input or { id = "x" },
    { drive = opts.drive, same = opts.same })))
  return result
end

return M
