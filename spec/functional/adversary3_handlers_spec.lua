--- Handlers of subscriptions that are meant to stop them for good: an event comes to its end, and
--- the next one is delivered, whatever a handler does.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local catga = require "catga"

local SCRIPT = [[
local catga = require "catga"
catga.events.subscribe { name = "one", types = { "Made" }, attempts = %d, backoff = "1s",
  ack_timeout = "10s", on_failure = "park", handle = function(event, ctx)
    if event.what == "fails" then error("broken \255") end
    if event.what == "code" then error(catga.error("\255")) end
    if event.what == "long" then error(catga.error("refused", ("é"):rep(5000))) end
    if event.what == "parks" then ctx:park("x" .. ("é"):rep(5000)) end
    if event.what == "sticks" then catga.sleep("1000h") end
    if event.what == "resets" then
      local _, err = catga.subscriptions.reset("one", "end")
      error(err, 0)
    end
    if event.what == "fine" then catga.events.append("Done", { { type = "D" } }) end
  end }
]]

local app, dir

before_each(function()
  dir = app_dir.new { ["main.lua"] = SCRIPT:format(1) }
  app = assert(testing.app(dir))
end)

after_each(function()
  app:stop()
  app_dir.remove_all()
end)

local function make(what)
  assert(app:call(catga.events.append, "S-1", { { type = "Made", data = { what = what } } }))
  app:settle()
end

-- The next event is delivered; the list of what is parked.
local function check_goes_on(parked_count)
  local before = #app:call(catga.events.read, "Done")
  make("fine")
  assert.equal(before + 1, #app:call(catga.events.read, "Done"))
  local list = app:call(catga.subscriptions.parked, "one")
  assert.equal(parked_count, #list)
  assert.truthy(catga.json.encode(list))
  assert.truthy(catga.json.encode((app:call(catga.subscriptions.list))))
  return list
end

describe("a subscription goes on after a handler that", function()
  it("raises or gives a reason that is no UTF-8, or is cut in a character", function()
    make("fails")
    check_goes_on(1)
    make("code")
    check_goes_on(2)
    make("long")
    check_goes_on(3)
    make("parks")
    local list = check_goes_on(4)
    assert.matches("broken %?", list[1].error.message)
    assert.is_true(#list[4].reason <= 1003)
    app = assert(app:crash())
    check_goes_on(4)
  end)

  it("resets its own subscription, which would wait for it", function()
    make("resets")
    local list = check_goes_on(1)
    assert.equal("would_deadlock", list[1].error.code)
  end)

  it("does not end, when the scripts change meanwhile or somebody resets it", function()
    make("sticks")
    app_dir.write(dir, "main.lua", SCRIPT:format(2))
    assert(app:call(function() return app.app:reload() end))
    app:advance("1m") -- It has two attempts now, and 10 s for each.
    check_goes_on(1)
    make("sticks")
    local position = app:position() - 1
    assert.is_true(app:call(catga.subscriptions.reset, "one", position))
    check_goes_on(1)
  end)
end)
