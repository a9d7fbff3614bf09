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

describe("a handler that changes what it is given", function()
  local seen

  -- Fails so many times.
  local function handler(failures)
    seen = {}
    return function(cmd)
      seen[#seen + 1] = cmd.n
      cmd.n, cmd.tags[1] = cmd.n + 1, "changed"
      if #seen <= failures then error("down") end
      append { n = cmd.n }
      return cmd.n
    end
  end

  local DATA = { n = 1, tags = { "new" } }
  local function data() return { n = 1, tags = { "new" } } end

  it("is no other message under its key", function()
    open(function() catga.command { name = "Pay", attempts = 3, handle = handler(1) } end)
    assert.equal(3, app:send("Pay", data(), { key = "k" }))
    assert.equal(3, app:send("Pay", data(), { key = "k" }))
    seen = {}
    app:call(catga.enqueue, "Pay", data(), { key = "other" })
    app:advance("30s")
    assert.same({}, letters())
    assert.equal(2, #read "Done")
  end)

  it("is no other message under its key after a conflict", function()
    open(function()
      catga.command("Pay", function(cmd)
        cmd.n = cmd.n + 1
        local count = #(catga.events.read("Done") or {})
        catga.sleep("10ms")
        assert(catga.events.append("Done", { { type = "Did", data = {} } },
          { expect = count == 0 and "none" or count - 1 }))
        return count
      end)
    end)
    app:call(catga.enqueue, "Pay", data(), { key = "a" })
    app:call(catga.enqueue, "Pay", data(), { key = "b" })
    app:advance("30s")
    assert.same({}, letters())
    assert.equal(2, #read "Done")
    assert.truthy(app:send("Pay", data(), { key = "a" }))
    assert.equal(2, #read "Done")
  end)

  it("leaves a dead letter with the message as it was sent", function()
    open(function() catga.command("Pay", handler(5)) end)
    app:call(catga.enqueue, "Pay", data())
    app:advance("5m")
    assert.same(DATA, letters()[1].data)
    assert.same({ 1, 1, 1, 1, 1 }, seen)
    assert(app:call(catga.dead_letters.retry, letters()[1].id))
    app:advance("1m")
    assert.same({ { n = 2 } }, read "Done")
  end)
end)

describe("a dead letter of a message without attempts of its own", function()
  it("is retried as often as messages are", function()
    local calls, is_up = 0, 7
    open(function()
      catga.command("Pay", function()
        calls = calls + 1
        if calls < is_up then error("down") end
        append { n = calls }
      end)
    end)
    app:call(catga.enqueue, "Pay", {})
    app:advance("10m")
    assert.equal(5, calls)
    assert(app:call(catga.dead_letters.retry, letters()[1].id))
    app:advance("10m")
    assert.same({ { n = 7 } }, read "Done")
    assert.same({}, letters())
  end)
end)

describe("the key of a message that is a dead letter", function()
  local is_up

  before_each(function()
    is_up = false
    open(function()
      catga.command("Pay", function(cmd)
        if not is_up then return nil, catga.error("refused") end
        append(cmd)
        return 1
      end)
    end)
  end)

  local function enqueue(n) return app:call(catga.enqueue, "Pay", { n = n }, { key = "k" }) end

  it("is free for another one when the letter is purged", function()
    local first = enqueue(1)
    app:settle()
    assert.equal(first, enqueue(1)) -- It may still be retried.
    assert(app:call(catga.dead_letters.purge, letters()[1].id))
    is_up = true
    local second = assert(enqueue(2))
    assert.not_equal(first, second)
    app:settle()
    assert.same({ { n = 2 } }, read "Done")
    assert.equal(second, enqueue(2))
    app = assert(app:crash())
    assert.equal(second, enqueue(2))
    assert.same({ { n = 2 } }, read "Done")
  end)

  it("stays with what was done under it meanwhile", function()
    enqueue(1)
    app:settle()
    is_up = true
    assert.equal(1, app:send("Pay", { n = 1 }, { key = "k" }))
    assert(app:call(catga.dead_letters.purge, { all = true }))
    assert.equal(1, app:send("Pay", { n = 1 }, { key = "k" }))
    assert.same({ { n = 1 } }, read "Done")
  end)
end)

describe("a handler of an event that fails while the outbox is full", function()
  it("is a dead letter, which can be retried when there is room", function()
    local is_up, heard = false, 0
    open(function()
      catga.command("Wait", function() end)
      catga.on("Paid", function()
        if not is_up then error("down") end
        heard = heard + 1
      end)
    end, { settings = { outbox_max = 1 } })
    app:call(catga.enqueue, "Wait", {}, { delay = "1h" })
    app:publish("Paid", {})
    app:settle()
    assert.equal(0, heard)
    local letter = letters()[1]
    assert.equal("handler", letter.kind)
    is_up = true
    app:advance("2h")
    assert(app:call(catga.dead_letters.retry, letter.id))
    app:advance("1m")
    assert.equal(1, heard)
    assert.same({}, letters())
  end)
end)
