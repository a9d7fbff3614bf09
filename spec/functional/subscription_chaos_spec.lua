--- Groups under random failures, answers, operators and crashes: every effect once, no stream out
--- of order, nothing lost. CATGA_SEEDS sets how many seeds are tried, CATGA_SEED the only one.
local testing = require "catga.testing"
local catga = require "catga"
local random = require "catga.process.random"
local journal = require "catga.subscription.journal"

local SEEDS = math.min(tonumber(os.getenv("CATGA_SEEDS") or 200), 5000)
local ONLY = tonumber(os.getenv("CATGA_SEED") or "")
local STREAMS = 4

-- A die of a seed: die(n) is 1 to n.
local function die_of(seed)
  local next_random = random.new(seed)
  for _ = 1, 10 do next_random() end
  return function(n) return math.floor(next_random() * n) + 1 end
end

-- What the handler does with an event, by the mood of the world.
local function handler(world)
  return function(event, ctx)
    local stream = ctx.stream
    assert(not world.busy[stream] or world.order == "none", "two at once of " .. stream)
    world.busy[stream] = true
    local ok, failure = pcall(function()
      local what = world.is_calm and 1 or world.die(14)
      if what == 2 then catga.sleep(world.die(40) * 100 .. "ms") end
      if what == 3 then error("before") end
      assert(catga.events.append("Effects-" .. stream, { { type = "Effect",
        data = { n = event.n } } }))
      if what == 4 then error("behind") end
      if what == 5 then catga.sleep(world.die(40) * 100 .. "ms") end
      if what == 6 then ctx:retry(world.die(30) .. "s") end
      if what == 7 then ctx:park("disliked") end
      if what == 8 then error(catga.error("refused")) end
      if what == 9 then
        assert(catga.events.append("More", { { type = "Effect", data = { n = event.n } } }))
      end
    end)
    world.busy[stream] = nil
    if not ok then error(failure, 0) end
  end
end

local function definition(world)
  return function()
    catga.events.subscribe { name = "chaos", types = { "Made" }, buffer = world.buffer,
      checkpoint_events = world.die(5), checkpoint_delay = "2s", checkpoint_records = 1,
      attempts = 3, backoff = "1s",
      group = { consumers = world.consumers, order = world.order, ack_timeout = "3s",
        park_blocks = world.blocks }, handle = not world.is_external and handler(world) or nil }
  end
end

local function new_world(seed, is_external)
  local die = die_of(seed)
  local order = die(3) == 1 and "none" or "stream"
  return { seed = seed, die = die, busy = {}, n = 0, order = order, is_external = is_external,
    blocks = order == "stream" and die(3) == 1, consumers = die(4), buffer = die(12) + 3,
    tokens = {}, acked = {}, maybe = {} }
end

local function make(world, app)
  local stream = "S-" .. world.die(STREAMS)
  local events = {}
  for i = 1, world.die(3) do
    world.n = world.n + 1
    events[i] = { type = "Made", data = { n = world.n } }
  end
  app:call(function() assert(catga.events.append(stream, events)) end)
end

-- What an operator does.
local function operate(world, app)
  local what = world.die(6)
  app:call(function()
    if what == 1 then
      catga.subscriptions.pause("chaos")
    elseif what == 2 then
      assert(catga.subscriptions.replay("chaos", "all"))
    elseif what == 3 then
      local list = assert(catga.subscriptions.parked("chaos", { max = 5 }))
      if list[1] and not list[1].replaying then
        assert(catga.subscriptions.replay("chaos", list[1].position))
      end
    else
      assert(catga.subscriptions.resume("chaos"))
    end
  end)
end

-- The state that all records together tell, without the short cut of the checkpoints: these only
-- say that more is done.
local function told_by_all(app)
  local told = { to = 0, done = {}, parked = {}, attempts = {}, paused = false }
  local records = app:call(catga.events.read, "$subscription-chaos", { max = 100000 })
  for _, record in ipairs(records) do
    local kind, data = record.type, record.data
    told.to = math.max(told.to, data.to or 0)
    for _, position in ipairs(data.done or {}) do told.done[position] = true end
    for _, position in ipairs(data.positions or {}) do
      if kind == "SubscriptionReplayed" then told.parked[position].replaying = true end
      if kind == "SubscriptionUnparked" then told.parked[position] = nil end
    end
    if kind == "SubscriptionFailed" then told.attempts[data.position] = data.attempts end
    if kind == "SubscriptionPaused" then told.paused = data.paused end
    if kind == "SubscriptionParked" then
      told.parked[data.position], told.done[data.position] = { at = data.at }, true
      told.attempts[data.position] = nil
    end
  end
  for position in pairs(told.done) do
    if position <= told.to then told.done[position] = nil end
    if not told.parked[position] then told.attempts[position] = nil end
  end
  for position in pairs(told.attempts) do
    if position <= told.to and not told.parked[position] then told.attempts[position] = nil end
  end
  return told
end

local function check_state(app)
  local state = journal.load(app.app.store, "chaos")
  state.is_new, state.increments = nil, nil
  assert.same(told_by_all(app), state)
end

-- Ends as a kill would, some time ago; what was made, or acknowledged, later is forgotten with it.
local function crash(world, app)
  local last = app:position()
  local position = world.die(3) == 1 and math.max(1, last - world.die(12)) or last
  world.busy, world.tokens = {}, {}
  for n, acked in pairs(world.acked) do
    if acked.below > position then
      world.acked[n] = nil
      world.maybe[n] = acked.from < position -- Its record is the last one, or is not there.
    end
  end
  check_state(app)
  local before = assert(testing.app(function() end, { memory = app:snapshot(position) }))
  check_state(before)
  before:stop()
  return assert(app:crash(position, definition(world)))
end

-- All numbers of the events that the log has, as a set, in the streams that begin so.
local function made(app)
  local count = 0
  local numbers = {}
  for i = 1, STREAMS do
    for _, event in ipairs(app:call(catga.events.read, "S-" .. i, { max = 10000 })) do
      numbers[event.data.n] = event.stream
      count = count + 1
    end
  end
  return numbers, count
end

local function settle_calm(app)
  app:call(function() assert(catga.subscriptions.resume("chaos")) end)
  app:advance("10m")
end

local function check_effects(world, app, parked)
  local numbers, count = made(app)
  local seen, done = {}, 0
  for i = 1, STREAMS do
    local last = 0
    for _, event in ipairs(app:call(catga.events.read, "Effects-S-" .. i, { max = 10000 })) do
      local n = event.data.n
      assert(numbers[n] == "S-" .. i, "an effect of nothing: " .. n)
      assert(not seen[n], "the effect of " .. n .. " twice")
      seen[n], done = true, done + 1
      if world.blocks then assert(n > last, "out of order: " .. n .. " behind " .. last) end
      last = n
    end
  end
  for _, one in ipairs(parked) do
    local event = app:call(catga.events.read, one.stream, { from = one.version, max = 1 })[1]
    assert(not seen[event.data.n], "parked and done: " .. event.data.n)
  end
  assert.equal(count, done + #parked)
end

local function check_end(world, app)
  world.is_calm = true
  settle_calm(app)
  local status = app.app.subscriptions:get("chaos")
  assert.equal("running", status.status)
  local parked = app:call(catga.subscriptions.parked, "chaos", { max = 10000 })
  if not world.blocks then
    assert.equal(0, status.lag)
    check_effects(world, app, parked)
  end
  app:call(function() assert(catga.subscriptions.replay("chaos", "all")) end)
  app:advance("10m")
  assert.equal(0, app.app.subscriptions:get("chaos").lag)
  assert.equal(0, app.app.subscriptions:get("chaos").parked)
  check_effects(world, app, {})
end

local function run(seed)
  local world = new_world(seed)
  local app = assert(testing.app(definition(world)))
  for _ = 1, 10 + world.die(20) do
    local what = world.die(10)
    if what <= 5 then
      make(world, app)
    elseif what <= 7 then
      app:advance(world.die(60) * 100 .. "ms")
    elseif what == 8 then
      operate(world, app)
    else
      app = crash(world, app)
    end
  end
  check_end(world, app)
  app:stop()
end

-- Takes events as a program outside would, and answers some of those it has, some too late.
local function consume(world, app)
  local taken, err = app:call(catga.subscriptions.take, "chaos", world.die(4))
  if not taken then return assert.equal("closed", err.code) end
  for _, event in ipairs(taken) do
    assert(not world.acked[event.data.n], "delivered though acknowledged: " .. event.data.n)
    table.insert(world.tokens, event)
  end
  for _ = 1, world.die(4) do
    local event = world.tokens[1] and table.remove(world.tokens, world.die(#world.tokens))
    local what = world.is_calm and 1 or world.die(6)
    if event and what <= 3 then
      local from = app:position()
      local ok, fault = app:call(catga.subscriptions.ack, "chaos", event.token)
      assert(ok or fault.code == "not_found")
      if ok then
        assert(not world.acked[event.data.n], "acknowledged twice: " .. event.data.n)
        world.acked[event.data.n] = { from = from, below = app:position() }
      end
    elseif event and what == 4 then
      app:call(catga.subscriptions.retry, "chaos", event.token, "1s")
    elseif event and what == 5 then
      app:call(catga.subscriptions.park, "chaos", event.token)
    end
  end
end

local function run_external(seed)
  local world = new_world(seed, true)
  local app = assert(testing.app(definition(world)))
  for _ = 1, 10 + world.die(30) do
    local what = world.die(12)
    if what <= 4 then
      make(world, app)
    elseif what <= 8 then
      consume(world, app)
    elseif what == 9 then
      app:advance(world.die(60) * 100 .. "ms")
    elseif what == 10 then
      operate(world, app)
    else
      app = crash(world, app)
    end
  end
  world.is_calm = true
  settle_calm(app)
  for _ = 1, 1000 do
    app:call(function() assert(catga.subscriptions.replay("chaos", "all")) end)
    consume(world, app)
    app:advance("5s")
    local status = app.app.subscriptions:get("chaos")
    if status.lag == 0 and status.parked == 0 then break end
  end
  local numbers, count = made(app)
  for n in pairs(numbers) do
    assert(world.acked[n] or world.maybe[n], "never acknowledged: " .. n)
    count = count - 1
  end
  assert.equal(0, count)
  app:stop()
end

describe("a group of subscribers", function()
  for name, one in pairs { ["in the program"] = run, ["outside of it"] = run_external } do
    it(name .. " loses nothing and does nothing twice, whatever happens", function()
      for seed = ONLY or 1, ONLY or SEEDS do
        local ok, failure = pcall(one, seed)
        if not ok then
          error(("seed %d (CATGA_SEED=%d): %s"):format(seed, seed, tostring(failure.message
            or failure)), 0)
        end
      end
    end)
  end
end)
