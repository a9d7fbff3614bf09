--- Orders through policies, the outbox, inline and other routes, streams and subscriptions, each of
--- which fails now and then, under kills and reloads in the middle: each effect is there once.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

jit.off() -- Very many short lives.

local SEEDS = math.min(tonumber(os.getenv("CATGA_SEEDS") or "") or 8, 1000)
local ORDERS, KEYS = 12, 3

local SCRIPT = [[
local catga = require "catga"

local function perhaps(one_of) if math.random(one_of) == 1 then error("shaky") end end

local function record(stream, data)
  assert(catga.events.append(stream, { { type = "Did" .. stream, data = data } }))
end

catga.policy("shaky", { retry = { attempts = 3, backoff = "10ms", jitter = "none" } })

local function command(name, handle, fields)
  fields = fields or {}
  fields.name, fields.policy = name, "shaky"
  fields.handle = function(cmd)
    handle(cmd)
    perhaps(4)
    return true
  end
  catga.command(fields)
end

command("Place", function(order)
  assert(catga.enqueue("Charge", order, { group = "g" .. order.id % 3,
    delay = order.id % 4 == 0 and "1s" or nil }))
end)
command("Charge", function(order)
  assert(catga.publish("Charged", { id = order.id, key = order.id % 3 }))
  if math.random(4) == 1 then catga.sleep("20ms") end
  assert(catga.send("Nested", { id = order.id }))
  if math.random(6) == 1 then catga.sleep("6s") end
end, { order_by = { key = function(o) return o.id % 3 end }, bulkhead = { max = 3, queue = 100 },
  lock = { key = function(o) return o.id % 2 end }, timeout = "5s" })
command("Nested", function(one) record("Nested", one) end,
  { lock = { key = function() return "one" end, wait = "20s" } })
command("Inline", function(one) record("Inline", one) end)
command("Routed", function(one) record("Routed", one) end)
command("Ship", function(one) record("Ship", one) end)
command("Hedged", function(one)
  catga.sleep(math.random(40) .. "ms")
  assert(catga.publish("Confirmed", one))
end, { idempotent = true, hedge = "15ms" })
catga.command { name = "Batched", policy = "shaky", batch = { max = 3, wait = "10ms" },
  handle = function(list)
    local answers = {}
    for i, one in ipairs(list) do
      assert(catga.enqueue("Last", one))
      answers[i] = true
    end
    perhaps(4)
    return answers
  end }
command("Last", function(one) record("Last", one) end, { deduplicate = "id" })

catga.route("Charged", { name = "inline", inline = true }):to { command = "Inline" }
catga.route("Charged", { name = "command", attempts = 50 }):to { command = "Routed" }
catga.route("Charged", { name = "topic" }):to("Ready")
catga.route("Charged", { name = "message" }):to { command = "Hedged", enqueue = {} }
catga.route("Ready", { name = "pairs" }):aggregate { by = "key", complete = 2,
  timeout = "100d" }:to("Pair")
catga.on("Confirmed", { durable = "confirmed", attempts = 50 }, function(one)
  assert(catga.send("Batched", one))
  perhaps(4)
end)
catga.stream("Ready", { durable = "ships", attempts = 100, backoff = "10ms" }):group_by("key")
  :buffer(2):each(function(list)
    assert(catga.enqueue("Ship", { id = list[1].id, other = list[2].id }))
    assert(catga.publish("Shipping", {}))
    perhaps(4)
  end)
catga.stream("Shipping", { durable = "count" }):scan(function(n) return n + 1 end, 0)
  :to { append = "Counts", type = "Counted" }
-- generation ]]

local app, dir, generation

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local function write()
  generation = generation + 1
  app_dir.write(dir, "app.lua", SCRIPT .. generation)
end

local function reload()
  write()
  assert(app:call(function() return app.app:reload() end))
end

local function read(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream, { max = 1000 })) do
    list[i] = event.data
  end
  return list
end

local function ids(stream)
  local list = {}
  for i, one in ipairs(read(stream)) do list[i] = one.id end
  table.sort(list)
  return list
end

-- Kills in the middle, each with some of the newest records lost, and reloads.
local function be_rough(random)
  for _ = 1, 15 do
    local before = app:position()
    app:advance(random(2) == 1 and random(200) .. "ms" or random(10) .. "s")
    if random(2) == 1 then reload() end
    if random(3) > 1 then
      app = assert(app:crash(math.max(before, app:position() - random(0, 12))))
    end
  end
end

-- Lets all come to its end. What was killed three times while it ran is a dead letter.
local function finish()
  for _ = 1, 10 do
    app:advance("30m")
    for _, letter in ipairs(app:call(catga.dead_letters.list)) do
      assert(app:call(catga.dead_letters.retry, letter.id))
    end
  end
  assert.same({}, app:call(catga.outbox.list))
  assert.same({}, app:call(catga.dead_letters.list))
end

describe("a pipeline over all areas", function()
  for seed = 1, SEEDS do
    it("does each thing once, whatever fails and is killed: " .. seed, function()
      math.randomseed(seed)
      dir, generation = app_dir.new {}, 0
      write()
      app = assert(testing.app(dir, { settings = { outbox_attempts = 200,
        outbox_backoff = "100ms" } }))
      local all = {}
      for id = 1, ORDERS do
        all[id] = id
        repeat local placed = app:send("Place", { id = id }, { key = "k" .. id }) until placed
        if id % 4 == 0 then reload() end
      end
      be_rough(math.random)
      finish()
      for _, name in ipairs { "$type-Charged", "Nested", "Inline", "Routed", "$type-Ready",
        "$type-Confirmed", "Last" } do
        assert.same(all, ids(name), name)
      end
      local shipped = {}
      for _, one in ipairs(read "Ship") do
        assert.is_nil(shipped[one.id] or shipped[one.other])
        shipped[one.id], shipped[one.other] = true, true
      end
      assert.equal(ORDERS / 2, #read "Ship")
      assert.equal(ORDERS / 2, #read "$type-Pair")
      assert.same({ 1, 2, 3, 4, 5, 6 }, read "Counts")
      assert.equal(0, ORDERS % (2 * KEYS))
    end)
  end
end)
