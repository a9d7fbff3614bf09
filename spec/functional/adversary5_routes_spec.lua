--- Routes beside handlers that are rough with what they get.
local testing = require "catga.testing"
local catga = require "catga"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define)
  app = assert(testing.app(function()
    catga.command("Change", function(cmd)
      cmd.n, cmd.tags[1] = 99, "changed"
      if cmd.fails then error("down") end
      return 1
    end)
    define()
  end))
end

local function read(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream) or {}) do list[i] = event.data end
  return list
end

local DATA = { n = 1, tags = { "new" } }

describe("a command that changes its message", function()
  for _, mode in ipairs { "reader", "inline", "unstored" } do
    it("changes it for no other destination and rule: " .. mode, function()
      local heard = {}
      open(function()
        local inline = mode == "inline" or nil
        catga.route("X", { name = "a", inline = inline }):to({ command = "Change" }, "T1")
        catga.route("X", { name = "b", inline = inline })
          :when(function(m) return m.n == 1 end):to("T2")
        for _, name in ipairs { "T1", "T2" } do
          catga.on(name, function(event) heard[name] = event end)
        end
      end)
      app:publish("X", DATA, mode == "unstored" and { qos = 0 } or nil)
      app:advance("1s")
      assert.same({ T1 = DATA, T2 = DATA }, heard)
    end)
  end

  it("does not change it for the dead letter of its route", function()
    open(function() catga.route("X", { name = "a", attempts = 1 }):to { command = "Change" } end)
    app:publish("X", { n = 1, tags = { "new" }, fails = true })
    app:settle()
    local letter = app:call(catga.dead_letters.list)[1]
    assert.same({ n = 1, tags = { "new" }, fails = true }, letter.data)
  end)

  it("does not change it for what a stream keeps", function()
    open(function()
      local s = catga.stream("X", { durable = "s" })
      local kept = s:buffer(2)
      s:to { send = "Change" }
      kept:flat_map(function(list) return list end):to { append = "Out", type = "Kept" }
    end)
    app:publish("X", DATA)
    app:settle()
    app = assert(app:crash())
    app:publish("X", DATA)
    app:settle()
    assert.same({ DATA, DATA }, read "Out")
  end)
end)
