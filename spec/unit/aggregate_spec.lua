--- Aggregates: commands raise events, events make the state, and what is wrong is told.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local define_order = dofile "spec/support/order.lua"
local catga = require "catga"
local state = require "catga.state"

local app, Order

-- The order of a spec, with more.
local function define(more)
  return define_order(function(O)
    Order = O
    if more then more(O) end
  end)
end

local function open(more, opts)
  local err
  app, err = testing.app(define(more), opts)
  assert(app, err and err.message)
  return app
end

local function run(fn, ...) return app:call(fn, ...) end

local function create(id)
  return run(function() return Order.update(id, function(o) return o:create { customer = "c" } end)
  end)
end

local function add(id, sku, amount)
  return assert(run(Order.update, id, function(o) return o:add(sku, amount) end))
end

local function types_of(stream)
  local list = {}
  for i, event in ipairs(run(catga.events.read, stream)) do list[i] = event.type end
  return table.concat(list, " ")
end

-- What a function raises inside the app.
local function raised(fn, ...)
  local ok, err = pcall(run, fn, ...)
  assert.is_false(ok)
  return type(err) == "table" and err.message or err
end

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

describe("an aggregate", function()
  it("is new without events", function()
    open()
    local order = run(Order.load, "1")
    assert.equal(-1, order.version)
    assert.equal("1", order.id)
    assert.equal("Order-1", order.stream)
    assert.same({ status = "none", lines = {}, total = 0 }, order.state)
    assert.same({}, order:uncommitted())
    assert.equal(-1, run(order.save, order))
    assert.is_nil(app.app.store:stream("Order-1"))
    assert.equal("aggregate Order-1, version -1", tostring(order))
  end)

  it("raises, saves and loads", function()
    open()
    run(function()
      local order = Order.load "42"
      assert.equal("42", order:create { customer = "Ann" })
      order:add("A", 5)
      assert.equal("created", order.state.status)
      assert.equal(1, order.version)
      assert.same({ { type = "OrderCreated", data = { customer = "Ann" }, version = 0 },
        { type = "LineAdded", data = { sku = "A", amount = 5 }, version = 1 } },
        order:uncommitted())
      assert.equal(1, order:save())
      assert.same({}, order:uncommitted())
      order:add("B", 2)
      assert.equal(2, order:save())
    end)
    local order = run(Order.load, "42")
    assert.equal(2, order.version)
    assert.same({ status = "created", customer = "Ann", total = 7,
      lines = { { sku = "A", amount = 5 }, { sku = "B", amount = 2 } } }, order.state)
    assert.equal("OrderCreated LineAdded LineAdded", types_of "Order-42")
  end)

  it("passes on what its commands refuse, and saves nothing then", function()
    open()
    assert(create "1")
    local value, err = create "1"
    assert.is_nil(value)
    assert.equal("exists", err.code)
    assert.equal("OrderCreated", types_of "Order-1")
    assert.is_true(run(Order.update, "1", function(o) return o:add("A", 1) end))
    assert.is_true(run(Order.update, "1", function() end))
  end)

  it("meets a conflict when another one was faster", function()
    open()
    assert(create "1")
    local ok, err = run(function()
      local one, other = Order.load "1", Order.load "1"
      one:add("A", 1)
      other:add("B", 1)
      assert.equal(1, other:save())
      return one:save()
    end)
    assert.is_nil(ok)
    assert.equal("conflict", err.code)
    assert.is_true(err.retryable)
    assert.equal("OrderCreated LineAdded", types_of "Order-1")
    local _, both_new = run(function()
      local one, other = Order.load "2", Order.load "2"
      one:create {}
      other:create {}
      assert(other:save())
      return one:save()
    end)
    assert.equal("conflict", both_new.code)
  end)

  it("gets its own copy of what was raised", function()
    open()
    run(function()
      local order = Order.load "1"
      order:create {}
      local line = { sku = "A", amount = 1 }
      order:raise("LineAdded", line)
      line.sku = "changed"
      assert.equal("A", order.state.lines[1].sku)
      order.state.lines[1].amount = 99
      order:uncommitted()[2].data.sku = "changed too"
      assert(order:save())
    end)
    assert.same({ sku = "A", amount = 1 }, run(Order.load, "1").state.lines[1])
  end)

  it("is seen within its unit of work before the commit", function()
    open(function()
      catga.command("Both", function()
        assert(Order.update("1", function(o) return o:create {} end))
        assert(Order.update("1", function(o) return o:add("A", 1) end))
        local order = Order.load "1"
        local before = Order.load("1", { at = catga.now() }).version
        return { version = order.version, total = order.state.total, stored = before }
      end)
    end)
    local position = app:position()
    assert.same({ version = 1, total = 1, stored = -1 }, app:send "Both")
    assert.equal(position + 2, app:position())
  end)

  it("stages nothing for a handler that fails", function()
    open(function()
      catga.command("Fails", function()
        assert(Order.update("1", function(o) return o:create {} end))
        return nil, catga.error("no")
      end)
      catga.command("Update", function()
        local value, err = Order.update("1", function(o)
          o:create {}
          catga.events.append("Other-1", { { type = "Noted" } })
          return nil, catga.error("refused")
        end)
        assert(value == nil and err.code == "refused")
        local ok = pcall(Order.update, "1", function()
          catga.events.append("Other-1", { { type = "Noted" } })
          error "bug"
        end)
        return ok
      end)
    end)
    assert.is_nil((app:send "Fails"))
    assert.is_false(app:send "Update")
    assert.equal("", types_of "Order-1")
    assert.equal("", types_of "Other-1")
  end)

  it("is used in the steps of a process, not in its body", function()
    open(function()
      local P = catga.process "P"
      function P:execute(input)
        if input.in_body then return Order.load("1").version end
        return self:create(input)
      end
      function P:create(input)
        local order = assert(Order.load(input.id))
        assert(order:create { customer = "p" })
        return assert(order:save())
      end
    end)
    assert.equal(0, app:run("P", { id = "1" }))
    assert.equal("OrderCreated", types_of "Order-1")
    local _, err = app:run("P", { id = "2", in_body = true })
    assert.matches("Order.load in the body of a process would run again on every replay; load it "
      .. "in a step", err.message)
  end)

  it("is made out of given events", function()
    open()
    local order = run(Order.from_history, { { type = "OrderCreated", data = { customer = "x" } },
      { type = "OrderShipped" } }, "9")
    assert.equal(1, order.version)
    assert.equal("shipped", order.state.status)
    assert.equal("9", order.id)
    assert.same({}, order:uncommitted())
    assert.matches("from_history: event 1 needs a type", raised(Order.from_history, { {} }))
    assert.matches("an aggregate without an id cannot be saved", raised(function()
      local nameless = Order.from_history {}
      nameless:create {}
      nameless:save()
    end))
  end)

  it("has commands that use each other and constants", function()
    open(function(O)
      O.MOST = 2
      function O:fill() for i = 1, self.MOST do assert(not select(2, self:add("x" .. i, 1))) end end
    end)
    assert(create "1")
    assert(run(Order.update, "1", function(o) return o:fill() end))
    assert.equal(2, run(Order.load, "1").state.total)
    assert.equal(2, Order.MOST)
    assert.equal("Order", Order.name)
  end)

  it("reads many pages of events", function()
    open()
    assert(create "1")
    run(function()
      local list = {}
      for i = 1, 1700 do list[i] = { type = "LineAdded", data = { sku = "s", amount = i } } end
      assert(catga.events.append("Order-1", list))
    end)
    local order = run(Order.load, "1")
    assert.equal(1700, order.version)
    assert.equal(1700 * 1701 / 2, order.state.total)
  end)

  it("keeps its events in order with those of other types when unknown ones are ignored", function()
    open(function(O) O.ignore_unknown = true end)
    assert(create "1")
    run(catga.events.append, "Order-1", { { type = "Strange" }, { type = "LineAdded",
      data = { amount = 3 } } })
    local order = run(Order.load, "1")
    assert.equal(2, order.version)
    assert.equal(3, order.state.total)
    add("1", "A", 1)
    assert.equal(4, run(Order.load, "1").state.total)
    assert(run(Order.update, "1", function(o) o:raise "Strange" end))
  end)
end)

describe("an aggregate refuses", function()
  local function refusal(fn)
    local opened, err = testing.app(fn)
    assert.is_nil(opened)
    return err.message
  end

  it("to be defined wrongly", function()
    local cases = {
      { "aggregate_spec.lua:%d+: aggregate A has no initial function", function()
        catga.aggregate "A"
      end },
      { "aggregate_spec.lua:%d+: aggregate A is defined already, at .*aggregate_spec.lua:%d+",
        function()
          catga.aggregate "A"
          catga.aggregate "A"
        end },
      { "\"A%-B\" cannot be the name of an aggregate", function() catga.aggregate "A-B" end },
      { "\"Process\" cannot be the name", function() catga.aggregate "Process" end },
      { "an aggregate needs a name", function() catga.aggregate(5) end },
      { "aggregate_spec.lua:%d+: aggregate A: save is a reserved name", function()
        local A = catga.aggregate "A"
        function A:save() return self end
      end },
      { "load is a reserved name", function() catga.aggregate("A").load = 1 end },
      { "state is a reserved name", function() catga.aggregate("A").state = {} end },
      { "aggregate_spec.lua:%d+: aggregate A: apply.X is a function%(state, event, ctx%), got nil",
        function() catga.aggregate("A").apply.X = nil end },
      { "apply.X is there already", function()
        local A = catga.aggregate "A"
        function A.apply.X() end
        function A.apply.X() end
      end },
      { "there is no setting ignore_unkown; did you mean ignore_unknown", function()
        catga.aggregate("A").ignore_unkown = true
      end },
      { "initial is a function, got table", function() catga.aggregate("A").initial = {} end },
      { "shape is a number or string, got table", function() catga.aggregate("A").shape = {} end },
      { "go is defined already", function()
        local A = catga.aggregate "A"
        function A:go() return self end
        function A:go() return self end
      end },
      { "aggregate A: snapshot: unknown rule \"evry\"; there are every, after, bytes and store",
        function()
          local A = catga.aggregate "A"
          function A.initial() return {} end
          A.snapshot = { evry = 3 }
        end },
    }
    for _, rule in ipairs { { "every", 0, "snapshot.every is a number of events, from 1, not 0" },
      { "after", 5, "snapshot.after must be a string with a unit" },
      { "bytes", "5", "snapshot.bytes must be a size with a unit" },
      { "store", { get = print }, "snapshot.store is a table with the functions get, put and" } } do
      cases[#cases + 1] = { rule[3], function()
        local A = catga.aggregate "A"
        function A.initial() return {} end
        A.snapshot[rule[1]] = rule[2]
      end }
    end
    for _, case in ipairs(cases) do assert.matches(case[1], refusal(case[2])) end
  end)

  it("to be defined while the app runs", function()
    open()
    assert.has_error(function() catga.aggregate "Late" end)
  end)

  it("wrong ids and options", function()
    open()
    assert.matches("^spec/unit/aggregate_spec.lua:%d+: aggregate Order: load: the id is a string "
      .. "of 1 to 800 bytes, got number 5", raised(function() Order.load(5) end))
    for _, case in ipairs {
      { "got one of 0", function() Order.load "" end },
      { "got one of 801", function() Order.load(("x"):rep(801)) end },
      { "update: the id is a string", function() Order.update(nil, print) end },
      { "fn is nil", function() Order.update "1" end },
      { "load: unknown option \"versoin\"", function() Order.load("1", { versoin = 1 }) end },
      { "a version is a whole number", function() Order.load("1", { version = 1.5 }) end },
      { "a version is a whole number", function() Order.diff("1", 1) end },
      { "either a version or a time", function() Order.load("1", { version = 1, at = 5 }) end },
      { "at must be a time such as", function() Order.load("1", { at = "yesterday" }) end },
      { "unknown option \"tries\"; there is attempts", function()
        Order.update("1", print, { tries = 3 })
      end },
      { "attempts is a whole number", function() Order.update("1", print, { attempts = 0 }) end },
    } do assert.matches(case[1], raised(case[2])) end
    assert(run(Order.load, ("x"):rep(800)))
  end)

  it("events that it has no apply function for", function()
    open()
    assert(create "1")
    run(catga.events.append, "Order-1", { { type = "LineAded", data = {} } })
    assert.matches("aggregate Order: event LineAded, version 1 of stream Order%-1 cannot be "
      .. "applied: there is no Order.apply.LineAded %(did you mean LineAdded%?%); add it, or set "
      .. "Order.ignore_unknown = true", raised(Order.load, "1"))
    assert.matches("^spec/unit/aggregate_spec.lua:%d+: aggregate Order: raise: there is no "
      .. "Order.apply.Strange", raised(function() Order.load("2"):raise "Strange" end))
  end)

  it("an apply function that fails, with its place", function()
    open(function(O) function O.apply.Bad(order) order.missing.x = 1 end end)
    assert.matches("event Bad, version 0 of stream Order%-1 cannot be applied: "
      .. "spec/unit/aggregate_spec.lua:%d+: attempt to index",
      raised(function() Order.load("1"):raise "Bad" end))
    local message = raised(function()
      local order = Order.load "1"
      pcall(order.raise, order, "Bad")
      order:create {}
    end)
    assert.matches("aggregate Order%-1 is of no use any more, load it again", message)
  end)

  it("an apply or initial function that returns or does what it must not", function()
    open(function(O)
      function O.apply.Returns() return {} end
      function O.apply.Fixed(order)
        local keys = { os.date("!%Y", 1767225600) }
        for key in pairs { c = 1, a = 1, b = 1 } do keys[#keys + 1] = key end
        keys[#keys + 1] = tostring {}
        order.fixed = table.concat(keys, " ")
      end
      function O.apply.State(order) return order end
      function O.apply.Time(_, _, ctx) return ctx.time end
      function O.apply.Now() catga.now() end
      function O.apply.Sends() catga.send("X", {}) end
      function O.apply.Clock() return os.time() and nil end
      function O.apply.Date() return os.date() and nil end
      function O.apply.Used() return os.clock() and nil end
      function O.apply.Chance() return math.random(3) and nil end
      function O.apply.Reads() io.open("/dev/null") end
      function O.apply.Key(order) for _ in pairs { [order] = 1 } do order.x = 1 end end
      local Wrong = catga.aggregate "Wrong"
      function Wrong.initial() return 5 end
      O.wrong = function() return Wrong.load "1" end
    end)
    for kind, message in pairs { Returns = "apply changes the state that it is given",
      Time = "no time: what else it needs must be in the event's data",
      Now = "catga.now in an apply function, which runs on every read",
      Sends = "catga.send in an apply function",
      Clock = "os.time in an apply function, which runs on every read, gives something else",
      Date = "os.date in an apply", Used = "os.clock in an apply",
      Chance = "math.random in an apply function", Reads = "io.open in an apply function",
      Key = "pairs in an apply function: a key of type table has no order" } do
      assert.matches(message, raised(function() Order.load("1"):raise(kind) end))
    end
    assert(run(Order.update, "1", function(o) o:raise "State" end))
    assert(run(Order.update, "1", function(o) o:raise "Fixed" end))
    assert.equal("2026 a b c table", run(Order.load, "1").state.fixed)
    assert.matches("initial returns the state, a table, not number", raised(Order.wrong))
    assert.is_nil(state[1].pure)
  end)

  it("data that cannot be stored, with its path", function()
    open()
    assert.matches("LineAdded.f", raised(function()
      Order.load("1"):raise("LineAdded", { f = print })
    end))
  end)

  it("fields set on it, and verbs without it", function()
    open()
    assert.matches("aggregate_spec.lua:%d+: aggregate Order: status cannot be set: what changes "
      .. "belongs into self.state", raised(function() Order.load("1").status = "x" end))
    assert.matches("raise is a method of an aggregate: self:raise", raised(function()
      Order.load("1").raise("OrderCreated", {})
    end))
  end)

  it("to be used while scripts load", function()
    assert.matches("Order.load can only be called while the app runs", refusal(define(function()
      Order.load "1"
    end)))
  end)
end)

describe("the ctx of an apply function", function()
  it("is the same when an event is raised and when it is read", function()
    local seen = {}
    open(function(O)
      function O.apply.Seen(_, _, ctx)
        seen[#seen + 1] = { ctx.id, ctx.stream, ctx.type, ctx.version }
      end
    end)
    assert(create "7")
    assert(run(Order.update, "7", function(o) o:raise "Seen" end))
    run(Order.load, "7")
    assert.same({ "7", "Order-7", "Seen", 1 }, seen[1])
    assert.same(seen[1], seen[2])
  end)
end)

describe("upcasters and aggregates", function()
  it("see events in their newest version, dropped ones counted", function()
    open()
    run(catga.events.append, "Order-1", { { type = "Made", data = { who = "Ann" } },
      { type = "Noise", data = {} }, { type = "LineAdded", data = { sku = "A", price = 3 } } })
    local source = define(function()
      catga.upcast("Made", 1, function(data) return { customer = data.who }, "OrderCreated" end)
      catga.upcast("Noise", 1, function() return catga.dropped end)
      catga.upcast("LineAdded", 1, function(data)
        return { sku = data.sku, amount = data.price }
      end)
    end)
    app = assert(app:crash(nil, source))
    local order = run(Order.load, "1")
    assert.equal(2, order.version)
    assert.same({ status = "created", customer = "Ann", total = 3,
      lines = { { sku = "A", amount = 3 } } }, order.state)
    add("1", "B", 4)
    assert.equal(2, run(catga.events.read, "Order-1", { from = 3 })[1].metadata.schema)
    assert.equal(7, run(Order.load, "1").state.total)
  end)
end)

describe("an aggregate of a module", function()
  it("is used by several scripts, and anew after a reload", function()
    local lib = [[
      local catga = require "catga"
      local Counter = catga.aggregate "Counter"
      function Counter.initial() return { n = 0 } end
      function Counter.apply.Counted(state) state.n = state.n + %d end
      function Counter:count() self:raise "Counted" return self.state.n end
      return Counter
    ]]
    local script = [[
      local catga = require "catga"
      local Counter = require "counter"
      catga.command("%s", function(cmd)
        return Counter.update(cmd.id, function(c) return c:count() end)
      end)
    ]]
    local dir = app_dir.new { ["lib/counter.lua"] = lib:format(1), ["a.lua"] = script:format "A",
      ["b.lua"] = script:format "B" }
    app = assert(testing.app(dir))
    assert.equal(1, app:send("A", { id = "1" }))
    assert.equal(2, app:send("B", { id = "1" }))
    app_dir.write(dir, "lib/counter.lua", lib:format(10))
    assert(run(function() return app.app:reload() end))
    assert.equal(30, app:send("A", { id = "1" }))
    app_dir.write(dir, "lib/counter.lua", "return (")
    assert.is_false(run(function() return app.app:reload() end))
    assert.equal(40, app:send("B", { id = "1" }))
  end)
end)
