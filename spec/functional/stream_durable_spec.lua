--- Durable streams: state over kills, restarts and reloads; items that fail; bounds; steering.
local support = dofile "spec/support/stream.lua"
local testing = require "catga.testing"
local catga = require "catga"

local SEEDS = math.min(tonumber(os.getenv("CATGA_SEEDS") or 15), 1000)
local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define, opts)
  app = assert(testing.app(define or function() end, opts))
  return app
end

local function append(events, stream)
  app:call(function() assert(catga.events.append(stream or "Items", events)) end)
end

local function items(from, to)
  local list = {}
  for n = from, to do list[#list + 1] = { type = "Item", data = { n = n, k = "k" .. n % 3 } } end
  return list
end

local function results(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream or "Out", { max = 10000 })) do
    list[i] = event.data
  end
  return list
end

local function get(name) return assert(app:call(catga.streams.get, name or "s")) end
local function source(opts)
  opts = opts or {}
  opts.durable = opts.durable or "s"
  return catga.stream("Item", opts)
end
local OUT = { append = "Out", type = "Made" }
local function n_of(item) return item.n end
local function add(a, b) return a + b end

-- Chains whose results hang on the order of the events alone.
local CHAINS = {
  scan = function(s)
    s:group_by("k"):scan(function(sum, item) return sum + item.n end, 0)
      :select(function(sum, k) return { k = k, sum = sum } end):to(OUT)
  end,
  buffer = function(s)
    s:group_by("k"):buffer(4):select(function(list, k) return { k = k, list = list } end):to(OUT)
  end,
  distinct = function(s) s:select(function(item) return item.n % 17 end):distinct { max = 5 }
    :select(function(n) return { n = n } end):to(OUT) end,
  ["take and skip"] = function(s) s:skip(7):take(20):to(OUT) end,
  ["skip by key"] = function(s) s:group_by("k"):skip(2):take(5):to(OUT) end,
  split = function(s)
    local even, odd = s:split(function(item) return item.n % 2 == 0 end)
    even:buffer(3):select(function(list) return { even = list } end):to(OUT)
    odd:select(n_of):scan(add, 0):select(function(n) return { odd = n } end):to(OUT)
  end,
  parallel = function(s)
    s:group_by("k"):each(function(item)
      assert(catga.events.append("Out", { { type = "Made", data = item } }))
    end, { max = 3 })
  end,
  join = function(s)
    local other = catga.stream("Other", { event_time = "n", lateness = "5ms" })
    s:join(other, { within = "20ms", key = "k" }, function(l, r) return { l = l.n, r = r.n } end)
      :to(OUT)
  end,
  ["left join"] = function(s)
    local other = catga.stream("Other", { event_time = "n" })
    s:join(other, { within = "6ms", key = "k", kind = "left" }, function(l, r)
      return { l = l.n, r = r and r.n }
    end):to(OUT)
  end,
}

describe("a chain that is killed again and again", function()
  setup(function() jit.off() end)
  teardown(function() jit.on() end)

  local function feed(die, n)
    local events = {}
    for i = 1, die(12) do
      local is_other = die(3) == 1
      events[i] = { type = is_other and "Other" or "Item",
        data = { n = n + i, k = "k" .. die(3) } }
    end
    append(events)
    return n + #events
  end

  local function run(build, seed, kills)
    local die, die_of_kills = support.die(seed), support.die(seed + 500)
    open(function()
      build(source { event_time = "n", batch = 4, checkpoint_events = 7 })
    end)
    local n = 0
    for _ = 1, 12 do
      n = feed(die, n)
      if kills and die_of_kills(2) == 1 then
        local all = app:call(catga.events.read, "Items", { max = 10000 })
        local last = all[#all].position
        app = assert(app:crash(last + die_of_kills(math.max(1, app:position() - last))))
      end
    end
    app:settle()
    app:advance("1h")
    local found = results()
    local state = get()
    app:stop()
    app = nil
    return found, state
  end

  for name, build in pairs(CHAINS) do
    it(("comes to the same: %s"):format(name), function()
      for seed = 1, SEEDS do
        local wanted = run(build, seed, false)
        local found, state = run(build, seed, true)
        assert.same(wanted, found, "seed " .. seed)
        assert.equal("running", state.status, state.error and state.error.message)
      end
    end)
  end
end)

describe("operators that go by the clock", function()
  it("keep what waits over a kill", function()
    open(function()
      source():buffer(10, "5s"):select(function(list) return { list = #list } end):to(OUT)
      source { durable = "d" }:debounce("7s"):select(function(v) return { newest = v.n } end)
        :to(OUT)
      source { durable = "e" }:delay("9s"):select(function(v) return { late = v.n } end):to(OUT)
      source { durable = "f" }:sample("4s"):select(function(v) return { sampled = v.n } end):to(OUT)
      source { durable = "g" }:throttle(1, "1h"):select(function(v) return { first = v.n } end)
        :to(OUT)
    end)
    append(items(1, 3))
    app:settle()
    app:advance("2s")
    app = assert(app:crash())
    app:settle()
    assert.same({ { first = 1 } }, results())
    app:advance("20s")
    append(items(4, 4))
    app:settle()
    assert.same({ { first = 1 }, { sampled = 3 }, { list = 3 }, { newest = 3 }, { late = 1 },
      { late = 2 }, { late = 3 } }, results())
    assert.equal(3, get("g").dropped)
  end)
end)

describe("an item that fails in a durable stream", function()
  local is_broken

  local function define(on_error)
    return function()
      source { on_error = on_error, attempts = 3, backoff = "1s", batch = 10 }
        :scan(function(sum, item) return sum + item.n end, 0):each(function(sum)
          assert(catga.events.append("Out", { { type = "Made", data = { sum = sum } } }))
          if is_broken and sum == 10 then error("no tens") end
        end)
    end
  end

  local function sums()
    local list = {}
    for i, one in ipairs(results()) do list[i] = one.sum end
    return list
  end

  before_each(function() is_broken = true end)

  it("stops it, where it stands; resumed, it goes on", function()
    open(define("stop"))
    append(items(1, 6))
    app:advance("10s")
    assert.same({ 1, 3, 6 }, sums())
    local state = get()
    assert.equal("failed", state.status)
    assert.matches("stream_durable_spec.lua:%d+: no tens", state.error.message)
    assert.equal("Item", state.error.type)
    is_broken = false
    app:call(function() assert(catga.streams.resume("s")) end)
    app:settle()
    assert.same({ 1, 3, 6, 10, 15, 21 }, sums())
  end)

  it("is tried again", function()
    open(define("stop"))
    append(items(1, 6))
    app:settle()
    app:advance("900ms")
    is_broken = false
    app:advance("10s")
    assert.same({ 1, 3, 6, 10, 15, 21 }, sums())
  end)

  it("is left out of its sink only: the state has it", function()
    open(define("skip"))
    append(items(1, 6))
    app:advance("10s")
    assert.same({ 1, 3, 6, 15, 21 }, sums())
    assert.equal(1, get().skipped)
    app = assert(app:crash())
    append(items(7, 7))
    app:settle()
    assert.same({ 1, 3, 6, 15, 21, 28 }, sums())
  end)

  it("becomes a dead letter in the same commit, and can be tried again", function()
    open(define("dead_letter"))
    append(items(1, 6))
    app:advance("10s")
    assert.same({ 1, 3, 6, 15, 21 }, sums())
    local letters = app:call(catga.dead_letters.list, {})
    assert.equal(1, #letters)
    local letter = app:call(catga.dead_letters.get, letters[1].id)
    assert.same({ "stream", "s", 10, 3 }, { letter.kind, letter.source, letter.data,
      letter.attempts })
    assert.matches("no tens", letter.reason.message)
    app:call(function() catga.dead_letters.retry(letter.id) end)
    app:advance("10s")
    assert.equal(1, #app:call(catga.dead_letters.list, {}))
    assert.same({ 1, 3, 6, 15, 21 }, sums())
    is_broken = false
    app:call(function() assert(catga.dead_letters.retry(letter.id)) end)
    app:advance("10s")
    assert.same({ 1, 3, 6, 15, 21, 10 }, sums())
    assert.equal(0, #app:call(catga.dead_letters.list, {}))
    append(items(7, 7))
    app:settle()
    assert.equal(28, sums()[7])
  end)

  it("a window whose sink fails is one item", function()
    open(function()
      source { event_time = "n", on_error = "skip", attempts = 1 }:tumbling("2ms")
        :select(function(list) return { count = #list } end):each(function(v, _, w)
          if w.start == 2 then error("not this one") end
          assert(catga.events.append("Out", { { type = "Made", data = v } }))
        end)
    end)
    append(items(1, 9))
    app:settle()
    assert.same({ { count = 1 }, { count = 2 }, { count = 2 } }, results())
    assert.equal(1, get().skipped)
  end)
end)

describe("a file", function()
  local app_dir = dofile "spec/support/app_dir.lua"
  local path

  local function lines()
    local list = {}
    for line in io.lines(path) do list[#list + 1] = catga.json.decode(line).n end
    return list
  end

  before_each(function() path = app_dir.new { ["out.ndjson"] = '{"n":0}\n' } .. "/out.ndjson" end)
  after_each(function() app_dir.remove_all() end)

  it("has each line once, wherever the program is killed", function()
    local function define()
      source { batch = 3 }:to { file = path }
    end
    open(define)
    append(items(1, 10))
    app:settle()
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, lines())
    local last = app:position()
    for position = 12, last do -- What was written behind the kill is cut off, and written again.
      app = assert(app:crash(position))
      app:settle()
      assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, lines())
    end
    append(items(11, 11))
    app:settle()
    assert.equal(11, lines()[12])
  end)

  it("that is shorter than it was is told of", function()
    open(function() source():to { file = path } end)
    append(items(1, 3))
    app:settle()
    io.open(path, "w"):close()
    app = assert(app:crash())
    app:settle()
    append(items(4, 4))
    app:advance("10s")
    assert.equal("failed", get().status)
    assert.matches("out.ndjson has 0 bytes, but the stream has written %d+;", get().error.message)
  end)

  it("is written by a stream that is not durable, too", function()
    open()
    app:call(function() catga.stream.of({ { n = 1 }, { n = 2 } }):to { file = path } end)
    assert.same({ 0, 1, 2 }, lines())
  end)
end)

describe("a durable stream", function()
  it("is paused over a restart, resumed and reset", function()
    open(function() source():to(OUT) end)
    append(items(1, 2))
    app:settle()
    app:call(function() assert(catga.streams.pause("s")) end)
    append(items(3, 4))
    app = assert(app:crash())
    app:settle()
    assert.equal("paused", get().status)
    assert.equal(2, #results())
    app:call(function() assert(catga.streams.resume("s")) end)
    app:settle()
    assert.equal(4, #results())
    app:call(function() assert(catga.streams.reset("s", "start")) end)
    app:settle()
    assert.equal(8, #results())
    local ok, err = app:call(catga.streams.pause, "t")
    assert.is_nil(ok)
    assert.equal("no stream is called t; did you mean s?", err.message)
    assert.equal("invalid", select(2, app:call(catga.streams.reset, "s", 1e9)).code)
  end)

  it("writes its whole state now and then, in parts, larger than a message may be", function()
    open(function()
      source { batch = 20, checkpoint_events = 20 }:group_by("n"):scan(function(_, item)
        return { n = item.n, text = ("x"):rep(1000) }
      end, 0):where(function(v) return v.n == 1 end):to(OUT)
    end, { settings = { message_size_max = "64KiB" } })
    for from = 1, 5000, 50 do append(items(from, from + 49)) end
    app:settle()
    local records = app:call(catga.events.read, "$processor-s", { max = 100000 })
    local parts, snapshots = 0, 0
    for _, record in ipairs(records) do
      if record.type == "StreamPart" then parts = parts + 1 end
      if record.type == "StreamSnapshot" then snapshots = snapshots + 1 end
    end
    assert.is_true(snapshots >= 1 and parts > snapshots, parts .. " parts")
    assert.equal(5000, get().keys)
    app = assert(app:crash())
    app:settle()
    assert.equal(5000, get().keys)
    append(items(1, 1))
    app:settle()
    assert.equal(2, #results())
  end)

  it("forgets keys of a buffer that have no items, when there are many", function()
    open(function()
      source { batch = 100 }:group_by("n"):buffer(2)
        :select(function(list) return { n = #list } end):to(OUT)
    end)
    append(items(1, 1500))
    append(items(1, 900))
    app:settle()
    assert.equal(900, #results())
    assert.equal(1024, get().keys)
    app = assert(app:crash())
    app:settle()
    assert.equal(1024, get().keys)
    append(items(901, 1500))
    app:settle()
    assert.equal(1500, #results())
  end)

  it("whose state is over its bound says which setting", function()
    open(function()
      source { attempts = 1 }:scan(function(text) return text .. ("x"):rep(1000) end, "")
        :select(function() return {} end):to(OUT)
    end, { settings = { stream_state_max = "4KiB" } })
    append(items(1, 10))
    app:advance("10s")
    assert.equal("failed", get().status)
    assert.matches("stream s: its state is over stream_state_max", get().error.message)
  end)

  it("with too many keys says which setting", function()
    open(function()
      source { attempts = 1 }:group_by("n"):scan(function() return 1 end, 0)
        :select(function() return {} end):to(OUT)
    end, { settings = { stream_keys_max = 5 } })
    append(items(1, 10))
    app:advance("10s")
    assert.matches("scan %(.-%) has state for 5 keys, which is stream_keys_max",
      get().error.message)
    assert.equal(5, #results())
  end)

  it("that keeps what cannot be stored says so", function()
    open(function()
      source { attempts = 1 }:scan(function() return { f = print } end, 0)
        :select(function() return {} end):to(OUT)
    end)
    append(items(1, 1))
    app:advance("10s")
    assert.matches("scan %(.*%): its state cannot be stored", get().error.message)
  end)

  it("sends commands and publishes as part of its commit", function()
    open(function()
      catga.command("Note", function(item)
        assert(catga.events.append("Out", { { type = "Made", data = item } }))
        return true
      end)
      source():to { send = "Note" }
      source { durable = "t" }:to("Copied")
    end)
    append(items(1, 3))
    app:settle()
    assert.equal(3, #results())
    assert.equal(3, #results "$type-Copied")
  end)

  it("gives whole events when asked, of categories and of everything", function()
    local seen = {}
    open(function()
      catga.stream({ category = "Shop", durable = "a", envelope = true })
        :each(function(e) seen[#seen + 1] = e.stream .. e.version .. e.type end)
      catga.stream({ all = true, durable = "b", envelope = true }):where(function(e)
        return e.type == "Y"
      end):each(function(e) seen[#seen + 1] = "all " .. e.stream end)
    end)
    append({ { type = "X", data = {} } }, "Shop-1")
    append({ { type = "Y", data = {} } }, "Other-1")
    app:settle()
    table.sort(seen)
    assert.same({ "Shop-10X", "all Other-1" }, seen)
  end)
end)

describe("new scripts", function()
  local function chain(factor, opts)
    return function()
      source(opts):select(function(v) return v.n * factor end):scan(add, 0)
        :select(function(sum) return { sum = sum } end):to(OUT)
    end
  end

  it("of the same shape go on with the state", function()
    open(chain(1))
    append(items(1, 3))
    app:settle()
    app = assert(app:crash(nil, chain(10)))
    append(items(4, 4))
    app:settle()
    assert.same({ sum = 46 }, results()[4])
  end)

  it("of another shape are refused, unless the version is raised", function()
    local function other(opts)
      return function()
        source(opts):select(n_of):where(function() return true end):scan(add, 0)
          :select(function(sum) return { sum = sum } end):to(OUT)
      end
    end
    open(chain(1))
    append(items(1, 3))
    app:settle()
    app = assert(app:crash(nil, other {}))
    app:settle()
    assert.equal("failed", get().status)
    assert.matches("raise `version` %(it is 1%)", get().error.message)
    app = assert(app:crash(nil, other { version = 2, after = "continue" }))
    append(items(4, 4))
    app:settle()
    assert.same({ { sum = 1 }, { sum = 3 }, { sum = 6 }, { sum = 4 } }, results())
    app = assert(app:crash(nil, chain(1))) -- The first one's state is still there.
    app:settle()
    assert.same({ sum = 10 }, results()[5])
  end)
end)
