--- Idempotent appends and reads by position that somebody tries to trick: an event is stored once
--- and read once.
local testing = require "catga.testing"
local catga = require "catga"

local WINDOW = 300

local app

before_each(function()
  app = assert(testing.app(function() end, { settings = { append_window = WINDOW } }))
end)

after_each(function() app:stop() end)

local function append(id, expect)
  return assert(app:call(catga.events.append, "S", { { type = "E", id = id } },
    { expect = expect }))
end

-- Appends events numbered from first to last.
local function fill(first, last)
  app:call(function()
    for n = first, last do
      assert(catga.events.append("S", { { type = "E", id = "id" .. n } }))
    end
  end)
end

-- All ids of the window are known, the newest and the oldest.
local function check_known(count)
  for _, version in ipairs { count - 1, count - WINDOW, count - WINDOW / 2 } do
    assert.same({ version = version, repeated = true }, append("id" .. version))
  end
end

describe("the ids of a stream that is much longer than the window", function()
  it("are known when it is looked at first after a start", function()
    fill(0, 3 * WINDOW + 1000)
    check_known(3 * WINDOW + 1001)
    app = app:crash()
    check_known(3 * WINDOW + 1001)
  end)

  it("are known when much was appended since it was looked at", function()
    fill(0, WINDOW)
    local count = WINDOW + 1
    for _ = 1, 3 do
      app:call(function()
        for _ = 1, 2000 do assert(catga.events.append("S", { { type = "Other" } })) end
      end)
      count = count + 2000
      fill(count, count + 20)
      count = count + 21
      assert.same({ version = count - 1, repeated = true }, append("id" .. count - 1))
      assert.same({ version = count - 20, repeated = true }, append("id" .. count - 20))
    end
  end)
end)

describe("a read by position", function()
  it("misses nothing after one that failed in the middle", function()
    fill(1, 10)
    local events, position = app:call(catga.events.read_all, { max = 2 })
    assert.equal(2, #events)
    app.app.last_cursor.cursor:next(3) -- As when memory ran out while its batch was made.
    events = app:call(catga.events.read_all, { after = position, max = 2 })
    assert.equal(3, events[1].position)
  end)
end)
