--- Subscriptions when the scripts change: handlers are replaced, checkpoints stay.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local catga = require "catga"

local app

local SCRIPT = [[
local catga = require "catga"
catga.events.subscribe { name = "one", types = { %s }, attempts = 2, backoff = "1s",
  on_failure = "stop", handle = function(event)
    %s
    assert(catga.events.append("Copies",
      { { type = "Copied", data = { n = event.n, by = "%s" } } }))
  end }
]]

local function script(types, by, first)
  return SCRIPT:format(types, first or "", by)
end

local function make(kind, n)
  app:call(function()
    assert(catga.events.append("S-1", { { type = kind, data = { n = n } } }))
  end)
  app:settle()
end

local function copies()
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, "Copies")) do
    list[i] = event.data.by .. event.data.n
  end
  return list
end

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local dir

local function open(text)
  dir = app_dir.new { ["main.lua"] = text }
  app = assert(testing.app(dir))
end

local function reload(text)
  app_dir.write(dir, "main.lua", text)
  local ok, err = app:call(function() return app.app:reload() end)
  app:settle()
  return ok, err
end

describe("a reload", function()
  it("replaces the handler and keeps the checkpoint", function()
    open(script('"Made"', "a"))
    make("Made", 1)
    assert(reload(script('"Made"', "b")))
    make("Made", 2)
    assert.same({ "a1", "b2" }, copies())
    app = assert(app:crash())
    app:settle()
    assert.same({ "a1", "b2" }, copies())
  end)

  it("takes other options and filters from where the subscription is", function()
    open(script('"Made"', "a"))
    make("Made", 1)
    make("Other", 2)
    assert(reload(script('"Made", "Other"', "b")))
    make("Other", 3)
    make("Made", 4)
    assert.same({ "a1", "b3", "b4" }, copies())
    assert.equal(0, app.app.subscriptions:get("one").lag)
  end)

  it("lets a handler that runs end, and begins with the new one behind it", function()
    open(script('"Made"', "a", 'catga.sleep("5s")'))
    make("Made", 1)
    assert(reload(script('"Made", "Other"', "b")))
    make("Other", 2)
    assert.same({}, copies())
    app:advance("6s")
    assert.same({ "a1", "b2" }, copies())
  end)

  it("starts one that has failed anew", function()
    open(script('"Made"', "a", 'error("broken")'))
    make("Made", 1)
    app:advance("1m")
    assert.equal("failed", app.app.subscriptions:get("one").status)
    assert(reload(script('"Made"', "b")))
    assert.same({ "b1" }, copies())
  end)

  it("ends one that is gone, which goes on when it comes back", function()
    open(script('"Made"', "a"))
    make("Made", 1)
    assert(reload('local catga = require "catga"'))
    assert.is_nil(app.app.subscriptions:get("one"))
    make("Made", 2)
    assert.same({ "a1" }, copies())
    assert(reload(script('"Made"', "c")))
    assert.same({ "a1", "c2" }, copies())
  end)

  it("changes nothing when the new scripts contradict themselves", function()
    open(script('"Made"', "a"))
    local ok, err = reload(script('"Made"', "b") .. script('"Made"', "c"))
    assert.is_false(ok)
    assert.truthy(err.message:find("there is a subscription one already", 1, true))
    make("Made", 1)
    assert.same({ "a1" }, copies())
  end)

  it("reads under the types that an upcaster gives", function()
    open(script('"Made"', "a"))
    make("Formed", 1)
    assert(reload('local catga = require "catga"\ncatga.upcast("Formed", 1, function(data) '
      .. 'return data, "Made" end)\n' .. script('"Made"', "b")))
    make("Made", 2)
    make("Else", 3)
    assert.same({ "b2" }, copies())
    assert.is_true(app:call(catga.subscriptions.reset, "one", "start"))
    app:settle()
    assert.same({ "b2", "b1", "b2" }, copies())
  end)
end)
