--- Behaviors: what wraps handlers, and in which order.
local testing = require "catga.testing"
local behaviors = require "catga.behaviors"
local catga = require "catga"

local app, trace

local function open(define)
  app = assert(testing.app(define))
  return app
end

local function tracing(name, opts)
  catga.behavior(name, function(_, _, next)
    trace[#trace + 1] = name
    return next()
  end, opts)
end

-- The names of behaviors in their order, from { name, before = , after = } in registered order.
local function order_of(list)
  local defined = {}
  for i, item in ipairs(list) do
    local shipped = item[1] == "logging" or item[1] == "validation" or item[1] == "idempotency"
    defined[i] = behaviors.define(item[1], not shipped and print or nil,
      { before = item.before, after = item.after }, "script.lua:" .. i)
  end
  local names = {}
  for i, behavior in ipairs(behaviors.order(defined)) do names[i] = behavior.name end
  return table.concat(names, " ")
end

before_each(function() trace = {} end)
after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("the order of behaviors", function()
  for _, case in ipairs {
    { "the app's own come last, as registered", { { "a" }, { "b" } },
      "idempotency validation a b" },
    { "logging is outermost", { { "a" }, { "logging" } }, "logging idempotency validation a" },
    { "before an earlier one", { { "a" }, { "b", before = "a" } }, "idempotency validation b a" },
    { "before a shipped one", { { "a" }, { "b", before = "validation" } },
      "idempotency b validation a" },
    { "after a later one", { { "a", after = "b" }, { "b" } }, "idempotency validation b a" },
    { "a chain of after", { { "a", after = "b" }, { "b", after = "c" }, { "c" } },
      "idempotency validation c b a" },
    { "a chain of before", { { "a" }, { "b", before = "a" }, { "c", before = "b" } },
      "idempotency validation c b a" },
    { "a chain to a shipped one", { { "a", before = "b" }, { "b", before = "idempotency" } },
      "a b idempotency validation" },
    { "between two", { { "a" }, { "b" }, { "c", after = "a", before = "b" } },
      "idempotency validation a c b" },
    { "what holds anyway changes nothing", { { "a", after = "validation" }, { "b", after = "a" } },
      "idempotency validation a b" },
    { "a shipped one moves too", { { "auth" }, { "validation", after = "auth" } },
      "idempotency auth validation" },
  } do
    it("holds: " .. case[1], function() assert.equal(case[3], order_of(case[2])) end)
  end

  for _, case in ipairs {
    { "a circle of two", { { "a", before = "b" }, { "b", before = "a" } }, "contradicts itself" },
    { "a circle of three", { { "a", after = "b" }, { "b", after = "c" }, { "c", after = "a" } },
      "contradicts itself" },
    { "before itself", { { "a", before = "a" } }, "contradicts itself" },
    { "both sides of one", { { "a" }, { "b", before = "a", after = "a" } }, "contradicts itself" },
    { "a neighbour that is not there", { { "a", before = "none" } },
      "script.lua:1: behavior a is to stand next to none, which does not exist" },
    { "two of one name", { { "a" }, { "a" } },
      "script.lua:2: behavior a is registered already, at script.lua:1" },
    { "logging twice", { { "logging" }, { "logging" } }, "is registered already" },
  } do
    it("refuses " .. case[1], function()
      local ok, message = pcall(order_of, case[2])
      assert.is_false(ok)
      assert.truthy(message:find(case[3], 1, true), message)
      assert.truthy(message:find("script.lua:", 1, true), message)
    end)
  end
end)

describe("a behavior", function()
  it("wraps every kind of handler, or only one kind", function()
    open(function()
      tracing("all")
      tracing("commands", { only = "command" })
      tracing("queries", { only = "query" })
      tracing("events", { only = "event" })
      catga.command("C", function() return "c" end)
      catga.query("Q", function() return "q" end)
      catga.on("E", function() end)
    end)
    assert.equal("c", app:send("C", {}))
    assert.same({ "all", "commands" }, trace)
    trace = {}
    assert.equal("q", app:ask("Q", {}))
    assert.same({ "all", "queries" }, trace)
    trace = {}
    app:publish("E", {})
    app:settle()
    assert.same({ "all", "events" }, trace)
  end)

  it("may answer itself, change the answer, and sees message and envelope", function()
    open(function()
      catga.behavior("guard", function(message, ctx, next)
        if message.secret ~= 1 then return nil, catga.error("forbidden", ctx.name) end
        local value, err = next()
        return value and { wrapped = value }, err
      end)
      catga.command("C", function(cmd)
        if cmd.fail then return nil, catga.error("failed") end
        return "c"
      end)
    end)
    local _, err = app:send("C", {})
    assert.same({ "forbidden", "C" }, { err.code, err.message })
    assert.same({ wrapped = "c" }, app:send("C", { secret = 1 }))
    _, err = app:send("C", { secret = 1, fail = true })
    assert.equal("failed", err.code)
  end)

  it("that raises is an error of the message", function()
    open(function()
      catga.behavior("broken", function() error("broken behavior") end)
      catga.command("C", function() return "c" end)
    end)
    local _, err = app:send("C", {})
    assert.truthy(err.message:find("behaviors_spec.lua:%d+: broken behavior"))
  end)

  it("stands inside of validation and idempotency", function()
    open(function()
      tracing("own")
      catga.command { name = "C", input = { n = "number" }, handle = function() return 1 end }
    end)
    app:send("C", { n = "x" })
    assert.same({}, trace)
    app:send("C", { n = 1 }, { key = "k" })
    app:send("C", { n = 1 }, { key = "k" })
    assert.same({ "own" }, trace)
  end)

  it("called logging says every message and how long it took", function()
    open(function()
      catga.behavior("logging")
      catga.command("Good", function() catga.sleep("20ms") return 1 end)
      catga.command("Bad", function() return nil, catga.error("no", "not today") end)
    end)
    app:send("Good", {})
    app:send("Bad", {})
    assert.equal("info command Good done in 20.0 ms", app.lines[1])
    assert.equal("warn command Bad failed after 0.0 ms: no: not today", app.lines[2])
  end)
end)

describe("a registration of a behavior", function()
  local function pass(_, _, next) return next() end
  for _, case in ipairs {
    { "without a name", function() catga.behavior("", pass) end, "needs a name" },
    { "without a function", function() catga.behavior("mine") end, "needs a function" },
    { "under a shipped name", function() catga.behavior("logging", pass) end,
      "logging is a shipped behavior" },
    { "under the name of a policy", function() catga.behavior("authorize", pass) end,
      "that is the name of a policy" },
    { "with an unknown option", function() catga.behavior("a", pass, { onyl = "command" }) end,
      "unknown option \"onyl\"" },
    { "for an unknown kind", function() catga.behavior("a", pass, { only = "commands" }) end,
      "only is \"command\", \"query\" or \"event\"" },
    { "with something that is no function", function() catga.behavior("a", {}) end,
      "needs a function" },
    { "next to none", function() catga.behavior("a", pass, { after = "b" }) end,
      "is to stand next to b" },
  } do
    it(case[1] .. " is a load error with its place", function()
      local opened, err = testing.app(case[2])
      assert.is_nil(opened)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
      assert.truthy(err.message:find("behaviors_spec.lua:%d+"), err.message)
    end)
  end
end)

describe("what a behavior calls as next", function()
  it("belongs to its message, and may be called later, elsewhere, or not", function()
    local kept = {}
    open(function()
      catga.behavior("keep", function(message, _, next)
        kept[#kept + 1] = next
        if message.spawn then return catga.spawn(function() return next() end):wait() end
        if message.first then
          catga.send("C", { n = 2 }) -- The same behavior, for another message.
          return next()
        end
        local ok, value = pcall(next)
        return ok and value
      end)
      catga.command("C", function(cmd, ctx) return { n = cmd.n, name = ctx.name } end)
    end)
    assert.same({ n = 1, name = "C" }, app:send("C", { n = 1, first = true }))
    assert.same({ n = 3, name = "C" }, app:send("C", { n = 3, spawn = true }))
    assert.same({ n = 2, name = "C" }, app:call(kept[2]))
    assert.same({ n = 1, name = "C" }, app:call(kept[1]))
  end)
end)
