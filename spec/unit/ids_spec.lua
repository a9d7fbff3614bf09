--- Ids: text in Lua, never given twice, in the order in which they were made.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, opts)
  app = assert(testing.app(define or function() end, opts))
  return app
end

-- Takes ids and checks each against all before it.
local function taker()
  local seen, last = {}, nil
  return function(id)
    assert.equal("string", type(id))
    assert.truthy(id:find("^[1-9]%d*$"), id)
    assert.is_nil(seen[id])
    if last then assert.is_true(#id > #last or #id == #last and id > last, "ids grow") end
    seen[id], last = true, id
  end
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("ids", function()
  it("are text, unique and growing, also many in one millisecond", function()
    open()
    local take = taker()
    app:call(function()
      for _ = 1, 5000 do take(catga.new_id()) end
    end)
  end)

  it("of catga, ctx, steps and the app come from one source", function()
    open(function()
      catga.command("Id", function(_, ctx) return ctx:new_id() end)
      local P = catga.process "P"
      function P:execute()
        return { self:new_id(), self:step("inside", function() return self:new_id() end) }
      end
    end)
    local take = taker()
    take(app:call(catga.new_id))
    take(app:send("Id", {}))
    take(app.app:new_id())
    for _, id in ipairs(app:run("P", "x")) do take(id) end
    take(app:call(catga.new_id))
  end)

  it("are not given again after a restart, nor when the clock goes back", function()
    open()
    local take = taker()
    for _ = 1, 5 do
      app:call(function()
        for _ = 1, 100 do take(catga.new_id()) end
        assert(catga.events.append("S", { { type = "A" } }))
      end)
      take(app:call(catga.events.read, "S", { backward = true, max = 1 })[1].id)
      app.clock:step_back(60000)
      app = assert(app:crash())
    end
  end)

  it("of events are unique over streams and restarts", function()
    open()
    local seen, count = {}, 0
    for _ = 1, 3 do
      app:call(function()
        for i = 1, 20 do
          assert(catga.events.append("S-" .. i % 3, { { type = "A" }, { type = "B" } }))
        end
      end)
      app = assert(app:crash())
    end
    for _, event in ipairs((app:call(catga.events.read_all, { max = 1000 }))) do
      assert.is_nil(seen[event.id])
      seen[event.id], count = true, count + 1
    end
    assert.equal(120, count)
  end)

  it("of two nodes differ", function()
    local other = assert(testing.app(function() end, { settings = { node = 7 } }))
    open(nil, { settings = { node = 8 } })
    local seen = {}
    for _ = 1, 1000 do
      for _, one in ipairs { app, other } do
        local id = one.app:new_id()
        assert.is_nil(seen[id])
        seen[id] = true
      end
    end
    other:stop()
  end)

  it("survive an event as they are", function()
    open()
    local id = app:call(catga.new_id)
    app:publish("Made", { id = id })
    assert.equal(id, app:call(catga.events.read, "$type-Made")[1].data.id)
  end)
end)
