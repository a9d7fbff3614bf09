--- Durable routes killed at every record: whatever was sent before the kill is there once, and all
--- that was to be sent comes.
local testing = require "catga.testing"
local catga = require "catga"

local EVENTS = 12

local function all_of(app, stream)
  return app:call(catga.events.read, stream, { max = 10000 })
end

-- Appends the events that the log does not have yet. Notes in `times` from which position on which
-- time it was.
local function feed(app, times)
  local have = #all_of(app, "Source")
  for n = have + 1, EVENTS do
    if times then times[#times + 1] = { app:position(), app.clock:now() } end
    app:call(function()
      assert(catga.events.append("Source", { { type = "Made", data = { n = n, lines =
        { { sku = "a" .. n }, { sku = "b" .. n } }, customer = "c" .. n % 3 } } }))
    end)
    app:advance("1s")
  end
  app:advance("10m")
end

-- All that was sent, as text: each stream in its order.
local function told(app)
  local parts = {}
  for _, stream in ipairs { "$type-Big", "$type-Line", "Audit", "Sent", "$type-Basket", "Called",
    "$type-Whole" } do
    for _, event in ipairs(all_of(app, stream)) do
      parts[#parts + 1] = stream .. " " .. catga.json.encode(event.data)
    end
  end
  return table.concat(parts, "\n")
end

-- Runs the scripts to their end, then once more from what a kill at each record would have left.
local function chaos(define, sorts)
  local function text_of(app)
    local text = told(app)
    if not sorts then return text end
    local lines = {}
    for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
    table.sort(lines)
    return table.concat(lines, "\n")
  end
  local whole = assert(testing.app(define))
  local times = {}
  feed(whole, times)
  local expected = text_of(whole)
  local last = whole:position() - 1
  local kills = 0
  for position = 2, last do
    local memory, behind = whole:snapshot(position)
    local now = times[1][2]
    for _, one in ipairs(times) do now = one[1] <= position and one[2] or now end
    local app = assert(testing.app(define, { memory = memory, start = now }))
    feed(app)
    local is = text_of(app)
    app:stop()
    if is ~= expected then
      whole:stop()
      error(("killed at %d (%d): %s\ninstead of\n%s"):format(position, behind, is, expected), 0)
    end
    kills = kills + 1
  end
  whole:stop()
  return expected, kills
end

local function count_of(text, begin)
  local count = 0
  for line in text:gmatch("[^\n]+") do
    if line:sub(1, #begin + 1) == begin .. " " then count = count + 1 end
  end
  return count
end

describe("routes that are killed at every record", function()
  it("send each message once to topics and streams", function()
    local expected, kills = chaos(function()
      catga.route("Made"):when(function(m) return m.n % 3 == 0 end):to("Big")
        :otherwise():to_stream("Audit", "Audited")
      catga.route("Made"):filter(function(m) return m.n > 4 end):transform(function(m)
        m.n = -m.n
        return m
      end):to("Big")
    end)
    assert.equal(12, count_of(expected, "$type-Big"))
    assert.equal(8, count_of(expected, "Audit"))
    assert.is_true(kills > EVENTS)
  end)

  it("send commands and call functions with their effects once", function()
    local expected = chaos(function()
      catga.command("Send", function(cmd)
        assert(catga.events.append("Sent", { { type = "Sent", data = { n = cmd.n } } }))
        return true
      end)
      catga.route("Made"):when(function(m) return m.n % 2 == 0 end):to_command("Send")
      catga.route("Made"):when(function(m) return m.n % 3 == 0 end)
        :to_command("Send", { enqueue = true })
      catga.route("Made"):when(function(m) return m.n % 4 == 0 end):to(function(m)
        assert(catga.events.append("Called", { { type = "Called", data = { n = m.n } } }))
      end)
      catga.route("Made"):to("Big")
    end, true)
    assert.equal(6 + 4, count_of(expected, "Sent"))
    assert.equal(3, count_of(expected, "Called"))
    assert.equal(12, count_of(expected, "$type-Big"))
  end)

  it("split and gather again", function()
    local expected = chaos(function()
      catga.route("Made"):split(function(m)
        for _, line in ipairs(m.lines) do line.n = m.n end
        return m.lines
      end):to("Line")
      catga.route("Line", { name = "whole" }):aggregate { by = "split" }
        :transform(function(m) return { n = m.items[1].n, count = m.count } end):to("Whole")
      catga.route("Made", { name = "basket" }):aggregate { by = "customer", complete = 3,
        timeout = "1m" }:transform(function(m)
          local numbers = {}
          for i, item in ipairs(m.items) do numbers[i] = item.n end
          return { key = m.key, numbers = numbers, reason = m.reason }
        end):to("Basket")
    end, true)
    assert.equal(24, count_of(expected, "$type-Line"))
    assert.equal(12, count_of(expected, "$type-Whole"))
    assert.equal(6, count_of(expected, "$type-Basket"))
    assert.truthy(expected:find('"reason":"timeout"', 1, true))
  end)

  it("try what fails again, and give up in the end", function()
    local attempts = {}
    local expected = chaos(function()
      catga.route("Made", { name = "weak", attempts = 3, backoff = "2s" }):transform(function(m)
        attempts[m.n] = (attempts[m.n] or 0) + 1
        if m.n % 4 == 0 then error("never") end
        if m.n % 5 == 0 and attempts[m.n] == 1 then error("once") end
        return m
      end):to("Big")
      catga.route("Made"):to_stream("Audit", "Audited")
    end, true)
    assert.equal(9, count_of(expected, "$type-Big"))
    assert.equal(12, count_of(expected, "Audit"))
  end)
end)
