--- Policies of steps and subscriptions; what explains them.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local codec = require "catga.native.json"

local app

local function open(define, settings)
  app = assert(testing.app(define, { settings = settings }))
  return app
end

local function says(text)
  return table.concat(app.lines, "\n"):find(text, 1, true) ~= nil
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("a step with a policy", function()
  it("has its attempts and its timeout as its own, journaled", function()
    local attempts = 0
    open(function()
      catga.policy("bank", { timeout = "100ms",
        retry = { attempts = 4, growth = "linear", backoff = "1s", jitter = "none" } })
      local P = catga.process "P"
      P.settings = { charge = { policy = "bank" } }
      function P:execute() return self:charge() end
      function P:charge()
        attempts = attempts + 1
        if attempts == 1 then catga.sleep("1h") end
        if attempts < 4 then error("down") end
        return attempts
      end
    end)
    local start = app.clock:mono()
    assert.equal(4, app:run("P", { id = "1" }))
    assert.equal(100 + 1000 + 2000 + 3000, app.clock:mono() - start)
    local failed = 0
    for _, record in ipairs(app:journal("1")) do
      if record.type == "ProcessStepFailed" then failed = failed + 1 end
    end
    assert.equal(3, failed)
  end)

  it("is outdone by what the step and catga.lua say", function()
    local attempts
    local function define()
      attempts = 0
      catga.policy("bank", { attempts = 9, backoff = "1ms" })
      catga.policy("other", { attempts = 3, backoff = "1ms" })
      local P = catga.process "P"
      P.settings = { a = { policy = "bank", attempts = 2 }, b = { policy = "bank" } }
      function P:execute(input) return self[input.step](self) end
      function P:a() attempts = attempts + 1 error("down") end
      function P:b() attempts = attempts + 1 error("down") end
    end
    open(define)
    app:run("P", { id = "1", step = "a" })
    assert.equal(2, attempts)
    app:stop()
    open(define, { processes = { P = { steps = { b = { policy = "other" } } } } })
    app:run("P", { id = "1", step = "b" })
    assert.equal(3, attempts)
  end)

  it("goes through a breaker and waits as long as that says", function()
    local calls = 0
    open(function()
      catga.policy("bank", { breaker = { window = 1, min_calls = 1, open = "1m", probes = 1 } })
      local P = catga.process "P"
      P.settings = { charge = { policy = "bank", backoff = "1s", attempts = 5 } }
      function P:execute() return self:charge() end
      function P:charge()
        calls = calls + 1
        if calls == 1 then error("down") end
        return catga.now()
      end
    end)
    local start = app.clock:now()
    assert.is_true(app:run("P", { id = "1" }) - start >= 60000)
    assert.equal(2, calls)
  end)

  it("has keys of its first argument, and keeps its place until its attempt is over", function()
    local inside, most = 0, 0
    open(function()
      catga.policy("card", { bulkhead = { max = 1, queue = 10, key = "card" } })
      local P = catga.process "P"
      P.settings = { charge = { policy = "card" } }
      function P:execute(input) return self:charge(input) end
      function P:charge()
        inside = inside + 1
        most = math.max(most, inside)
        catga.sleep("1s")
        inside = inside - 1
        return true
      end
    end)
    for i = 1, 3 do app:start("P", { id = tostring(i), card = "same" }) end
    app:advance("2500ms")
    assert.equal(1, most)
    app:advance("1m")
    app:start("P", { id = "4", card = "one" })
    app:start("P", { id = "5", card = "other" })
    app:advance("500ms")
    assert.equal(2, inside)
    -- A step that is cut short by the end of its process gives its place back.
    app:call(function() return catga.processes.kill("4") end)
    app:start("P", { id = "6", card = "one" })
    app:advance("1100ms")
    assert.equal("completed", app:wait("6"))
  end)

  it("may be a table, and cannot have what makes no sense in one", function()
    for _, case in ipairs {
      { { hedge = "1s" }, "a step cannot have hedge" },
      { { fallback = 1 }, "a step cannot have fallback" },
      { { bulkhed = 1 }, "unknown policy \"bulkhed\"; did you mean bulkhead?" },
      { "none", "no policy is called none" },
    } do
      local opened, err = testing.app(function()
        local P = catga.process "P"
        P.settings = { s = { policy = case[1] } }
        function P:execute() return self:s() end
        function P:s() return 1 end
      end)
      assert.is_nil(opened)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
      assert.truthy(err.message:find("policy_steps_spec.lua:%d+"), err.message)
    end
  end)

  it("counts alone: attempts of the command that it sends are off, which is said", function()
    local calls = 0
    open(function()
      catga.command { name = "Pay", attempts = 5, backoff = "1ms", timeout = "1h",
        handle = function()
          calls = calls + 1
          error("down")
        end }
      catga.command("Deep", function() return catga.send("Pay", {}) end)
      local P = catga.process "P"
      P.settings = { Pay = { attempts = 2, backoff = "1ms" }, deep = { attempts = 1 } }
      function P:execute(input)
        if input.deep then return self:deep() end
        return self:send("Pay", {})
      end
      function P:deep() return self:send("Deep", {}) end
    end)
    assert.is_true(says("its timeout") or says("whose timeout of 3600000 ms is never reached"))
    assert.is_true(says("whose 5 attempts are off in a step"))
    app:run("P", { id = "1" })
    assert.equal(2, calls)
    calls = 0
    app:run("P", { id = "2", deep = true })
    assert.equal(1, calls)
  end)
end)

describe("a subscription with a policy", function()
  it("keeps its own attempts, and goes through the rest", function()
    local times = {}
    open(function()
      catga.policy("mail", { attempts = 9, limiter = { rate = 1, per = "10s", wait = "1m" } })
      catga.on("Paid", { durable = "mailer", policy = "mail", attempts = 2, backoff = "1s" },
        function(_, ctx)
          times[#times + 1] = catga.now()
          if ctx.attempt == 1 then error("no server") end
        end)
    end)
    assert.is_true(says("the attempts of its policy are off"))
    app:publish("Paid", {})
    app:advance("5m")
    assert.equal(2, #times)
    assert.is_true(times[2] - times[1] >= 10000)
  end)
end)

describe("what stands around a handler", function()
  local function define()
    catga.policy("bank", { attempts = 5, breaker = { open = "5s" } })
    catga.behavior("logging")
    catga.behavior("audit", function(_, _, next) return next() end)
    catga.behavior("trace", function(_, _, next) return next() end, { before = "retry" })
    catga.command { name = "Pay", input = { n = "number" }, policy = "bank", timeout = "10s",
      handle = function() return true end }
    catga.query("Plain", function() return 1 end)
    catga.on("Paid", function() end)
    catga.on("Paid", { durable = "mailer" }, function() end)
  end

  local function get(path)
    local status, _, body = app:call(function()
      app.app.handling = 0
      return http.handle(app.app, "GET", path, {}, {}, "")
    end)
    return status, codec.decode(body)
  end

  it("is told outermost first, with the source of each value", function()
    open(define, { policies = { Pay = { attempts = 7 } } })
    local status, told = get("/handlers/Pay")
    assert.equal(200, status)
    local list = told.handlers
    assert.equal("logging > trace > retry > breaker > unit of work > timeout > idempotency > "
      .. "validation > audit > handler", list[1].order)
    local by_name = {}
    local options = {}
    for _, part in ipairs(list[1].pipeline) do
      by_name[part.name] = part
      for _, option in ipairs(part.options or {}) do
        options[part.name .. "." .. option.name] = option.value .. " " .. option.from
      end
    end
    assert.equal("7 catga.lua", options["retry.attempts"])
    assert.equal("200ms default", options["retry.backoff"])
    assert.truthy(options["breaker.open"]:find("^5s policy bank, .*policy_steps_spec.lua:%d+"))
    assert.truthy(options["timeout.after"]:find("^10s .*policy_steps_spec.lua:%d+"))
    assert.truthy(#told.rows >= #list[1].pipeline)
    assert.truthy(by_name.audit.at:find("policy_steps_spec.lua:%d+"))
    assert.equal("message", by_name.trace.inside)
    assert.equal("attempt", by_name.audit.inside)
    status, list = get("/handlers")
    assert.equal(200, status)
    local names = {}
    for i, one in ipairs(list) do names[i] = one.kind .. " " .. one.name end
    assert.same({ "command Pay", "query Plain", "event Paid", "subscription mailer" }, names)
    local fault
    status, fault = get("/handlers/Pya")
    assert.equal(404, status)
    assert.truthy(fault.detail:find("did you mean Pay?", 1, true))
  end)

  it("runs in that order", function()
    local log = {}
    open(function()
      local function tracing(name, opts)
        catga.behavior(name, function(_, _, next)
          log[#log + 1] = name
          return next()
        end, opts)
      end
      tracing("inner")
      tracing("message", { before = "retry" })
      tracing("attempt", { after = "retry", before = "breaker" })
      catga.command { name = "C", attempts = 2, backoff = "1ms", handle = function(_, ctx)
        if ctx.attempt == 1 then error("again") end
        return true
      end }
    end)
    app:send("C", {})
    assert.equal("message attempt inner attempt inner", table.concat(log, " "))
  end)

  it("contradicts itself at load, when it does", function()
    for _, opts in ipairs { { before = "retry", after = "validation" },
      { before = "retry", after = "timeout" }, { before = "breaker", after = "limiter" } } do
      local opened, err = testing.app(function()
        catga.behavior("mine", function(_, _, next) return next() end, opts)
      end)
      assert.is_nil(opened)
      assert.truthy(err.message:find("policy_steps_spec.lua:%d+: behavior mine cannot stand"))
      assert.truthy(err.message:find("contradicts itself", 1, true))
    end
  end)

  it("is an error of the message when a behavior around policies raises", function()
    open(function()
      catga.behavior("mine", function() error("broken") end, { after = "bulkhead" })
      catga.command { name = "C", bulkhead = 1, handle = function() return true end }
    end)
    for _ = 1, 2 do
      local _, err = app:send("C", {})
      assert.truthy(err.message:find("broken", 1, true))
    end
  end)

  it("is live: what policies remember", function()
    open(define)
    app:send("Pay", { n = 1 })
    local status, list = get("/policies")
    assert.equal(200, status)
    assert.same({ "command Pay", "policy bank" }, { list[1].name, list[2].name })
    local one
    status, one = get("/policies/bank")
    assert.equal(200, status)
    assert.same({ "command Pay" }, one.used_by)
    assert.equal("closed", one.kinds[1].state)
    assert.equal(1, one.kinds[1].status.calls)
    assert.equal("closed", app:call(function()
      return catga.policies.status("bank", "breaker").state
    end))
    status, one = get("/policies/bnak")
    assert.equal(404, status)
    assert.truthy(one.detail:find("did you mean bank?", 1, true), one.detail)
  end)
end)

describe("over HTTP", function()
  it("a refusal has its status, and when to come back", function()
    open(function()
      catga.command { name = "C", limiter = { rate = 1, per = "90s" },
        handle = function() return true end }
      catga.command { name = "D", authorize = function() return false end,
        handle = function() return true end }
    end)
    local function post(name)
      return app:call(function()
        app.app.handling = 0
        return http.handle(app.app, "POST", "/commands/" .. name, {}, {}, "{}")
      end)
    end
    assert.equal(200, (post("C")))
    local status, _, body, header, value = post("C")
    assert.same({ 429, "Retry-After", "90" }, { status, header, value })
    assert.equal(90000, codec.decode(body).retry_after_ms)
    assert.equal(403, (post("D")))
  end)
end)

describe("a behavior for all messages", function()
  it("may refuse before policies spend anything, and before outcomes are given", function()
    local calls = 0
    open(function()
      catga.behavior("access", function(message, ctx, next)
        if ctx.kind ~= "event" and message.user ~= "anna" then
          return nil, catga.error("forbidden", "only anna may")
        end
        return next()
      end, { before = "authorize" })
      catga.command { name = "C", limiter = { rate = 1, per = "1h" }, fallback = "instead",
        handle = function()
          calls = calls + 1
          return "done"
        end }
    end)
    local _, err = app:send("C", { user = "bob" }, { key = "k" })
    assert.equal("forbidden", err.code)
    assert.equal("done", app:send("C", { user = "anna" }, { key = "k" }))
    _, err = app:send("C", { user = "bob" }, { key = "k" })
    assert.equal("forbidden", err.code)
    assert.equal(1, calls)
  end)
end)
