--- A tail of the log that looks torn, and a read model that knows better.
local testing = require "catga.testing"
local apps = require "catga.app"
local catga = require "catga"

local app, dir

local function orders()
  local summary = catga.projection "OrderSummary"
  function summary.on.OrderCreated(event, model) model:put(event.order_id, { n = event.n }) end
end

-- The app on a data directory that outlives it.
local function open(opts)
  opts = opts or {}
  opts.data = dir
  app = assert(testing.app(orders, opts))
end

local function publish(count)
  app:call(function()
    for i = 1, count do
      assert(catga.events.append("Order-" .. i, { { type = "OrderCreated",
        data = { order_id = "o" .. i, n = i } } }))
    end
  end)
end

describe("a log whose tail is damaged", function()
  local path

  -- Damages the last commit and takes away the mark behind it, so that the commit looks torn.
  local function damage()
    local file = assert(io.open(path, "rb"))
    local bytes = file:read "*a"
    file:close()
    local places = {}
    for at in bytes:gmatch "()CGC1" do places[#places + 1] = at end
    local commit, mark = places[#places - 1], places[#places]
    bytes = bytes:sub(1, mark - 2) .. "\255" .. ("\0"):rep(#bytes - mark + 1)
    bytes = bytes:sub(1, commit + 59) .. "\255" .. bytes:sub(commit + 61)
    file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
    return bytes
  end

  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir " .. dir) == 0)
    path = dir .. "/log/segment-0000000000.log"
    open()
    publish(12)
    app:settle()
    app:stop()
    app = nil
  end)

  after_each(function()
    if app then app:stop() end
    app = nil
    os.execute("rm -rf " .. dir)
  end)

  it("is not cut when a read model knows that it was durable", function()
    local bytes = damage()
    local opened, err = apps.open { define = orders, data = dir }
    assert.is_nil(opened)
    assert.equal("corrupt", err.code)
    assert.truthy(err.message:find("below position 13 was durable", 1, true), err.message)
    local file = assert(io.open(path, "rb"))
    assert.is_true(bytes == file:read "*a")
    file:close()
  end)

  it("is cut when that is all that can be known, and where the log may lose its end", function()
    damage()
    open({ settings = { durability = "os" } })
    assert.equal(12, (app.app.store:positions()))
  end)
end)
