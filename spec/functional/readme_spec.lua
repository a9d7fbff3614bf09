--- The examples of README.md run as they stand there.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"

-- The blocks of Lua below a heading.
local function blocks_below(heading)
  local file = assert(io.open "README.md")
  local text = file:read "*a"
  file:close()
  local first = assert(text:find("\n## " .. heading .. "\n", 1, true), heading)
  local part = text:sub(first + 1, (text:find("\n## ", first + 1, true) or 0) - 1)
  local blocks = {}
  for block in part:gmatch "```lua\n(.-)```" do blocks[#blocks + 1] = block end
  return blocks
end

describe("the section on aggregates", function()
  local blocks = blocks_below "Aggregates"
  local dir, app

  before_each(function()
    dir = app_dir.new { ["main.lua"] = blocks[1] }
    app = assert(testing.app(dir))
  end)

  after_each(function()
    app:stop()
    app_dir.remove_all()
  end)

  it("has an app that works", function()
    assert.is_true(app:send("OpenAccount", { id = "1", owner = "Ann" }))
    assert.is_true(app:send("OpenAccount", { id = "2", owner = "Bob" }))
    assert.equal("exists", select(2, app:send("OpenAccount", { id = "1", owner = "Ann" })).code)
    assert.equal("no_money", select(2, app:send("Transfer", { from = "1", to = "2",
      cents = 5 })).code)
    app:call(function()
      assert(require "catga".events.append("Account-1",
        { { type = "Paid", data = { amount = 7 }, schema = 1 } }))
    end)
    assert.equal(200, app:send("Transfer", { from = "1", to = "2", cents = 200 }))
    assert.equal(500, app:ask("Balance", { id = "1" }))
    assert.equal(700, app:ask("Balance", { id = "1", as_of = { version = 1 } }))
  end)

  it("has a spec that works", function()
    local ran
    local opened = testing.app
    local chunk = assert(loadstring(blocks[2], "@README.md"))
    setfenv(chunk, setmetatable({ describe = function(_, fn) fn() end, it = function(_, fn)
      testing.app = function() return opened(dir) end
      local ok, failure = pcall(fn)
      testing.app = opened
      assert(ok, failure)
      ran = true
    end }, { __index = _G }))
    chunk()
    assert.is_true(ran)
  end)
end)

describe("the section on subscriptions", function()
  local dir, app

  before_each(function()
    dir = app_dir.new { ["main.lua"] = blocks_below("Subscriptions")[1] }
    app = assert(testing.app(dir))
  end)

  after_each(function()
    app:stop()
    app_dir.remove_all()
  end)

  local function status(name) return app.app.subscriptions:get(name) end

  it("has an app that works", function()
    local catga = require "catga"
    app:call(function()
      for i = 1, 3 do
        assert(catga.events.append("Order-" .. i, { { type = "OrderCreated",
          data = { order_id = i, total = i == 2 and 0 or 10 * i,
            email = i < 3 and "a@b" or nil } } }))
      end
    end)
    app:advance("1m")
    assert.equal(40, app:send("Total", { bills = 2 }))
    assert.equal(1, status("mailer").parked)
    assert.equal("nothing to bill", app:call(catga.subscriptions.parked, "billing")[1].reason)
    local taken = app:call(catga.subscriptions.take, "warehouse", 10)
    assert.equal(3, #taken)
    assert.is_true(app:call(catga.subscriptions.ack, "warehouse", taken[1].token))
    assert.equal(1, #app:call(catga.events.read, "Mail-1"))
    app = assert(app:crash())
    app:advance("1m")
    assert.equal(1, #app:call(catga.events.read, "Mail-1"))
    assert.equal(1, status("mailer").parked)
  end)
end)
