--- Cursors of the store: each reader has its own place, and a filter that works below Lua.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function append(stream, ...)
  local events = {}
  for i, kind in ipairs { ... } do events[i] = { type = kind, data = { n = i } } end
  app:call(function() assert(catga.events.append(stream, events)) end)
end

-- All events behind a position as "stream/type".
local function all(filter, after, max)
  local cursor = app.app.store:cursor(after or 0, filter)
  local names = {}
  repeat
    local events = assert(cursor:next(max or 3))
    for _, event in ipairs(events) do names[#names + 1] = event.stream .. "/" .. event.type end
  until #events == 0
  return names
end

before_each(function()
  app = assert(testing.app(function() end))
  append("Order-1", "OrderCreated", "OrderPaid")
  append("Order-2", "OrderCreated")
  append("Orders-1", "OrdersCounted")
  append("Order", "Moved", "OrderCreated")
end)

after_each(function() app:stop() end)

describe("a cursor", function()
  it("gives all events in order of their positions, and where it stands", function()
    local cursor = app.app.store:cursor(0)
    assert.equal(0, cursor:position())
    local events, position = cursor:next(4)
    assert.same({ 1, 2, 3, 4 }, { events[1].position, events[2].position, events[3].position,
      events[4].position })
    assert.equal(4, position)
    events, position = cursor:next(100)
    assert.equal(2, #events)
    assert.equal(6, position)
    events, position = cursor:next(100)
    assert.equal(0, #events)
    assert.equal(6, position)
    append("Order-3", "OrderCreated")
    assert.equal("Order-3", cursor:next(100)[1].stream)
  end)

  it("filters by types, prefix, category and stream, together too", function()
    assert.same({ "Order-1/OrderCreated", "Order-2/OrderCreated", "Order/OrderCreated" },
      all { types = { "OrderPai", "OrderCreated", "Z" } })
    assert.same({}, all { types = {} })
    assert.same({ "Order-1/OrderCreated", "Order-1/OrderPaid", "Order-2/OrderCreated",
      "Orders-1/OrdersCounted", "Order/OrderCreated" }, all { type_prefix = "Order" })
    assert.same({ "Order-1/OrderCreated", "Order-1/OrderPaid", "Order-2/OrderCreated",
      "Order/Moved", "Order/OrderCreated" }, all { category = "Order" })
    assert.same({ "Order-1/OrderCreated", "Order-1/OrderPaid" }, all { stream = "Order-1" })
    assert.same({ "Order-2/OrderCreated" },
      all({ category = "Order", types = { "OrderCreated" }, stream = "Order-2" }, 2))
  end)

  it("keeps its place when it has rested after many events", function()
    local cursor = app.app.store:cursor(6)
    local list = {}
    for i = 1, 1500 do list[i] = { type = "Many", data = { n = i } } end
    for round = 1, 3 do
      app:call(function() assert(catga.events.append("Many", list)) end)
      for part = 1, 2 do
        local events = cursor:next(1000)
        assert.equal(part == 1 and 1000 or 500, #events)
        assert.equal(6 + (round - 1) * 1500 + (part - 1) * 1000 + 1, events[1].position)
      end
      assert.equal(0, #cursor:next(1000))
      assert.equal(6 + round * 1500, cursor:position())
    end
  end)

  it("keeps its place beside others", function()
    local store = app.app.store
    local one, other = store:cursor(0), store:cursor(3, { type_prefix = "Order" })
    assert.equal(1, one:next(1)[1].position)
    assert.equal(4, other:next(1)[1].position)
    assert.equal(2, one:next(1)[1].position)
    assert.equal(6, other:next(1)[1].position)
    assert.equal(3, one:next(1)[1].position)
  end)

  it("of one stream gives what one of all streams does, from every position", function()
    append("Order-1", "OrderShipped", "OrderClosed")
    append("Order-9", "OrderCreated")
    local store = app.app.store
    for after = 0, 10 do
      for max = 1, 3 do
        local expected, got = {}, {}
        local all_of, one_of = store:cursor(after), store:cursor(after, { stream = "Order-1" })
        for _, event in ipairs(all_of:next(100)) do
          if event.stream == "Order-1" then expected[#expected + 1] = event end
        end
        repeat
          local events = assert(one_of:next(max))
          for _, event in ipairs(events) do got[#got + 1] = event end
        until #events == 0
        assert.same(expected, got)
        assert.equal(math.max(after, 9), one_of:position())
      end
    end
    local later = store:cursor(0, { stream = "New-1" })
    assert.equal(9, select(2, later:next(10)))
    append("New-1", "Begun", "Gone")
    append("Order-1", "OrderReopened")
    assert.equal("Begun", later:next(1)[1].type)
    assert.equal(10, later:position())
    assert.equal("Gone", later:next(10)[1].type)
    assert.equal(12, later:position())
    local ahead = store:cursor(13, { stream = "New-1" })
    append("New-1", "TooEarly", "InTime")
    assert.equal("InTime", ahead:next(10)[1].type)
    assert.equal(0, #store:cursor(0, { stream = "New-1", types = { "OrderCreated" } }):next(10))
  end)

  it("gives only what is durable, of one stream as well", function()
    local manual = assert(testing.app(function() end, { manual = true }))
    local store = manual.app.store
    local cursors = { store:cursor(0), store:cursor(0, { stream = "S-1" }) }
    for n = 1, 2 do
      store:begin()
      assert(store:add(store:stream("S-1", true), -1, "Made", "{}"))
      assert(store:commit())
      for _, cursor in ipairs(cursors) do assert.equal(0, #cursor:next(10)) end
      store:turn()
      for _, cursor in ipairs(cursors) do
        assert.equal(n, cursor:next(10)[1].position)
        assert.equal(n, cursor:position())
      end
    end
    manual:kill()
  end)

  it("leaves out journals unless asked for, and bookkeeping always", function()
    local store = app.app.store
    app:call(function()
      store:begin()
      assert(store:add(store:stream("Process-p", true), -1, "ProcessNoted", "{}", nil, 1))
      assert(store:add(store:stream("$own", true), -1, "Kept", "{}", nil, 8))
      local _, after = assert(store:commit())
      assert(store:wait(after - 1))
    end)
    assert.same({}, all(nil, 6))
    assert.same({ "Process-p/ProcessNoted" }, all({ journals = true }, 6))
    assert.equal(8, select(2, store:cursor(6):next(10)))
  end)

  it("raises for a filter that makes no sense", function()
    local store = app.app.store
    for _, filter in ipairs { { types = { 1 } }, { types = "a" }, { type_prefix = "" },
      { category = {} }, { stream = ("s"):rep(1025) } } do
      assert.is_false(pcall(store.cursor, store, 0, filter))
    end
    assert.is_false(pcall(store.cursor, store, -1))
    assert.is_false(pcall(store:cursor(0).next, store:cursor(0), 0))
  end)

  it("ends with its store, and may be closed before", function()
    local cursor, closed = app.app.store:cursor(0), app.app.store:cursor(0)
    closed:close()
    closed:close()
    assert.is_false(pcall(closed.next, closed, 1))
    local other = assert(testing.app(function() end))
    local left = other.app.store:cursor(0)
    other:stop()
    local ok, failure = pcall(left.next, left, 1)
    assert.is_false(ok)
    assert.truthy(failure:find("closed", 1, true))
    left:close()
    assert.equal(1, #cursor:next(1))
  end)
end)
