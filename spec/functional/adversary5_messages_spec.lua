--- Messages of the outbox beside policies, keys and handlers that are rough with them.
local testing = require "catga.testing"
local catga = require "catga"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define, opts)
  app = assert(testing.app(define, opts))
end

local function read(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream, { max = 1000 }) or {}) do
    list[i] = event.data
  end
  return list
end

local function letters() return app:call(catga.dead_letters.list) end

local function append(data)
  assert(catga.events.append("Done", { { type = "Did", data = data } }))
end

describe("an enqueued command with a hedge", function()
  local calls

  local function run(pauses)
    calls = 0
    open(function()
      catga.command { name = "Pay", idempotent = true, hedge = "100ms", handle = function(cmd)
        calls = calls + 1
        local nth = calls
        if pauses[nth] then catga.sleep(pauses[nth]) end
        append { n = cmd.n, call = nth }
        return nth
      end }
    end)
    local id = app:call(catga.enqueue, "Pay", { n = 1 })
    app:advance("30s")
    assert.same({}, letters())
    assert.same({}, app:call(catga.outbox.list))
    return app:call(catga.outbox.get, id)
  end

  it("is done by the call that is first", function()
    local message = run { "1s" }
    assert.equal(2, calls)
    assert.same({ { n = 1, call = 2 } }, read "Done")
    assert.equal("handled", message.status)
    assert.equal(0, message.attempts)
  end)

  it("is done once when both calls come to their end in one turn", function()
    local message = run { "200ms", "100ms" }
    assert.equal(1, #read "Done")
    assert.equal("handled", message.status)
    assert.equal(0, message.attempts)
  end)
end)
