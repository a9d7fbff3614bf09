--- Dispatch: exactly one handler, values and errors, units of work that nest, events after the
--- commit, ids of a conversation, conflicts.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, opts)
  app = assert(testing.app(define, opts))
  return app
end

local function lines_with(text)
  local count = 0
  for _, line in ipairs(app.lines) do
    if line:find(text, 1, true) then count = count + 1 end
  end
  return count
end

local function names_of(stream)
  local events = app:call(function() return catga.events.read(stream) end)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return list
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("a command", function()
  it("gives what its handler returns, with the data first and the envelope last", function()
    open(function()
      catga.command("Add", function(cmd, ctx)
        return { sum = cmd.a + cmd.b, name = ctx.name, kind = ctx.kind, attempt = ctx.attempt }
      end)
    end)
    assert.same({ sum = 3, name = "Add", kind = "command", attempt = 1 },
      app:send("Add", { a = 1, b = 2 }))
  end)

  it("gives nil and an error, whatever the handler returned as one", function()
    local cases = {
      { catga.error("refused", "not today"), "refused", "not today", false },
      { catga.error("busy", "later", { retryable = true }), "busy", "later", true },
      { { code = "plain", message = "a table" }, "plain", "a table", false },
      { "only text", "error", "only text", true },
      { 42, "error", "an error value of type number", true },
      { { message = "no code" }, "error", "no code", true },
      { { code = "" }, "error", nil, true },
      { { code = "odd", message = { 1 } }, "odd", nil, false },
    }
    open(function()
      catga.command("Fail", function(cmd) return nil, cases[cmd.n][1] end)
    end)
    for n, case in ipairs(cases) do
      local value, err = app:send("Fail", { n = n })
      assert.is_nil(value)
      assert.equal(case[2], err.code)
      if case[3] then assert.equal(case[3], err.message) end
      assert.equal("string", type(err.message))
      assert.equal(case[4], err.retryable == true)
    end
  end)

  it("that raises gives an error with file, line and traceback, counted and said once", function()
    open(function()
      catga.command("Inner", function() error("the wire is down") end)
      catga.command("Outer", function() return catga.send("Inner", {}) end)
    end)
    local value, err = app:send("Outer", {})
    assert.is_nil(value)
    assert.equal("error", err.code)
    assert.truthy(err.message:find("mediator_spec.lua:%d+: the wire is down"))
    assert.truthy(err.traceback:find("mediator_spec.lua", 1, true))
    assert.equal(1, lines_with("the wire is down"))
    local handlers = app.app.registry.handlers
    assert.same({ calls = 1, failures = 1 }, handlers.Inner.counter)
    assert.same({ calls = 1, failures = 1 }, handlers.Outer.counter)
  end)

  it("that raises any value gives an error value", function()
    local raised
    open(function()
      catga.command("Raise", function() error(raised) end)
    end)
    for _, case in ipairs {
      { catga.error("mine", "as it is"), "mine" }, { { code = "plain" }, "plain" },
      { { code = "" }, "error" }, { {}, "error" }, { true, "error" }, { nil, "error" },
    } do
      raised = case[1]
      local value, err = app:send("Raise", {})
      assert.is_nil(value)
      assert.equal(case[2], err.code)
      assert.equal("string", type(err.message))
    end
  end)

  it("may return false, or nothing", function()
    open(function()
      catga.command("False", function() return false end)
      catga.command("Nothing", function() end)
    end)
    local value, err = app:send("False", {})
    assert.is_false(value)
    assert.is_nil(err)
    value, err = app:send("Nothing", {})
    assert.is_nil(value)
    assert.is_nil(err)
  end)

  it("that nobody handles is an error that suggests a name near it", function()
    open(function()
      catga.command("CreateOrder", function() return 1 end)
      catga.query("GetOrder", function() return 1 end)
    end)
    for _, case in ipairs {
      { "send", "CreateOder", "unknown_command", "did you mean CreateOrder?" },
      { "send", "createorder", "unknown_command", "did you mean CreateOrder?" },
      { "send", "GetOrder", "unknown_command", "it is a query" },
      { "ask", "CreateOrder", "unknown_query", "it is a command" },
      { "ask", "GetOrdr", "unknown_query", "did you mean GetOrder?" },
    } do
      local value, err = app[case[1]](app, case[2], {})
      assert.is_nil(value)
      assert.equal(case[3], err.code)
      assert.truthy(err.message:find(case[4], 1, true), err.message)
    end
    local _, err = app:send("SomethingElse", {})
    assert.is_nil(err.message:find("did you mean", 1, true))
  end)

  it("has exactly one handler", function()
    local _, err = testing.app(function()
      catga.command("Twice", function() end)
      catga.query("Twice", function() end)
    end)
    assert.truthy(err.message:find("mediator_spec.lua:%d+: query Twice has a handler already, at "
      .. ".*mediator_spec.lua:%d+"), err.message)
  end)
end)

describe("a registration", function()
  it("that is wrong is a load error with its place", function()
    local nothing = function() end
    for _, case in ipairs {
      { function() catga.command("X") end, "X needs a handler function, got nil" },
      { function() catga.command("", nothing) end, "needs a name" },
      { function() catga.command { handle = nothing } end, "needs a name" },
      { function() catga.command { name = "X", handle = nothing, inputs = {} } end,
        "unknown field \"inputs\"" },
      { function() catga.on("X", "text") end, "X needs a handler function, got string" },
      { function() catga.main("text") end, "catga.main needs a function" },
      { function() catga.main(nothing) catga.main(nothing) end, "catga.main is set already, at" },
      { function() catga.process("P") catga.process("P") end, "process P is defined already, at" },
      { function() catga.process("") end, "a process needs a name" },
    } do
      local opened, err = testing.app(case[1])
      assert.is_nil(opened)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
      assert.truthy(err.message:find("mediator_spec.lua:%d+"), err.message)
    end
  end)

  it("outside of loading is an error", function()
    open(function() end)
    for what, call in pairs {
      ["catga.command"] = function() catga.command("X", function() end) end,
      ["catga.query"] = function() catga.query("X", function() end) end,
      ["catga.on"] = function() catga.on("X", function() end) end,
      ["catga.behavior"] = function() catga.behavior("x", function() end) end,
      ["catga.process"] = function() catga.process("X") end,
      ["catga.projection"] = function() catga.projection("X") end,
      ["catga.main"] = function() catga.main(function() end) end,
    } do
      local ok, message = pcall(app.call, app, call)
      assert.is_false(ok)
      assert.truthy(message.message:find(what .. " registers things and belongs at the top level",
        1, true), message.message)
      assert.truthy(message.message:find("mediator_spec.lua:%d+"), message.message)
    end
  end)
end)

describe("nested sends", function()
  local function define()
    catga.command("Note", function(cmd)
      assert(catga.events.append("Notes", { { type = cmd.type } }))
      if cmd.fail then return nil, catga.error("refused") end
      if cmd.crash then error("crashed") end
      return cmd.type
    end)
    catga.command("Outer", function(cmd)
      assert(catga.events.append("Notes", { { type = "First" } }))
      local value, err = catga.send("Note", cmd.note)
      assert(catga.events.append("Notes", { { type = "Last" } }))
      if cmd.fail then return nil, catga.error("outer") end
      return { value = value, code = err and err.code }
    end)
  end

  it("join the unit of work: one commit", function()
    open(define)
    local before = app.app.store:stats().commit_count
    assert.same({ value = "Inner" }, app:send("Outer", { note = { type = "Inner" } }))
    assert.equal(before + 1, app.app.store:stats().commit_count)
    assert.same({ "First", "Inner", "Last" }, names_of("Notes"))
  end)

  it("that fail take back only what they staged themselves", function()
    for _, how in ipairs { "fail", "crash" } do
      open(define)
      local result = app:send("Outer", { note = { type = "Inner", [how] = true } })
      assert.equal(how == "fail" and "refused" or "error", result.code)
      assert.same({ "First", "Last" }, names_of("Notes"))
      app:stop()
    end
    app = nil
  end)

  it("are taken back when the outermost handler fails", function()
    open(define)
    local before = app:position()
    local _, err = app:send("Outer", { note = { type = "Inner" }, fail = true })
    assert.equal("outer", err.code)
    assert.equal(before, app:position())
  end)
end)

describe("an event", function()
  it("is handled after the commit, by each handler alone", function()
    local seen = {}
    open(function()
      catga.command("Create", function(cmd, ctx)
        assert(catga.publish("Created", { id = cmd.id }))
        seen[#seen + 1] = "handler ends"
        return ctx.id
      end)
      catga.on("Created", function(event)
        event.id = "changed"
        seen[#seen + 1] = "first"
        error("the first one fails")
      end)
      catga.on("Created", function(event) seen[#seen + 1] = "second " .. event.id end)
    end)
    assert.truthy(app:send("Create", { id = "7" }))
    app:settle()
    assert.equal("handler ends", seen[1])
    table.sort(seen)
    assert.same({ "first", "handler ends", "second 7" }, seen)
    assert.equal(1, lines_with("the first one fails"))
    assert.same({ "Created" }, names_of("$type-Created"))
  end)

  it("of a failed command is not delivered", function()
    local seen = 0
    open(function()
      catga.command("Create", function(cmd)
        catga.publish("Created", {}, { qos = cmd.qos })
        return nil, catga.error("no")
      end)
      catga.on("Created", function() seen = seen + 1 end)
    end)
    app:send("Create", {})
    app:send("Create", { qos = 0 })
    app:settle()
    assert.equal(0, seen)
  end)

  it("with qos 0 is delivered and not stored", function()
    local seen
    open(function()
      catga.on("Tick", function(event, ctx) seen = { n = event.n, kind = ctx.kind } end)
      catga.command("Tell", function() return catga.publish("Tick", { n = 2 }, { qos = 0 }) end)
    end)
    local before = app:position()
    assert.is_true(app:publish("Tick", { n = 1 }, { qos = 0 }))
    app:settle()
    assert.same({ n = 1, kind = "event" }, seen)
    assert.is_true(app:send("Tell", {}))
    app:settle()
    assert.same({ n = 2, kind = "event" }, seen)
    assert.equal(before, app:position())
    local ok, err = app:publish("Tick", { f = print }, { qos = 0 })
    assert.is_nil(ok)
    assert.truthy(err.message:find("Tick.f", 1, true), err.message)
  end)

  it("takes no other options than qos 0 and 1", function()
    open(function() end)
    for _, opts in ipairs { { qos = 2 }, { qos = "0" }, { quality = 0 } } do
      assert.is_false(pcall(app.publish, app, "Tick", {}, opts))
    end
  end)

  it("tells its handlers which record it is", function()
    local got
    open(function()
      catga.on("Moved", function(_, ctx)
        got = { stream = ctx.stream, version = ctx.version, position = ctx.position, id = ctx.id }
      end)
    end)
    app:call(function()
      assert(catga.events.append("Car-1", { { type = "Moved" }, { type = "Moved" } }))
    end)
    app:settle()
    local record = app:call(function() return catga.events.read("Car-1") end)[2]
    assert.same({ stream = "Car-1", version = 1, position = record.position, id = record.id }, got)
  end)
end)

describe("the ids of a conversation", function()
  it("flow from command to event to handler to command", function()
    local first, event, second
    local function ids_of(ctx)
      return { id = ctx.id, correlation_id = ctx.correlation_id, causation_id = ctx.causation_id }
    end
    open(function()
      catga.command("First", function(_, ctx)
        first = ids_of(ctx)
        return catga.publish("Happened", {})
      end)
      catga.on("Happened", function(_, ctx)
        event = ids_of(ctx)
        catga.send("Second", {})
      end)
      catga.command("Second", function(_, ctx)
        second = ids_of(ctx)
        return true
      end)
    end)
    app:send("First", {})
    app:settle()
    assert.equal(first.id, first.correlation_id)
    assert.is_nil(first.causation_id)
    assert.same({ first.id, first.id }, { event.correlation_id, event.causation_id })
    assert.same({ first.id, event.id }, { second.correlation_id, second.causation_id })
    local ids = { [first.id] = true, [event.id] = true, [second.id] = true }
    local count = 0
    for _ in pairs(ids) do count = count + 1 end
    assert.equal(3, count)
  end)

  it("are in the metadata of an event: that of the handler that appended it", function()
    local outer, inner
    open(function()
      catga.command("Inner", function(_, ctx)
        inner = ctx.id
        return catga.events.append("S", { { type = "ByInner" } })
      end)
      catga.command("Outer", function(_, ctx)
        outer = ctx.id
        catga.events.append("S", { { type = "ByOuter" } })
        return catga.send("Inner", {})
      end)
    end)
    app:send("Outer", {})
    local events = app:call(function() return catga.events.read("S") end)
    assert.same({ correlation_id = outer, causation_id = outer }, events[1].metadata)
    assert.same({ correlation_id = outer, causation_id = inner }, events[2].metadata)
  end)

  it("come from outside when they are given", function()
    local got
    open(function()
      catga.command("C", function(_, ctx) got = { ctx.id, ctx.key, ctx.correlation_id } end)
    end)
    app:send("C", {}, { id = "message-1", correlation_id = "talk" })
    assert.same({ "message-1", "message-1", "talk" }, got)
  end)

  it("of a qos 0 event too", function()
    local got, sent
    open(function()
      catga.on("Tick", function(_, ctx) got = { ctx.correlation_id, ctx.causation_id } end)
      catga.command("C", function(_, ctx)
        sent = ctx.id
        return catga.publish("Tick", {}, { qos = 0 })
      end)
    end)
    app:send("C", {})
    app:settle()
    assert.same({ sent, sent }, got)
  end)

  it("give each handler of an event keys of its own for what it sends", function()
    local keys = {}
    open(function()
      catga.command { name = "Notify", idempotent = true, handle = function(cmd, ctx)
        keys[#keys + 1] = ctx.key
        return cmd.to
      end }
      catga.on("Happened", function() catga.send("Notify", { to = "a" }) end)
      catga.on("Happened", function() catga.send("Notify", { to = "b" }) end)
    end)
    app:publish("Happened", {})
    app:settle()
    assert.equal(2, #keys)
    assert.not_equal(keys[1], keys[2])
  end)
end)

describe("a conflict at the commit", function()
  -- The handler reads, waits while another unit writes, and expects what it read.
  local function define(runs)
    return function()
      catga.command("Other", function()
        return catga.events.append("Counter", { { type = "Other" } })
      end)
      catga.command("Inner", function(_, ctx)
        runs.keys[#runs.keys + 1] = ctx.key
        return true
      end)
      catga.command("Count", function(cmd)
        runs.count = runs.count + 1
        local last = catga.events.read("Counter", { backward = true, max = 1 })[1]
        local version, err = catga.events.append("Counter", { { type = "Counted" } },
          { expect = last and last.version or "none" })
        if not version then return nil, err end
        catga.send("Inner", {})
        if runs.count <= cmd.disturbed then
          catga.spawn(function() catga.send("Other", {}) end):wait()
        end
        return runs.count
      end)
    end
  end

  it("runs the unit again, with the same keys", function()
    local runs = { count = 0, keys = {} }
    open(define(runs))
    assert.equal(3, app:send("Count", { disturbed = 2 }, { key = "k" }))
    assert.same({ "Other", "Other", "Counted" }, names_of("Counter"))
    assert.equal(3, #runs.keys)
    assert.equal(runs.keys[1], runs.keys[2])
    assert.equal(runs.keys[1], runs.keys[3])
  end)

  it("again and again ends with an error", function()
    local runs = { count = 0, keys = {} }
    open(define(runs))
    local value, err = app:send("Count", { disturbed = 1000 })
    assert.is_nil(value)
    assert.equal("conflict", err.code)
    assert.is_true(err.retryable)
    assert.equal(10, runs.count)
    assert.equal(10, #names_of("Counter"))
  end)
end)
