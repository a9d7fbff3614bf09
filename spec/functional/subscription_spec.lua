--- Subscriptions with a name: their checkpoints survive, and what fails is parked.
local testing = require "catga.testing"
local catga = require "catga"

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

local function get(name) return app.app.subscriptions:get(name) end

-- The numbers of the events of a stream.
local function stream_numbers(stream)
  return app:call(function()
    local list = {}
    for i, event in ipairs(catga.events.read(stream, { max = 10000 })) do list[i] = event.data.n end
    return list
  end)
end

-- How often each record type is in a stream of the runtime.
local function records(stream)
  local counts = {}
  for _, record in ipairs(app:call(function()
    return catga.events.read(stream, { max = 10000 })
  end)) do
    counts[record.type] = (counts[record.type] or 0) + 1
  end
  return counts
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- An app whose subscription copies what it sees into a stream.
local function copier(opts)
  return function()
    opts = opts or {}
    opts.durable = "copier"
    catga.on("Counted", opts, function(event, ctx)
      assert(catga.events.append("Copy-1", { { type = "Copied", data = { n = event.n,
        from = ctx.position } } }))
    end)
  end
end

describe("a subscription with a name", function()
  it("goes on where it was after a restart", function()
    open(copier())
    numbers("Numbers-1", 1, 3)
    app:settle()
    assert.same(range(1, 3), stream_numbers("Copy-1"))
    app = app:crash()
    app:settle()
    numbers("Numbers-1", 4, 5)
    app:settle()
    assert.same(range(1, 5), stream_numbers("Copy-1"))
    local one = get("copier")
    assert.equal("running", one.status)
    assert.equal(0, one.lag)
  end)

  it("has the effects of every event exactly once, wherever a crash comes", function()
    open(copier())
    numbers("Numbers-1", 1, 6)
    app:settle()
    local last = app:position()
    for position = 1, last do
      local snapshot = app:snapshot(position)
      local other = assert(testing.app(copier(), { memory = snapshot }))
      local count = #other:call(catga.events.read, "Numbers-1")
      local copies = other:call(catga.events.read, "Copy-1")
      assert.equal(count, #copies)
      for i, copy in ipairs(copies) do assert.equal(i, copy.data.n) end
      other:stop()
    end
  end)

  it("records what it only read now and then, and at a stop", function()
    local seen = {}
    local function define()
      catga.events.subscribe { name = "reader", types = { "Counted" }, checkpoint_events = 10,
        checkpoint_delay = "5s", handle = function(event) seen[#seen + 1] = event.n end }
    end
    open(define)
    numbers("Numbers-1", 1, 9)
    app:settle()
    assert.is_nil(records("$subscription-reader").SubscriptionMoved)
    numbers("Numbers-1", 10, 10)
    app:settle()
    assert.equal(1, records("$subscription-reader").SubscriptionMoved)
    numbers("Numbers-1", 11, 12)
    app:advance("4s")
    assert.equal(1, records("$subscription-reader").SubscriptionMoved)
    app:advance("2s")
    assert.equal(2, records("$subscription-reader").SubscriptionMoved)
    app:advance("1h")
    assert.equal(2, records("$subscription-reader").SubscriptionMoved)
    app = app:crash()
    app:settle()
    assert.same(range(1, 12), seen)
    numbers("Numbers-1", 13, 14)
    app = app:crash()
    app:settle()
    assert.same({ 13, 14, 13, 14 }, { unpack(seen, 13) })
  end)

  it("moves its checkpoint past what it does not want", function()
    open(function()
      catga.on("Wanted", { durable = "picky" }, function() end)
    end)
    app:call(function()
      local events = {}
      for i = 1, 500 do events[i] = { type = "Unwanted", data = { n = i } } end
      for _ = 1, 45 do assert(catga.events.append("Many", events)) end
    end)
    app:settle()
    assert.equal(0, get("picky").lag)
    local moved = records("$subscription-picky").SubscriptionMoved
    assert.is_true(moved >= 1 and moved <= 3)
  end)

  it("begins at the end when it is new and told so, and only then", function()
    local seen = {}
    local function define()
      catga.events.subscribe { name = "late", after = "end", types = { "Counted" },
        handle = function(event) seen[#seen + 1] = event.n end }
    end
    open(function() end)
    numbers("Numbers-1", 1, 3)
    app = app:crash(nil, define)
    numbers("Numbers-1", 4, 5)
    app = app:crash(nil, function() end)
    numbers("Numbers-1", 6, 7)
    app = app:crash(nil, define)
    app:settle()
    assert.same({ 4, 5, 4, 5, 6, 7 }, seen)
  end)

  it("parks what fails in the end, lists it, and delivers it again", function()
    local is_broken = true
    local function define()
      catga.on("Counted", { durable = "mailer", attempts = 2, backoff = "1s" },
        function(event)
          assert(catga.events.append("Mail-1", { { type = "Sent", data = { n = event.n } } }))
          if is_broken and event.n % 2 == 0 then error("no mail for " .. event.n) end
        end)
    end
    open(define)
    numbers("Numbers-1", 1, 5)
    app:advance("10s")
    assert.same({ 1, 3, 5 }, stream_numbers("Mail-1"))
    assert.equal(2, get("mailer").parked)
    assert.truthy(get("mailer").last_error.message:find("no mail for 4", 1, true))
    app = app:crash()
    app:advance("10s")
    assert.same({ 1, 3, 5 }, stream_numbers("Mail-1"))
    local list = app:call(catga.subscriptions.parked, "mailer")
    assert.equal(2, #list)
    assert.equal("Numbers-1", list[1].stream)
    assert.equal(1, list[1].version)
    assert.equal("Counted", list[1].type)
    assert.equal(2, list[1].attempts)
    assert.truthy(list[1].error.message:find("no mail for 2", 1, true))
    assert.equal(1, #app:call(catga.subscriptions.parked, "mailer", { after = list[1].position }))
    -- Again, and it fails again.
    assert.equal(1, app:call(catga.subscriptions.replay, "mailer", list[1].position))
    app:advance("10s")
    assert.equal(2, get("mailer").parked)
    is_broken = false
    assert.equal(1, app:call(catga.subscriptions.replay, "mailer", list[1].position))
    app:advance("10s")
    assert.same({ 1, 3, 5, 2 }, stream_numbers("Mail-1"))
    assert.equal(1, app:call(catga.subscriptions.drop, "mailer", "all"))
    assert.equal(0, get("mailer").parked)
    local count, err = app:call(catga.subscriptions.drop, "mailer", list[2].position)
    assert.is_nil(count)
    assert.equal("not_found", err.code)
    app = app:crash()
    app:advance("10s")
    assert.equal(0, get("mailer").parked)
    assert.same({ 1, 3, 5, 2 }, stream_numbers("Mail-1"))
  end)

  it("does not try again what cannot succeed", function()
    local attempts = 0
    open(function()
      catga.on("Counted", { durable = "strict" }, function()
        attempts = attempts + 1
        return nil, catga.error("refused", "never")
      end)
    end)
    numbers("Numbers-1", 1, 1)
    app:advance("1h")
    assert.equal(1, attempts)
    assert.equal(1, get("strict").parked)
  end)

  it("counts attempts over a crash", function()
    local attempts = {}
    open(function()
      catga.on("Counted", { durable = "flaky", attempts = 4, backoff = "1m" }, function(_, ctx)
        attempts[#attempts + 1] = ctx.attempt
        error("no")
      end)
    end)
    numbers("Numbers-1", 1, 1)
    app:settle()
    app = app:crash()
    app:settle()
    app = app:crash()
    app:advance("1h")
    assert.same({ 1, 2, 3, 4 }, attempts)
    assert.equal(1, get("flaky").parked)
  end)

  it("stops at a failure when that is asked for, and goes on when it is resumed", function()
    local is_broken, seen = true, {}
    open(function()
      catga.on("Counted", { durable = "exact", attempts = 2, backoff = "1s", on_failure = "stop" },
        function(event)
          if is_broken and event.n == 2 then error("two") end
          seen[#seen + 1] = event.n
        end)
    end)
    numbers("Numbers-1", 1, 4)
    app:advance("1m")
    assert.same({ 1 }, seen)
    local one = get("exact")
    assert.equal("failed", one.status)
    assert.equal("Counted", one.error.type)
    is_broken = false
    assert.is_true(app:call(catga.subscriptions.resume, "exact"))
    app:settle()
    assert.same(range(1, 4), seen)
    assert.equal("running", get("exact").status)
    assert.is_nil(get("exact").error)
  end)

  it("stops when too much is parked", function()
    open(function()
      catga.on("Counted", { durable = "full", parked_max = 2, attempts = 1 }, function(event)
        if event.n < 10 then error("no") end
      end)
    end)
    numbers("Numbers-1", 1, 3)
    app:settle()
    assert.equal("failed", get("full").status)
    assert.equal("limit", get("full").error.code)
    assert.equal(2, app:call(catga.subscriptions.drop, "full", "all"))
    app:call(catga.subscriptions.resume, "full")
    numbers("Numbers-1", 10, 11)
    app:settle()
    assert.equal("running", get("full").status)
    assert.equal(1, get("full").parked)
    assert.equal(0, get("full").lag)
  end)

  it("pauses, also over a restart", function()
    local seen = {}
    open(function()
      catga.on("Counted", { durable = "calm" }, function(event) seen[#seen + 1] = event.n end)
    end)
    numbers("Numbers-1", 1, 2)
    app:settle()
    app:call(catga.subscriptions.pause, "calm")
    numbers("Numbers-1", 3, 4)
    app:settle()
    assert.same({ 1, 2 }, seen)
    app:advance("10s")
    app = app:crash()
    app:settle()
    assert.equal("paused", get("calm").status)
    assert.same({ 1, 2 }, seen)
    app:call(catga.subscriptions.resume, "calm")
    app:settle()
    assert.same(range(1, 4), seen)
  end)

  it("stays paused though it has failed, and its checkpoint says so", function()
    open(function()
      catga.on("Counted", { durable = "both", on_failure = "stop", attempts = 1 }, function()
        error("no")
      end)
    end)
    numbers("Numbers-1", 1, 1)
    app:settle()
    assert.equal("failed", get("both").status)
    app:call(catga.subscriptions.pause, "both")
    assert.equal("failed", get("both").status)
    local runner = app.app.subscriptions.runners.both
    runner.increments = 1000
    app:call(runner.save, runner)
    app = app:crash()
    app:settle()
    assert.equal("paused", get("both").status)
    app:call(catga.subscriptions.resume, "both")
    app:settle()
    assert.equal("failed", get("both").status)
  end)

  it("waits for a full disk without counting attempts", function()
    local attempts = {}
    open(function()
      catga.on("Counted", { durable = "patient", attempts = 2 }, function(_, ctx)
        attempts[#attempts + 1] = ctx.attempt
        if #attempts < 5 then return nil, catga.error("disk_full", "no space left") end
      end)
    end)
    numbers("Numbers-1", 1, 1)
    app:advance("1m")
    assert.same({ 1, 1, 1, 1, 1 }, attempts)
    assert.equal(0, get("patient").parked)
    assert.equal(0, get("patient").lag)
  end)

  it("does not hold up a stop when it is being reset", function()
    open(function()
      catga.on("Counted", { durable = "slow", ack_timeout = "2h" }, function()
        catga.sleep("1h")
      end)
    end)
    numbers("Numbers-1", 1, 1)
    app:settle()
    local answer
    app:call(function()
      catga.spawn(function() answer = { catga.subscriptions.reset("slow", "start") } end)
    end)
    app:advance("1s")
    assert.is_nil(answer)
    assert.equal(1, get("slow").in_flight)
    assert(app:stop())
    app = nil
    assert.is_not_nil(answer)
  end)

  it("takes an error of a handler for nothing else, whatever its code", function()
    open(function()
      catga.on("Counted", { durable = "coded" }, function(event)
        return nil, catga.error(event.n == 1 and "closed" or "failed")
      end)
    end)
    numbers("Numbers-1", 1, 2)
    app:settle()
    assert.equal(2, get("coded").parked)
    assert.equal(0, get("coded").in_flight)
    assert.equal(0, get("coded").lag)
  end)

  it("stops when an event can neither be handled nor parked", function()
    local commits = require "catga.commit"
    local commit = commits.records
    open(function()
      catga.on("Counted", { durable = "stuck", attempts = 1 }, function() error("no") end)
    end)
    commits.records = function() return false, catga.error("io_error", "the disk is gone") end
    numbers("Numbers-1", 1, 1)
    app:settle()
    commits.records = commit
    assert.equal("failed", get("stuck").status)
    assert.equal("io_error", get("stuck").error.code)
    app:call(catga.subscriptions.resume, "stuck")
    app:settle()
    assert.equal(1, get("stuck").parked)
  end)

  it("lets its handler end at a stop, and records then what it has read", function()
    local dir = os.tmpname()
    os.remove(dir)
    local seen = {}
    local function define()
      catga.on("Counted", { durable = "last", checkpoint_delay = "1h" }, function(event)
        if event.n == 3 then catga.sleep("2s") end
        seen[#seen + 1] = event.n
      end)
    end
    open(define, { data = dir })
    numbers("Numbers-1", 1, 4)
    app:settle()
    assert.same({ 1, 2 }, seen)
    assert(app:stop())
    assert.same({ 1, 2, 3 }, seen)
    open(define, { data = dir })
    app:settle()
    assert.same({ 1, 2, 3, 4 }, seen)
    os.execute("rm -rf " .. dir)
  end)

  it("begins again where it is reset to", function()
    local seen = {}
    open(function()
      catga.on("Counted", { durable = "again" }, function(event) seen[#seen + 1] = event.n end)
    end)
    numbers("Numbers-1", 1, 4)
    app:settle()
    assert.is_true(app:call(catga.subscriptions.reset, "again", "start"))
    app:settle()
    assert.same({ 1, 2, 3, 4, 1, 2, 3, 4 }, seen)
    local _, err = app:call(catga.subscriptions.reset, "again", 1000)
    assert.equal("invalid", err.code)
    app:call(catga.subscriptions.reset, "again", "end")
    app = app:crash()
    app:settle()
    assert.equal(8, #seen)
    assert.equal("not_found", select(2, app:call(catga.subscriptions.pause, "agan")).code)
    assert.truthy(select(2, app:call(catga.subscriptions.pause, "agan")).message:find("again?", 1,
      true))
  end)

  it("does not read all its records to begin", function()
    open(copier())
    numbers("Numbers-1", 1, 400)
    app:settle()
    local counts = records("$subscription-copier")
    assert.is_true(counts.SubscriptionCheckpoint >= 2)
    local journal = require "catga.subscription.journal"
    local state = journal.load(app.app.store, "copier")
    assert.is_true(state.increments < 250)
    app = app:crash()
    app:settle()
    assert.same(range(1, 400), stream_numbers("Copy-1"))
  end)

  it("tells one handler from another by its key, the same for all attempts", function()
    local keys = {}
    open(function()
      for _, name in ipairs { "a", "b" } do
        catga.on("Counted", { durable = name, backoff = "1s" }, function(_, ctx)
          keys[#keys + 1] = ctx.key
          if ctx.attempt == 1 then error("once more") end
        end)
      end
    end)
    numbers("Numbers-1", 1, 1)
    app:advance("1m")
    table.sort(keys)
    assert.equal(4, #keys)
    assert.equal(keys[1], keys[2])
    assert.equal(keys[3], keys[4])
    assert.not_equal(keys[2], keys[3])
  end)

  it("is an error at load when its name is taken, or misspelt options", function()
    local function failure(define)
      local opened, err = testing.app(define)
      assert.is_nil(opened)
      return err.message
    end
    assert.truthy(failure(function()
      catga.on("A", { durable = "one" }, function() end)
      catga.on("B", { durable = "one" }, function() end)
    end):find("there is a subscription one already, at .*subscription_spec.lua"))
    assert.truthy(failure(function()
      catga.on("A", { durabel = "one" }, function() end)
    end):find("options need durable"))
    assert.truthy(failure(function()
      catga.events.subscribe { handle = function() end }
    end):find("needs a name"))
    assert.truthy(failure(function()
      catga.on("A", { durable = "a b" }, function() end)
    end):find("letters, digits"))
  end)
end)
