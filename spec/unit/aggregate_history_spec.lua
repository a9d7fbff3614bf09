--- Aggregates over time: as they were at a version or time, deleted, and behind retention.
local testing = require "catga.testing"
local define_order = dofile "spec/support/order.lua"
local catga = require "catga"

local app, Order

-- The order of a spec, with more.
local function define(more)
  return define_order(function(O)
    Order = O
    if more then more(O) end
  end)
end

local function open(more, opts)
  local err
  app, err = testing.app(define(more), opts)
  assert(app, err and err.message)
  return app
end

local function run(fn, ...) return app:call(fn, ...) end

local function create(id)
  return run(function() return Order.update(id, function(o) return o:create { customer = "c" } end)
  end)
end

local function add(id, sku, amount)
  return assert(run(Order.update, id, function(o) return o:add(sku, amount) end))
end

-- What a function raises inside the app.
local function raised(fn, ...)
  local ok, err = pcall(run, fn, ...)
  assert.is_false(ok)
  return type(err) == "table" and err.message or err
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("an aggregate whose stream was deleted", function()
  it("begins anew, also when there is a snapshot", function()
    open(function(O)
      O.snapshot = { every = 2 }
      O.shape = 1
    end)
    assert(create "1")
    for n = 1, 5 do add("1", "A", n) end
    app:settle()
    assert(run(catga.events.delete, "Order-1"))
    local order = run(Order.load, "1")
    assert.same({ status = "none", lines = {}, total = 0 }, order.state)
    assert.equal(5, order.version)
    assert(create "1")
    add("1", "B", 7)
    app:settle()
    assert(run(catga.events.set_metadata, "Order-1", { max_count = 100 }))
    order = run(Order.load, "1")
    assert.equal(7, order.state.total)
    assert.equal(7, order.version)
    assert.equal(7, run(catga.events.read, "$snapshot-Order-1",
      { backward = true, max = 1 })[1].data.version)
    local _, err = run(Order.load, "1", { version = 2 })
    assert.equal("stream Order-1 was deleted behind version 5: what was before that is not shown",
      err.message)
    assert.equal("created", run(Order.load, "1", { version = 6 }).state.status)
  end)

  it("for good is no more", function()
    open()
    assert(create "1")
    assert(run(catga.events.delete, "Order-1", { hard = true }))
    local order, err = run(Order.load, "1")
    assert.is_nil(order)
    assert.equal("deleted", err.code)
    assert.equal("deleted", select(2, create "1").code)
  end)

  it("within the unit of work that makes it again", function()
    open(function()
      catga.command("Again", function()
        assert(catga.events.delete "Order-1")
        return Order.update("1", function(o) return o:create {} end)
      end)
    end)
    assert(create "1")
    assert.equal("1", app:send "Again")
    assert.equal(1, run(Order.load, "1").version)
  end)
end)

describe("an aggregate whose events retention hides", function()
  it("is made of all that is stored", function()
    open()
    assert(create "1")
    for n = 1, 5 do add("1", "A", n) end
    assert(run(catga.events.set_metadata, "Order-1", { max_count = 2, truncate_before = 3 }))
    assert.equal(2, #run(catga.events.read, "Order-1"))
    assert.equal(15, run(Order.load, "1").state.total)
  end)

  it("cannot be made once they are gone, but for a snapshot", function()
    open(function(O)
      O.snapshot = { every = 100 }
      O.shape = 1
    end)
    for _, id in ipairs { "1", "2" } do
      assert(create(id))
      for n = 1, 5 do add(id, "A", n) end
    end
    run(function() -- A snapshot of 2.
      local order = Order.load "2"
      for _ = 1, 100 do order:add("B", 0) end
      assert(order:save())
    end)
    app:settle()
    local real = app.app.store
    app.app.store = setmetatable({ read = function(_, number, from, max, backward)
      if real:name(number):find "^Order" then from = math.max(from, 4) end
      return real:read(number, from, max, backward)
    end }, { __index = function(_, name)
      return function(_, ...) return real[name](real, ...) end
    end })
    local message = raised(Order.load, "1")
    local total = run(Order.load, "2").state.total
    app.app.store = real
    assert.equal("stream Order-1 has no event of version 0 any more, and no snapshot stands in for "
      .. "it: the state of Order 1 cannot be made", message)
    assert.equal(15, total)
  end)
end)

describe("time travel", function()
  local function history()
    open()
    assert(create "1")
    app:advance "1h"
    add("1", "A", 5)
    app:advance "1h"
    add("1", "B", 7)
    app:advance "1h"
    assert(run(Order.update, "1", function(o) return o:ship() end))
  end

  it("shows the state at a version", function()
    history()
    local totals = { [0] = 0, 5, 12, 12 }
    for version = 0, 3 do
      local order = run(Order.load, "1", { version = version })
      assert.equal(version, order.version)
      assert.equal(totals[version], order.state.total)
      assert.equal(version == 3 and "shipped" or "created", order.state.status)
    end
    assert.equal("none", run(Order.load, "1", { version = -1 }).state.status)
    local order, err = run(Order.load, "1", { version = 4 })
    assert.is_nil(order)
    assert.equal("not_found", err.code)
    assert.equal("stream Order-1 has no version 4; its newest is 3", err.message)
    assert.matches("its newest is none", select(2, run(Order.load, "x", { version = 0 })).message)
  end)

  it("shows the state at a time", function()
    history()
    for at, version in pairs { ["2025-12-31T23:59:59.999Z"] = -1, ["2026-01-01T00:00:01Z"] = 0,
      ["2026-01-01T01:00:00+00:00"] = 1, ["2026-01-01T01:59:59+00:00"] = 1,
      ["2026-01-01T03:00:00+01:00"] = 2, ["2026-01-02"] = 3 } do
      assert.equal(version, run(Order.load, "1", { at = at }).version, at)
    end
    assert.equal(1, run(Order.load, "1", { at = 1767225600000 + 3600000 }).version)
    assert.equal(0, run(Order.load, "1", { at = 1767225600000 + 3599999 }).version)
  end)

  it("takes no commands", function()
    history()
    assert.matches("Order%-1 takes no commands: it was loaded as it was at version 1",
      raised(function() Order.load("1", { version = 1 }):add("C", 1) end))
    assert.matches("as it was at an earlier time",
      raised(function() Order.load("1", { at = "2026-01-02" }):ship() end))
  end)

  it("tells what changed between two versions", function()
    history()
    assert.same({ { path = "status", before = "created", after = "shipped" } },
      run(Order.diff, "1", 2, 3))
    assert.same({ { path = "lines[1]", after = { amount = 5, sku = "A" } },
      { path = "total", before = 0, after = 5 } }, run(Order.diff, "1", 0, 1))
    assert.same({}, run(Order.diff, "1", 2, 2))
    local back = run(Order.diff, "1", 3, 1)
    assert.same({ "lines[2]", "status", "total" }, { back[1].path, back[2].path, back[3].path })
    assert.is_nil(back[1].after)
    assert.same({ { path = "customer", after = "c" }, { path = "status", before = "none",
      after = "created" } }, run(Order.diff, "1", -1, 0))
    local _, err = run(Order.diff, "1", 0, 9)
    assert.equal("not_found", err.code)
  end)

  it("names odd keys in paths", function()
    local between = require "catga.aggregate.difference".between
    assert.same({ { path = 'a["b c"]', before = 1, after = 2 },
      { path = 'a["d\\"e"][3].f', before = 1, after = catga.null } },
      between({ a = { ["b c"] = 1, ['d"e'] = { 0, 0, { f = 1 } } } },
        { a = { ["b c"] = 2, ['d"e'] = { 0, 0, { f = catga.null } } } }))
    assert.same({ { path = "a", before = {}, after = 1 }, { path = "b", after = {} } },
      between({ a = {} }, { a = 1, b = {} }))
  end)
end)
