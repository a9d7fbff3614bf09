--- Routes: which rule takes a message, where it goes, and when.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, opts) app = assert(testing.app(define, opts)) end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- The data of the events of a stream.
local function data_of(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream, { max = 10000 })) do
    list[i] = event.data
  end
  return list
end

local function numbers_of(topic)
  local list = {}
  for i, data in ipairs(data_of("$type-" .. topic)) do list[i] = data.n end
  return list
end

local function publish(kind, data)
  assert(app:publish(kind, data))
  app:settle()
end

local function numbers(kind, from, to)
  for n = from, to do publish(kind, { n = n }) end
end

local function rule(name)
  for _, one in ipairs(app:call(catga.routes.list)) do
    if one.name == name then return one end
  end
end

local function fault_of(define)
  local opened, err = testing.app(define)
  if opened then opened:stop() end
  assert.is_nil(opened)
  return err.message
end

local function refuses(text, define)
  local message = fault_of(define)
  assert(message:find(text, 1, true), message)
  assert(message:find("route_spec.lua:", 1, true), message)
end

describe("a route", function()
  it("sends what its conditions take, transformed, to a topic", function()
    open(function()
      catga.route("OrderCreated", { name = "high" })
        :when(function(m) return m.amount > 1000 end)
        :filter(function(m) return m.customer_id end, "no customer")
        :transform(function(m) return { id = m.id, total = m.amount } end)
        :to("high-value-orders")
    end)
    publish("OrderCreated", { id = 1, amount = 500, customer_id = "c" })
    publish("OrderCreated", { id = 2, amount = 1500, customer_id = "c" })
    publish("OrderCreated", { id = 3, amount = 2500 })
    assert.same({ { id = 2, total = 1500 } }, data_of "$type-high-value-orders")
    local one = rule "high"
    assert.same({ 2, 1, 1, 0 }, { one.matched, one.filtered, one.sent, one.failed })
    assert.same({ ["no customer"] = 1 }, one.reasons)
  end)

  it("goes to several places, of each kind", function()
    local called = {}
    open(function()
      local P = catga.process "Ship"
      function P:execute(input) return input.id end
      catga.command("Send", function(cmd)
        return catga.events.append("Sent", { { type = "Sent", data = cmd } })
      end)
      catga.route("A"):to("B", "C", function(m, event)
        called[#called + 1] = { m.id, event.type }
      end):to_command("Send"):to_stream("audit", "Audited")
        :to_stream(function(m) return "by-" .. m.id end, "Audited"):to_process("Ship")
    end)
    publish("A", { id = "x" })
    for _, stream in ipairs { "$type-B", "$type-C", "Sent", "audit", "by-x" } do
      assert.same({ { id = "x" } }, data_of(stream))
    end
    assert.same({ { "x", "A" } }, called)
    assert.equal("x", (select(2, app:wait("x"))))
  end)

  it("takes the first branch whose conditions hold, or otherwise", function()
    open(function()
      catga.route("A"):when(function(m) return m.n > 10 end)
        :when(function(m) return m.n % 2 == 0 end):to("even")
        :where("n", ">", 10):to("large"):otherwise():to("small")
    end)
    numbers("A", 9, 13)
    assert.same({ 12 }, numbers_of "even")
    assert.same({ 11, 13 }, numbers_of "large")
    assert.same({ 9, 10 }, numbers_of "small")
  end)

  it("does what is written in the order in which it is written", function()
    open(function()
      catga.route("A"):transform(function(m)
        m.n = m.n * 10
        return m
      end):when(function(m) return m.n > 15 end):to("before"):transform(function(m)
        m.n = m.n + 1
        return m
      end, function(m)
        m.n = m.n * 2
        return m
      end):to("behind")
    end)
    numbers("A", 1, 2)
    assert.same({ 20 }, numbers_of "before")
    assert.same({ 42 }, numbers_of "behind")
  end)

  it("reads a list of types, patterns and all", function()
    open(function()
      catga.route({ "A", "B" }):to("listed")
      catga.route("orders.*.created"):to("created")
      catga.route("orders.>"):to("orders")
      catga.routes { name = "everything" }
      catga.route(">", { set = "everything" }):when(function(_, event)
        return not event.type:find("^seen")
      end):to("seen")
    end)
    publish("A", { n = 1 })
    publish("B", { n = 2 })
    publish("orders.de.created", { n = 3 })
    publish("orders.de.paid", { n = 4 })
    publish("C", { n = 5 })
    assert.same({ 1, 2 }, numbers_of "listed")
    assert.same({ 3 }, numbers_of "created")
    assert.same({ 3, 4 }, numbers_of "orders")
    local seen = {}
    for _, n in ipairs(numbers_of "seen") do seen[n] = true end
    assert.same({ true, true, true, true, true }, seen)
  end)

  it("does not see what another rule has changed", function()
    open(function()
      catga.route("A", { priority = 2 }):transform(function(m)
        m.list[1] = "changed"
        return m
      end):to("first")
      catga.route("A", { priority = 1 }):to(function(m) m.list[1] = "too" end):to("second")
      catga.route("A"):to("third")
    end)
    publish("A", { list = { "as it was" } })
    assert.same({ { list = { "changed" } } }, data_of "$type-first")
    assert.same({ { list = { "as it was" } } }, data_of "$type-second")
    assert.same({ { list = { "as it was" } } }, data_of "$type-third")
  end)

  it("names those that get the message by recipients", function()
    open(function()
      catga.command("Send", function(cmd)
        return catga.events.append("Sent", { { type = "Sent", data = cmd } })
      end)
      catga.route("A"):recipients(function(m) return m.to end)
      catga.route("A"):recipients(function() return { { command = "Send" },
        { stream = "audit", type = "Audited" } } end)
    end)
    publish("A", { to = { "x", "y" } })
    publish("A", { to = "x" })
    publish("A", {})
    assert.equal(2, #data_of "$type-x")
    assert.equal(1, #data_of "$type-y")
    assert.equal(3, #data_of "Sent")
    assert.equal(3, #data_of "audit")
  end)

  it("taps without changing or failing the route", function()
    open(function()
      catga.route("A", { name = "tapped" }):tap("copy"):tap(function(m)
        m.n = "spoiled"
        assert(catga.events.append("Half", { { type = "Half" } }))
        error("broken")
      end):to("B")
    end)
    publish("A", { n = 1 })
    assert.same({ { n = 1 } }, data_of "$type-copy")
    assert.same({ { n = 1 } }, data_of "$type-B")
    assert.same({}, data_of "Half")
    assert.equal(1, rule("tapped").tap_failed)
    assert.truthy(table.concat(app.lines, "\n"):find("the tap at", 1, true))
  end)

  it("keeps lists, null and numbers as they came", function()
    open(function() catga.route("A"):to("B") end)
    local text = '{"a":[],"b":{},"c":null,"d":9007199254740991,"e":0.1,"f":"é\\u0000"}'
    publish("A", catga.json.decode(text))
    assert.equal(catga.json.encode(catga.json.decode(text)),
      catga.json.encode(data_of("$type-B")[1]))
  end)
end)

describe("a set of routes", function()
  it("lets all rules that match have the message, those of higher priority first", function()
    open(function()
      catga.route("A", { priority = 1 }):transform(function() return { n = "low" } end):to("B")
      catga.route("A", { priority = 5 }):transform(function() return { n = "high" } end):to("B")
      catga.route("A", { priority = 1 }):transform(function() return { n = "low 2" } end):to("B")
    end)
    publish("A", {})
    assert.same({ "high", "low", "low 2" }, numbers_of "B")
  end)

  it("gives the message to the first one in mode first, and to otherwise", function()
    open(function()
      catga.routes { mode = "first", otherwise = "nobody" }
      catga.route("A"):where("n", "==", 1):to("one")
      catga.route("A", { priority = 1 }):where("n", "<", 3)
        :filter(function(m) return m.n ~= 2 end):to("small")
      catga.route("A"):where("n", "in", { 1, 2, 3 }):to("some")
    end)
    numbers("A", 1, 4)
    assert.same({ 1 }, numbers_of "small") -- 2 was taken, and dropped.
    assert.same({}, numbers_of "one")
    assert.same({ 3 }, numbers_of "some")
    assert.same({ 4 }, numbers_of "nobody")
  end)

  it("begins with what is published from now on, or where it says", function()
    local function rules()
      catga.routes { name = "past", after = "start" }
      catga.route("A", { set = "past" }):to("all")
      catga.route("A"):to("new")
    end
    open(function() end)
    numbers("A", 1, 2)
    app = assert(app:crash(nil, rules))
    numbers("A", 3, 3)
    assert.same({ 1, 2, 3 }, numbers_of "all")
    assert.same({ 3 }, numbers_of "new")
  end)

  it("goes on where it was, over a stop and a kill", function()
    open(function() catga.route("A"):to("B") end)
    numbers("A", 1, 3)
    app = assert(app:crash())
    numbers("A", 4, 4)
    local memory = app:snapshot()
    local source = app.source
    app:stop()
    app = assert(testing.app(source, { memory = memory }))
    numbers("A", 5, 5)
    assert.same({ 1, 2, 3, 4, 5 }, numbers_of "B")
  end)

  it("takes rules that are data", function()
    open(function()
      catga.routes.table("push", {
        { field = "repository.name", op = "==", value = "catga", to = "catga" },
        { field = "size", op = ">", value = 10, to = { "large", { stream = "big", type = "Big" } },
          priority = 1 },
        { where = { { "repository.name", "==", "other" }, { "size", "<", 3 } }, to = "other-small",
          name = "both" },
      }, { name = "pushes" })
    end)
    publish("push", { repository = { name = "catga" }, size = 11 })
    publish("push", { repository = { name = "other" }, size = 2 })
    publish("push", { repository = { name = "other" }, size = 5 })
    assert.equal(1, #data_of "$type-catga")
    assert.equal(1, #data_of "$type-large")
    assert.equal(1, #data_of "big")
    assert.equal(1, #data_of "$type-other-small")
    assert.equal(1, rule("both").matched)
    assert.equal(1, rule("pushes-1").matched)
  end)

  it("is checked when the scripts load", function()
    refuses("no command is called Nothing", function()
      catga.route("A"):to_command("Nothing")
    end)
    refuses("no process is called Nothing", function()
      catga.route("A"):to_process("Nothing")
    end)
    refuses("goes nowhere", function() catga.route("A"):when(function() end) end)
    refuses("goes nowhere", function() catga.route("A") end)
    refuses("never reached", function()
      catga.route("A"):to("B"):when(function() end):to("C")
    end)
    refuses("when behind filter", function()
      catga.route("A"):when(print):filter(print):when(print):to("B")
    end)
    refuses("otherwise() comes behind", function() catga.route("A"):otherwise():to("B") end)
    refuses("that has no end", function() catga.route("A"):to("B", "A") end)
    refuses("that has no end", function() catga.route("x.>"):to("x.y") end)
    refuses("did you mean priority?", function() catga.route("A", { priorty = 1 }):to("B") end)
    refuses("there is a route one already", function()
      catga.route("A", { name = "one" }):to("B")
      catga.route("B", { name = "one" }):to("C")
    end)
    refuses("there are no routes \"other\"", function()
      catga.route("A", { set = "other" }):to("B")
    end)
    refuses("> stands for all that follows", function() catga.route("a.>.b"):to("B") end)
    refuses("no operator =", function() catga.route("A"):where("a", "=", 1):to("B") end)
    refuses("row 2 of the table has the field too", function()
      catga.routes.table("A", { { field = "a", value = 1, to = "B" },
        { field = "a", value = 1, too = "B" } })
    end)
    refuses("needs a type of its own", function() catga.route("A"):to_stream("audit") end)
    refuses("the runtime's own", function() catga.route("A"):to_stream("$x", "X") end)
    refuses("a destination is a name", function() catga.route("A"):to(5) end)
    refuses("keeps its state under a name", function()
      catga.route("A"):aggregate({ by = "a", complete = 2 }):to("B")
    end)
    refuses("without either it never ends", function()
      catga.route("A", { name = "x" }):aggregate({ by = "a" }):to("B")
    end)
    refuses("an inline route cannot aggregate", function()
      catga.route("A", { name = "x", inline = true }):aggregate({ by = "a", complete = 2 }):to("B")
    end)
    refuses("backoff is a duration", function() catga.route("A", { backoff = 5 }):to("B") end)
    refuses("are configured already", function()
      catga.routes { mode = "all" }
      catga.routes { mode = "first" }
    end)
  end)

  it("cannot be changed once the files are loaded", function()
    local route
    open(function() route = catga.route("A"):to("B") end)
    local ok, err = pcall(route.to, route, "C")
    assert.is_false(ok)
    assert.truthy(tostring(err.message or err):find("its rule is finished", 1, true))
  end)
end)

describe("personal data", function()
  it("is seen by rules, and stored in plain only where nothing is declared", function()
    open(function()
      for _, name in ipairs { "A", "B" } do
        catga.personal(name, { subject = "id", fields = { "name" } })
      end
      catga.route("A", { attempts = 1 }):when(function(m) return m.name == "Ada" end)
        :to("B"):to(function() error("broken") end)
      catga.route("A"):when(function(m) return m.name == "Ada" end):to("B")
    end)
    publish("A", { id = "1", name = "Ada" })
    assert.same({ { id = "1", name = "Ada" } }, data_of "$type-B")
    local letters = app.app.store:streams("$letter-", nil, 10)
    assert.equal(1, #letters)
    for _, record in ipairs(app:call(catga.events.read, letters[1])) do
      assert.is_nil(catga.json.encode(record.data):find("Ada", 1, true))
    end
  end)
end)

describe("the policy of a route", function()
  it("stands around its commands and functions, each attempt with a clean unit", function()
    local attempts = 0
    open(function()
      catga.policy("twice", { retry = { attempts = 2, backoff = "1s" } })
      catga.route("A", { name = "r", policy = "twice" }):to(function(m)
        attempts = attempts + 1
        assert(catga.events.append("S", { { type = "Did", data = { n = attempts } } }))
        if m.n == 2 or attempts == 1 then error("not yet") end
      end):to("B")
    end)
    publish("A", { n = 1 })
    app:advance("10s")
    assert.same({ { n = 2 } }, data_of "S")
    assert.same({ 1 }, numbers_of "B")
    assert.equal(0, rule("r").failed)
    publish("A", { n = 2 })
    app:advance("10m")
    assert.same({ 1 }, numbers_of "B")
    assert.equal(1, rule("r").given_up)
    assert.equal(2 + 5 * 2, attempts)
  end)

  it("must be there", function()
    local message = fault_of(function()
      catga.route("A", { policy = "none" }):to(function() end)
    end)
    assert.truthy(message:find("none", 1, true))
  end)
end)

describe("an inline route", function()
  it("sends in the unit of work that publishes", function()
    local seen
    open(function()
      catga.command("Make", function(cmd)
        assert(catga.publish("A", { n = cmd.n }))
        seen = #catga.events.read("$type-B")
        if cmd.n == 2 then error("no") end
        return true
      end)
      catga.route("A", { inline = true }):to("B")
    end)
    assert(app:send("Make", { n = 1 }))
    assert.equal(1, seen)
    local events = app:call(catga.events.read_all, { after = 0 })
    assert.same({ "A", "B" }, { events[1].type, events[2].type })
    assert.is_nil((app:send("Make", { n = 2 })))
    assert.same({ 1 }, numbers_of "B")
    assert.same({ 1 }, numbers_of "A")
  end)

  it("fails the append when it fails", function()
    open(function()
      catga.route("A", { inline = true }):transform(function() error("broken") end):to("B")
    end)
    local ok, err = app:publish("A", { n = 1 })
    assert.is_nil(ok)
    assert.truthy(err.message:find("broken", 1, true))
    assert.same({}, numbers_of "A")
    ok, err = app:call(catga.events.append, "S", { { type = "A", data = {} } })
    assert.is_nil(ok)
    assert.truthy(err.message:find("broken", 1, true))
  end)

  it("leaves nothing behind when it fails and the publisher goes on", function()
    open(function()
      catga.command("Make", function()
        assert(catga.publish("Before", { n = 1 }))
        assert(catga.publish("A", { n = 1 }) == nil)
        return true
      end)
      catga.route("A", { inline = true }):to("B"):transform(function() error("no") end):to("C")
    end)
    assert(app:send("Make", {}))
    assert.same({ { 1 }, {}, {} }, { numbers_of "Before", numbers_of "A", numbers_of "B" })
  end)

  it("sends commands in the same unit, also of a step", function()
    open(function()
      local P = catga.process "P"
      function P:execute() return self:work() end
      function P.work() return catga.publish("A", { n = 3 }) end
      catga.command("Send", function(cmd)
        return catga.events.append("Sent", { { type = "Sent", data = cmd } })
      end)
      catga.route("A", { inline = true }):to_command("Send")
    end)
    publish("A", { n = 1 })
    app:call(function() assert(catga.events.append("S", { { type = "A", data = { n = 2 } } })) end)
    assert(app:run("P", { id = "p" }))
    assert.same({ { n = 1 }, { n = 2 }, { n = 3 } }, data_of "Sent")
  end)
end)

describe("an event that is not stored", function()
  it("is routed in memory", function()
    local heard = {}
    open(function()
      catga.on("B", function(event) heard[#heard + 1] = event.n end)
      catga.route("A"):where("n", "<", 3):to("B"):otherwise():to_stream("S", "Kept")
    end)
    for n = 1, 3 do assert(app:publish("A", { n = n }, { qos = 0 })) end
    app:settle()
    assert.same({ 1, 2 }, heard)
    assert.same({}, numbers_of "B")
    assert.same({ { n = 3 } }, data_of "S")
  end)

  it("does not go in circles", function()
    open(function()
      catga.route("A"):when(function() return true end):to("B")
      catga.route("B"):when(function() return true end):to("A")
    end)
    assert(app:publish("A", { n = 1 }, { qos = 0 }))
    app:settle()
    assert.truthy(table.concat(app.lines, "\n"):find("they feed each other", 1, true))
  end)

  it("that cannot be routed is said to be lost", function()
    open(function()
      catga.route("A", { name = "r" }):transform(function() error("no") end):to("B")
    end)
    assert(app:publish("A", {}, { qos = 0 }))
    app:settle()
    assert.equal(1, rule("r").failed)
    assert.truthy(table.concat(app.lines, "\n"):find("was lost", 1, true))
  end)
end)

describe("routes that feed each other", function()
  it("are found by the count of hops, and said", function()
    open(function()
      catga.route("A", { name = "there" }):when(function() return true end):to("B")
      catga.route("B", { name = "back" }):when(function() return true end):to("A")
    end, { settings = { route_hops_max = 5 } })
    publish("A", { n = 1 })
    assert.equal(3, #numbers_of "A")
    assert.equal(3, #numbers_of "B")
    assert.truthy(table.concat(app.lines, "\n"):find("they feed each other", 1, true))
    assert.equal(1, rule("back").given_up + rule("there").given_up)
  end)

  it("are found through commands, the outbox and handlers as well", function()
    open(function()
      catga.command("Again", function(cmd) return catga.enqueue("Publish", cmd) end)
      catga.command("Publish", function(cmd) return catga.publish("A", cmd) end)
      catga.on("B", function(event) assert(catga.publish("C", event)) end)
      catga.on("C", { durable = "c" }, function(event) assert(catga.publish("D", event)) end)
      catga.route("A"):when(function() return true end):to("B")
      catga.route("D"):to_command("Again")
    end, { settings = { route_hops_max = 6 } })
    publish("A", { n = 1 })
    app:advance("1m")
    assert.truthy(table.concat(app.lines, "\n"):find("they feed each other", 1, true))
    assert.is_true(#numbers_of "A" < 6)
  end)

  it("fail the append when they are inline", function()
    open(function()
      catga.route("A", { inline = true }):when(function() return true end):to("B")
      catga.route("B", { inline = true }):when(function() return true end):to("A")
    end)
    local ok, err = app:publish("A", {})
    assert.is_nil(ok)
    assert.equal("route_loop", err.code)
  end)
end)
