--- Streams: operators, sources, the clock, backpressure, and what is refused at load.
local testing = require "catga.testing"
local catga = require "catga"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define, opts)
  app = assert(testing.app(define or function() end, opts))
  return app
end

-- What comes out of a chain over a list, while the app runs.
local function through(list, build)
  if not app then open() end
  return app:call(function() return build(catga.stream.of(list, { event_time = "t" })):list() end)
end

local function refused(define)
  local opened, err = testing.app(define)
  if opened then opened:stop() end
  assert.is_nil(opened)
  return err.message
end

local function double(v) return v * 2 end
local function is_even(v) return v % 2 == 0 end
local function add(a, b) return a + b end
local function of(list, build)
  return through(list, function(s) s.node.event_time = nil return build(s) end)
end

describe("operators", function()
  it("let through, change, flatten, fold", function()
    assert.same({ 4, 8 }, of({ 1, 2, 3, 4 }, function(s)
      return s:where(is_even):select(double)
    end))
    assert.same({ 1, 1, 2, 2 }, of({ 1, 2 }, function(s)
      return s:flat_map(function(v) return { v, v } end)
    end))
    assert.same({ 1, 3, 6 }, of({ 1, 2, 3 }, function(s) return s:scan(add, 0) end))
    assert.same({ 6 }, of({ 1, 2, 3 }, function(s) return s:reduce(add, 0) end))
    assert.same({ 2, 3 }, of({ 1, 2, 3, 4 }, function(s) return s:skip(1):take(2) end))
  end)

  it("make lists; what is left is given on at the end", function()
    assert.same({ { 1, 2 }, { 3 } }, of({ 1, 2, 3 }, function(s) return s:buffer(2) end))
    assert.same({ { 1, 2 }, { 3 } }, of({ 1, 2, 3 }, function(s) return s:batch(2) end))
  end)

  it("keep their state by key behind group_by", function()
    local list = { { k = "a", n = 1 }, { k = "b", n = 5 }, { k = "a", n = 2 },
      { k = false, n = 7 } }
    local keys = {}
    local sums = of(list, function(s)
      return s:group_by("k"):scan(function(sum, v) return sum + v.n end, 0):where(function(_, k)
        keys[#keys + 1] = k
        return true
      end)
    end)
    assert.same({ 1, 5, 3, 7 }, sums)
    assert.same({ "a", "b", "a", false }, keys)
    assert.same({ { { k = "b", n = 5 } } }, of(list, function(s)
      return s:group_by("k"):buffer(2):where(function(_, k) return k == "b" end)
    end))
  end)

  it("leave out what was there before, within bounds", function()
    assert.same({ 1, 2, 3 }, of({ 1, 2, 1, 3, 2 }, function(s) return s:distinct() end))
    assert.same({ 1, 2, 3, 1 }, of({ 1, 2, 3, 3, 1 }, function(s)
      return s:distinct { max = 2 }
    end))
    assert.same({ { k = 1 }, { k = 2 } }, of({ { k = 1 }, { k = 2 }, { k = 1 } }, function(s)
      return s:distinct { by = "k" }
    end))
  end)

  it("begin a fold with a value of each key's own", function()
    local list = of({ "a", "b", "a" }, function(s)
      return s:group_by(function(v) return v end):scan(function(list, v)
        list[#list + 1] = v
        return list
      end, {})
    end)
    assert.same({ { "a", "a" }, { "b" }, { "a", "a" } }, list)
  end)

  it("go on in several places from one, and come together again", function()
    open()
    local small, large, all = {}, {}, {}
    app:call(function()
      catga.stream.run(function()
        local s = catga.stream.of { 1, 5, 9, 3 }
        local a, b = s:split(function(v) return v > 4 end)
        a:each(function(v) large[#large + 1] = v end)
        b:select(double):each(function(v) small[#small + 1] = v end)
        a:merge(b):where(function(v) return v ~= 3 end):each(function(v) all[#all + 1] = v end)
      end)
    end)
    assert.same({ 5, 9 }, large)
    assert.same({ 2, 6 }, small)
    assert.same({ 1, 5, 9 }, all)
  end)

  it("of many sources take items as they come", function()
    open()
    local got, n = {}, 0
    local stats = app:call(function()
      return catga.stream.run(function()
        local slow = catga.stream.of(function()
          n = n + 1
          if n > 2 then return nil end
          catga.sleep "1s"
          return "slow" .. n
        end)
        catga.stream.of({ "a", "b" }):merge(slow):each(function(v) got[#got + 1] = v end)
      end)
    end)
    assert.same({ "a", "b", "slow1", "slow2" }, got)
    assert.equal(4, stats.events)
  end)

  it("end a source that nobody wants more of", function()
    local pulled = 0
    open()
    local list = app:call(function()
      return catga.stream.of(function()
        pulled = pulled + 1
        return pulled
      end):take(3):list()
    end)
    assert.same({ 1, 2, 3 }, list)
    assert.equal(3, pulled)
  end)

  it("are many in one chain", function()
    local list = of({ 1 }, function(s)
      for _ = 1, 300 do s = s:select(function(v) return v + 1 end) end
      return s
    end)
    assert.same({ 301 }, list)
  end)
end)

describe("windows", function()
  local list = { { t = 0, n = 1 }, { t = 500, n = 2 }, { t = 1200, n = 4 }, { t = 3000, n = 8 } }

  it("are folded by reduce, and say where they are", function()
    local seen = {}
    local sums = through(list, function(s)
      return s:tumbling("1s"):reduce(function(sum, v) return sum + v.n end, 0)
        :where(function(_, _, w)
          seen[#seen + 1] = w.start .. "-" .. w.stop
          return true
        end)
    end)
    assert.same({ 3, 4, 8 }, sums)
    assert.same({ "0-1000", "1000-2000", "3000-4000" }, seen)
  end)

  it("stand behind each other", function()
    local sums = through(list, function(s)
      return s:tumbling("1s"):reduce(function(sum, v) return sum + v.n end, 0)
        :tumbling("2s"):reduce(add, 0)
    end)
    assert.same({ 7, 8 }, sums)
  end)

  it("of the calendar follow months, weeks and time zones", function()
    local function starts(unit, opts, ...)
      local items = {}
      for i, text in ipairs { ... } do items[i] = { t = text } end
      local found = {}
      through(items, function(s)
        return s:tumbling(unit, opts):where(function(_, _, w)
          found[#found + 1] = require("catga.time").format(w.start):sub(1, 16)
          return true
        end)
      end)
      return found
    end
    assert.same({ "2024-02-01T00:00", "2024-03-01T00:00" },
      starts("month", nil, "2024-02-29T23:59:59Z", "2024-03-01"))
    assert.same({ "2026-01-05T00:00" }, starts("week", nil, "2026-01-05", "2026-01-11"))
    assert.same({ "2025-10-01T00:00", "2026-01-01T00:00" },
      starts("quarter", nil, "2025-12-31", "2026-03-31"))
    assert.same({ "2026-03-28T23:00", "2026-03-29T22:00" },
      starts("day", { timezone = "Europe/Berlin" }, "2026-03-29T12:00:00Z", "2026-03-29T22:30:00Z"))
  end)

  -- Runs a join of two lists: "a+x" for each pair.
  local function joined(left, right, opts)
    open()
    local got = {}
    opts.key = "k"
    app:call(function()
      catga.stream.run(function()
        local timed = { event_time = "t", lateness = "10s" }
        catga.stream.of(left, timed):join(catga.stream.of(right, timed), opts, function(l, r)
          return l.n .. "+" .. (r and r.n or "")
        end):each(function(v) got[#got + 1] = v end)
      end)
    end)
    table.sort(got)
    return got
  end

  it("of two streams join items of a key that are near", function()
    local left = { { t = 0, k = 1, n = "a" }, { t = 100, k = 2, n = "b" },
      { t = 60, k = 1, n = "c" } }
    local right = { { t = 50, k = 1, n = "x" }, { t = 5000, k = 2, n = "y" },
      { t = 1050, k = 1, n = "z" } }
    assert.same({ "a+x", "c+x", "c+z" }, joined(left, right, { within = "1s" }))
    app:stop()
    assert.same({ "a+x", "b+", "c+x", "c+z" }, joined(left, right, { within = "1s",
      kind = "left" }))
  end)
end)

describe("the clock", function()
  -- A stream over events that are published without being stored.
  local function live(build)
    local got = {}
    open(function()
      build(catga.stream("Tick", { qos = 0, name = "ticks" })):each(function(v)
        got[#got + 1] = v
      end)
    end)
    return got
  end

  local function tick(...)
    for _, n in ipairs { ... } do assert(app:publish("Tick", { n = n }, { qos = 0 })) end
    app:settle()
  end

  local function n_of(v) return v.n end

  it("ends a list that is not full", function()
    local got = live(function(s) return s:select(n_of):buffer(3, "5s") end)
    tick(1, 2, 3, 4)
    assert.same({ { 1, 2, 3 } }, got)
    app:advance("4s")
    tick(5)
    assert.equal(1, #got)
    app:advance("1s")
    assert.same({ { 1, 2, 3 }, { 4, 5 } }, got)
  end)

  it("lets so many through", function()
    local got = live(function(s) return s:select(n_of):throttle(2, "1s") end)
    tick(1, 2, 3)
    app:advance("1s")
    tick(4, 5, 6)
    assert.same({ 1, 2, 4, 5 }, got)
    assert.equal(2, app:call(catga.streams.get, "ticks").dropped)
  end)

  it("gives the last on after a silence", function()
    local got = live(function(s) return s:select(n_of):debounce("1s") end)
    tick(1)
    app:advance("500ms")
    tick(2)
    app:advance("999ms")
    assert.same({}, got)
    app:advance("1ms")
    assert.same({ 2 }, got)
  end)

  it("gives the newest on, so often", function()
    local got = live(function(s) return s:select(n_of):sample("1s") end)
    tick(1, 2)
    app:advance("1s")
    tick(3)
    app:advance("3s")
    tick(4)
    app:advance("1s")
    assert.same({ 2, 3, 4 }, got)
  end)

  it("forgets what was seen", function()
    local got = live(function(s) return s:select(n_of):distinct { within = "10s" } end)
    tick(1, 1)
    app:advance("10s")
    tick(1)
    assert.same({ 1, 1 }, got)
  end)

  it("gives items on later, in order, and reads no more than may wait", function()
    local got = live(function(s) return s:select(n_of):delay("2s", { max = 2 }) end)
    tick(1, 2)
    tick(3)
    app:advance("1999ms")
    assert.same({}, got)
    app:advance("1ms")
    assert.same({ 1, 2 }, got)
    app:advance("2s")
    assert.same({ 1, 2, 3 }, got)
  end)

  it("closes windows of a source that is silent", function()
    local got = {}
    open(function()
      catga.stream("Item", { after = "start", event_time = "t", idle_timeout = "10s" })
        :tumbling("1m"):each(function(list, _, w) got[#got + 1] = { #list, w.start } end)
    end)
    app:publish("Item", { t = 1000 })
    app:publish("Item", { t = 2000 })
    app:settle()
    app:advance("57s")
    assert.same({}, got)
    app:advance("2s")
    assert.same({ { 2, 0 } }, got)
  end)
end)

describe("a full buffer", function()
  local gate, got

  local function slow(overflow)
    got = {}
    open(function()
      catga.stream("Tick", { qos = 0, name = "ticks", buffer = 2, overflow = overflow })
        :each(function(v)
          while gate do catga.sleep "1s" end
          got[#got + 1] = v.n
        end)
    end)
    gate = true
    app:call(function()
      catga.publish("Tick", { n = 1 }, { qos = 0 })
      catga.sleep "1ms"
    end)
  end

  local function publish_all(from, to)
    for n = from, to do
      catga.spawn(function() assert(catga.publish("Tick", { n = n }, { qos = 0 })) end)
    end
  end

  local function finish()
    gate = nil
    app:advance("10s")
    table.sort(got)
  end

  for overflow, expected in pairs { drop_newest = { 1, 2, 3 }, drop_oldest = { 1, 5, 6 },
    latest = { 1, 6 }, block = { 1, 2, 3, 4, 5, 6 } } do
    it(("that is set to %s"):format(overflow), function()
      slow(overflow)
      app:call(publish_all, 2, 6)
      finish()
      if overflow == "latest" then assert.equal(6, got[#got]) else assert.same(expected, got) end
      assert.equal(6 - #got, app:call(catga.streams.get, "ticks").dropped)
    end)
  end

  it("that is set to fail gives the publisher an error", function()
    slow("fail")
    app:call(function()
      assert(catga.publish("Tick", { n = 2 }, { qos = 0 }))
      assert(catga.publish("Tick", { n = 3 }, { qos = 0 }))
      local ok, failure = pcall(catga.publish, "Tick", { n = 4 }, { qos = 0 })
      assert.is_false(ok)
      assert.equal("limit", failure.code)
    end)
    finish()
    assert.same({ 1, 2, 3 }, got)
  end)

  it("holds a queue's source back", function()
    open()
    local pulled, ahead, taken = 0, 0, 0
    app:call(function()
      catga.stream.of(function()
        pulled = pulled + 1
        ahead = math.max(ahead, pulled - taken)
        return pulled <= 50 and pulled or nil
      end):queue(4):each(function()
        catga.sleep "10ms"
        taken = taken + 1
      end)
    end)
    assert.equal(50, taken)
    assert.is_true(ahead <= 7, "ahead by " .. ahead)
  end)
end)

describe("parallel sinks", function()
  it("handle so many at a time, those of a key in order", function()
    open()
    local running, most, orders = 0, 0, {}
    app:call(function()
      local list = {}
      for i = 1, 60 do list[i] = { k = i % 5, n = i } end
      catga.stream.of(list):group_by("k"):each(function(v, k)
        running = running + 1
        most = math.max(most, running)
        catga.sleep((v.n * 7 % 5 + 1) .. "ms")
        orders[k] = orders[k] or {}
        table.insert(orders[k], v.n)
        running = running - 1
      end, { max = 3, buffer = 8 })
    end)
    assert.equal(3, most)
    local count = 0
    for _, one in pairs(orders) do
      for i = 2, #one do assert.is_true(one[i - 1] < one[i]) end
      count = count + #one
    end
    assert.equal(60, count)
  end)

  it("raise what one of them has raised", function()
    open()
    local ok, failure = app:call(function()
      return pcall(function()
        catga.stream.of({ 1, 2, 3 }):each(function(v) if v == 2 then error("no 2") end end,
          { max = 2 })
      end)
    end)
    assert.is_false(ok)
    assert.matches("stream_spec.lua:%d+: no 2", failure.message)
  end)
end)

describe("an error", function()
  it("of a function keeps its place and ends the chain", function()
    open()
    local ok, failure = app:call(function()
      return pcall(function()
        catga.stream.of({ 1 }):select(function() error("wrong") end):list()
      end)
    end)
    assert.is_false(ok)
    assert.matches("stream_spec.lua:%d+: wrong", failure.message)
  end)

  it("can be skipped, and a sink's tried again", function()
    open()
    local got, tries = {}, 0
    app:call(function()
      catga.stream.of({ 1, 2, 3 }, { on_error = "skip", attempts = 2, backoff = "1s" })
        :select(function(v) if v == 2 then error("no 2") end return v end)
        :each(function(v)
          tries = tries + 1
          if v == 3 and tries < 3 then error("again") end
          got[#got + 1] = v
        end)
    end)
    assert.same({ 1, 3 }, got)
    assert.equal(3, tries)
  end)

  it("is what select without a return is", function()
    open()
    local ok, failure = app:call(function()
      return pcall(function() catga.stream.of({ 1 }):select(function() end):list() end)
    end)
    assert.is_false(ok)
    assert.matches("stream:select %(.*stream_spec.lua:%d+%) returned nil", failure.message)
  end)
end)

describe("loading refuses", function()
  local function says(pattern, define) assert.matches(pattern, refused(define)) end

  it("names that are no UTF-8, and places that are no positions", function()
    says("letters, digits", function()
      catga.stream("A", { durable = "a\255" }):each(function() end)
    end)
    says("or a position", function()
      catga.stream("A", { durable = "a", after = 1e300 }):each(function() end)
    end)
  end)

  it("what cannot be, with its place", function()
    says("stream_spec.lua:%d+: this stream leads nowhere", function() catga.stream("A") end)
    says("stream_spec.lua:%d+: stream:where: its argument is a function, not 5", function()
      catga.stream("A"):where(5)
    end)
    says("there is no option \"durabel\"; did you mean durable", function()
      catga.stream("A", { durabel = "x" })
    end)
    says("stream:buffer: its time is a duration", function() catga.stream("A"):buffer(1, 5) end)
    says("stream:tumbling: its length is a duration or one of day", function()
      catga.stream("A"):tumbling("fortnight")
    end)
    says("there is a stream x already", function()
      catga.stream("A", { durable = "x" }):each(print)
      catga.stream("B", { durable = "x" }):each(print)
    end)
    says("events never end", function() catga.stream("A"):reduce(add, 0):each(print) end)
    says("a durable stream drops nothing", function()
      catga.stream("A", { durable = "x" }):queue(5):each(print)
    end)
    says("a durable stream reads events of the log", function()
      catga.stream("A", { durable = "x" }):merge(catga.stream.of { 1 }):each(print)
    end)
    says("no command is called Nobody", function() catga.stream("A"):to { send = "Nobody" } end)
    says("stream:join needs a key", function()
      catga.stream("A"):join(catga.stream("B"), { within = "1s" }):each(print)
    end)
    says("stream_spec.lua:%d+: stream:tumbling: time zone Nowhere", function()
      catga.stream("A"):tumbling("day", { timezone = "Nowhere" }):each(print)
    end)
    says("say event_time", function() catga.stream.of({}):tumbling("1s"):each(print) end)
    says("name what it reads", function() catga.stream({ durable = "x" }):each(print) end)
  end)
end)
