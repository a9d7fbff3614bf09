--- Policies of handlers and calls: retry and timeout end to end, what belongs to which unit of
--- work, where options come from.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, settings)
  app = assert(testing.app(define, { settings = settings }))
  return app
end

local function fault_of(define, settings)
  local opened, err = testing.app(define, { settings = settings })
  assert.is_nil(opened)
  return err.message
end

local function types_of(stream)
  local events = app:call(function() return catga.events.read(stream) end)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return list
end

local function append(stream, kind)
  assert(catga.events.append(stream, { { type = kind, data = {} } }))
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("attempts of a command", function()
  it("are counted, share one key, and pause as told", function()
    local seen, times = {}, {}
    open(function()
      catga.command {
        name = "Pay", attempts = 4, retry = { backoff = "100ms", jitter = "none" },
        handle = function(_, ctx)
          seen[#seen + 1] = ctx.attempt .. " " .. ctx.key
          times[#times + 1] = catga.now()
          error("the bank is down")
        end,
      }
    end)
    local value, err = app:send("Pay", {}, { key = "k" })
    assert.is_nil(value)
    assert.truthy(err.message:find("the bank is down", 1, true))
    assert.same({ "1 k", "2 k", "3 k", "4 k" }, seen)
    assert.same({ 100, 200, 400 }, { times[2] - times[1], times[3] - times[2],
      times[4] - times[3] })
    assert.same({ calls = 1, failures = 1 }, app.app.registry.handlers.Pay.counter)
  end)

  it("end with the first that succeeds; only what that one staged is committed", function()
    open(function()
      catga.command { name = "Pay", attempts = 3, backoff = "1ms", handle = function(_, ctx)
        append("Payments", "Tried" .. ctx.attempt)
        if ctx.attempt < 3 then return nil, catga.error("busy", nil, { retryable = true }) end
        return "paid"
      end }
    end)
    assert.equal("paid", app:send("Pay", {}))
    assert.same({ "Tried3" }, types_of("Payments"))
  end)

  it("of a nested one take back what the failed attempt staged, and nothing else", function()
    open(function()
      catga.command { name = "Inner", attempts = 3, backoff = "5ms", handle = function(_, ctx)
        append("S", "Inner" .. ctx.attempt)
        catga.send("Deep", { n = ctx.attempt })
        if ctx.attempt < 2 then error("again") end
        return true
      end }
      catga.command("Deep", function(cmd, ctx)
        append("S", "Deep" .. cmd.n .. " " .. ctx.key)
        return true
      end)
      catga.command("Outer", function()
        append("S", "Before")
        assert(catga.send("Inner", {}))
        append("S", "After")
        return true
      end)
    end)
    assert.is_true(app:send("Outer", {}, { key = "o" }))
    assert.same({ "Before", "Inner2", "Deep2 o/1/1", "After" }, types_of("S"))
  end)

  it("are for what may succeed the next time only, unless codes are named", function()
    local calls
    open(function()
      catga.command { name = "Default", attempts = 3, backoff = "1ms", handle = function(cmd)
        calls = calls + 1
        return nil, catga.error(cmd.code, nil, { retryable = cmd.retryable })
      end }
      catga.command { name = "Named", retry = { attempts = 3, backoff = "1ms", on = { "gone" } },
        handle = function(cmd)
          calls = calls + 1
          return nil, catga.error(cmd.code, nil, { retryable = cmd.retryable })
        end }
      catga.command { name = "Not", retry = { attempts = 3, backoff = "1ms", not_on = "busy" },
        handle = function(cmd)
          calls = calls + 1
          return nil, catga.error(cmd.code, nil, { retryable = cmd.retryable })
        end }
    end)
    for _, case in ipairs {
      { "Default", "no", false, 1 }, { "Default", "busy", true, 3 }, { "Named", "gone", false, 3 },
      { "Named", "busy", true, 1 }, { "Not", "busy", true, 1 }, { "Not", "other", true, 3 },
    } do
      calls = 0
      local _, err = app:send(case[1], { code = case[2], retryable = case[3] })
      assert.equal(case[2], err.code)
      assert.equal(case[4], calls, case[1] .. " " .. case[2])
    end
  end)

  it("say what a failed attempt raised, once each", function()
    open(function()
      catga.command { name = "Pay", attempts = 2, backoff = "1ms", handle = function(_, ctx)
        error("broken " .. ctx.attempt)
      end }
    end)
    app:send("Pay", {})
    local text = table.concat(app.lines, "\n")
    for _, what in ipairs { "broken 1", "broken 2" } do
      assert.equal(1, select(2, text:gsub("error command Pay: [^\n]*" .. what, "")), text)
    end
  end)

  it("rerun after a conflict are no attempts", function()
    local attempts, runs = {}, 0
    open(function()
      catga.command { name = "Add", attempts = 2, backoff = "1ms", handle = function(_, ctx)
        runs = runs + 1
        attempts[runs] = ctx.attempt
        local count = #assert(catga.events.read("S"))
        assert(catga.events.append("S", { { type = "Own", data = {} } },
          { expect = count == 0 and "none" or count - 1 }))
        if runs == 1 then
          catga.spawn(function() append("S", "Other") end):wait()
        end
        return true
      end }
    end)
    assert.is_true(app:send("Add", {}))
    assert.same({ 1, 1 }, attempts)
  end)
end)

describe("a timeout", function()
  it("cancels the wait of a handler, and drops its work", function()
    local went_on
    open(function()
      catga.command { name = "Slow", timeout = "50ms", handle = function()
        append("S", "Begun")
        catga.sleep("10s")
        went_on = true
        return true
      end }
    end)
    local before = app.clock:mono()
    local value, err = app:send("Slow", {})
    assert.is_nil(value)
    assert.same({ "timeout", true }, { err.code, err.retryable })
    assert.truthy(err.message:find("command Slow took longer than its timeout of 50 ms", 1, true))
    assert.equal(50, app.clock:mono() - before)
    assert.is_nil(went_on)
    assert.same({}, types_of("S"))
  end)

  it("holds for one attempt, and cannot be swallowed", function()
    local waits = 0
    open(function()
      catga.command { name = "Deaf", timeout = "50ms", attempts = 2, backoff = "10ms",
        handle = function()
          for _ = 1, 3 do
            waits = waits + 1
            pcall(catga.sleep, "40ms")
          end
          append("S", "Late")
          return "done"
        end }
    end)
    local _, err = app:send("Deaf", {})
    assert.equal("timeout", err.code)
    assert.equal(6, waits)
    assert.same({}, types_of("S"))
  end)

  it("of an outer message ends an inner one; the smaller one wins", function()
    open(function()
      catga.command { name = "Inner", timeout = "10s", handle = function()
        catga.sleep("5s")
        return true
      end }
      catga.command { name = "Outer", timeout = "100ms", handle = function()
        local _, err = catga.send("Inner", {})
        return err.message
      end }
      catga.command { name = "Brief", timeout = "20ms", handle = function()
        catga.sleep("5s")
        return true
      end }
      catga.command { name = "Patient", timeout = "10s", handle = function()
        local _, err = catga.send("Brief", {})
        return err.code
      end }
    end)
    local _, err = app:send("Outer", {})
    assert.truthy(err.message:find("command Outer", 1, true), err.message)
    assert.equal("timeout", app:send("Patient", {}))
  end)

  it("that passes while the disk is waited for does not undo the commit", function()
    local runs = 0
    app = assert(testing.app(function()
      catga.command { name = "Write", total_timeout = "10ms", attempts = 3, backoff = "1ms",
        handle = function()
          runs = runs + 1
          catga.sleep("5ms")
          append("S", "Written")
          return "written"
        end }
    end))
    assert.equal("written", app:send("Write", {}))
    assert.equal(1, runs)
    assert.same({ "Written" }, types_of("S"))
  end)

  it("over all attempts ends their pauses, and what comes later is not committed", function()
    local attempts = 0
    open(function()
      catga.command { name = "Pay", total_timeout = "1s", attempts = 100,
        retry = { growth = "fixed", backoff = "300ms", jitter = "none" }, handle = function()
          attempts = attempts + 1
          error("down")
        end }
      catga.command { name = "Deaf", total_timeout = "1s", handle = function()
        pcall(catga.sleep, "5s")
        append("S", "Late")
        return true
      end }
    end)
    local before = app.clock:mono()
    local _, err = app:send("Pay", {})
    assert.truthy(err.message:find("total_timeout of 1000 ms", 1, true))
    assert.equal(1000, app.clock:mono() - before)
    assert.equal(4, attempts)
    _, err = app:send("Deaf", {})
    assert.equal("timeout", err.code)
    assert.same({}, types_of("S"))
  end)
end)

describe("options", function()
  it("come from a policy, the handler and catga.lua, the later ones before", function()
    local attempts = 0
    local function define()
      catga.policy("bank", { retry = { attempts = 5, backoff = "10ms" }, timeout = "1m" })
      catga.command { name = "Pay", policy = "bank", attempts = 2, handle = function()
        attempts = attempts + 1
        error("down")
      end }
    end
    open(define)
    app:send("Pay", {})
    assert.equal(2, attempts)
    local one = app.app.registry.handlers.Pay.policies.retry
    assert.equal(10, one.p.backoff)
    assert.truthy(one.from.backoff:find("policy bank, .*policy_spec.lua:%d+"), one.from.backoff)
    assert.truthy(one.from.attempts:find("policy_spec.lua:%d+"), one.from.attempts)
    assert.equal("default", one.from.growth)
    app:stop()
    attempts = 0
    open(define, { policies = { Pay = { attempts = 3 }, bank = { backoff = "20ms" } } })
    app:send("Pay", {})
    assert.equal(3, attempts)
    one = app.app.registry.handlers.Pay.policies.retry
    assert.same({ 20, "catga.lua", "catga.lua" },
      { one.p.backoff, one.from.backoff, one.from.attempts })
  end)

  it("of catga.lua may switch a kind off, or choose another policy", function()
    local attempts = 0
    local function define()
      catga.policy("twice", { attempts = 2, backoff = "1ms" })
      catga.command { name = "Pay", attempts = 5, backoff = "1ms", handle = function()
        attempts = attempts + 1
        error("down")
      end }
      catga.command("Plain", function()
        attempts = attempts + 1
        error("down")
      end)
    end
    open(define, { policies = { Pay = { retry = false }, Plain = { policy = "twice" } } })
    app:send("Pay", {})
    assert.equal(1, attempts)
    app:send("Plain", {})
    assert.equal(3, attempts)
  end)

  local function pass() return true end
  for _, case in ipairs {
    { "an unknown policy", function()
      catga.policy("payments", { attempts = 2 })
      catga.command { name = "C", policy = "payment", handle = pass }
    end, nil, "no policy is called payment; did you mean payments?" },
    { "an unknown kind", function() catga.command { name = "C", timeot = "5s", handle = pass } end,
      nil, "command C: unknown field \"timeot\"; did you mean timeout?" },
    { "an unknown option", function()
      catga.command { name = "C", retry = { attempt = 2 }, handle = pass }
    end, nil, "command C.retry: unknown option \"attempt\"; did you mean attempts?" },
    { "a bare number", function() catga.command { name = "C", timeout = 5, handle = pass } end, nil,
      "must be a string with a unit" },
    { "a wrong count", function() catga.command { name = "C", attempts = 0, handle = pass } end,
      nil, "command C.attempts is a whole number from 1 to 1000000, not 0" },
    { "the same said twice", function()
      catga.command { name = "C", attempts = 2, retry = { attempts = 3 }, handle = pass }
    end, nil, "attempts says twice what retry.attempts is" },
    { "a pause longer than the longest", function()
      catga.command { name = "C", retry = { backoff = "1m" }, handle = pass }
    end, nil, "max_backoff is shorter than backoff" },
    { "a policy defined twice", function()
      catga.policy("p", { attempts = 2 })
      catga.policy("p", { attempts = 2 })
    end, nil, "policy p is defined already, at" },
    { "an unknown name in catga.lua", function() catga.command("Pay", pass) end,
      { policies = { Pey = { attempts = 2 } } },
      "catga.lua: policies.Pey: no message and no policy is called so; did you mean Pay?" },
    { "an unknown kind in catga.lua", function() end, { policies = { Pay = { retri = 2 } } },
      "policies.Pay: unknown policy \"retri\"; did you mean retry?" },
  } do
    it("refuse " .. case[1], function()
      local message = fault_of(case[2], case[3])
      assert.truthy(message:find(case[4], 1, true), message)
      if not case[3] then assert.truthy(message:find("policy_spec.lua:%d+"), message) end
    end)
  end
end)

describe("a call", function()
  it("under a policy has its attempts, and gives what the function raised", function()
    local calls = 0
    open(function()
      catga.policy("bank", { attempts = 3, backoff = "1ms", timeout = "1s" })
      catga.command("Pay", function(cmd)
        return catga.policies.run("bank", function(a, b)
          calls = calls + 1
          if calls < cmd.works_at then error("down") end
          return a + b
        end, 1, 2)
      end)
    end)
    assert.equal(3, app:send("Pay", { works_at = 3 }))
    calls = 0
    local _, err = app:send("Pay", { works_at = 9 })
    assert.truthy(err.message:find("down", 1, true))
    assert.equal(3, calls)
  end)

  it("of an unknown policy raises", function()
    open(function()
      catga.command("C", function() return catga.policies.run("none", function() end) end)
    end)
    local _, err = app:send("C", {})
    assert.truthy(err.message:find("no policy is called none", 1, true), err.message)
  end)

  it("takes back what a failed attempt staged in the open unit", function()
    local calls = 0
    open(function()
      catga.policy("twice", { attempts = 2, backoff = "1ms" })
      catga.command("C", function()
        append("S", "Before")
        return catga.policies.run("twice", function()
          calls = calls + 1
          append("S", "Call" .. calls)
          if calls == 1 then error("again") end
          return true
        end)
      end)
    end)
    assert.is_true(app:send("C", {}))
    assert.same({ "Before", "Call2" }, types_of("S"))
  end)

  it("wrapped by another part of the runtime keeps its arguments", function()
    local policy = require "catga.policy"
    local seen
    open(function() end)
    local value = app:call(function()
      local fn = policy.wrap(app.app, { attempts = 2, backoff = "1ms" }, function(...)
        if not seen then
          seen = { n = select("#", ...), ... }
          error("once")
        end
        return select("#", ...)
      end, { name = "a route" })
      return fn(nil, 2, nil)
    end)
    assert.equal(3, value)
    assert.same({ n = 3, [2] = 2 }, seen)
  end)
end)

describe("the answer of who may not", function()
  it("is forbidden, with the reason, whatever else there is", function()
    open(function()
      catga.command { name = "Pay", authorize = function(cmd, ctx)
        assert.equal("Pay", ctx.name)
        if cmd.amount > 100 then return false, "over the limit" end
        return cmd.user == "anna"
      end, fallback = "instead", attempts = 3, handle = function() return "paid" end }
    end)
    assert.equal("paid", app:send("Pay", { user = "anna", amount = 1 }))
    local _, err = app:send("Pay", { user = "anna", amount = 101 })
    assert.same({ "forbidden", "command Pay: over the limit" }, { err.code, err.message })
    _, err = app:send("Pay", { user = "bob", amount = 1 })
    assert.same({ "forbidden", false }, { err.code, err.retryable })
  end)
end)

describe("a fallback", function()
  it("is a value or a function, for what failed in the end", function()
    open(function()
      catga.query { name = "Value", attempts = 2, backoff = "1ms", fallback = { value = { n = 0 } },
        handle = function() error("down") end }
      catga.query { name = "Function", fallback = function(err, query, ctx)
        return { code = err.code, id = query.id, attempt = ctx.attempt }
      end, attempts = 2, backoff = "1ms", handle = function() error("down") end }
      catga.query { name = "Some", fallback = { value = 1, on = { "busy" } },
        handle = function(query) return nil, catga.error(query.code) end }
    end)
    assert.same({ n = 0 }, app:ask("Value", {}))
    assert.same({ code = "error", id = 7, attempt = 2 }, app:ask("Function", { id = 7 }))
    assert.equal(1, app:ask("Some", { code = "busy" }))
    local _, err = app:ask("Some", { code = "other" })
    assert.equal("other", err.code)
  end)
end)

describe("an event handler", function()
  it("has attempts, each a unit of its own, with one key", function()
    local keys = {}
    open(function()
      catga.on("Paid", { attempts = 3, backoff = "1ms" }, function(_, ctx)
        keys[#keys + 1] = ctx.key
        append("Mails", "Tried" .. ctx.attempt)
        if ctx.attempt < 3 then error("no mail server") end
      end)
    end)
    app:publish("Paid", {})
    app:advance("1s")
    assert.equal(3, #keys)
    assert.equal(keys[1], keys[3])
    assert.same({ "Tried3" }, types_of("Mails"))
  end)
end)

describe("the page on policies", function()
  it("has a sample that runs, and names every kind in its order", function()
    local file = assert(io.open "docs/resilience.md")
    local text = file:read "*a"
    file:close()
    open(assert(loadstring(text:match "```lua\n(.-)```")))
    assert.same({ order_id = "1", attempt = 1 }, app:send("ProcessPayment", { order_id = "1" }))
    assert.same({ item = 7, amount = 5 }, app:ask("Price", { item = 7 }))
    assert.same({ order_id = "2" }, app:run("Order", { id = "2" }))
    local kinds = require "catga.policy.kinds"
    local after = 1
    for _, name in ipairs(kinds.ORDER) do
      local row = name == "unit" and "| *unit of work* |" or "| `" .. name .. "` |"
      local at = text:find(row, after, true)
      assert.truthy(at, name)
      after = at
      local line = text:sub(at, text:find("\n", at))
      for field in pairs(name ~= "unit" and kinds.of(name).fields or {}) do
        assert.truthy(field == "given" or line:find(field, 1, true), name .. "." .. field)
      end
    end
  end)
end)
