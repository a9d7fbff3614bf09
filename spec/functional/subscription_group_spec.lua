--- Groups: competing consumers in this program and outside, order per stream, parked events.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, opts)
  local opened, err = testing.app(define, opts)
  assert(opened, err and err.message)
  app = opened
  return app
end

-- Appends events { n } to streams Order-1 .. Order-<streams> in turn.
local function orders(streams, first, last)
  app:call(function()
    for n = first, last do
      assert(catga.events.append("Order-" .. (n - 1) % streams + 1,
        { { type = "OrderChanged", data = { n = n } } }))
    end
  end)
end

local function get(name) return app.app.subscriptions:get(name) end

local function numbers_of(events)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.data.n end
  return list
end

local function call(fn, ...) return app:call(fn, ...) end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("a group", function()
  it("runs different streams at the same time, and one stream in order", function()
    local running, most, seen, at_once = 0, 0, {}, {}
    open(function()
      catga.events.subscribe { name = "billing", category = "Order", group = { consumers = 3 },
        handle = function(event, ctx)
          running = running + 1
          most = math.max(most, running)
          at_once[ctx.stream] = (at_once[ctx.stream] or 0) + 1
          assert.equal(1, at_once[ctx.stream])
          catga.sleep("1s")
          at_once[ctx.stream] = at_once[ctx.stream] - 1
          running = running - 1
          seen[ctx.stream] = seen[ctx.stream] or {}
          table.insert(seen[ctx.stream], event.n)
        end }
    end)
    orders(4, 1, 12)
    app:advance("10m")
    assert.equal(3, most)
    assert.same({ ["Order-1"] = { 1, 5, 9 }, ["Order-2"] = { 2, 6, 10 }, ["Order-3"] = { 3, 7, 11 },
      ["Order-4"] = { 4, 8, 12 } }, seen)
    assert.equal(0, get("billing").lag)
  end)

  it("without order runs events of one stream at the same time", function()
    local running, most = 0, 0
    open(function()
      catga.events.subscribe { name = "any", group = { consumers = 5, order = "none" },
        handle = function()
          running = running + 1
          most = math.max(most, running)
          catga.sleep("1s")
          running = running - 1
        end }
    end)
    orders(1, 1, 20)
    app:advance("1m")
    assert.equal(5, most)
    assert.equal(0, get("any").lag)
  end)

  it("delivers again when the handler asks for it, and parks when it says so", function()
    local attempts = {}
    open(function()
      catga.events.subscribe { name = "asking", category = "Order", group = { attempts = 5 },
        handle = function(event, ctx)
          attempts[#attempts + 1] = event.n * 10 + ctx.attempt
          catga.events.append("Effects", { { type = "Effect", data = { n = event.n } } })
          if event.n == 1 and ctx.attempt < 3 then ctx:retry("10s") end
          if event.n == 2 then ctx:park("I do not like it") end
          if event.n == 3 then ctx:ack() end
        end }
    end)
    orders(3, 1, 3)
    app:advance("9s")
    assert.same({ 11, 21, 31 }, attempts)
    app:advance("5m")
    assert.same({ 11, 21, 31, 12, 13 }, attempts)
    assert.same({ 3, 1 }, numbers_of(call(catga.events.read, "Effects")))
    local parked = call(catga.subscriptions.parked, "asking")
    assert.equal(1, #parked)
    assert.equal("I do not like it", parked[1].reason)
    assert.is_nil(parked[1].error)
  end)

  it("goes on with a stream behind a parked event, unless it is to keep the others back", function()
    for _, blocks in ipairs { false, true } do
      local is_broken, seen = true, {}
      local function define()
        catga.events.subscribe { name = "strict", category = "Order",
          group = { attempts = 1, park_blocks = blocks }, handle = function(event)
            if is_broken and event.n == 2 then error("two") end
            seen[#seen + 1] = event.n
          end }
      end
      open(define)
      orders(2, 1, 6)
      app:settle()
      table.sort(seen)
      assert.same(blocks and { 1, 3, 5 } or { 1, 3, 4, 5, 6 }, seen)
      app:advance("1m")
      app = app:crash()
      app:settle()
      assert.equal(blocks and 3 or 5, #seen)
      is_broken = false
      local position = call(catga.subscriptions.parked, "strict")[1].position
      assert.equal(1, call(catga.subscriptions.replay, "strict", position))
      app:settle()
      assert.same(blocks and { 2, 4, 6 } or { 2 }, { unpack(seen, blocks and 4 or 6) })
      assert.equal(0, get("strict").parked)
      assert.equal(0, get("strict").lag)
      app:stop()
    end
    app = nil
  end)

  it("goes on with a stream when the event that kept it back is dropped", function()
    local seen = {}
    open(function()
      catga.events.subscribe { name = "strict", category = "Order",
        group = { attempts = 1, park_blocks = true }, handle = function(event)
          if event.n == 1 then error("one") end
          seen[#seen + 1] = event.n
        end }
    end)
    orders(1, 1, 3)
    app:settle()
    assert.same({}, seen)
    assert.equal(1, call(catga.subscriptions.drop, "strict", "all"))
    app:settle()
    assert.same({ 2, 3 }, seen)
  end)

  it("takes up a replay that a crash has interrupted", function()
    local is_broken, seen = true, {}
    open(function()
      catga.events.subscribe { name = "again", category = "Order", group = { attempts = 1 },
        handle = function(event)
          if is_broken then error("no") end
          if event.n == 1 and #seen == 0 then catga.sleep("10s") end
          seen[#seen + 1] = event.n
        end }
    end)
    orders(2, 1, 4)
    app:settle()
    assert.equal(4, get("again").parked)
    is_broken = false
    assert.equal(4, call(catga.subscriptions.replay, "again", "all"))
    assert.equal(0, call(catga.subscriptions.replay, "again", "all"))
    app = app:crash()
    app:advance("20s")
    assert.equal(0, get("again").parked)
    table.sort(seen)
    assert.is_true(#seen >= 4)
    app = app:crash()
    app:advance("20s")
    assert.equal(0, get("again").parked)
  end)

  it("does not deliver again what was handled, though an older event is not done", function()
    local seen = {}
    open(function()
      catga.events.subscribe { name = "ahead", category = "Order", checkpoint_delay = "1s",
        group = { consumers = 4 }, handle = function(event)
          if event.n == 1 then catga.sleep("20s") end
          seen[#seen + 1] = event.n
        end }
    end)
    orders(3, 1, 6)
    app:advance("5s")
    table.sort(seen)
    assert.same({ 2, 3, 5, 6 }, seen)
    app = app:crash()
    app:advance("1m")
    assert.same({ 1, 4 }, { unpack(seen, 5) })
    assert.equal(0, get("ahead").lag)
  end)
end)

-- A group without a handler.
local function external(group, opts)
  return function()
    opts = opts or {}
    opts.name, opts.category, opts.group = "outside", "Order", group or {}
    catga.events.subscribe(opts)
  end
end

describe("a group without a handler", function()
  it("gives events to who takes them, one of a stream at a time", function()
    open(external())
    orders(2, 1, 6)
    local taken = call(catga.subscriptions.take, "outside", 10)
    assert.same({ 1, 2 }, numbers_of(taken))
    assert.equal("Order-1", taken[1].stream)
    assert.equal(1, taken[1].attempt)
    assert.same({}, call(catga.subscriptions.take, "outside", 10))
    assert.is_true(call(catga.subscriptions.ack, "outside", taken[2].token))
    assert.same({ 4 }, numbers_of(call(catga.subscriptions.take, "outside", 10)))
    assert.equal(2, get("outside").in_flight)
    local _, err = call(catga.subscriptions.ack, "outside", taken[2].token)
    assert.equal("not_found", err.code)
  end)

  it("delivers again what is not answered in time, with another token", function()
    open(external { ack_timeout = "10s", attempts = 3, backoff = "1s" })
    orders(1, 1, 2)
    local first = call(catga.subscriptions.take, "outside")[1]
    app:advance("9s")
    assert.equal(0, #call(catga.subscriptions.take, "outside"))
    app:advance("3s")
    local second = call(catga.subscriptions.take, "outside")[1]
    assert.equal(first.position, second.position)
    assert.equal(2, second.attempt)
    assert.equal("not_found", select(2, call(catga.subscriptions.ack, "outside", first.token)).code)
    assert.is_true(call(catga.subscriptions.ack, "outside", second.token))
    assert.equal(2, call(catga.subscriptions.take, "outside")[1].data.n)
    app:advance("1h")
    assert.equal(2, call(catga.subscriptions.take, "outside")[1].attempt)
    app:advance("1h")
    assert.equal(3, call(catga.subscriptions.take, "outside")[1].attempt)
    assert.equal(0, get("outside").parked)
    app:advance("1h")
    assert.equal(1, get("outside").parked)
    assert.equal("timeout", call(catga.subscriptions.parked, "outside")[1].error.code)
  end)

  it("retries after a delay, and parks with a reason", function()
    open(external { attempts = 4 })
    orders(1, 1, 2)
    local one = call(catga.subscriptions.take, "outside")[1]
    assert.is_true(call(catga.subscriptions.retry, "outside", one.token, "1m"))
    app:advance("59s")
    assert.same({}, call(catga.subscriptions.take, "outside"))
    app:advance("2s")
    one = call(catga.subscriptions.take, "outside")[1]
    assert.equal(2, one.attempt)
    assert.is_true(call(catga.subscriptions.park, "outside", one.token, "no such customer"))
    assert.equal("no such customer", call(catga.subscriptions.parked, "outside")[1].reason)
    assert.same({ 2 }, numbers_of(call(catga.subscriptions.take, "outside")))
  end)

  it("has no more in flight than it may", function()
    open(external { in_flight_max = 3, order = "none" })
    orders(1, 1, 10)
    local taken = call(catga.subscriptions.take, "outside", 10)
    assert.equal(3, #taken)
    assert.equal(0, #call(catga.subscriptions.take, "outside", 10))
    call(catga.subscriptions.ack, "outside", taken[2].token)
    assert.same({ 4 }, numbers_of(call(catga.subscriptions.take, "outside", 10)))
  end)

  it("does not deliver again after a crash what was acknowledged", function()
    open(external { order = "none" })
    orders(1, 1, 5)
    local taken = call(catga.subscriptions.take, "outside", 10)
    for _, i in ipairs { 2, 4, 5 } do
      assert.is_true(call(catga.subscriptions.ack, "outside", taken[i].token))
    end
    app = app:crash()
    app:settle()
    assert.same({ 1, 3 }, numbers_of(call(catga.subscriptions.take, "outside", 10)))
    assert.equal("not_found", select(2, call(catga.subscriptions.ack, "outside",
      taken[1].token)).code)
  end)

  it("gives nothing while it is paused, and only to who may take", function()
    open(function()
      external()()
      catga.on("OrderChanged", { durable = "inside" }, function() end)
    end)
    orders(1, 1, 1)
    call(catga.subscriptions.pause, "outside")
    assert.equal("closed", select(2, call(catga.subscriptions.take, "outside")).code)
    call(catga.subscriptions.resume, "outside")
    assert.equal(1, #call(catga.subscriptions.take, "outside"))
    assert.truthy(select(2, call(catga.subscriptions.take, "inside")).message:find("has a handler"))
    assert.equal("invalid", select(2, call(catga.subscriptions.take, "outside", 0)).code)
  end)
end)
