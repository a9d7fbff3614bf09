--- Processes that are declared as a chain of steps: what they do, and that it is what methods do.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local app
local calls = {}

local function called(...) calls[#calls + 1] = table.concat({ ... }, " ") end

local function open(fill, opts)
  calls = {}
  app = assert(testing.app(fill, opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function commands()
  catga.command("Charge", function(cmd, ctx)
    called("charge", cmd.amount, ctx.key)
    if cmd.amount > 1000 then return nil, catga.error("no_money") end
    return { payment = "p" .. cmd.amount }
  end)
  catga.command("Refund", function(cmd)
    called("refund", cmd.payment)
    return true
  end)
end

local tries

-- One order flow, declared.
local function declared()
  tries = 0
  commands()
  catga.process("Order")
    :step("reserve", function(order) return { hold = "h" .. order.id } end)
      :compensate(function(result, order) called("release", result and result.hold, order.id) end)
    :send("Charge", function(order, results)
      return { amount = order.amount, hold = results.reserve.hold }
    end)
      :compensate(function(result, _, results, self)
        if not result then return called "nothing to refund" end
        self:send("Refund", { payment = result.payment, hold = results.reserve.hold })
      end)
    :sleep("2s")
    :step("gift", function() return "chocolate" end)
      :when(function(order, results) return order.amount > 100 and results.Charge ~= nil end)
    :parallel("goods and notice", {
      goods = catga.steps()
        :step("pick", function(order) return "picked " .. order.id end)
        :step("pack", function(_, results)
          tries = tries + 1
          if tries == 1 then error("dropped") end
          return results.pick .. ", packed"
        end):attempts(3):backoff("10s")
          :compensate(function(result) called("unpack", result) end),
      notice = function() return "told" end,
    })
    :step("stamp", function(order)
      if order.fails then error(catga.error("no_ink")) end
      return order.id .. " stamped"
    end)
    :on_failure(function(failure, order) called("failed", failure.code, order.id) end)
    :result(function(order, results)
      return { id = order.id, parcel = results.pack, gift = results.gift }
    end)
end

-- The same flow as methods.
local function methods()
  tries = 0
  commands()
  local Order = catga.process "Order"
  Order.settings = { pack = { attempts = 3, backoff = "10s" } }
  function Order:execute(order)
    local function body()
      local results = {}
      results.reserve = self:reserve(order)
      results.Charge = self:send("Charge", { amount = order.amount, hold = results.reserve.hold })
      self:sleep("2s")
      if order.amount > 100 then results.gift = self:gift(order) end
      self:all("goods and notice", {
        goods = function()
          self.picked = self:pick(order)
          results.pack = self:pack(order)
        end,
        notice = function() self:notice(order) end,
      })
      self:stamp(order)
      return { id = order.id, parcel = results.pack, gift = results.gift }
    end
    local ok, value = pcall(body)
    if ok then return value end
    self:on_failure(value)
    error(value, 0)
  end
  function Order.reserve(_, order) return { hold = "h" .. order.id } end
  function Order.compensate_reserve() end
  function Order.compensate_Charge() end
  function Order.gift() return "chocolate" end
  function Order.pick(_, order) return "picked " .. order.id end
  function Order:pack()
    tries = tries + 1
    if tries == 1 then error("dropped") end
    return self.picked .. ", packed"
  end
  function Order.compensate_pack() end
  function Order.notice() return "told" end
  function Order.stamp(_, order)
    if order.fails then error(catga.error("no_ink")) end
    return order.id .. " stamped"
  end
  function Order.on_failure() end
end

-- How the data of records begins.
local FIRST = { name = true, op = true, result = true, error = true }

-- A journal: types of its records, and their data as its bytes lie in the log; but for due times
-- after a pause with jitter, and the lines of errors.
local function bytes_of(define, input)
  local data, lines = app_dir.new {} .. "/data", {}
  open(define, { data = data, settings = { segment_size = "1MiB" } })
  app:run("Order", input)
  for i, record in ipairs(app:journal(input.id)) do lines[i] = record.type end
  app:stop()
  app = nil
  local file = assert(io.open(data .. "/log/segment-0000000000.log", "rb"))
  local text, after = file:read "*a", 0
  file:close()
  app_dir.remove_all()
  for at, name in text:gmatch '(){"(%a+)":' do
    local json = at > after and FIRST[name] and text:match("^%b{}", at)
    if json then
      after = at + #json
      lines[#lines + 1] = json:gsub('"retry_at":%d+', ""):gsub('"due":%d+', "")
        :gsub('"message":"[^"]-:%d+: ', '"message":"')
    end
  end
  return table.concat(lines, "\n")
end

describe("a declared process", function()
  it("runs its steps in order and gives what its result function says", function()
    open(declared)
    local start = app.clock:now()
    assert.same({ id = "a", parcel = "picked a, packed" },
      app:run("Order", { id = "a", amount = 5 }))
    assert.same({ "charge 5 a/1/2/1" }, calls)
    assert.is_true(app.clock:now() - start >= 7000)
    assert.equal("chocolate", app:run("Order", { id = "b", amount = 500 }).gift)
  end)

  it("writes the journal that the same flow of methods writes, byte by byte", function()
    for _, input in ipairs { { id = "a", amount = 5 }, { id = "b", amount = 500 },
      { id = "c", amount = 500, fails = true }, { id = "d", amount = 5000 } } do
      local bytes = bytes_of(declared, input)
      assert.truthy(bytes:find(input.amount > 1000 and "ProcessCompensated" or "packed", 1, true))
      assert.truthy(bytes:find('\n{"name":"Order","run":1,', 1, true))
      assert.equal(bytes_of(methods, input), bytes)
    end
  end)

  it("undoes what was done, last first, when a step fails", function()
    open(declared)
    local _, err = app:run("Order", { id = "a", amount = 500, fails = true })
    assert.equal("compensated", err.status)
    assert.equal("no_ink", err.code)
    assert.same({ "charge 500 a/1/2/1", "failed no_ink a", "unpack picked a, packed",
      "refund p500", "release ha a" }, calls)
  end)

  it("comes to the same end after a kill at every record", function()
    for _, input in ipairs { { id = "a", amount = 5 }, { id = "b", amount = 500 },
      { id = "c", amount = 500, fails = true }, { id = "d", amount = 5000 } } do
      local fault, kills = testing.chaos(declared, "Order", input)
      assert.is_nil(fault)
      assert.is_true(kills >= 4)
    end
  end)

  it("goes on as methods when its script is written so, and back", function()
    open(declared)
    app:start("Order", { id = "a", amount = 500 })
    app:settle()
    app = assert(app:crash(nil, methods))
    app:settle()
    app = assert(app:crash(nil, declared))
    assert.equal("completed", (app:wait("a")))
  end)

  it("undoes with input and results also when it was killed", function()
    open(declared)
    app:start("Order", { id = "a", amount = 500, fails = true })
    app:settle()
    app = assert(app:crash())
    calls = {}
    assert.is_true(app:call(catga.processes.cancel, "a"))
    assert.same({ "refund p500", "release ha a" }, calls)
  end)

  it("has the results of its steps as its result unless it says another", function()
    open(function()
      catga.process("P"):step("a", function() return 1 end):step("b", function() end)
        :step("c", function(_, results, self) return { results.a, self.id } end)
      catga.process("Q"):step("a", function() end)
      catga.process("R"):step("a", function() end)
        :result(function() return nil, catga.error("unfit") end)
    end)
    assert.same({ a = 1, c = { 1, "x" } }, app:run("P", "x"))
    assert.same({}, app:run("Q", "y"))
    assert.equal("unfit", select(2, app:run("R", "z")).code)
  end)

  it("waits for signals, some of which need not come", function()
    local function define()
      catga.process("P")
        :step("ask", function() return "asked" end)
          :compensate(function(_, _, results) called("undo", tostring(results.answer)) end)
        :wait("answer", { timeout = "10h" })
        :wait("remark", { timeout = "1h", optional = true })
        :step("fail", function(input) if input.fails then error(catga.error("bad")) end end)
        :on_failure(function(failure) called("failed", failure.code) end)
        :result(function(_, results) return { results.answer, results.remark or "none" } end)
    end
    open(define)
    app:start("P", { id = "a" })
    app:call(catga.processes.signal, "a", "answer", 42)
    local status, result = app:wait("a")
    assert.equal("completed", status)
    assert.same({ 42, "none" }, result)
    local _, err = app:run("P", { id = "b" })
    assert.same({ "timeout", "compensated" }, { err.code, err.status })
    assert.same({ "failed timeout", "undo nil" }, calls)
    assert.is_nil((testing.chaos(define, "P", { id = "c", fails = true }, { drive = function(t, id)
      t:call(catga.processes.signal, id, "answer", 42, { id = "1" })
    end })))
    assert.equal("undo 42", calls[#calls])
  end)

  it("sends a table, or its input, and sleeps as long as a function says", function()
    open(function()
      for _, name in ipairs { "A", "B" } do
        catga.command(name, function(cmd) return cmd end)
      end
      catga.process("P"):send("A", { fixed = 1 }):send("B")
        :sleep(function(input, results) return input.n + results.A.fixed .. "s" end)
          :when(function(input) return input.n > 0 end)
    end)
    local start = app.clock:now()
    assert.same({ A = { fixed = 1 }, B = { id = "a", n = 2 } }, app:run("P", { id = "a", n = 2 }))
    assert.equal(3000, app.clock:now() - start)
    app:run("P", { id = "b", n = 0 })
    assert.equal(3000, app.clock:now() - start)
  end)

  it("has groups within groups, and conditions of them", function()
    local function step(value) return function() return value end end
    open(function()
      catga.process("P"):parallel("outer", {
        a = catga.steps():step("a1", step(1)):parallel("inner", { x = step "x", y = step "y" })
          :step("a2", function(_, results) return results.x .. results.y end),
        b = catga.steps():step("b1", step(1)):when(function() return false end),
      }):parallel("later", { catga.steps():step("c1", step(1)) })
        :when(function(input) return input.more end)
    end)
    assert.same({ a1 = 1, x = "x", y = "y", a2 = "xy" }, app:run("P", { id = "a" }))
    assert.equal(1, app:run("P", { id = "b", more = true }).c1)
  end)

  it("tries steps as they and catga.lua say", function()
    local count, seen
    local function define()
      catga.process("P")
        :step("a", function()
          count = count + 1
          error("wire")
        end):attempts(4):timeout("5s"):backoff("1ms")
        :on_failure(function(failure)
          seen = failure
          error("again")
        end):attempts(2)
    end
    count = 0
    open(define)
    local _, err = app:run("P", "x")
    assert.equal(4, count)
    assert.truthy(err.message:find("wire", 1, true))
    assert.truthy(seen.message:find("wire", 1, true))
    app:stop()
    count = 0
    open(define, { settings = { processes = { P = { steps = { a = { attempts = 2 } } } } } })
    app:run("P", "x")
    assert.equal(2, count)
  end)

  it("runs a step at most once", function()
    open(function()
      catga.process("P"):step("a", function() error("wire") end):at_most_once()
        :compensate(function(result) called("undo", tostring(result)) end)
    end)
    local _, err = app:run("P", "x")
    assert.equal("failed", err.status)
    assert.equal("ProcessStepStarted", app:journal("x")[2].type)
    app = assert(app:crash(app:journal("x")[3].position))
    local _, _, failure = app:wait("x")
    assert.same({ "in_doubt", "compensated" }, { failure.code, failure.status })
    assert.same({ "undo nil" }, calls)
  end)

  it("may be undone as a whole", function()
    local function define()
      local P = catga.process "P"
      P.options = { tags = { kind = "declared" } }
      P.process_id = function(input) return "p-" .. input.n end
      P:step("a", function() return 1 end):step("b", function() return 2 end)
        :step("c", function() error(catga.error("no")) end)
      function P:compensate(failed_step, completed)
        called(self.id, failed_step, completed[1].step, completed[2].step,
          completed[1].args[1].n)
      end
    end
    open(define)
    local _, err = app:run("P", { n = 7 })
    assert.equal("compensated", err.status)
    assert.same({ "p-7 c b a 7" }, calls)
    assert.is_nil((testing.chaos(define, "P", { n = 7 })))
  end)

  it("is tried again from the step that failed, or goes on behind it as somebody says", function()
    local is_down = true
    open(function()
      catga.process("P"):step("a", function() called "a" return 1 end)
        :step("b", function() if is_down then error(catga.error("down")) end return 2 end)
        :on_failure(function() called "failed" end)
    end)
    assert.equal("failed", select(2, app:run("P", "x")).status)
    assert.equal("failed", select(2, app:run("P", "y")).status)
    is_down = false
    assert.is_true(app:call(catga.processes.retry, "x"))
    assert.same({ "completed", { a = 1, b = 2 } }, { app:wait("x") })
    assert.is_true(app:call(catga.processes.skip, "y", 2, 7))
    assert.same({ "completed", { a = 1, b = 7 } }, { app:wait("y") })
    assert.same({ "a", "failed", "a", "failed" }, calls)
  end)

  it("diverges at the line of its declaration", function()
    open(function()
      catga.process("P"):step("a", function() return 1 end):sleep("1h")
    end)
    app:start("P", "x")
    app:settle()
    local line
    app = assert(app:crash(nil, function()
      line = debug.getinfo(1, "l").currentline + 2
      catga.process("P")
        :step("b", function() return 1 end):sleep("1h")
    end))
    local status, _, err = app:wait("x")
    assert.equal("diverged", status)
    assert.truthy(err.message:find(("declare_spec.lua:%d: operation 1 is recorded as step a, the "
      .. "script asks for step b"):format(line), 1, true), err.message)
  end)

  it("cannot have results set by anything but its steps", function()
    open(function()
      catga.process("P"):step("a", function(_, results) results.b = 1 end):attempts(1)
      catga.process("Q"):step("a", function() end):when(function(_, results) results.b = 1 end)
    end)
    for _, name in ipairs { "P", "Q" } do
      local _, err = app:run(name, "x" .. name)
      assert.truthy(err.message:find("declare_spec.lua:%d+: results.b is set"), err.message)
    end
  end)

  it("must not have effects where it decides", function()
    open(function()
      catga.process("P"):step("a", function() end):when(function() return catga.now() > 0 end)
    end)
    local _, err = app:run("P", "x")
    assert.truthy(err.message:find("catga.now in the body of a process", 1, true), err.message)
  end)
end)

local function nothing() end

describe("a declaration that is wrong is a load error:", function()
  local cases = {
    { "a step without a name", function(P) P:step(nothing) end, "step needs a name" },
    { "a step without a function", function(P) P:step("b") end,
      "step b needs a function, got nil" },
    { "a name that is there twice", function(P) P:step("a", nothing) end, "a, at .*has its name" },
    { "a wait that is called like a step", function(P) P:wait("a") end, "a, at .*has its name" },
    { "a reserved name", function(P) P:step("send", nothing) end, "send is a reserved name" },
    { "a command without a name", function(P) P:send("") end, "send needs a name" },
    { "a command with odd data", function(P) P:send("X", 5) end,
      "send X needs its data: a table, or a function that returns it; got number" },
    { "a command that is sent twice", function(P) P:send("X"):send("X") end,
      "X, at .*has its name" },
    { "a sleep of a number", function(P) P:sleep(5) end, "sleep must be a string with a unit" },
    { "a wait without a name", function(P) P:wait() end, "wait needs a name" },
    { "a wait with odd options", function(P) P:wait("x", "1h") end, "wait x: options are a table" },
    { "a wait with unknown options", function(P) P:wait("x", { timout = "1h" }) end,
      "wait x: unknown option timout" },
    { "a wait with no duration", function(P) P:wait("x", { timeout = "soon" }) end,
      "wait x: timeout \"soon\" is no duration" },
    { "an optional wait without end", function(P) P:wait("x", { optional = true }) end,
      "wait x: an optional wait needs a timeout" },
    { "a parallel without a name", function(P) P:parallel { b = nothing } end,
      "parallel needs a name" },
    { "a parallel without groups", function(P) P:parallel("x", {}) end,
      "parallel x needs a table of groups" },
    { "a group that is none", function(P) P:parallel("x", { b = 5 }) end,
      "parallel x: b must be a function, or catga.steps" },
    { "a group that is a process", function(P) P:parallel("x", { b = P }) end,
      "parallel x: b must be a function, or catga.steps" },
    { "a group without steps", function(P) P:parallel("x", { b = catga.steps() }) end,
      "parallel x: b has no steps" },
    { "a step without a name of text", function(P) P:parallel("x", { nothing }) end,
      "parallel x: a function is a step, whose name must be text, not 1" },
    { "a group that is named oddly", function(P) P:parallel("x", { [true] = nothing }) end,
      "parallel x: a group is named by text or number, not by a boolean" },
    { "a step that is there twice, in a group", function(P) P:parallel("x", { a = nothing }) end,
      "a, at .*has its name" },
    { "on_failure without a function", function(P) P:on_failure() end,
      "on_failure needs a function, got nil" },
    { "on_failure twice", function(P) P:on_failure(nothing):on_failure(nothing) end,
      "on_failure is given already, at .*declare_spec.lua:%d+" },
    { "on_failure of a group", function() catga.steps():on_failure(nothing) end,
      "on_failure is for a whole process" },
    { "on_failure beside a step of that name",
      function(P) P:step("on_failure", nothing):on_failure(nothing) end,
      "a step cannot be called on_failure" },
    { "a result without a function", function(P) P:result(5) end,
      "result needs a function, got number" },
    { "a result twice", function(P) P:result(nothing):result(nothing) end,
      "result is given already" },
    { "a result of a group", function() catga.steps():result(nothing) end,
      "result is for a whole process" },
    { "half an attempt", function(P) P:attempts(1.5) end, "attempts is a whole number from 1" },
    { "attempts twice", function(P) P:attempts(1):attempts(2) end,
      "step a has its attempts already" },
    { "a timeout of a number", function(P) P:timeout(5) end,
      "step a.timeout must be a string with a unit" },
    { "no backoff", function(P) P:backoff() end, "step a: backoff needs a value" },
    { "a modifier of nothing", function(P) P:result(nothing):attempts(2) end,
      "attempts is for the step before it, and there is none" },
    { "a modifier of no step in a group", function() catga.steps():compensate(nothing) end,
      "compensate is for the step before it, and there is none" },
    { "attempts of a sleep", function(P) P:sleep("1s"):attempts(2) end, "sleep has no attempts" },
    { "an undo of a wait", function(P) P:wait("x"):compensate(nothing) end,
      "wait has no compensate" },
    { "an undo of on_failure", function(P) P:on_failure(nothing):compensate(nothing) end,
      "on_failure has no compensate" },
    { "a condition of on_failure", function(P) P:on_failure(nothing):when(nothing) end,
      "on_failure has no when" },
    { "an undo that is no function", function(P) P:compensate("undo") end,
      "step a: compensate needs a function, got string" },
    { "an undo twice", function(P) P:compensate(nothing):compensate(nothing) end,
      "step a has its compensate already" },
    { "a condition that is no function", function(P) P:when(true) end,
      "step a: when needs a function, got boolean" },
    { "a condition twice", function(P) P:when(nothing):when(nothing) end,
      "step a has its when already" },
    { "an execute as well", function(P) function P.execute() end end,
      "and has an execute method as well" },
    { "a method as well", function(P) function P.pay() end end, "and has a method pay as well" },
    { "an undo of a method as well", function(P) function P.compensate_a() end end,
      "and has a method compensate_a as well" },
    { "a settings table", function(P) P.settings = {} end, "so its steps have no settings table" },
    { "an undo of the whole process and of a step",
      function(P) P:compensate(nothing) function P.compensate() end end,
      "has both compensate, which undoes the whole process, and a compensate of step a, at "
        .. ".*declare_spec.lua:%d+" },
    { "a call with a dot", function(P) P.step("b", nothing) end,
      "step is called with a colon on what catga.process or catga.steps returns" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local opened, err = testing.app(function()
        case[2](catga.process("P"):step("a", nothing))
      end)
      if opened then opened:stop() end
      assert.is_nil(opened)
      assert.truthy(err.message:find("^[^:]*declare_spec.lua:%d+: "), err.message)
      assert.truthy(err.message:find(case[3]), err.message)
    end)
  end

  it("no step at all", function()
    local _, err = testing.app(function() catga.process("P"):on_failure(nothing) end)
    assert.truthy(err.message:find("declare_spec.lua:%d+.*without any step"), err.message)
  end)

  it("attempts in catga.lua of a step that is not there", function()
    local _, err = testing.app(function() catga.process("P"):step("charge", nothing) end,
      { settings = { processes = { P = { steps = { chrge = {} } } } } })
    assert.truthy(err.message:find("did you mean charge?", 1, true), err.message)
  end)

  it("that goes on while the app runs", function()
    local P, group
    open(function()
      P, group = catga.process "P", catga.steps()
      P:parallel("x", { a = group:step("a", nothing) })
    end)
    assert.is_nil(P.step)
    local ok, message = pcall(function() group:step("b", nothing) end)
    assert.is_false(ok)
    assert.truthy(message:find("step belongs at the top level of a script", 1, true), message)
    ok, message = pcall(catga.steps)
    assert.is_false(ok)
    assert.truthy(message:find("catga.steps registers things", 1, true), message)
  end)
end)
