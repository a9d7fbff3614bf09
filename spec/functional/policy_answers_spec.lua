--- Policies that give one answer to several callers, or make several calls for one; drills.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, settings)
  app = assert(testing.app(define, { settings = settings }))
  return app
end

local function status_of(owner, kind)
  return app.app.registry.policy_memory[owner .. "/" .. kind].instance:status()
end

-- Starts a send; the handle's `done`, `value`, `err` and `time` tell what came of it.
local function begin(name, data, opts)
  local handle = {}
  local tasks = require "catga.task"
  tasks.spawn(app.app, function()
    local mediator = app.app.mediator
    local kind = app.app.registry.handlers[name].kind
    handle.value, handle.err = mediator:send(kind, name, data or {}, mediator.outside(opts))
    handle.done, handle.time = true, app.clock:mono()
  end)
  return handle
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

describe("a cache", function()
  local calls
  before_each(function() calls = 0 end)

  it("keeps answers for a time, by the message, each caller his own copy", function()
    open(function()
      catga.query { name = "Q", cache = { ttl = "10s", max = 2 }, handle = function(query)
        calls = calls + 1
        return { n = query.n, calls = calls }
      end }
    end)
    local answer = app:ask("Q", { n = 1, m = 2 })
    answer.n = "changed"
    assert.same({ n = 1, calls = 1 }, app:ask("Q", { m = 2, n = 1 }))
    app:ask("Q", { n = 2 })
    app:ask("Q", { n = 3 }) -- The one used longest ago is forgotten.
    assert.equal(3, calls)
    app:ask("Q", { n = 1, m = 2 })
    assert.equal(4, calls)
    app:advance("10s")
    app:ask("Q", { n = 1, m = 2 })
    assert.equal(5, calls)
  end)

  it("asks once for all who want the same, and shares a failure", function()
    open(function()
      catga.query { name = "Q", cache = "10s", handle = function(query)
        calls = calls + 1
        catga.sleep("1s")
        if query.fail then error("down") end
        return calls
      end }
    end)
    local handles = {}
    for i = 1, 5 do handles[i] = begin("Q", {}) end
    app:advance("2s")
    for i = 1, 5 do assert.equal(1, handles[i].value) end
    for i = 1, 5 do handles[i] = begin("Q", { fail = true }) end
    app:advance("2s")
    for i = 1, 5 do assert.truthy(handles[i].err.message:find("down")) end
    assert.equal(2, calls)
    assert.equal(8, status_of("query Q", "cache").shared)
  end)

  it("goes on when the one who asks is gone", function()
    open(function()
      catga.query { name = "Q", cache = "10s", handle = function()
        calls = calls + 1
        catga.sleep("1s")
        return calls
      end }
    end)
    begin("Q")
    app:settle()
    local first
    for _, task in ipairs(require("catga.native.task").live()) do
      if task.ctx and task.ctx.name == "Q" then first = task end
    end
    local second = begin("Q")
    app:settle()
    require("catga.task").drop(first)
    app:advance("2s")
    assert.equal(2, second.value)
  end)

  it("forgets what an event makes stale, at its commit, also what is under way", function()
    local price = 1
    open(function()
      catga.query { name = "Price", cache = { ttl = "1h", key = "id",
        invalidated_by = { PriceChanged = "item", OtherChanged = "id" } },
        handle = function()
          calls = calls + 1
          local now = price
          catga.sleep("1s")
          return now
        end }
      catga.query { name = "All", cache = { ttl = "1h", invalidated_by = { "PriceChanged" } },
        handle = function() calls = calls + 1 return calls end }
      catga.command("Change", function(cmd)
        price = cmd.price
        assert(catga.events.append("S", { { type = "PriceChanged", data = { item = cmd.id } } }))
        return true
      end)
    end)
    assert.equal(1, app:ask("Price", { id = 7 }))
    app:ask("Price", { id = 8 })
    app:send("Change", { id = 7, price = 2 })
    assert.equal(2, app:ask("Price", { id = 7 }))
    assert.equal(1, app:ask("Price", { id = 8 }))
    app:advance("2h")
    local under_way = begin("Price", { id = 7 })
    app:settle()
    app:send("Change", { id = 7, price = 3 })
    app:advance("2s")
    assert.equal(2, under_way.value)
    assert.equal(3, app:ask("Price", { id = 7 }))
  end)

  it("stands aside where something is staged that is not committed", function()
    open(function()
      catga.query { name = "Count", cache = "1h", handle = function()
        return #assert(catga.events.read("S"))
      end }
      catga.command("Add", function()
        append("S", "Added")
        return catga.ask("Count", {})
      end)
    end)
    assert.equal(0, app:ask("Count", {}))
    assert.equal(1, app:send("Add", {}))
    assert.equal(0, app:ask("Count", {}))
  end)
end)

describe("deduplication", function()
  it("gives duplicates the first answer, within the window; a failure is forgotten", function()
    local calls, fails = 0, false
    open(function()
      catga.command { name = "C", deduplicate = { key = "id", window = "1m" }, handle = function()
        calls = calls + 1
        catga.sleep("1s")
        if fails then error("down") end
        return { n = calls }
      end }
    end)
    local one, two = begin("C", { id = 1 }), begin("C", { id = 1 })
    app:advance("2s")
    assert.same({ { n = 1 }, { n = 1 } }, { one.value, two.value })
    assert.same({ n = 1 }, app:send("C", { id = 1 }))
    fails = true
    assert.is_nil(app:send("C", { id = 2 }))
    fails = false
    assert.same({ n = 3 }, app:send("C", { id = 2 }))
    app:advance("1m")
    assert.same({ n = 4 }, app:send("C", { id = 1 }))
    assert.equal(2, status_of("command C", "deduplicate").duplicates)
  end)

  it("of a nested message is remembered when it is committed", function()
    local calls = 0
    open(function()
      catga.command { name = "C", deduplicate = "id", handle = function()
        calls = calls + 1
        return calls
      end }
      catga.command("Outer", function(cmd)
        assert(catga.send("C", { id = 1 }))
        if cmd.fail then error("no commit") end
        return true
      end)
    end)
    app:send("Outer", { fail = true })
    app:send("Outer", {})
    assert.equal(2, calls)
    app:send("Outer", {})
    assert.equal(2, calls)
  end)
end)

describe("a hedge", function()
  it("calls once more after the delay; the first answer wins, the other is cancelled", function()
    local begun, ended = 0, 0
    open(function()
      catga.query { name = "Q", hedge = "100ms", handle = function(_, ctx)
        begun = begun + 1
        local nth = begun
        catga.sleep(nth == 1 and "10s" or "50ms")
        ended = ended + 1
        return { nth = nth, key = ctx.key }
      end }
    end)
    local start = app.clock:mono()
    assert.equal(2, app:ask("Q", {}).nth)
    assert.equal(150, app.clock:mono() - start)
    app:advance("1m")
    assert.same({ 2, 1 }, { begun, ended })
    assert.same({ hedges = 1, hedges_won = 1 }, app.app.registry.handlers.Q.scope.counters)
  end)

  it("fails at once when the only call fails, and waits for the other one else", function()
    local begun = 0
    open(function()
      catga.query { name = "Q", hedge = { after = "100ms" }, handle = function(query)
        begun = begun + 1
        if begun == 1 and query.slow then
          catga.sleep("200ms")
          error("late")
        end
        if not query.slow then error("down") end
        catga.sleep("1s")
        return "good"
      end }
    end)
    assert.is_nil(app:ask("Q", {}))
    assert.equal(1, begun)
    begun = 0
    assert.equal("good", app:ask("Q", { slow = true }))
  end)

  it("of an idempotent command has one outcome", function()
    local begun = 0
    open(function()
      catga.command { name = "C", idempotent = true, hedge = "100ms", handle = function()
        begun = begun + 1
        append("S", "Event" .. begun)
        catga.sleep(begun == 1 and "1s" or "2s")
        return begun
      end }
    end)
    local first = app:send("C", {}, { key = "k" })
    app:advance("1m")
    assert.equal(first, app:send("C", {}, { key = "k" }))
    assert.equal(1, #types_of("S"))
  end)

  it("is refused for what may not run twice", function()
    for _, case in ipairs {
      { function() catga.command { name = "C", hedge = "1s", handle = print } end,
        "needs idempotent = true" },
      { function() catga.on("E", { hedge = "1s" }, print) end, "a event cannot have hedge" },
      { function() catga.command { name = "C", cache = "1s", handle = print } end,
        "a command cannot have cache" },
      { function() catga.query { name = "Q", batch = 10, handle = print } end,
        "a query cannot have batch" },
    } do
      local opened, err = testing.app(case[1])
      assert.is_nil(opened)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)
end)

describe("a batch", function()
  local sizes
  local function define(batch, more)
    return function()
      sizes = {}
      local spec = { name = "Add", batch = batch, input = { n = "number" },
        handle = function(list, ctx)
          sizes[#sizes + 1] = #list
          local answers, failures = {}, {}
          for i, cmd in ipairs(list) do
            if cmd.n == 666 then error("poison") end
            if cmd.n < 0 then
              failures[i] = catga.error("negative")
            else
              append("S", "Added" .. cmd.n)
              answers[i] = cmd.n * 2
            end
          end
          assert.equal("Add", ctx.name)
          return answers, failures
        end }
      for name, value in pairs(more or {}) do spec[name] = value end
      catga.command(spec)
      catga.command("Outer", function() return catga.send("Add", { n = 1 }) end)
    end
  end

  it("gives each sender his own answer, out of one commit", function()
    open(define { max = 10, wait = "10ms" })
    local handles = {}
    for i = 1, 5 do handles[i] = begin("Add", { n = i == 3 and -1 or i }) end
    local wrong = begin("Add", { n = "text" })
    app:advance("10ms")
    assert.same({ 5 }, sizes)
    for i = 1, 5 do
      if i == 3 then
        assert.equal("negative", handles[i].err.code)
      else
        assert.equal(i * 2, handles[i].value)
      end
    end
    assert.equal("validation", wrong.err.code)
    assert.same({ "Added1", "Added2", "Added4", "Added5" }, types_of("S"))
  end)

  it("is handled when it is full, a batch for each key", function()
    open(define { max = 2, wait = "1h", key = function(cmd) return cmd.n % 2 end })
    local handles = {}
    for i = 1, 4 do handles[i] = begin("Add", { n = i }) end
    app:settle()
    assert.same({ 2, 2 }, sizes)
    for i = 1, 4 do assert.equal(i * 2, handles[i].value) end
  end)

  it("that fails as a whole is handled one by one: the poison fails alone", function()
    open(define { max = 3, wait = "1h" })
    local handles = {}
    for i, n in ipairs { 1, 666, 2 } do handles[i] = begin("Add", { n = n }) end
    app:settle()
    assert.same({ 3, 1, 1, 1 }, sizes)
    assert.same({ 2, 4 }, { handles[1].value, handles[3].value })
    assert.truthy(handles[2].err.message:find("poison"))
    assert.same({ "Added1", "Added2" }, types_of("S"))
  end)

  it("is a list of one in an open unit of work, and for who has a key", function()
    open(define { max = 3, wait = "1h" })
    assert.equal(2, app:send("Outer", {}))
    assert.equal(8, app:send("Add", { n = 4 }, { key = "k" }))
    assert.equal(8, app:send("Add", { n = 4 }, { key = "k" }))
    assert.same({ 1, 1 }, sizes)
  end)

  it("leaves out who waits no more", function()
    open(define({ max = 10, wait = "1s" }, { total_timeout = "100ms" }))
    local one = begin("Add", { n = 1 })
    app:advance("500ms")
    assert.equal("timeout", one.err.code)
    local two = begin("Add", { n = 2 })
    app:advance("2s")
    assert.equal("timeout", two.err.code)
    assert.same({}, sizes)
  end)
end)

describe("chaos", function()
  local function define()
    catga.command { name = "C", chaos = { error_rate = 0.5, delay = "1s", seed = 7 },
      handle = function() return true end }
  end

  local function outcomes()
    local list = {}
    for i = 1, 20 do
      local _, err = app:send("C", {})
      list[i] = err and err.code or "fine"
    end
    return table.concat(list, " ")
  end

  it("injects nothing unless catga.lua allows it", function()
    open(define)
    assert.equal(("fine "):rep(20), outcomes() .. " ")
    assert.falsy(table.concat(app.lines, "\n"):find("chaos"))
  end)

  it("injects the same faults for the same seed, and says so at the start", function()
    open(define, { chaos = "on" })
    assert.truthy(table.concat(app.lines, "\n"):find("chaos is on .*command C"))
    local start = app.clock:mono()
    local first = outcomes()
    assert.truthy(first:find("fine", 1, true) and first:find("chaos", 1, true), first)
    assert.is_true(app.clock:mono() - start > 1000)
    app:stop()
    open(define, { chaos = "on" })
    assert.equal(first, outcomes())
  end)
end)
