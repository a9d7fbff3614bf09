--- Keys and locks of commands that are sent from where no handler opens the unit of work, and from
--- one that has them already.
local testing = require "catga.testing"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local catga = require "catga"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define, opts)
  app = assert(testing.app(define, opts))
end

local function done_count()
  return #(app:call(catga.events.read, "Done", { max = 1000 }) or {})
end

local POLICIES = {
  lock = { lock = { key = "id", wait = "5s" } },
  order_by = { order_by = { key = "id", wait = "5s" } },
}

-- Runs fn in a task that goes on.
local function begin(fn)
  local is_done
  local task = tasks.spawn(app.app, function()
    fn()
    is_done = true
    native_task.park()
  end)
  app:advance("1m")
  assert.is_true(is_done)
  return task
end

-- Has nobody the key? A command from outside would wait for it.
local function assert_free()
  local start = app.clock:mono()
  local value, err = app:send("Pay", { id = "a" })
  assert.equal(7, value, tostring(err))
  assert.equal(start, app.clock:mono())
end

for name, policies in pairs(POLICIES) do
  local function pay(handle)
    local fields = { name = "Pay", handle = handle or function()
      assert(catga.events.append("Done", { { type = "Paid", data = {} } }))
      return 7
    end }
    for kind, one in pairs(policies) do fields[kind] = one end
    catga.command(fields)
  end

  describe("a command with " .. name, function()
    it("may be sent by an inline route of a task that goes on", function()
      open(function()
        pay()
        catga.route("Ordered", { name = "r", inline = true }):to { command = "Pay" }
      end)
      local task = begin(function()
        assert(catga.publish("Ordered", { id = "a" }))
        assert(catga.publish("Ordered", { id = "a" }))
        assert(catga.events.append("Other", { { type = "Ordered", data = { id = "a" } } }))
      end)
      assert_free()
      assert.equal(4, done_count())
      tasks.drop(task)
    end)

    it("lets go when the inline route fails, or the append is refused", function()
      local fail = true
      open(function()
        pay(function()
          if fail then return nil, catga.error("no") end
          return 7
        end)
        catga.route("Ordered", { name = "r", inline = true }):to { command = "Pay" }
      end)
      local task = begin(function()
        local ok, err = catga.publish("Ordered", { id = "a" })
        assert(not ok and err.code == "no")
        fail = false
      end)
      assert_free()
      local other = begin(function()
        local ok, err = catga.events.append_all { { stream = "A", events = { { type = "Ordered",
          data = { id = "a" } } } }, { stream = "B", events = { { type = "X", data = {} } },
          expect = "exists" } }
        assert(not ok and err.code == "conflict")
      end)
      assert_free()
      tasks.drop(task)
      tasks.drop(other)
    end)

    it("may be sent by a sink of a durable stream, batch after batch", function()
      open(function()
        pay()
        catga.stream("Ordered", { durable = "s" }):each(function(order)
          assert(catga.send("Pay", order))
        end)
      end)
      for _ = 1, 3 do
        app:publish("Ordered", { id = "a" })
        app:settle()
      end
      assert.equal(3, done_count())
      assert_free()
    end)

    it("may be sent twice in one unit, and again by a later attempt", function()
      local calls = 0
      open(function()
        pay(function()
          calls = calls + 1
          if calls == 2 then error("down") end
          return 7
        end)
        catga.command { name = "Order", handle = function()
          assert(catga.send("Pay", { id = "a" }))
          local value = catga.send("Pay", { id = "a" })
          assert.is_nil(value)
          return catga.send("Pay", { id = "a" })
        end }
      end)
      local start = app.clock:mono()
      local value, err = app:send("Order", {})
      assert.equal(7, value, tostring(err))
      assert.equal(start, app.clock:mono())
      assert_free()
    end)
  end)
end

describe("a lock that a unit of work has already", function()
  it("is the same for a nested attempt after another one", function()
    local tokens = {}
    open(function()
      catga.command { name = "Pay", attempts = 3, backoff = "10ms",
        lock = { key = "id", wait = "5s" }, handle = function(_, ctx)
          tokens[#tokens + 1] = ctx.fencing_token
          if #tokens < 3 then error("down") end
          return 7
        end }
      catga.command("Order", function() return catga.send("Pay", { id = "a" }) end)
    end)
    assert.equal(7, app:send("Order", {}))
    assert.equal(3, #tokens)
    assert.equal(tokens[1], tokens[3])
  end)

  it("is not committed under when it was lost", function()
    open(function()
      catga.command { name = "Pay", lock = { key = "id", wait = "5s", ttl = "1s" },
        handle = function(cmd)
          if cmd.slow then catga.sleep("2s") end
          return 7
        end }
      catga.command { name = "Order", handle = function()
        assert(catga.send("Pay", { id = "a" }))
        return catga.send("Pay", { id = "a", slow = true })
      end }
    end)
    local value, err = app:send("Order", {})
    assert.is_nil(value)
    assert.equal("lock_lost", err.code)
  end)

  it("is taken anew when it was lost before", function()
    open(function()
      catga.command { name = "Pay", lock = { key = "id", wait = "5s", ttl = "1s" },
        handle = function() return 7 end }
      catga.command { name = "Order", handle = function()
        assert(catga.send("Pay", { id = "a" }))
        catga.sleep("2s")
        return catga.send("Pay", { id = "a" })
      end }
    end)
    assert.equal(7, app:send("Order", {}))
  end)
end)
