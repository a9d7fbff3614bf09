--- The records of a subscription: checkpoints hold all that the records before them say.
local testing = require "catga.testing"
local catga = require "catga"
local commits = require "catga.commit"
local journal = require "catga.subscription.journal"

local app

local function define()
  catga.events.subscribe { name = "one", types = { "Made" }, group = { order = "none" } }
end

local function make(count)
  app:call(function()
    for n = 1, count do
      assert(catga.events.append("S-1", { { type = "Made", data = { n = n } } }))
    end
  end)
end

local function runner() return app.app.subscriptions.runners.one end

local function load()
  local state = journal.load(app.app.store, "one")
  return state
end

local function checkpoint()
  local of = runner()
  of.increments = 1000
  app:call(of.save, of)
  local stream = app.app.store:stream("$subscription-one")
  local last = app.app.store:read(stream, app.app.store:count(stream) - 1, 1)[1]
  assert.equal("SubscriptionCheckpoint", last.type)
end

local function ack(...)
  local taken = app:call(catga.subscriptions.take, "one", 100)
  for _, i in ipairs { ... } do
    assert(app:call(catga.subscriptions.ack, "one", taken[i].token))
  end
  return taken
end

before_each(function()
  app = assert(testing.app(define))
end)

after_each(function() app:stop() end)

describe("the journal of a subscription", function()
  it("begins with where the subscription begins", function()
    local state = load()
    assert.is_nil(state.is_new)
    assert.equal(0, state.to)
    assert.is_true(journal.load(app.app.store, "none such").is_new)
  end)

  it("keeps in a checkpoint what is being committed while it is made", function()
    make(4)
    ack(4)
    local of = runner()
    app:call(function()
      local mark = of:begin_change()
      local done = of.window.list[of.window.first + 1].position
      assert(commits.records(app.app, function(add)
        add("$subscription-one", "SubscriptionMoved", { to = 0, done = { done } })
      end))
      of.increments = 1000
      of:save()
      of:end_change(mark)
    end)
    local state = load()
    local count = 0
    for _ in pairs(state.done) do count = count + 1 end
    assert.equal(2, count)
  end)

  it("keeps in a checkpoint what was not read yet after a restart", function()
    make(4)
    local taken = ack(2, 4)
    app:call(catga.subscriptions.park, "one", taken[3].token)
    app:call(catga.subscriptions.retry, "one", taken[1].token, "1h")
    app:call(catga.subscriptions.pause, "one")
    app:settle()
    local before = load()
    app = app:crash()
    app:settle()
    checkpoint()
    local state = load()
    before.increments, state.increments = nil, nil
    assert.same(before, state)
    assert.is_true(state.paused)
    assert.equal(1, state.attempts[taken[1].position])
    assert.is_not_nil(state.parked[taken[3].position])
  end)

  it("keeps in a checkpoint that a parked event is to be delivered again", function()
    make(2)
    local taken = app:call(catga.subscriptions.take, "one", 1)
    app:call(catga.subscriptions.park, "one", taken[1].token)
    app:call(catga.subscriptions.replay, "one", "all")
    checkpoint()
    app = app:crash()
    app:settle()
    taken = app:call(catga.subscriptions.take, "one", 100)
    assert.equal(2, #taken)
    assert.equal("conflict", select(2, app:call(catga.subscriptions.drop, "one",
      math.min(taken[1].position, taken[2].position))).code)
  end)

  it("forgets how often events have failed that are done", function()
    make(2)
    local taken = app:call(catga.subscriptions.take, "one", 100)
    app:call(catga.subscriptions.retry, "one", taken[1].token, "1s")
    app:advance("2s")
    ack(1)
    app:call(catga.subscriptions.ack, "one", taken[2].token)
    assert.same({}, load().attempts)
    assert.same({}, load().done)
  end)
end)
