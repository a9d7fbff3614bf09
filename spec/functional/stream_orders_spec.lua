--- Streams over a year of orders, in order, mixed up, and killed again and again: what comes out is
--- what a plain loop over the orders computes, each result once.
local orders = dofile "spec/support/stream.lua"
local testing = require "catga.testing"
local catga = require "catga"
local times = require "catga.time"

local KILLS = 100
local START_MS = 1767225600000
local MADE = 3000     -- Orders, when CATGA_ORDERS names no file.
local BATCH = 20      -- Events of one commit.
local APPEND = 500    -- Events of one append.

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function month_of(ms) return times.format(ms):sub(1, 7) end
local function day_of(ms) return times.format(ms):sub(1, 10) end

local function add(sum, order) return sum + order.amount end

-- Revenue by month, and sessions of customers; what is late goes to a stream of its own.
local function define(lateness)
  return function()
    local opts = { event_time = "date", lateness = lateness, batch = BATCH,
      checkpoint_events = BATCH }
    opts.durable = "revenue"
    catga.stream("OrderCreated", opts)
      :tumbling("month"):late("OrderLate"):reduce(add, 0)
      :select(function(sum, _, window) return { month = month_of(window.start), sum = sum } end)
      :to { append = "Revenue", type = "MonthClosed" }
    opts.durable = "sessions"
    catga.stream("OrderCreated", opts)
      :group_by("customer"):session("30d"):late(function(order)
        assert(catga.events.append("LateSessions", { { type = "Late", data = order } }))
      end)
      :each(function(list, customer, window)
        local sum = 0
        for _, order in ipairs(list) do sum = sum + order.amount end
        assert(catga.events.append("Sessions", { { type = "SessionClosed", data = {
          customer = customer, first = day_of(window.start), count = #list, amount = sum,
          last = assert(times.parse(list[#list].date)) } } }))
      end)
  end
end

local function append(list)
  app:call(function()
    for from = 1, #list, APPEND do
      local events = {}
      for i = from, math.min(from + APPEND - 1, #list) do
        events[#events + 1] = { type = "OrderCreated", data = list[i] }
      end
      assert(catga.events.append("Orders", events))
    end
  end)
end

local function events_of(stream) return app:call(catga.events.read, stream, { max = 100000 }) end

local function months()
  local found = {}
  for _, event in ipairs(events_of "Revenue") do
    assert(not found[event.data.month], "twice: " .. event.data.month)
    found[event.data.month] = event.data.sum
  end
  return found
end

local function sessions()
  local found = {}
  for _, event in ipairs(events_of "Sessions") do
    local d = event.data
    local key = d.customer .. " " .. d.first
    assert(not found[key], "twice: " .. key)
    found[key] = { count = d.count, amount = d.amount, last = d.last }
  end
  return found
end

-- Lets the last windows close: the sources are silent, so event time goes on by the clock.
local function close_all() app:advance("500d") end

local function check(list)
  assert.same(orders.months(list), months())
  assert.same(orders.sessions(list), sessions())
end

local function same_sets(a, b)
  local seen, count = {}, 0
  for _, one in ipairs(a) do
    assert(not seen[one.id], "twice: " .. one.id)
    seen[one.id], count = true, count + 1
  end
  for _, one in ipairs(b) do
    assert(seen[one.id], "neither late nor in a window: " .. one.id)
    count = count - 1
  end
  assert.equal(0, count)
end

describe("a year of orders", function()
  it("in order comes to what a plain loop computes", function()
    local list, is_real = orders.list(MADE)
    app = assert(testing.app(define("0s")))
    append(list)
    app:settle()
    assert.equal(0, #events_of("$type-OrderLate"))
    close_all()
    check(list)
    if is_real and #list == 18532 then
      local sum = 0
      for _, milli in pairs(months()) do sum = sum + milli end
      assert.equal(8911407904, sum)
    end
  end)

  it("mixed up comes to the same, as long as lateness waits for it", function()
    local list = orders.list(MADE)
    app = assert(testing.app(define("400d")))
    append(orders.shuffled(list, 3, #list))
    close_all()
    close_all()
    check(list)
    assert.equal(0, app:call(catga.streams.get, "revenue").late)
  end)

  it("too late goes to the side output, and is counted; nothing is lost", function()
    local list = orders.list(MADE)
    app = assert(testing.app(define("3d")))
    append(orders.shuffled(list, 4, math.floor(#list / 20)))
    close_all()
    local late = {}
    for i, event in ipairs(events_of "$type-OrderLate") do late[i] = event.data end
    assert.is_true(#late > 0)
    assert.equal(#late, app:call(catga.streams.get, "revenue").late)
    local is_late, rest = {}, {}
    for _, order in ipairs(late) do is_late[order.id] = true end
    for _, order in ipairs(list) do
      if not is_late[order.id] then rest[#rest + 1] = order end
    end
    assert.same(orders.months(rest), months())
    local in_sessions = {}
    for i, event in ipairs(events_of "LateSessions") do in_sessions[i] = event.data end
    local count = #in_sessions
    for _, one in pairs(sessions()) do count = count + one.count end
    assert.equal(#list, count)
    rest[#rest + 1] = nil
    for _, order in ipairs(late) do rest[#rest + 1] = order end
    same_sets(rest, list)
  end)
end)

describe("a year of orders, killed again and again", function()
  local jit_was_on

  setup(function()
    jit_was_on = jit.status()
    jit.off()
  end)

  teardown(function() if jit_was_on then jit.on() end end)

  -- How many results there are below a position.
  local function results_below(position)
    local count = 0
    for _, stream in ipairs { "Revenue", "Sessions" } do
      for _, event in ipairs(events_of(stream)) do
        if event.position < position then count = count + 1 end
      end
    end
    return count
  end

  -- What a kill has left, an hour later: every life turns the clock on by years.
  local function reopen(position, lateness, hours)
    local memory = app:snapshot(position)
    app:kill()
    app = assert(testing.app(define(lateness), { memory = memory,
      start = START_MS + hours * 3600000 }))
  end

  for name, lateness in pairs { ["in order"] = "0s", ["mixed up"] = "400d" } do
    it(("comes to the same, %s, nothing twice"):format(name), function()
      local list = orders.list(MADE)
      local input = lateness == "0s" and list or orders.shuffled(list, 5, #list)
      app = assert(testing.app(define(lateness)))
      append(input)
      close_all()
      close_all()
      check(list)
      local all = results_below(math.huge)
      -- Each life begins where a kill has ended the one before, a little further on.
      local die, kills = orders.die(11), 0
      app:stop()
      app = assert(testing.app(function() end))
      append(input)
      local first = app:position()
      reopen(first, lateness, 0)
      local position = first
      while kills < KILLS do
        close_all()
        close_all()
        local last = app:position()
        local left = KILLS - kills
        position = position + die(math.max(1, math.floor((last - position) * 2 / (left + 20))))
        if results_below(position) == all then break end -- A kill of what has ended does not count.
        kills = kills + 1
        reopen(position, lateness, kills)
      end
      assert.equal(KILLS, kills)
      close_all()
      close_all()
      check(list)
    end)
  end
end)
