--- Names, ids and memory that are meant to make the store forget: what cannot be told in JSON is
--- refused where it comes in, and nothing of an event is left out in silence.
local testing = require "catga.testing"
local catga = require "catga"

local BROKEN = "broken \255" -- No UTF-8.

local app

before_each(function()
  app = assert(testing.app(function()
    catga.upcast("Bent", 1, function(data) return data end)
    catga.command("C", function(c, ctx)
      assert(catga.events.append("Made", { { type = "Bent", data = c } }))
      return ctx.correlation_id
    end)
  end))
end)

after_each(function() app:stop() end)

local function append(stream, event)
  return app:call(catga.events.append, stream, { event })
end

describe("text that is no UTF-8", function()
  it("is refused as a stream, a type and an id, so that no reader stops at it", function()
    for _, try in ipairs { { BROKEN, { type = "E" } }, { "S", { type = BROKEN } },
      { "S", { type = "E", id = BROKEN } } } do
      local result, err = append(try[1], try[2])
      assert.is_nil(result)
      assert.equal("invalid", err.code)
      assert.matches("UTF%-8", err.message)
    end
    assert.same({}, (app:call(catga.events.read_all, {})))
  end)

  it("is refused as a key and as the id of a process", function()
    local _, err = app:send("C", {}, { key = BROKEN })
    assert.equal("invalid", err.code)
    assert.matches("UTF%-8", err.message)
  end)

  it("in an envelope fails the message: its events would lose their schema version", function()
    local value, err = app:send("C", {}, { correlation_id = BROKEN })
    assert.is_nil(value)
    assert.matches("UTF%-8", err.message)
    assert.same({}, (app:call(catga.events.read_all, {})))
    assert.equal("fine", app:send("C", {}, { correlation_id = "fine" }))
    assert.equal(2, app:call(catga.events.read, "Made")[1].metadata.schema)
  end)

  it("that is valid is taken, whatever it holds", function()
    for _, name in ipairs { "a b", "a/b", "a\nb", "\0", "é", ("n"):rep(1024) } do
      assert.same({ version = 0 }, append(name, { type = name:sub(1, 256), id = name:sub(1, 128) }))
      assert.same({ version = 0, repeated = true },
        append(name, { type = name:sub(1, 256), id = name:sub(1, 128) }))
      assert.equal(name:sub(1, 256), app:call(catga.events.read, name)[1].type)
    end
  end)
end)

describe("a stream with a name as long as can be", function()
  it("has no room for metadata, which is said", function()
    local name = ("n"):rep(1024)
    append(name, { type = "E" })
    assert.same({ version = 0 }, app:call(catga.events.set_metadata, name:sub(1, 1014), {}))
    for _, call in ipairs { { catga.events.delete, name }, { catga.events.set_metadata, name, {} },
      { catga.events.delete, name, { hard = true } } } do
      local result, err = app:call(unpack(call))
      assert.is_nil(result)
      assert.matches("over 1014 bytes", err.message)
    end
    assert.equal(1, #app:call(catga.events.read, name))
    append(name, { type = "E" })
    assert.equal(2, app:call(catga.events.stream_info, name).count)
  end)
end)
