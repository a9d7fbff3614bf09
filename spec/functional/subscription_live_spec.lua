--- Subscriptions without a name, and iterators: from a position through the past into what is new.
local testing = require "catga.testing"
local catga = require "catga"
local native_task = require "catga.native.task"

local app

local function open(define, opts)
  local opened, err = testing.app(define, opts)
  assert(opened, err and err.message)
  app = opened
  return app
end

local function append(stream, kind, ...)
  local events = {}
  for i, data in ipairs { ... } do events[i] = { type = kind, data = data } end
  return app:call(function() return assert(catga.events.append(stream, events)) end)
end

local function numbers(stream, first, last)
  for n = first, last do append(stream, "Counted", { n = n }) end
end

local function range(first, last)
  local list = {}
  for n = first, last do list[#list + 1] = n end
  return list
end

local function said(text)
  for _, line in ipairs(app.lines) do
    if line:find(text, 1, true) then return line end
  end
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("a subscription without a name", function()
  it("gives the past and then what is new, each event once and in order", function()
    open(function() end)
    numbers("Numbers-1", 1, 5)
    local seen = {}
    local s = app:call(function()
      return catga.events.subscribe { handle = function(event, ctx)
        seen[#seen + 1] = event.n
        assert.equal("Counted", ctx.name)
        assert.equal("Numbers-1", ctx.stream)
        assert.equal(event.n - 1, ctx.version)
      end }
    end)
    app:settle()
    assert.same(range(1, 5), seen)
    numbers("Numbers-1", 6, 9)
    app:settle()
    assert.same(range(1, 9), seen)
    assert.equal(9, s:position())
    assert.equal("running", s:status().status)
    assert.equal(0, s:status().lag)
    s:stop()
    numbers("Numbers-1", 10, 11)
    app:settle()
    assert.same(range(1, 9), seen)
    assert.equal("stopped", s:status().status)
    assert.equal(app.app.subscriptions.unnamed_count, 0)
  end)

  it("begins where it is told, and sees only what it asks for", function()
    open(function() end)
    numbers("Numbers-1", 1, 3)
    append("Order-1", "OrderCreated", { n = 4 })
    append("Order-2", "OrderPaid", { n = 5 })
    local seen = { after = {}, ending = {}, category = {}, types = {}, prefix = {}, stream = {} }
    local function into(name, opts)
      opts.handle = function(event) table.insert(seen[name], event.n) end
      catga.events.subscribe(opts)
    end
    app:call(function()
      into("after", { after = 2 })
      into("ending", { after = "end" })
      into("category", { category = "Order" })
      into("types", { types = { "OrderPaid", "Counted" } })
      into("prefix", { type_prefix = "Order" })
      into("stream", { stream = "Order-2" })
    end)
    append("Order-1", "OrderPaid", { n = 6 })
    app:settle()
    assert.same({ after = { 3, 4, 5, 6 }, ending = { 6 }, category = { 4, 5, 6 },
      types = { 1, 2, 3, 5, 6 }, prefix = { 4, 5, 6 }, stream = { 5 } }, seen)
  end)

  it("neither misses nor repeats events that are appended meanwhile", function()
    -- An append at each place where the reader or the handler can be.
    for appended_at = 1, 40 do
      open(function() end)
      numbers("Numbers-1", 1, 20)
      local seen, n = {}, 20
      app:call(function()
        local turns = 0
        catga.spawn(function()
          while n < 40 do
            turns = turns + 1
            if turns % 3 == appended_at % 3 or turns > appended_at then
              n = n + 1
              catga.events.append("Numbers-1", { { type = "Counted", data = { n = n } } })
            end
            native_task.yield()
          end
        end)
        for _ = 1, appended_at % 7 do native_task.yield() end
        local stream = appended_at % 2 == 0 and "Numbers-1" or nil -- By the index, or the log.
        local function handle(event)
          seen[#seen + 1] = event.n
          if event.n % 4 == appended_at % 4 then catga.sleep("1ms") end
          if event.n % 3 == 0 then native_task.yield() end
        end
        catga.events.subscribe { buffer = appended_at % 5 + 1, stream = stream, handle = handle }
        while #seen < 40 do catga.sleep("1ms") end
      end)
      assert.same(range(1, 40), seen)
      app:stop()
      app = nil
    end
  end)

  it("tries a failing handler again, and then stops", function()
    open(function() end)
    numbers("Numbers-1", 1, 3)
    local seen, attempts = {}, {}
    local s = app:call(function()
      return catga.events.subscribe { attempts = 3, backoff = "1s", handle = function(event, ctx)
        attempts[#attempts + 1] = ctx.attempt
        if event.n == 2 then error("no two") end
        seen[#seen + 1] = event.n
      end }
    end)
    app:settle()
    assert.same({ 1, 1 }, attempts)
    app:advance("10s")
    assert.same({ 1, 1, 2, 3 }, attempts)
    assert.same({ 1 }, seen)
    assert.equal("failed", s:status().status)
    assert.equal(2, s:status().error.position)
    assert.truthy(s:status().error.message:find("no two", 1, true))
    assert.equal(1, s:position())
    assert.truthy(said("stopped at position 2 (Counted)"))
  end)

  it("skips an event when that is asked for", function()
    open(function() end)
    numbers("Numbers-1", 1, 3)
    local seen = {}
    app:call(function()
      catga.events.subscribe { attempts = 1, on_failure = "skip", handle = function(event)
        if event.n == 2 then return nil, catga.error("bad", "no two") end
        seen[#seen + 1] = event.n
      end }
    end)
    app:settle()
    assert.same({ 1, 3 }, seen)
    assert.truthy(said("skipped after 1 attempt: no two"))
  end)

  it("gives every attempt the event as it was stored", function()
    open(function() end)
    append("Numbers-1", "Counted", { n = 1, list = { 1 } })
    local lengths = {}
    app:call(function()
      catga.events.subscribe { backoff = "1s", handle = function(event)
        table.insert(event.list, 2)
        lengths[#lengths + 1] = #event.list
        if #lengths < 3 then error("again") end
      end }
    end)
    app:advance("1m")
    assert.same({ 2, 2, 2 }, lengths)
  end)

  it("ends a delivery that takes too long", function()
    open(function() end)
    numbers("Numbers-1", 1, 2)
    local seen = {}
    app:call(function()
      catga.events.subscribe { ack_timeout = "5s", backoff = "1s", handle = function(event, ctx)
        if event.n == 1 and ctx.attempt == 1 then catga.sleep("1h") end
        seen[#seen + 1] = event.n * 10 + ctx.attempt
      end }
    end)
    app:advance("4s")
    assert.same({}, seen)
    app:advance("4s")
    assert.same({ 12, 21 }, seen)
  end)

  it("reads no more than its buffer ahead of a slow handler", function()
    open(function() end)
    numbers("Numbers-1", 1, 30)
    local s = app:call(function()
      return catga.events.subscribe { buffer = 4, handle = function() catga.sleep("1s") end }
    end)
    app:settle()
    assert.equal(4, s.runner.window.read_to)
    app:advance("10s")
    assert.is_true(s.runner.window:count() <= 4)
    app:advance("1m")
    assert.equal(30, s:position())
  end)

  it("does not hold large events in memory while they wait", function()
    open(function() end, { settings = { message_size_max = "4MiB" } })
    local text = ("x"):rep(3 * 1024 ^ 2)
    app:call(function()
      for n = 1, 12 do
        assert(catga.events.append("Large",
          { { type = "Counted", data = { n = n, text = text } } }))
      end
    end)
    local seen = {}
    local s = app:call(function()
      return catga.events.subscribe { handle = function(event)
        if event.n == 1 then catga.sleep("1s") end
        assert.equal(#text, #event.text)
        seen[#seen + 1] = event.n
      end }
    end)
    app:settle()
    assert.equal(12, s.runner.window:count())
    assert.is_true(s.runner.held_bytes <= 8 * 1024 ^ 2)
    app:advance("10s")
    assert.same(range(1, 12), seen)
    assert.equal(0, s.runner.held_bytes)
  end)

  it("is refused with a name, without a handler, and with wrong options", function()
    open(function() end)
    local function failure(opts)
      return select(2, pcall(function() app:call(catga.events.subscribe, opts) end)).message
    end
    local function f() end
    assert.truthy(failure({ name = "a", handle = f }):find("at the top level"))
    assert.truthy(failure({}):find("needs a function handle"))
    assert.truthy(failure({ handle = f, atempts = 1 }):find("did you mean attempts"))
    assert.truthy(failure({ handle = f, after = -1 }):find("\"start\", \"end\" or a position"))
    assert.truthy(failure({ handle = f, on_failure = "park" }):find("only a subscription with a"))
    assert.truthy(failure({ handle = f, group = {} }):find("a group needs a name"))
    assert.truthy(failure({ handle = f, types = {} }):find("list of event types"))
    assert.truthy(failure({ handle = f, backoff = 3 }):find("must be a string with a unit"))
  end)
end)

describe("catga.events.follow", function()
  it("walks through the past and goes on with what is new", function()
    open(function() end)
    numbers("Numbers-1", 1, 3)
    local seen = {}
    app:call(function()
      catga.spawn(function()
        for event in catga.events.follow { after = 1, types = { "Counted" } } do
          seen[#seen + 1] = event.data.n
          if event.data.n == 6 then break end
        end
        seen[#seen + 1] = "end"
      end)
    end)
    append("Other", "Else", { n = 100 })
    app:settle()
    assert.same({ 2, 3 }, seen)
    numbers("Numbers-1", 4, 8)
    app:settle()
    assert.same({ 2, 3, 4, 5, 6, "end" }, seen)
  end)

  it("ends when the app stops", function()
    open(function() end)
    local ended
    app:call(function()
      catga.spawn(function()
        for _ in catga.events.follow() do ended = false end
        ended = true
      end)
    end)
    app:settle()
    assert.is_nil(ended)
    app:stop()
    app = nil
    assert.is_true(ended)
  end)
end)
