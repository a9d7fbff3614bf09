--- Upcasters: events of an older schema version are seen in the newest one, wherever they are read.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local catga = require "catga"

local app

local function open(define, opts)
  local err
  app, err = testing.app(define or function() end, opts)
  assert(app, err and err.message)
  return app
end

-- The same records under other scripts.
local function reopen(define)
  local err
  app, err = app:crash(nil, define)
  assert(app, err and err.message)
end

local function append(stream, ...)
  local events = { ... }
  return app:call(function() return assert(catga.events.append(stream, events)) end)
end

local function read(stream, opts) return app:call(catga.events.read, stream, opts) end

local function read_all(opts) return app:call(catga.events.read_all, opts) end

local function numbered(kind, first, last)
  local events = {}
  for n = first, last do events[#events + 1] = { type = kind, data = { n = n } } end
  return unpack(events)
end

local function numbers(events)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.data.n end
  return table.concat(list, " ")
end

-- Three versions of an order: amount -> cents -> cents and currency.
local function two_steps()
  catga.upcast("OrderCreated", 1, function(data)
    return { n = data.n, cents = data.amount * 100 }
  end)
  catga.upcast("OrderCreated", 2, function(data)
    data.currency = "EUR"
    return data
  end)
  catga.command("Append", function(cmd)
    return catga.events.append("Order-new", { { type = "OrderCreated", data = cmd } })
  end)
  catga.command("AppendAndRead", function()
    assert(catga.events.append("Order-1", { { type = "OrderCreated", data = { n = 3 } } }))
    return catga.events.read("Order-1")
  end)
end

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

describe("an upcaster", function()
  it("is applied to events as they are read, one behind the other", function()
    open()
    append("Order-1", { type = "OrderCreated", data = { n = 1, amount = 5 } },
      { type = "OrderShipped", data = { n = 2 } })
    assert.same({ n = 1, amount = 5 }, read("Order-1")[1].data)
    reopen(two_steps)
    local new = { n = 1, cents = 500, currency = "EUR" }
    assert.same(new, read("Order-1")[1].data)
    assert.same({ n = 2 }, read("Order-1")[2].data)
    assert.same(new, read_all()[1].data)
    assert.same(new, read("Order-1", { backward = true })[2].data)
  end)

  it("leaves alone what is written in the newest version", function()
    open(two_steps)
    for _, key in ipairs { "stored", "k" } do
      local opts = key == "k" and { key = "k" } or nil
      assert(app:send("Append", { n = 1, cents = 7, currency = "USD" }, opts))
    end
    append("Order-new", { type = "OrderCreated", data = { n = 1, cents = 7, currency = "USD" } })
    local events = read("Order-new")
    assert.equal(3, #events)
    for _, event in ipairs(events) do
      assert.same({ n = 1, cents = 7, currency = "USD" }, event.data)
      assert.equal(3, event.metadata.schema)
    end
    assert.is_string(events[1].metadata.correlation_id)
  end)

  it("is applied to stored events beside those that the unit has staged", function()
    open()
    append("Order-1", { type = "OrderCreated", data = { n = 1, amount = 5 } })
    reopen(two_steps)
    local events = assert(app:send("AppendAndRead"))
    assert.same({ n = 1, cents = 500, currency = "EUR" }, events[1].data)
    assert.same({ n = 3 }, events[2].data)
    assert.same({ n = 3 }, read("Order-1")[2].data)
  end)

  it("takes events that say that they are of an older version", function()
    open(two_steps)
    append("Order-1", { type = "OrderCreated", data = { n = 1, amount = 5 }, schema = 1 },
      { type = "OrderCreated", data = { n = 2, cents = 5 }, schema = 2 },
      { type = "OrderCreated", data = { n = 3, cents = 5 } })
    local events = read("Order-1")
    assert.same({ n = 1, cents = 500, currency = "EUR" }, events[1].data)
    assert.same({ n = 2, cents = 5, currency = "EUR" }, events[2].data)
    assert.same({ n = 3, cents = 5 }, events[3].data)
    local _, err = app:call(catga.events.append, "Order-1",
      { { type = "OrderCreated", data = {}, schema = 4 } })
    assert.equal("invalid", err.code)
    assert.matches("from 1 to 3", err.message)
  end)

  it("changes nothing that is stored", function()
    open()
    append("Order-1", { type = "OrderCreated", data = { n = 1, amount = 5 } })
    reopen(two_steps)
    read("Order-1")
    reopen(function() end)
    assert.same({ n = 1, amount = 5 }, read("Order-1")[1].data)
  end)

  it("gets the event beside the data", function()
    open()
    append("Order-1", { type = "A", data = { n = 1 } })
    local seen
    reopen(function()
      catga.upcast("A", 1, function(data, event)
        seen = { event.stream, event.version, event.position, event.type, type(event.time) }
        return data
      end)
    end)
    read("Order-1")
    assert.same({ "Order-1", 0, 1, "A", "number" }, seen)
  end)

  it("may rename, and the new type's upcasters go on", function()
    open()
    append("Order-1", numbered("Made", 1, 2))
    append("Order-1", numbered("Created", 3, 3))
    reopen(function()
      catga.upcast("Made", 1, function(data) return { n = data.n * 10 }, "Created" end)
      catga.upcast("Created", 1, function(data) return { n = data.n + 1 } end)
    end)
    assert.equal("11 21 4", numbers(read("Order-1")))
    local events = read_all { types = { "Created" } }
    assert.equal("11 21 4", numbers(events))
    assert.equal("Created", events[1].type)
    assert.equal("Made", events[1].stored_type)
    assert.is_nil(events[3].stored_type)
    assert.same({}, (read_all { types = { "Made" } }))
  end)

  it("may drop events; pages are filled all the same", function()
    open()
    append("Log-1", numbered("Tick", 1, 50))
    append("Log-1", numbered("Tock", 51, 53))
    append("Log-1", numbered("Tick", 54, 60))
    reopen(function()
      catga.upcast("Tick", 1, function(data)
        if data.n % 20 ~= 0 then return catga.dropped end
        return data
      end)
    end)
    assert.equal("20 40 51 52 53 60", numbers(read("Log-1")))
    assert.equal("20 40 51", numbers(read("Log-1", { max = 3 })))
    assert.equal("40 51", numbers(read("Log-1", { from = 20, max = 2 })))
    assert.equal("60 53", numbers(read("Log-1", { max = 2, backward = true })))
    assert.equal("60 53 52 51 40 20", numbers(read("Log-1", { backward = true })))
    assert.equal("20 40 51 52 53 60", numbers((read_all())))
  end)

  it("feeds projections, also with renamed types", function()
    open()
    append("Order-1", numbered("Made", 1, 3))
    reopen(function()
      catga.upcast("Made", 1, function(data)
        if data.n == 2 then return catga.dropped end
        return { n = data.n, by = "upcaster" }, "Created"
      end)
      local orders = catga.projection "Orders"
      function orders.on.Created(event, model) model:put("o" .. event.n, event) end
    end)
    assert.same({ n = 1, by = "upcaster" }, app:document("Orders", "o1"))
    assert.is_nil(app:document("Orders", "o2"))
    assert.same({ n = 3, by = "upcaster" }, app:document("Orders", "o3"))
  end)
end)

describe("upcasters and durable handlers", function()
  it("see renamed events as the new type, and dropped ones not at all", function()
    open()
    append("Order-1", numbered("Made", 1, 4))
    local seen = {}
    reopen(function()
      catga.upcast("Made", 1, function(data)
        if data.n == 2 then return catga.dropped end
        return { n = data.n * 10 }, data.n == 3 and "Other" or "Created"
      end)
      catga.on("Created", { durable = "mailer" }, function(event) seen[#seen + 1] = event.n end)
    end)
    app:settle()
    assert.same({ 10, 40 }, seen)
    reopen(function()
      catga.on("Created", { durable = "mailer" }, function(event) seen[#seen + 1] = event.n end)
    end)
    app:settle()
    assert.same({ 10, 40 }, seen) -- The checkpoint is behind all of them.
  end)

  it("tell of an upcaster that fails, and leave nothing out in silence", function()
    open()
    append("Order-1", numbered("Made", 1, 3))
    local seen = {}
    reopen(function()
      catga.upcast("Made", 1, function(data)
        if data.n == 2 then error "cannot" end
        return data
      end)
      catga.on("Made", { durable = "mailer" }, function(event) seen[#seen + 1] = event.n end)
    end)
    app:advance "1h"
    assert.same({ 1, 3 }, seen)
    local parked = app:call(catga.subscriptions.parked, "mailer")
    assert.equal(1, #parked)
    assert.equal(2, parked[1].position)
    assert.matches("upcaster failed: .*cannot", catga.json.encode(parked[1]))
  end)
end)

-- The reason why defining an app fails.
local function refusal(define)
  local opened, err = testing.app(define)
  assert.is_nil(opened)
  return err.message
end

describe("upcasters are refused", function()
  local function same(data) return data end

  it("when a chain has a gap", function()
    local message = refusal(function()
      catga.upcast("A", 1, same)
      catga.upcast("A", 3, same)
    end)
    assert.matches("upcast_spec.lua:%d+: the upcasters of A lead up to version 4, but none takes "
      .. "version 2", message)
    assert.matches("none takes version 1", refusal(function() catga.upcast("A", 2, same) end))
  end)

  it("when there are two of a version", function()
    assert.matches("upcast_spec.lua:%d+: A 1 has an upcaster already, at .*upcast_spec.lua:%d+",
      refusal(function()
        catga.upcast("A", 1, same)
        catga.upcast("A", 1, same)
      end))
  end)

  it("when type, version or function are none", function()
    for _, case in ipairs { { { "", 1, same }, "string that is not empty" },
      { { "A", 0, same }, "whole number from 1" }, { { "A", 1.5, same }, "whole number" },
      { { "A", "1", same }, "whole number" }, { { "A", 1 }, "needs a function" } } do
      assert.matches(case[2], refusal(function() catga.upcast(unpack(case[1], 1, 3)) end))
    end
  end)

  it("while the app runs", function()
    open()
    assert.has_error(function() catga.upcast("A", 1, same) end)
  end)
end)

describe("an upcaster that fails", function()
  local function failing(how)
    return function()
      catga.upcast("A", 1, function(data, event)
        if data.n ~= 3 then return data end
        return how(data, event)
      end)
      catga.command("Ok", function() return true end)
    end
  end

  local function failure_of(how)
    open()
    append("S-1", numbered("A", 1, 4))
    reopen(failing(how))
    local ok, err = pcall(read, "S-1")
    assert.is_false(ok)
    assert.equal("upcast_failed", err.code)
    return err.message
  end

  it("is named with the event and the place", function()
    local message = failure_of(function(data) return data.missing.field end)
    assert.matches("^spec/unit/upcast_spec.lua:%d+: event A of schema version 1, version 2 of "
      .. "stream S%-1, position 3: the upcaster failed: spec/unit/upcast_spec.lua:%d+: attempt",
      message)
  end)

  it("by returning nothing, or no type, says so", function()
    assert.matches("returned nothing; it returns the data, or catga.dropped",
      failure_of(function() end))
    app:stop()
    assert.matches("is the new type, not a number", failure_of(function(data) return data, 5 end))
  end)

  it("by having effects says so", function()
    assert.matches("catga.events.append in an upcaster, which runs on every read",
      failure_of(function() return catga.events.append("X", { { type = "X" } }) end))
    assert.is_true(app:send("Ok")) -- The task is not spoiled.
    assert.equal(1, #app:call(function()
      pcall(catga.events.read, "S-1")
      assert(catga.events.append("Y", { { type = "Y" } }))
      return catga.events.read "Y"
    end))
  end)

  it("by going in a circle says so", function()
    open()
    append("S-1", numbered("A", 1, 1))
    reopen(function()
      catga.upcast("A", 1, function(data) return data, "B" end)
      catga.upcast("B", 1, function(data) return data, "A" end)
    end)
    local ok, err = pcall(read, "S-1")
    assert.is_false(ok)
    assert.matches("renamed over 16 times", err.message)
  end)

  it("stops a projection in front of the event; mended, it goes on", function()
    local source = [[
      local catga = require "catga"
      catga.upcast("A", 1, function(data) %s return data end)
      local p = catga.projection "P"
      function p.on.A(event, model)
        model:update("sum", function(doc) doc.sum = (doc.sum or 0) + event.n end)
      end
    ]]
    local dir = app_dir.new { ["main.lua"] = source:format "if data.n == 3 then data.x.y = 1 end" }
    open()
    append("S-1", numbered("A", 1, 4))
    reopen(dir)
    local status = app.app.projections:status()[1]
    assert.equal("failed", status.status)
    assert.equal(2, status.position)
    assert.equal("upcast_failed", status.error.code)
    assert.equal(3, status.error.position)
    assert.equal("A", status.error.type)
    assert.matches("main.lua:2.*position 3", status.error.message)
    assert.same({ sum = 3 }, app:document("P", "sum"))
    app_dir.write(dir, "main.lua", source:format "")
    assert.is_true(app:call(function() return app.app:reload() end))
    app:settle()
    assert.same({ sum = 10 }, app:document("P", "sum"))
    assert.equal("running", app.app.projections:status()[1].status)
  end)

  it("because the event is newer than the scripts says so", function()
    open(two_steps)
    append("Order-1", { type = "OrderCreated", data = { n = 1 } })
    reopen(function() catga.upcast("OrderCreated", 1, function(data) return data end) end)
    local ok, err = pcall(read, "Order-1")
    assert.is_false(ok)
    assert.matches("the scripts know version 2 as the newest", err.message)
  end)
end)

describe("scripts that change while a process runs", function()
  it("leave its steps writing the version that they know", function()
    local source = [[
      local catga = require "catga"
      %s
      local P = catga.process "P"
      function P:execute() self:note(1) self:sleep("1h") self:note(2) return true end
      function P:note(n)
        catga.events.append("S-1", { { type = "A", data = { n = n } } })
        return true
      end
      catga.command("Note", function()
        return catga.events.append("S-1", { { type = "A", data = { n = 3, is_new = true } } })
      end)
    ]]
    local dir = app_dir.new { ["main.lua"] = source:format "" }
    open(dir)
    app:start("P", "p")
    app:settle()
    app_dir.write(dir, "main.lua", source:format [[
      catga.upcast("A", 1, function(data) return { n = data.n, is_new = true } end)]])
    assert(app:call(function() return app.app:reload() end))
    assert.equal("completed", (app:wait "p"))
    assert(app:send "Note")
    local events = read "S-1"
    for n = 1, 3 do assert.same({ n = n, is_new = true }, events[n].data) end
    assert.is_nil(events[2].metadata.schema)
    assert.equal(2, events[3].metadata.schema)
  end)
end)

describe("scripts that change while a unit is under way", function()
  it("give their handlers the event in the newest version", function()
    local source = [[
      local catga = require "catga"
      %s
      catga.command("Slow", function()
        catga.events.append("S-1", { { type = "A", data = { n = 1 } } })
        catga.sleep("1s")
        catga.events.append("S-1", { { type = "A", data = { n = 2 } } })
        return true
      end)
      catga.on("A", function(event) catga.events.append("Seen", { { type = "Seen", data = event } })
      end)
    ]]
    local dir = app_dir.new { ["main.lua"] = source:format "" }
    open(dir)
    app_dir.write(dir, "main.lua", source:format [[
      catga.upcast("A", 1, function(data) return { n = data.n, is_new = true } end)]])
    app:call(function()
      local sent = catga.spawn(function() return catga.send("Slow") end)
      catga.sleep("500ms")
      assert(app.app:reload())
      assert.is_true(sent:wait())
    end)
    app:settle()
    local expected = { { n = 1, is_new = true }, { n = 2, is_new = true } }
    for _, stream in ipairs { "S-1", "Seen" } do
      local data = {}
      for i, event in ipairs(read(stream)) do data[i] = event.data end
      assert.same(expected, data)
    end
  end)
end)
