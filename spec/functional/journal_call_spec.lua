--- The call that writes one record of a journal: what it returns is what the record holds.
local clocks = require "catga.native.clock"
local json = require "catga.native.json"
local stores = require "catga.native.store"

describe("store:journal", function()
  local store, stream

  before_each(function()
    store = assert(stores.open { clock = clocks.system(), message_size_max = 1000 })
    stream = store:stream("a-1", true)
  end)

  after_each(function() store:close() end)

  local function journal(value, tail)
    return store:journal(stream, "StepCompleted", 0, '"step":"s",', "result", value, tail)
  end

  it("returns the value as the record holds it, sharing no table", function()
    local part = { 1, 2 }
    local value = setmetatable({ parts = { part, part }, none = {}, text = "a\"b", at = -0.0 }, {})
    local ok, copy, time = journal(value, ',"correlation_id":"7"')
    local event = store:read(stream, 0, 1)[1]
    local data = event.data
    assert.is_true(ok)
    assert.are.equal(event.time, time)
    assert.are.same({ step = "s", result = copy, correlation_id = "7" }, data)
    assert.are.same(value, copy)
    assert.is_nil(getmetatable(copy))
    assert.are.equal(json.array_mt, getmetatable(copy.parts[2]))
    assert.are_not.equal(copy.parts[1], copy.parts[2])
    assert.are_not.equal(part, copy.parts[1])
    assert.are.equal(-1 / 0, 1 / copy.at)
  end)

  it("keeps nil and null apart, without a tail too", function()
    local ok, copy = journal(nil)
    assert.is_true(ok)
    assert.is_nil(copy)
    ok, copy = journal(json.null)
    assert.is_true(ok)
    assert.are.equal(json.null, copy)
    local events = store:read(stream, 0, 2)
    assert.are.same({ step = "s", ["nil"] = true }, events[1].data)
    assert.are.same({ step = "s", result = json.null }, events[2].data)
  end)

  it("leaves nothing of a value that cannot be stored", function()
    local deep = { { {}, { a = { print } } } }
    for _, value in ipairs { print, deep, { 1, x = 1 }, ("x"):rep(2000) } do
      local ok, err = journal(value)
      assert.is_false(ok)
      assert.is_truthy(err.message:find("^result"))
    end
    assert.are.equal(0, store:count(stream))
    assert.is_true(journal { 1 })
    assert.are.equal(1, store:count(stream))
  end)

  it("raises for another self", function()
    for _, other in ipairs { 1, "store", {}, io.stdout, newproxy(), json.null, clocks.system() } do
      assert.has_error(function() store.journal(other, stream, "T", 0, "", "result", 1) end)
      assert.has_error(function() store.count(other, stream) end)
    end
    assert.has_error(function() store.count() end)
  end)
end)
