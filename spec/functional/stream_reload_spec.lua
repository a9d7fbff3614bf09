--- Streams when the scripts change: functions are replaced, state stays; what does not fit is
--- refused.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local catga = require "catga"

local app, dir

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local DURABLE = [[
local catga = require "catga"
catga.stream("Made", { durable = "sums" }):select(function(v) return v.n * %d end)%s
  :scan(function(sum, n) return sum + n end, 0)
  :select(function(sum) return { sum = sum } end):to { append = "Sums", type = "Sum" }
]]

local LIVE = [[
local catga = require "catga"
catga.stream("Tick", { name = "live", qos = 0 }):scan(function(sum, v) return sum + v.n * %d end, 0)
  :each(function(sum) catga.events.append("Sums", { { type = "Sum", data = { sum = sum } } }) end)
]]

local function open(text)
  dir = app_dir.new { ["main.lua"] = text }
  app = assert(testing.app(dir))
end

local function reload(text)
  app_dir.write(dir, "main.lua", text)
  local ok, err = app:call(function() return app.app:reload() end)
  app:settle()
  return ok, err
end

local function make(n)
  app:call(function() assert(catga.events.append("S", { { type = "Made", data = { n = n } } })) end)
  app:settle()
end

local function tick(n)
  app:call(function() assert(catga.publish("Tick", { n = n }, { qos = 0 })) end)
  app:settle()
end

local function sums()
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, "Sums")) do list[i] = event.data.sum end
  return list
end

local function get(name) return app:call(catga.streams.get, name) end

describe("a reload", function()
  it("of a durable stream goes on with its state, with the new functions", function()
    open(DURABLE:format(1, ""))
    make(1)
    make(2)
    assert.is_true(reload(DURABLE:format(10, "")))
    make(3)
    assert.same({ 1, 3, 33 }, sums())
  end)

  it("that changes the shape of a durable stream is refused; the one before goes on", function()
    open(DURABLE:format(1, ""))
    make(1)
    local ok, err = reload(DURABLE:format(1, ":where(function() return true end)"))
    assert.is_false(ok)
    assert.matches("raise `version`", err.message)
    make(2)
    assert.same({ 1, 3 }, sums())
  end)

  it("of a stream in memory goes on with its state, with the new functions", function()
    open(LIVE:format(1))
    tick(1)
    tick(2)
    assert.is_true(reload(LIVE:format(10)))
    tick(3)
    assert.same({ 1, 3, 33 }, sums())
    assert.equal(3, get("live").events)
  end)

  it("that fails changes nothing", function()
    open(DURABLE:format(1, ""))
    make(1)
    assert.is_false(reload("local catga = require 'catga'\ncatga.stream('Made')"))
    make(2)
    assert.same({ 1, 3 }, sums())
  end)

  it("ends a stream that is there no more, and begins a new one", function()
    open(DURABLE:format(1, ""))
    make(1)
    assert.is_true(reload(LIVE:format(1)))
    assert.is_nil(get("sums"))
    make(2)
    tick(7)
    assert.same({ 1, 7 }, sums())
    assert.is_true(reload(DURABLE:format(1, "")))
    assert.is_nil(get("live"))
    assert.same({ 1, 7, 3 }, sums())
  end)
end)
