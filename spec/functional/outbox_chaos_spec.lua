--- The outbox under kills: at every record of a story, and at random under failures, delays, groups
--- and operators. No message that was committed is lost, none has its staged effect twice, groups
--- stay in order. CATGA_SEEDS sets how many seeds are tried, CATGA_SEED the only one.
local testing = require "catga.testing"
local catga = require "catga"
local random = require "catga.process.random"

local SEEDS = math.min(tonumber(os.getenv("CATGA_SEEDS") or 150), 5000)
local ONLY = tonumber(os.getenv("CATGA_SEED") or "")

-- A die of a seed: die(n) is 1 to n.
local function die_of(seed)
  local next_random = random.new(seed)
  for _ = 1, 10 do next_random() end
  return function(n) return math.floor(next_random() * n) + 1 end
end

local function read(app, stream)
  return app:call(catga.events.read, stream, { max = 10000 })
end

-- What messages the log of an app has, by number, and what came of each.
local function told_by(app)
  local told = { enqueued = {}, effects = {}, letters = {}, cancelled = {} }
  for _, name in ipairs(app:call(catga.events.streams, { prefix = "$message-", max = 10000 })) do
    local records = read(app, name)
    local data = records[1].data
    if data.kind == "command" then
      told.enqueued[data.data.n] = { id = name:sub(10), group = data.group, due = data.due or 0,
        position = records[1].position, status = records[#records].type }
      if records[#records].type == "MessageCancelled" then told.cancelled[data.data.n] = true end
    end
  end
  local effects = read(app, "Effects")
  for _, event in ipairs(effects) do
    assert(not told.effects[event.data.n], "the effect of " .. event.data.n .. " twice")
    told.effects[event.data.n] = event.position
  end
  told.order = effects
  local letters = app:call(catga.dead_letters.list, { max = 10000 })
  for _, letter in ipairs(letters) do
    local n = letter.data.n
    assert(not told.letters[n], "two letters of " .. n)
    told.letters[n] = letter
  end
  return told
end

-- Each message has come to exactly one end.
local function check_ends(told)
  for n, message in pairs(told.enqueued) do
    local ends = (told.effects[n] and 1 or 0) + (told.letters[n] and 1 or 0)
      + (told.cancelled[n] and 1 or 0)
    assert(ends == 1, ("message %d has %d ends (%s)"):format(n, ends, message.status))
  end
  for n in pairs(told.effects) do assert(told.enqueued[n], "an effect of nothing: " .. n) end
end

describe("a story of messages", function()
  local function define()
    catga.command("Place", function(cmd)
      assert(catga.events.append("Placed", { { type = "Placed", data = cmd } }))
      for n = cmd.n, cmd.n + 2 do
        assert(catga.enqueue("Do", { n = n, fails = n % 3 == 2 }, { group = "g",
          delay = n % 3 == 1 and "20s" or nil, attempts = 2, backoff = "5s" }))
      end
      return true
    end)
    catga.command("Do", function(cmd, ctx)
      if cmd.fails and (cmd.n ~= 5 or ctx.attempt == 1) then error("no") end
      catga.sleep("1s")
      assert(catga.events.append("Effects", { { type = "Effect", data = { n = cmd.n } } }))
    end)
  end

  it("comes to the same end wherever the program is killed", function()
    local app = assert(testing.app(define))
    local first = app:position()
    for n = 0, 3, 3 do assert(app:send("Place", { n = n })) end
    app:advance("2m")
    local last = app:position()
    app:stop()
    assert.is_true(last - first >= 20)
    local kills = 0
    for position = first, last do
      app = assert(testing.app(define))
      for n = 0, 3, 3 do assert(app:send("Place", { n = n })) end
      app:advance("2m")
      app = assert(app:crash(position))
      app:advance("5m")
      local told = told_by(app)
      check_ends(told)
      local placed = read(app, "Placed")
      local count = 0
      for n in pairs(told.enqueued) do
        count = count + 1
        assert.equal(n == 2, told.letters[n] ~= nil, "killed at " .. position)
      end
      assert.equal(#placed * 3, count, "killed at " .. position)
      kills = kills + 1
      app:stop()
    end
    assert.is_true(kills > 20)
  end)
end)

-- What the handler does with a message, by the mood of the world.
local function handler(world)
  return function(cmd, ctx)
    local group = cmd.group
    if group then
      assert(not world.busy[group], "two at once of group " .. group)
      world.busy[group] = true
    end
    local ok, failure = pcall(function()
      local what = world.is_calm and 1 or world.die(12)
      if what == 2 then catga.sleep(world.die(40) * 100 .. "ms") end
      if what == 3 then error("before") end
      assert(catga.events.append("Effects", { { type = "Effect", data = { n = cmd.n } } }))
      if what == 4 then error("behind") end
      if what == 5 then catga.sleep(world.die(80) * 100 .. "ms") end
      if what == 6 then error(catga.error("refused")) end
      if what == 7 then world.n = world.n + 1
        assert(catga.enqueue("Do", { n = world.n, group = group }, { group = group })) end
    end)
    if group then world.busy[group] = nil end
    world.attempts[cmd.n] = math.max(world.attempts[cmd.n] or 0, ctx.attempt)
    if not ok then error(failure, 0) end
  end
end

local function define(world)
  return function() catga.command("Do", handler(world)) end
end

local function enqueue(world, app)
  local die = world.die
  app:call(function()
    for _ = 1, die(3) do
      world.n = world.n + 1
      local group = die(3) > 1 and "g" .. die(2) or nil
      assert(catga.enqueue("Do", { n = world.n, group = group }, { group = group,
        delay = die(4) == 1 and die(100) * 100 .. "ms" or nil, attempts = die(3),
        backoff = die(2) .. "s", timeout = die(5) == 1 and "3s" or nil,
        priority = not group and die(4) == 1 and "high" or nil }))
    end
  end)
end

-- What an operator does.
local function operate(world, app)
  local list = app:call(catga.outbox.list)
  local one = list[1] and list[world.die(#list)]
  local what = world.die(4)
  if one and what == 1 then
    app:call(catga.outbox.cancel, one.id)
  elseif one and what == 2 then
    app:call(catga.outbox.retry, one.id)
  elseif what == 3 then
    local letters = app:call(catga.dead_letters.list)
    local letter = letters[1] and letters[world.die(#letters)]
    if letter then app:call(catga.dead_letters.retry, letter.id) end
  else
    assert(app:call(catga.dead_letters.retry, { kind = "message" }))
  end
end

local function crash(world, app)
  local last = app:position()
  local position = world.die(3) == 1 and math.max(1, last - world.die(12)) or last
  world.busy = {}
  return assert(app:crash(position))
end

-- Effects of one group that were never delayed, retried as letters or given another turn are in the
-- order of their messages.
local function check_order(told)
  local last = {}
  for _, event in ipairs(told.order) do
    local message = told.enqueued[event.data.n]
    if message.group and message.due == 0 and not message.was_letter then
      local before = last[message.group] or 0
      assert(message.position > before, "out of order: " .. event.data.n)
      last[message.group] = message.position
    end
  end
end

local function run(seed)
  local world = { seed = seed, die = die_of(seed), busy = {}, attempts = {}, n = 0 }
  local settings = { outbox_concurrency = world.die(5) }
  local app = assert(testing.app(define(world), { settings = settings }))
  local is_retried = false
  for _ = 1, 10 + world.die(20) do
    local what = world.die(10)
    if what <= 4 then
      enqueue(world, app)
    elseif what <= 7 then
      app:advance(world.die(60) * 100 .. "ms")
    elseif what == 8 then
      operate(world, app)
      is_retried = true
    else
      app = crash(world, app)
    end
  end
  world.is_calm = true
  app:advance("10m")
  local told = told_by(app)
  check_ends(told)
  if not is_retried then check_order(told) end
  assert(app:call(catga.dead_letters.retry, { all = true }))
  app:advance("10m")
  told = told_by(app)
  check_ends(told)
  assert.equal(nil, next(told.letters))
  assert.same({}, app:call(catga.outbox.list))
  app:stop()
end

describe("an outbox", function()
  it("loses nothing and does nothing twice, whatever happens", function()
    for seed = ONLY or 1, ONLY or SEEDS do
      local ok, failure = pcall(run, seed)
      if not ok then
        error(("seed %d (CATGA_SEED=%d): %s"):format(seed, seed, tostring(failure.message
          or failure)), 0)
      end
    end
  end)
end)
