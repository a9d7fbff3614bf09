--- What of each stream a scavenge would keep.
local testing = require "catga.testing"
local policies = require "catga.events.policy"
local dead_letters = require "catga.dead_letters"
local catga = require "catga"

local START = 1767225600000

local app

local function open(settings)
  app = assert(testing.app(function()
    catga.command { name = "C", idempotent = true, handle = function() return 1 end }
    local P = catga.process "P"
    function P:execute(input)
      self:a()
      if input == "stays" then self:sleep("9d") end
      return 1
    end
    function P.a() return 1 end
  end, { settings = settings }))
end

after_each(function() app:stop() end)

local function append(stream, count)
  for _ = 1, count do
    assert(app:call(catga.events.append, stream, { { type = "E" } }))
  end
end

local function set(target, fields) assert(app:call(catga.events.set_metadata, target, fields)) end

-- What is kept, as { first, since, kept, keeps_first }; nil: all.
local function of(name)
  return app:call(function()
    local first, since, kept, keeps_first = policies.new(app.app):of(name)
    return first and { first, since, kept, keeps_first }
  end)
end

describe("of a stream of events a scavenge keeps", function()
  it("all without metadata, and with metadata that hides nothing", function()
    open()
    append("S", 3)
    assert.is_nil(of "S")
    set("S", { tags = { "x" } })
    assert.is_nil(of "S")
    assert.is_nil(of "None")
  end)

  it("what reads show, and the last event", function()
    open()
    append("Order-1", 10)
    append("Order-2", 10)
    set("Order-1", { max_count = 4 })
    assert.same({ 6, 0, 9 }, of "Order-1")
    set("Order-1", { max_count = 4, truncate_before = 8 })
    assert.same({ 8, 0, 9 }, of "Order-1")
    set({ category = "Order" }, { max_age = "1h" })
    app:advance("3h")
    assert.same({ 10, 0, 9 }, of "Order-2")
    assert.same({ 10, 0, 9 }, of "Order-1")
    assert(app:call(catga.events.delete, "Order-2"))
    assert.same({ 10, 0, 9 }, of "Order-2")
  end)

  it("nothing when it was deleted for good", function()
    open()
    append("S", 3)
    assert(app:call(catga.events.delete, "S", { hard = true }))
    assert.same({ 2 ^ 53, 0, -1 }, of "S")
  end)
end)

describe("of the runtime's streams a scavenge keeps", function()
  it("the last metadata", function()
    open()
    for n = 1, 3 do set("S", { max_count = n }) end
    assert.same({ 2, 0, 2 }, of "$metadata-S")
    assert.is_nil(of "$metadata")
  end)

  it("what a subscription needs", function()
    open()
    local store = app.app.store
    local function add(kind, data)
      app:call(function()
        store:begin()
        assert(store:add(store:stream("$subscription-s", true), -1, kind, catga.json.encode(data),
          nil, 8))
        assert(store:commit())
      end)
    end
    add("SubscriptionMoved", { to = 1 })
    assert.is_nil(of "$subscription-s")
    add("SubscriptionCheckpoint", { from = 1 })
    assert.same({ 1, 0, 1 }, of "$subscription-s")
    for _ = 1, 250 do add("SubscriptionMoved", { to = 1 }) end
    assert.same({ 1, 0, 251 }, of "$subscription-s")
    add("SubscriptionCheckpoint", { from = 240 })
    add("SubscriptionMoved", { to = 1 })
    assert.same({ 240, 0, 253 }, of "$subscription-s")
  end)

  it("the state of a schedule, and the list of all", function()
    open()
    app:call(function()
      assert(catga.schedules.create("s", "@every 1s", "P"))
      assert(catga.schedules.create("t", "@yearly", "P"))
    end)
    assert.is_nil(of "$schedule-s")
    assert.is_nil(of "$schedules-all")
    assert.same({ 0, 0, 0 }, of "$scheduled-s")
    app:advance("120s")
    local _, _, last = unpack(of "$schedule-s")
    assert.is_true(last > 100)
    assert.same({ last - 99, 0, last }, of "$schedule-s")
    for _ = 1, 60 do
      assert(app:call(catga.schedules.create, "u", "@yearly", "P"))
      assert(app:call(catga.schedules.delete, "u"))
    end
    local first, _, kept = unpack(of "$schedules-all")
    assert.is_true(first > 90 and kept >= first)
  end)

  it("outcomes as long as the inbox knows them", function()
    open { inbox_window = "0s" }
    app:send("C", {}, { key = "k" })
    assert.is_nil(of "$outcome-C-k")
    app:stop()
    open { inbox_window = "2h" }
    app:send("C", {}, { key = "k" })
    app:advance("3h")
    assert.same({ 0, START + 3600000, -1 }, of "$outcome-C-k")
    local id = app:call(catga.enqueue, "C", {}, { key = "later", delay = "9h" })
    app:advance("4h")
    assert.is_nil(of "$outcome-C-later")
    assert.is_nil(of("$message-" .. id))
    app:advance("8h")
    assert.same({ 0, START + 13 * 3600000, -1 }, of "$outcome-C-later")
  end)

  it("messages and letters that are open, and closed ones for a time", function()
    open { outbox_retain = "2h", dead_letter_retain = "2h" }
    local id = app:call(catga.enqueue, "C", {})
    local waiting = app:call(catga.enqueue, "C", {}, { delay = "900d" })
    local letter = app:call(dead_letters.add, app.app, { kind = "route", source = "r",
      reason = "no", key = "k", data = 1 })
    local key = app:call(catga.events.streams, { prefix = "$letterkey-" })[1]
    app:advance("1h")
    assert.is_nil(of("$message-" .. id))
    app:advance("30d")
    assert.same({ 1, 0, 1 }, of("$message-" .. id))
    assert.is_nil(of("$message-" .. waiting))
    assert.is_nil(of("$letter-" .. letter))
    assert.is_nil(of(key))
    assert(app:call(catga.dead_letters.purge, letter))
    app:advance("3h")
    assert.same({ 2, 0, 2 }, of("$letter-" .. letter))
    assert.is_truthy(of(key))
  end)

  it("journals for ever, or the ends of those that ended long ago", function()
    open()
    app:run("P", "x")
    app:advance("900d")
    assert.is_nil(of "Process-x")
    app:stop()
    open { process_retain = "2h" }
    app:run("P", "x")
    app:start("P", "stays")
    app:settle()
    assert.is_nil(of "Process-x")
    app:advance("119m")
    assert.is_nil(of "Process-x")
    app:advance("1m")
    assert.same({ 2 ^ 53, 0, 2, true }, of "Process-x")
    assert.is_nil(of "Process-stays")
  end)

  it("all of what it does not know", function()
    open()
    local store = app.app.store
    app:call(function()
      for _, name in ipairs { "$parked-x", "$import-1", "$else", "$snapshots-1" } do
        for _ = 1, 2 do
          store:begin()
          assert(store:add(store:stream(name, true), -1, "E", "{}", nil, 8))
          assert(store:commit())
        end
      end
    end)
    for _, name in ipairs { "$parked-x", "$import-1", "$else", "$snapshots-1" } do
      assert.is_nil(of(name))
    end
  end)
end)

describe("of routes a scavenge keeps", function()
  it("what the last checkpoint needs, and the messages of the last group", function()
    app = assert(testing.app(function()
      catga.route("A", { name = "g" }):aggregate { by = "k", complete = 2 }:to("B")
    end))
    for n = 1, 7 do assert(app:publish("A", { k = n % 2, n = n })) end
    app:settle()
    assert.is_nil(of "$router-routes")
    assert.same({ 2, 0, 3 }, of "$gather-routes/g/1")
    for n = 1, 200 do
      assert(app:publish("A", { k = n % 20, n = n }))
      app:settle()
    end
    local records = app:call(catga.events.read, "$router-routes", { max = 10000 })
    local first
    for _, record in ipairs(records) do
      if record.type == "RouterCheckpoint" then first = record.version - record.data.parts end
    end
    assert.same({ first, 0, #records - 1 }, of "$router-routes")
    assert.equal("RouterPart", records[first + 1].type)
  end)
end)
