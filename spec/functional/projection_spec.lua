--- Projections: events to documents, exactly once, over restarts, failures, reloads and versions.
local testing = require "catga.testing"
local apps = require "catga.app"
local catga = require "catga"
local native_task = require "catga.native.task"
local sandbox = require "catga.sandbox"
local state = require "catga.state"

local app, dir

local function temporary_directory()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir " .. path) == 0)
  return path
end

-- The app of a define function, on a data directory that outlives it.
local function open(define, opts)
  opts = opts or {}
  opts.data = dir
  local opened, err = testing.app(define, opts)
  assert(opened, err and err.message)
  app = opened
  return app
end

local function publish(count, first)
  app:call(function()
    for i = first or 1, (first or 1) + count - 1 do
      assert(catga.events.append("Order-" .. i, { { type = "OrderCreated",
        data = { order_id = "o" .. i, n = i } } }))
    end
  end)
end

local function append(stream, kind, data)
  return app:call(function()
    return assert(catga.events.append(stream, { { type = kind, data = data } }))
  end)
end

local function status(name)
  for _, one in ipairs(app.app.projections:status()) do
    if one.name == name then return one end
  end
end

local function get(name, key) return app:document(name, key) end

local function find(name, filter, opts)
  return app:call(function() return catga.model(name):find(filter, opts) end)
end

local function said(pattern)
  for _, line in ipairs(app.lines) do
    if line:find(pattern) then return line end
  end
end

local function orders()
  local summary = catga.projection "OrderSummary"
  function summary.on.OrderCreated(event, model)
    model:put(event.order_id, { status = "created", n = event.n, seen = 1 })
  end
  function summary.on.OrderShipped(event, model)
    model:update(event.order_id, function(doc)
      doc.status = "shipped"
      doc.seen = (doc.seen or 0) + 1
    end)
  end
  function summary.on.OrderDeleted(event, model) model:delete(event.order_id) end
end

describe("a projection", function()
  before_each(function() dir = nil end)
  after_each(function()
    if app then app:stop() end
    app = nil
    if dir then os.execute("rm -rf " .. dir) end
  end)

  it("applies events to documents", function()
    open(orders)
    publish(3)
    append("Order-2", "OrderShipped", { order_id = "o2" })
    append("Order-3", "OrderDeleted", { order_id = "o3" })
    append("Order-9", "OrderShipped", { order_id = "o9" })
    app:settle()
    assert.same({ status = "created", n = 1, seen = 1 }, get("OrderSummary", "o1"))
    assert.same({ status = "shipped", n = 2, seen = 2 }, get("OrderSummary", "o2"))
    assert.is_nil(get("OrderSummary", "o3"))
    assert.same({ status = "shipped", seen = 1 }, get("OrderSummary", "o9"))
    assert.is_nil(get("OrderSummary", "never"))
  end)

  it("is caught up when settle returns", function()
    open(orders)
    for i = 1, 50 do
      publish(1, i)
      app:settle()
      assert.equal(0, status("OrderSummary").lag)
      assert.equal(i, get("OrderSummary", "o" .. i).n)
    end
    publish(2500, 51)
    app:settle()
    assert.equal(0, status("OrderSummary").lag)
    assert.equal(2550, get("OrderSummary", "o2550").n)
  end)

  it("is waited for by a settle right behind the append", function()
    open(orders)
    app:settle()
    for i = 1, 20 do
      local data = { order_id = "a", n = i }
      assert(catga.events.append("s", { { type = "OrderCreated", data = data } }))
      native_task.settle()
      assert.equal(0, status("OrderSummary").lag)
    end
  end)

  it("sees in a handler what the batch has done so far", function()
    open(function()
      local counts = catga.projection "Counts"
      function counts.on.Added(event, model)
        model:update("all", function(doc)
          doc.n = (doc.n or 0) + event.n
          return doc
        end)
        model:put("last", { n = assert(model:get("all")).n })
        model:put("gone", {})
        model:delete("gone")
        assert(model:get("gone") == nil)
        assert(model:get(7) == nil)
      end
    end)
    app:call(function()
      for i = 1, 300 do catga.events.append("Adds", { { type = "Added", data = { n = i } } }) end
    end)
    app:settle()
    assert.same({ n = 45150 }, get("Counts", "all"))
    assert.same({ n = 45150 }, get("Counts", "last"))
    assert.is_nil(get("Counts", "gone"))
  end)

  it("keeps documents apart from the tables of handlers", function()
    local kept
    open(function()
      local p = catga.projection "Kept"
      function p.on.A(event, model)
        model:put("a", event)
        event.x = 99
        model:update("a", function(doc) kept = doc end)
        kept.x = 98
        local doc = model:get("a")
        doc.x = 97
      end
    end)
    append("s", "A", { x = 1, list = catga.json.array() })
    app:settle()
    assert.equal(1, get("Kept", "a").x)
    assert.equal('{"list":[],"x":1}', catga.json.encode(get("Kept", "a")))
  end)

  it("gives the envelope as ctx", function()
    local seen
    open(function()
      local p = catga.projection "Envelopes"
      function p.on.Noted(event, model, ctx)
        seen = { type = ctx.type, stream = ctx.stream, version = ctx.version,
          position = ctx.position, time = ctx.time, id = ctx.id, event = event,
          correlation_id = ctx.correlation_id, causation_id = ctx.causation_id }
        model:put(ctx.stream, {})
      end
      catga.command("Note", function(_, ctx)
        catga.events.append("Notes", { { type = "Noted", data = { a = 1 } } })
        return { id = ctx.id }
      end)
    end)
    append("Notes", "Other", {})
    local answer = assert(app:send("Note", {}))
    app:settle()
    assert.equal("Noted", seen.type)
    assert.equal("Notes", seen.stream)
    assert.equal(1, seen.version)
    assert.equal(2, seen.position)
    assert.equal(app.clock:now(), seen.time)
    assert.equal("string", type(seen.id))
    assert.equal(answer.id, seen.causation_id)
    assert.equal(answer.id, seen.correlation_id)
    assert.same({ a = 1 }, seen.event)
  end)

  it("may follow the journals of processes", function()
    open(function()
      local p = catga.projection "Runs"
      function p.on.ProcessStarted(event, model, ctx)
        model:put(ctx.stream, { name = event.name })
      end
      function p.on.ProcessCompleted(event, model, ctx)
        model:update(ctx.stream, function(doc) doc.result = event.result end)
      end
      local P = catga.process "Double"
      function P.execute(_, input) return { twice = input.n * 2 } end
    end)
    assert(app:run("Double", { id = "d1", n = 4 }))
    app:settle()
    assert.same({ name = "Double", result = { twice = 8 } }, get("Runs", "Process-d1"))
  end)

  it("goes on at its checkpoint after a restart", function()
    dir = temporary_directory()
    open(orders)
    publish(20)
    append("Order-1", "OrderShipped", { order_id = "o1" })
    app:settle()
    app:stop()
    open(orders)
    assert.equal(2, get("OrderSummary", "o1").seen)
    append("Order-1", "OrderShipped", { order_id = "o1" })
    app:settle()
    assert.equal(3, get("OrderSummary", "o1").seen)
    assert.equal(0, status("OrderSummary").lag)
  end)

  it("applies each event once, however often the program is killed", function()
    dir = temporary_directory()
    local function define()
      local p = catga.projection "Sums"
      function p.on.Added(event, model)
        model:update("k" .. event.n % 7, function(doc) doc.n = (doc.n or 0) + 1 end)
        model:update("all", function(doc) doc.n = (doc.n or 0) + event.n end)
      end
    end
    local total = 0
    for round = 1, 8 do
      open(define)
      app:call(function()
        local list = {}
        for i = 1, 700 do list[i] = { type = "Added", data = { n = i } } end
        assert(catga.events.append("Adds", list))
      end)
      total = total + 700 * 701 / 2
      for _ = 1, round * 3 do native_task.yield() end -- It dies somewhere on its way.
      app:kill()
    end
    open(define)
    app:settle()
    assert.equal(total, get("Sums", "all").n)
    local sum = 0
    for i = 0, 6 do sum = sum + get("Sums", "k" .. i).n end
    assert.equal(8 * 700, sum)
  end)

  it("stops at a handler that raises, keeps what came before, and the app goes on", function()
    dir = temporary_directory()
    local is_mended = false
    local function define()
      orders()
      local p = catga.projection "Fragile"
      function p.on.OrderCreated(event, model)
        model:put(event.order_id, { n = event.n })
        model:put("last", { n = event.n })
        if event.n == 5 and not is_mended then error("five is too much") end
      end
    end
    open(define)
    app:call(function()
      local list = {}
      for i = 1, 8 do list[i] = { type = "OrderCreated", data = { order_id = "o" .. i, n = i } } end
      assert(catga.events.append("Orders", list)) -- One commit, so one batch.
    end)
    app:settle()
    local failed = status("Fragile")
    assert.equal("failed", failed.status)
    assert.equal(4, failed.position)
    assert.equal(5, failed.error.position)
    assert.equal("OrderCreated", failed.error.type)
    assert.truthy(failed.error.message:find("projection_spec.lua:%d+: five is too much"))
    assert.truthy(said("Fragile.*position 5.*OrderCreated.*projection_spec.lua:%d+: five"))
    assert.same({ n = 4 }, get("Fragile", "last"))
    assert.is_nil(get("Fragile", "o5"))
    assert.equal("running", status("OrderSummary").status)
    assert.equal(8, get("OrderSummary", "o8").n)

    app:stop()
    open(define) -- Not mended: it stops again at the same place.
    assert.equal("failed", status("Fragile").status)
    assert.same({ n = 4 }, get("Fragile", "last"))
    app:stop()
    is_mended = true
    open(define)
    assert.equal("running", status("Fragile").status)
    assert.same({ n = 8 }, get("Fragile", "last"))
  end)

  it("names what cannot be a document", function()
    for _, case in ipairs {
      { function(model) model:put("a", { x = { print } }) end, "document a: .*x%[1%].*function" },
      { function(model) model:put("a", "text") end, "a document is a table, got string" },
      { function(model) model:put(nil, {}) end, "the key of a document is a string" },
      { function(model) model:put(("k"):rep(2000), {}) end, "1024" },
      { function(model) model:update("a", {}) end, "the second argument is a function" },
      { function(model) model:update("a", function() return 5 end) end, "a document is a table" },
      { function() error(catga.error("odd", "an error value")) end, "an error value" },
    } do
      open(function()
        local p = catga.projection "Wrong"
        function p.on.A(_, model) case[1](model) end
      end)
      append("s", "A", {})
      app:settle()
      local failed = status("Wrong")
      assert.equal("failed", failed.status)
      assert.truthy(failed.error.message:find(case[2]), failed.error.message)
      assert.truthy(failed.error.message:find("projection_spec.lua:%d+:"), failed.error.message)
      app:stop()
    end
    app = nil
  end)

  it("finds documents by their fields", function()
    open(orders)
    publish(30)
    append("Order-3", "OrderShipped", { order_id = "o3" })
    append("Order-7", "OrderShipped", { order_id = "o7" })
    app:settle()
    local docs, keys = find("OrderSummary", { status = "shipped" })
    assert.same({ "o3", "o7" }, keys)
    assert.equal(7, docs[2].n)
    docs, keys = find("OrderSummary", { seen = 1 }, { order = "-n", max = 2, offset = 1 })
    assert.same({ "o29", "o28" }, keys)
    assert.equal(29, docs[1].n)
    assert.equal(30, #find("OrderSummary"))
    assert.same({}, (find("OrderSummary", { status = "shipped", n = 4 })))
    assert.same({}, (find("OrderSummary", { status = catga.null })))
    local _, err = find("OrderSummary", { status = {} })
    assert.equal("invalid", err.code)
    _, err = find("OrderSummary", { ["a\"b"] = 1 })
    assert.equal("invalid", err.code)
    assert.error_matches(function() find("OrderSummary", {}, { maximum = 1 }) end, "maximum")
    assert.error_matches(function() find("OrderSummary", {}, { max = 20000 }) end, "10,000")
  end)

  it("finds in a handler what the events before have done", function()
    open(function()
      local p = catga.projection "Ranks"
      function p.on.Scored(event, model)
        local better = model:find({ game = event.game }, { order = "-score", max = 1 })
        local best = better[1] and better[1].score or 0
        model:put(event.id, { game = event.game, score = event.score, best_before = best })
      end
      function p.on.Wrong(_, model)
        model:put("x", {})
        model:find()
      end
    end)
    app:call(function()
      local list = {}
      for i, score in ipairs { 5, 3, 9, 9, 1 } do
        list[i] = { type = "Scored", data = { id = "s" .. i, game = "g", score = score } }
      end
      catga.events.append("Scores", list)
    end)
    app:settle()
    local before = {}
    for i = 1, 5 do before[i] = get("Ranks", "s" .. i).best_before end
    assert.same({ 0, 5, 5, 9, 9 }, before)
    append("Scores", "Wrong", {})
    app:settle()
    assert.truthy(status("Ranks").error.message:find("before put"))
    assert.is_nil(get("Ranks", "x"))
  end)

  it("is unknown by another name", function()
    open(orders)
    assert.error_matches(function() get("OrderSumary", "o1") end, "did you mean OrderSummary")
  end)

  it("checks what a script defines", function()
    local function refused(define, pattern)
      local ok, err = testing.app(define)
      assert.is_nil(ok)
      assert.truthy(tostring(err.message):find(pattern), tostring(err.message))
    end
    refused(function() catga.projection "A"; catga.projection "A" end, "A is defined already")
    refused(function() catga.projection "A".version = "2" end, "whole number from 1")
    refused(function() catga.projection "A".verson = 2 end, "no field \"verson\"")
    refused(function() catga.projection "A".on.X = 5 end, "handler of X is a function")
    refused(function() catga.projection "sqlite_a" end, "cannot be the name")
    refused(function() catga.projection "a b" end, "cannot be the name")
    refused(function()
      local p = catga.projection "A"
      function p.on.X() end
      function p.on.X() end
    end, "handles X already")
  end)

  it("waits for a position", function()
    open(orders)
    publish(5)
    local position = app:position() - 1
    app:call(function() app.app.projections:wait_for(position) end)
    assert.equal(5, status("OrderSummary").position)
    assert.equal(5, get("OrderSummary", "o5").n)
    app:call(function() app.app.projections:wait_for(0) end)
  end)

  it("passes over events that it does not handle", function()
    dir = temporary_directory()
    open(orders)
    publish(1)
    append("Other", "Unrelated", {})
    app:settle()
    assert.equal(0, status("OrderSummary").lag)
    assert.equal(2, status("OrderSummary").position)
    app:call(function() app.app.projections:wait_for(2) end)
  end)

  it("waits while the disk is full, and goes on", function()
    open(orders)
    local real, tries = app.app.projections.models, 0
    local function apply(_, ...)
      tries = tries + 1
      if tries > 2 then return real:apply(...) end
      local failure = catga.error("disk_full", "no space left")
      return { wait = function() return true end, take = function() return nil, failure end }
    end
    app.app.projections.models = setmetatable({ apply = apply }, { __index = function(_, name)
      return function(_, ...) return real[name](real, ...) end
    end })
    publish(3)
    assert.equal("running", status("OrderSummary").status)
    assert.equal(3, status("OrderSummary").lag)
    app:advance("5s")
    assert.truthy(said("waits: no space left"))
    assert.equal(0, status("OrderSummary").lag)
    assert.equal(3, get("OrderSummary", "o3").n)
    app.app.projections.models = real
  end)

  it("is rebuilt when the log lost its end as its durability allows", function()
    dir = temporary_directory()
    open(orders, { settings = { durability = "os" } })
    publish(12)
    app:settle()
    app:stop()
    os.execute("rm -rf " .. dir .. "/log")
    open(orders, { settings = { durability = "os" } })
    assert.truthy(said("read models are rebuilt"))
    assert.is_nil(get("OrderSummary", "o12"))
    publish(1)
    app:settle()
    assert.equal(1, #find("OrderSummary"))
  end)

  it("refuses to start when the log has lost what a read model has seen", function()
    dir = temporary_directory()
    open(orders)
    publish(12)
    app:settle()
    app:stop()
    os.execute("rm -rf " .. dir .. "/log")
    app = nil
    local lost = assert(apps.open { define = orders, data = dir })
    local ok, err = pcall(lost.start, lost)
    lost:stop()
    state[1].app = nil
    assert.is_false(ok)
    assert.equal("corrupt", err.code)
    assert.truthy(err.message:find("OrderSummary"))
    assert.truthy(err.message:find("position 12"))
    assert.truthy(err.message:find("ends at position 0"))
    assert.truthy(err.message:find(dir .. "/models.sqlite", 1, true))
  end)
end)

describe("a new version of a projection", function()
  before_each(function() dir = temporary_directory() end)
  after_each(function()
    if app then app:stop() end
    app = nil
    os.execute("rm -rf " .. dir)
  end)

  local function version(number, hold)
    return function()
      local p = catga.projection "Orders"
      p.version = number
      function p.on.OrderCreated(event, model)
        while hold and hold.is_held do
          local clock = state[1].app.clock
          clock:sleep(1000)
        end
        model:put(event.order_id, { version = number, n = event.n })
      end
    end
  end

  it("is built beside the old one and takes over when it has caught up", function()
    open(version(1))
    publish(30)
    app:settle()
    app:stop()
    local hold = { is_held = true }
    open(version(2, hold))
    assert.equal(1, get("Orders", "o30").version)
    assert.is_false(status("Orders").is_serving)
    assert.equal(30, status("Orders").lag)
    hold.is_held = false
    app:advance("2s")
    assert.equal(2, get("Orders", "o30").version)
    assert.is_true(status("Orders").is_serving)
    assert.equal(30, #find("Orders"))
    assert.truthy(said("version 2 took over from version 1"))
    publish(1, 31)
    app:settle()
    assert.equal(2, get("Orders", "o31").version)
  end)

  it("goes on being built after a restart, and a step back is a version too", function()
    open(version(3))
    publish(30)
    app:settle()
    app:stop()
    local hold = { is_held = true }
    open(version(4, hold))
    app:stop()
    assert.equal(0, #app.lines)
    open(version(4))
    assert.equal(4, get("Orders", "o1").version)
    app:stop()
    open(version(3))
    assert.equal(3, get("Orders", "o30").version)
  end)

  it("comes with a reload while the old one goes on", function()
    local scripts = temporary_directory()
    local function write(text)
      local file = assert(io.open(scripts .. "/orders.lua", "w"))
      file:write("local catga = require 'catga'\nlocal p = catga.projection 'Orders'\n" .. text)
      file:close()
    end
    local handler = "function p.on.OrderCreated(event, model) model:put(event.order_id, %s) end\n"
    write(handler:format("{ made = 1 }"))
    open(scripts)
    publish(2)
    app:settle()
    write(handler:format("{ made = 1, more = true }")) -- The same version: from here on.
    app:call(function() assert(app.app:reload()) end)
    publish(1, 3)
    app:settle()
    assert.same({ made = 1 }, get("Orders", "o2"))
    assert.same({ made = 1, more = true }, get("Orders", "o3"))
    write("p.version = 2\n" .. handler:format("{ made = event.n > 2 and error('no') or 2 }"))
    app:call(function() assert(app.app:reload()) end)
    app:settle()
    local list = app.app.projections:status()
    assert.equal(2, #list)
    assert.equal("running", list[1].status)
    assert.equal("failed", list[2].status)
    publish(1, 4)
    app:settle()
    assert.same({ made = 1, more = true }, get("Orders", "o4")) -- The old one goes on.
    write("p.version = 2\n" .. handler:format("{ made = 2 }"))
    app:call(function() assert(app.app:reload()) end)
    app:settle()
    assert.equal(1, #app.app.projections:status())
    for i = 1, 4 do assert.same({ made = 2 }, get("Orders", "o" .. i)) end
    write("p.version = 2\n" .. handler:format("{ made = 3 }"):gsub("OrderCreated", "Else"))
    app:call(function() assert(app.app:reload()) end)
    append("s", "Else", { order_id = "e" })
    app:settle()
    assert.same({ made = 3 }, get("Orders", "e"))
    os.execute("rm -rf " .. scripts)
  end)
end)

describe("an idle projection", function()
  after_each(function()
    app:stop()
    app = nil
  end)

  it("does not run and follows at once", function()
    dir = nil
    open(orders)
    publish(1)
    app:settle()
    local started = sandbox.raw.clock()
    for i = 2, 101 do
      publish(1, i)
      app:call(function() app.app.projections:wait_for(app:position() - 1) end)
      assert.equal(i, get("OrderSummary", "o" .. i).n)
    end
    assert.is_true((sandbox.raw.clock() - started) / 100 < 0.005, "5 ms of CPU for an event")
  end)
end)
