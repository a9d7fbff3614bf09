--- Snapshots of aggregates: taken by count, time and size; used only when they are of this history
--- and this shape.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local catga = require "catga"

local app, Counter, applied

-- A counter that tells how many events were applied.
local function define(snapshot, more)
  return function()
    Counter = catga.aggregate "Counter"
    function Counter.initial() return { n = 0, last = catga.null, list = {} } end
    function Counter.apply.Counted(state, event)
      applied = applied + 1
      state.n = state.n + event.by
      state.last = event.by
    end
    function Counter:count(by, note) self:raise("Counted", { by = by or 1, note = note }) end
    if snapshot then Counter.snapshot = snapshot end
    Counter.shape = "one"
    if more then more(Counter) end
  end
end

local function open(source, opts)
  local err
  app, err = testing.app(source, opts)
  assert(app, err and err.message)
  return app
end

local function run(fn, ...) return app:call(fn, ...) end

local function count(id, times, note)
  for _ = 1, times or 1 do
    assert(run(Counter.update, id, function(c) return c:count(1, note) end))
  end
  app:settle()
end

-- Loads, and tells how many events were read.
local function load(id, opts)
  applied = 0
  local one = assert(run(Counter.load, id, opts))
  app:settle()
  return one, applied
end

-- The versions of the snapshots in the log, oldest first.
local function taken(id)
  local list = {}
  for i, event in ipairs(run(catga.events.read, "$snapshot-Counter-" .. id)) do
    list[i] = event.data.version or event.type
  end
  return list
end

local function said(pattern)
  local found = 0
  for _, line in ipairs(app.lines) do
    if line:find(pattern) then found = found + 1 end
  end
  return found
end

before_each(function() applied = 0 end)

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

describe("a snapshot", function()
  it("is taken every so many events, and read instead of them", function()
    open(define { every = 10 })
    count("1", 9)
    assert.same({}, taken "1")
    count("1", 14)
    assert.same({ 9, 19 }, taken "1")
    local one, read = load "1"
    assert.equal(3, read)
    assert.equal(22, one.version)
    assert.same({ n = 23, last = 1, list = {} }, one.state)
    one, read = load("1", { version = 14 })
    assert.equal(5, read)
    assert.equal(15, one.state.n)
    assert.equal(9, (select(2, load("1", { version = 8 }))))
  end)

  it("is taken when the last one is old enough", function()
    open(define { after = "10m" })
    count("1", 5)
    assert.same({}, taken "1")
    app:advance "9m"
    count "1"
    app:advance "1m"
    assert.same({}, taken "1")
    count "1"
    assert.same({ 6 }, taken "1")
    app:advance "9m"
    count "1"
    assert.same({ 6 }, taken "1")
    app:advance "1m"
    count "1"
    assert.same({ 6, 8 }, taken "1")
  end)

  it("is taken when its events have so many bytes", function()
    open(define { bytes = "1KiB" })
    count("1", 4, ("x"):rep(200))
    assert.same({}, taken "1")
    count("1", 1, ("x"):rep(200))
    assert.same({ 4 }, taken "1")
    count("1", 4, ("x"):rep(200))
    assert.same({ 4 }, taken "1")
    count("1", 1, ("x"):rep(200))
    assert.same({ 4, 9 }, taken "1")
  end)

  it("is taken by whichever rule comes first", function()
    open(define { every = 5, after = "1h", bytes = "1KiB" })
    count("1", 5)
    app:advance "1h"
    count "1"
    count("1", 1, ("x"):rep(1500))
    assert.same({ 4, 5, 6 }, taken "1")
  end)

  it("is of several events that are saved at once", function()
    open(define { every = 10 })
    run(function()
      local one = Counter.load "1"
      for _ = 1, 25 do one:count() end
      assert(one:save())
      one:count() -- Is not saved, and is no part of it.
    end)
    app:settle()
    assert.same({ 24 }, taken "1")
    assert.equal(25, load("1").state.n)
  end)

  it("is not taken for what a unit of work takes back", function()
    open(define({ every = 2 }, function()
      catga.command("Count", function(cmd)
        assert(Counter.update("1", function(c)
          c:count()
          c:count()
        end))
        assert(Counter.load("1").version == 1)
        if cmd.fail then return nil, catga.error "no" end
        return true
      end)
    end))
    assert.is_nil((app:send("Count", { fail = true })))
    app:settle()
    assert.same({}, taken "1")
    assert(app:send("Count", {}))
    app:settle()
    assert.same({ 1 }, taken "1")
  end)

  it("is taken by the step of a process", function()
    open(define({ every = 2 }, function()
      local P = catga.process "P"
      function P:execute() return self:count() end
      function P:count()
        assert(Counter.update("1", function(c)
          c:count()
          c:count()
        end))
        return true
      end
    end))
    assert(app:run("P", { id = "p" }))
    app:settle()
    assert.same({ 1 }, taken "1")
  end)

  it("is not seen by readers of all events and by handlers", function()
    local seen = 0
    open(define({ every = 1 }, function()
      catga.on("SnapshotTaken", function() seen = seen + 1 end)
    end))
    count("1", 2)
    assert.same({ 0, 1 }, taken "1")
    assert.equal(0, seen)
    assert.equal(2, #run(catga.events.read_all))
  end)

  it("is dropped when that is asked for", function()
    open(define { every = 2 })
    count("1", 2)
    run(Counter.drop_snapshot, "1")
    run(Counter.drop_snapshot, "never")
    assert.same({ 1, "SnapshotDropped" }, taken "1")
    local one, read = load "1"
    assert.equal(2, read)
    assert.equal(2, one.state.n)
  end)
end)

describe("a snapshot is passed over and made again", function()
  it("when its shape is another one", function()
    open(define { every = 4 })
    count("1", 9)
    assert.same({ 3, 7 }, taken "1")
    app = assert(app:crash(nil, define({ every = 4 }, function(C)
      C.shape = "two"
      function C.apply.Other() end
    end)))
    local one, read = load "1"
    assert.equal(9, read)
    assert.equal(9, one.state.n)
    assert.same({ 3, 7, 8 }, taken "1") -- A load that read so much takes one.
    one, read = load "1"
    assert.equal(0, read)
    assert.equal(9, one.state.n)
  end)

  it("when it is damaged", function()
    local damages = {
      state = '{"n":1000}', version = 2, time = 1, event = "0", shape = "x", check = "0",
    }
    local snapshots = require "catga.aggregate.snapshot_store"
    for field, value in pairs(damages) do
      local store = snapshots.memory()
      open(define { every = 4, store = store })
      count("1", 6)
      local snapshot = store.get("Counter", "1", math.huge)
      assert.equal(3, snapshot.version)
      assert.equal(2, select(2, load "1"))
      local before = snapshot[field]
      snapshot[field] = value
      local one, read = load "1"
      assert.equal(6, read, field)
      assert.equal(6, one.state.n)
      assert.equal(1, said "the snapshot of 1 is passed over: it is damaged")
      snapshot[field] = before
      app:stop()
    end
    app = nil
  end)

  it("when any bit of it is flipped", function()
    local store = catga.aggregate.memory_snapshots()
    local damaged
    open(define { every = 3, store = { put = store.put, drop = store.drop,
      get = function() return damaged end } })
    count("1", 3)
    local whole = catga.json.encode(store.get("Counter", "1", 9))
    assert(run(catga.events.append, "Counter-1", { { type = "Counted", data = { by = 1 } } }))
    local used = 0
    run(function()
      for at = 1, #whole do
        for bit = 0, 7 do
          local byte = string.char(require "bit".bxor(whole:byte(at), 2 ^ bit))
          damaged = catga.json.decode(whole:sub(1, at - 1) .. byte .. whole:sub(at + 1))
          applied = 0
          local one = Counter.load "1"
          assert(one.state.n == 4 and one.version == 3 and one.state.last == 1, byte)
          if applied == 1 then used = used + 1 end
        end
      end
    end)
    assert.equal(0, used)
    damaged = catga.json.decode(whole)
    assert.equal(1, select(2, load "1"))
  end)

  it("when it is no snapshot at all", function()
    for _, thing in ipairs { 5, "text", {}, { version = 1 }, { version = "x", state = {} } } do
      open(define { every = 100, store = { get = function() return thing end,
        put = function() end, drop = function() end } })
      count("1", 3)
      assert.equal(3, load("1").state.n)
      app:stop()
    end
    app = nil
  end)

  it("when its store gives a newer one than was asked for", function()
    local store = catga.aggregate.memory_snapshots()
    open(define { every = 3, store = { put = store.put, drop = store.drop,
      get = function(name, id) return store.get(name, id, math.huge) end } })
    count("1", 4)
    assert.equal(1, select(2, load "1"))
    assert.equal(2, load("1", { version = 1 }).state.n)
  end)

  it("when it is another aggregate's", function()
    local store = catga.aggregate.memory_snapshots()
    local swapped = { get = function(name, _, max) return store.get(name, "1", max) end,
      put = store.put, drop = store.drop }
    open(define { every = 2, store = swapped })
    count("1", 2)
    assert.equal(0, select(2, load "1"))
    count("2", 3)
    assert.equal(3, load("2").state.n)
  end)

  it("when it is beyond the stream's end, or of a lost history", function()
    local store = catga.aggregate.memory_snapshots()
    open(define { every = 5, store = store })
    count("1", 5)
    assert.equal(4, store.get("Counter", "1", 9).version)
    app = assert(app:crash(4)) -- Three events are left.
    assert.equal(3, load("1").state.n)
    for _ = 1, 3 do
      run(catga.events.append, "Counter-1", { { type = "Counted", data = { by = 100 } } })
    end
    -- The stream has a version 4 again, but it is not the one of the snapshot.
    assert.equal(4, store.get("Counter", "1", 9).version)
    assert.equal(303, load("1").state.n)
  end)

  it("when it is later than the time that is asked for", function()
    open(define { every = 2 })
    count("1", 2)
    app:advance "1h"
    count("1", 2)
    assert.same({ 1, 3 }, taken "1")
    local one, read = load("1", { at = "2026-01-01T00:30:00Z" })
    assert.equal(2, one.state.n)
    assert.equal(0, read)
    one, read = load("1", { at = "2026-01-01T02:00:00Z" })
    assert.equal(4, one.state.n)
    assert.equal(0, read)
  end)

  it("when the app was killed at any record", function()
    local source = define { every = 3 }
    open(source)
    count("1", 10)
    local whole = app:position()
    for position = 1, whole do
      local after = assert(testing.app(source, { memory = app:snapshot(position) }))
      local events = #after:call(catga.events.read, "Counter-1")
      assert.equal(events, after:call(Counter.load, "1").state.n)
      after:stop()
    end
  end)
end)

describe("a snapshot that cannot be taken", function()
  it("never fails the save, and is told once", function()
    open(define({ every = 2, store = { get = function() error "no get" end,
      put = function() error "no put" end, drop = function() end } }))
    count("1", 7)
    assert.equal(7, load("1").state.n)
    assert.equal(1, said "aggregate Counter: the snapshot of 1 cannot be read: .*no get")
    assert.equal(1, said "the snapshot of 1 cannot be written: .*no put")
  end)

  it("because of what is in the state says where", function()
    local how
    open(define({ every = 1 }, function(C)
      function C.apply.Odd(state, event) how(state, event) end
    end))
    local function odd(fn)
      how = fn
      run(Counter.update, "1", function(c) c:raise("Odd", { list = { 1 } }) end)
      app:settle()
    end
    odd(function(state) state.n = 1 end)
    assert.same({ 0 }, taken "1")
    odd(function(state, event) state.a, state.b = event.list, event.list end)
    assert.is_true(said "state.b is the same table as state.a" + said
      "state.a is the same table as state.b" == 1)
    odd(function(state) state.a, state.b, state.f = nil, nil, print end)
    odd(function(state) state.f, state.t = nil, setmetatable({}, {}) end)
    assert.same({ 0 }, taken "1")
    assert.equal(4, #run(catga.events.read, "Counter-1"))
    odd(function(state) state.t = nil end)
    assert.same({ 0, 3 }, taken "1") -- Of the load: it has read more than one event.
  end)

  it("because it is too large says so", function()
    open(define({ every = 1 }, function(C)
      function C.apply.Big(state) state.big = ("x"):rep(5000) end
    end), { settings = { message_size_max = "4KiB" } })
    run(Counter.update, "1", function(c) c:raise "Big" end)
    app:settle()
    assert.equal(1, said "the snapshot of 1 cannot be taken")
    assert.equal(0, load("1").version)
  end)
end)

describe("a snapshot that a load takes", function()
  it("is not put anywhere before its events are durable", function()
    local puts = 0
    open(define { every = 2, store = { get = function() end, drop = function() end,
      put = function(_, _, snapshot) puts = puts + snapshot.version end } }, { manual = true })
    local events = {}
    for i = 1, 4 do events[i] = { type = "Counted", data = { by = 1 } } end
    tasks.spawn(app.app, function() catga.events.append("Counter-1", events) end)
    native_task.yield()
    local one
    tasks.spawn(app.app, function() one = Counter.load "1" end)
    for _ = 1, 5 do native_task.yield() end
    assert.equal(4, one.state.n)
    assert.equal(0, puts)
    while app.app.store:turn() do native_task.yield() end
    for _ = 1, 5 do native_task.yield() end
    assert.equal(3, puts)
  end)
end)

describe("a store of snapshots", function()
  it("may wait", function()
    local kept
    open(define { every = 2, store = {
      get = function()
        catga.sleep "1s"
        return kept
      end,
      put = function(_, _, snapshot)
        catga.sleep "1s"
        kept = snapshot
      end,
      drop = function() kept = nil end,
    } })
    count("1", 2)
    assert.is_nil(kept)
    app:advance "1s"
    assert.equal(1, kept.version)
    assert.equal(0, select(2, load "1"))
    run(Counter.drop_snapshot, "1")
    assert.is_nil(kept)
  end)

  it("in memory keeps a bounded number", function()
    local store = catga.aggregate.memory_snapshots { max = 3 }
    for i = 1, 5 do store.put("A", tostring(i), { version = i }) end
    store.put("A", "5", { version = 6 })
    assert.is_nil(store.get("A", "2", 100))
    for i = 3, 4 do assert.equal(i, store.get("A", tostring(i), 100).version) end
    assert.equal(6, store.get("A", "5", 100).version)
    assert.is_nil(store.get("A", "5", 5))
    store.drop("A", "4")
    assert.is_nil(store.get("A", "4", 100))
    store.put("A", "6", { version = 1 })
    assert.is_nil(store.get("A", "3", 100))
    assert.equal(1, store.get("A", "6", 100).version)
    assert.has_error(function() catga.aggregate.memory_snapshots { max = 0 } end)
  end)
end)

describe("the shape of a snapshot without a name", function()
  local source = [[
    local catga = require "catga"
    local step = require "step"
    local C = catga.aggregate "Counter"
    function C.initial() return { n = 0 } end
    function C.apply.Counted(state, event) state.n = state.n + step * %d end
    function C:count() self:raise "Counted" end
    C.snapshot = { every = 2 }
    catga.command("Count", function() return C.update("1", function(c) c:count() end) end)
    catga.query("Show", function() return C.load("1").state.n end)
  ]]
  local dir

  local function start()
    dir = app_dir.new { ["main.lua"] = source:format(1), ["lib/step.lua"] = "return 1",
      ["other.lua"] = "-- one" }
    open(dir)
    for _ = 1, 2 do assert(app:send "Count") end
    app:settle()
    assert.same({ 1 }, taken "1")
  end

  -- What is read after a change: 2 by the snapshot.
  local function after(file, text)
    app_dir.write(dir, file, text)
    assert(run(function() return app.app:reload() end))
    return app:ask "Show"
  end

  it("changes with the script of the aggregate", function()
    start()
    assert.equal(20, after("main.lua", source:format(10)))
    app:settle()
    assert.same({ 1, 1 }, taken "1")
  end)

  it("changes with the modules", function()
    start()
    assert.equal(200, after("lib/step.lua", "return 100"))
  end)

  it("changes with the upcasters", function()
    start()
    after("other.lua", [[
      local catga = require "catga"
      catga.upcast("Counted", 1, function() return catga.dropped end)
    ]])
    assert.equal(0, app:ask "Show")
  end)

  it("does not change with other scripts", function()
    start()
    assert.equal(2, after("other.lua", "-- two"))
    app:settle()
    assert.same({ 1 }, taken "1")
    -- It is the snapshot that is read.
    assert(run(catga.events.append, "Counter-1", { { type = "Counted" } }))
    assert.equal(3, app:ask "Show")
  end)
end)
