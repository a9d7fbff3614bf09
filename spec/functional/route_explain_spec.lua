--- Explaining routes: which rule takes a message and why, without effect, and as it then happens.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local random = require "catga.process.random"

local SEEDS = 40

local app

local function open(define, opts) app = assert(testing.app(define, opts)) end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function explain(kind, data, metadata)
  return app:call(catga.routes.explain, { type = kind, data = data, metadata = metadata })
end

local function verdicts(result)
  local list = {}
  for i, one in ipairs(result.rules) do list[i] = one.rule .. " " .. one.verdict end
  return list
end

describe("an explanation", function()
  it("says which rule takes a message, which does not and why, and where it goes", function()
    open(function()
      catga.on("high", function() end)
      catga.route("high", { name = "next" }):to("next")
      catga.route("A", { name = "high", priority = 2 })
        :when(function(m) return m.amount > 1000 end)
        :transform(function(m) return { total = m.amount } end):to("high")
      catga.route("A", { name = "german", priority = 1 }):where("country", "==", "DE"):to("de")
      catga.route("A", { name = "known" }):filter(function(m) return m.customer end, "no customer")
        :to("known")
      catga.route("Z", { name = "other" }):to("z")
    end)
    local result = explain("A", { amount = 1500, country = "FR" })
    assert.same({ "high matched", "german no match", "known filtered" }, verdicts(result))
    assert.equal('country == "DE" says no', result.rules[2].why)
    assert.equal("no customer", result.rules[3].why)
    assert.truthy(result.rules[3].decided_at:find("route_explain_spec.lua:%d+$"))
    assert.equal(2, result.other_types)
    assert.equal(1, #result.sends)
    local send = result.sends[1]
    assert.same({ "topic", "high", { total = 1500 }, "1 handler, route next" },
      { send.kind, send.to, send.message, send.read_by })
    result = explain("A", { amount = 5, country = "DE", customer = "c" })
    assert.same({ "high no match", "german matched", "known matched" }, verdicts(result))
    assert.truthy(result.rules[1].why:find("when at .*:%d+ says no"))
    assert.truthy(result.rules[1].code:find("m.amount > 1000", 1, true))
    assert.equal("nobody", result.sends[1].read_by)
  end)

  it("has no effect", function()
    local called = 0
    open(function()
      catga.command("Send", function() called = called + 1 return true end)
      catga.route("A", { name = "a" }):tap(function() called = called + 1 end)
        :to(function() called = called + 1 end):to_command("Send"):to_stream("S", "T"):to("B")
      catga.route("A", { name = "g" }):aggregate { by = "k", complete = 2 }:to("G")
      catga.route("A", { name = "w" }):when(function() return catga.send("Send", {}) end):to("B")
    end)
    local before = app:position()
    for _ = 1, 3 do
      local result = explain("A", { k = 1 })
      assert.same({ "a matched", "g gathered", "w failed" }, verdicts(result))
      assert.truthy(result.rules[3].why:find("in a route that is explained", 1, true))
      assert.equal(5, #result.sends)
    end
    assert.equal(0, called)
    assert.equal(before, app:position())
    assert.equal(0, app:call(catga.routes.list)[1].matched)
    assert.equal(0, app:call(catga.routes.status)[1].groups)
  end)

  it("knows what is gathered already", function()
    open(function()
      catga.route("A", { name = "g" }):aggregate { by = "k", complete = 2 }:to("G")
    end)
    assert(app:publish("A", { k = 1 }))
    app:settle()
    local result = explain("A", { k = 1 })
    assert.equal("matched", result.rules[1].verdict)
    assert.equal(2, result.sends[1].message.count)
    assert.equal("gathered", explain("A", { k = 2 }).rules[1].verdict)
    assert(app:publish("A", { k = 1 }))
    app:settle()
    assert.equal(2, #app:call(catga.events.read, "$type-G")[1].data.items)
  end)

  it("tells of the first one, of otherwise, of failures and of circles", function()
    open(function()
      catga.routes { mode = "first", otherwise = "rest" }
      catga.route("A", { name = "one" }):where("n", "<", 3):to("One")
      catga.route("A", { name = "two" }):where("n", "<", 5):to("Two")
      catga.route("B", { name = "bad" }):transform(function() error("broken") end):to("C")
    end)
    assert.same({ "one matched", "two not reached" }, verdicts(explain("A", { n = 1 })))
    assert.same({ "one no match", "two matched" }, verdicts(explain("A", { n = 4 })))
    local result = explain("A", { n = 9 })
    assert.same({ "one no match", "two no match", "otherwise matched" }, verdicts(result))
    assert.equal("rest", result.sends[1].to)
    assert.truthy(explain("B", {}).rules[1].why:find("broken", 1, true))
    result = explain("A", { n = 1 }, { hops = 16 })
    assert.equal("failed", result.rules[1].verdict)
    assert.truthy(result.rules[1].why:find("route_hops_max", 1, true))
    assert.same({}, explain("None", {}).rules)
  end)

  it("refuses what is no message", function()
    open(function() catga.route("A"):to("B") end)
    for _, bad in ipairs { 5, { data = {} }, { type = "" }, { type = "A", dta = {} },
      { type = "A", data = function() end }, { type = "A", metadata = 5 } } do
      local result, err = app:call(catga.routes.explain, bad)
      assert.is_nil(result)
      assert.equal("invalid", err.code)
    end
  end)

  it("lists few of many rules that say no", function()
    open(function()
      local rows = {}
      for i = 1, 1000 do rows[i] = { field = "r", value = i, to = "t" .. i } end
      catga.routes.table("A", rows)
    end)
    local result = explain("A", { r = 900 })
    assert.equal(201, #result.rules)
    assert.equal(799, result.unlisted)
    assert.equal("t900", result.sends[1].to)
  end)

  it("comes over HTTP", function()
    open(function() catga.route("A", { name = "r" }):to("B") end)
    local function ask(method, path, body)
      return app:call(http.handle, app.app, method, path, {}, {}, body or "")
    end
    local status, _, text = ask("POST", "/route-explanations", '{"type":"A","data":{"n":1}}')
    assert.equal(200, status)
    assert.equal("B", catga.json.decode(text).sends[1].to)
    status, _, text = ask("GET", "/routes")
    assert.equal(200, status)
    assert.equal("r", catga.json.decode(text)[1].name)
    status, _, text = ask("GET", "/route-sets")
    assert.equal(200, status)
    assert.equal("running", catga.json.decode(text)[1].status)
    status = ask("POST", "/route-explanations", '{"data":{"n":1}}')
    assert.equal(422, status)
    status = ask("POST", "/route-explanations", '5')
    assert.equal(422, status)
  end)
end)

local function die_of(seed)
  local next_random = random.new(seed)
  for _ = 1, 10 do next_random() end
  return function(n) return math.floor(next_random() * n) + 1 end
end

-- A rule of a seed.
local function random_route(die, i)
  local kinds = { "A", "B", "x.a", "x.*", ">" }
  local route = catga.route(kinds[die(4)], { name = "r" .. i, priority = die(3), inline = nil })
  if die(4) == 1 then
    route:transform(function(m)
      m.n = (m.n or 0) + 1
      return m
    end)
  end
  local branches = die(3)
  for k = 1, branches do
    local value = die(4)
    local what = die(3)
    if what == 1 then
      route:where("a", "==", value)
    elseif what == 2 then
      route:where("b.c", "in", { value, die(4) })
    else
      route:when(function(m) return (m.n or 0) >= value end)
    end
    if die(4) == 1 then route:filter(function(m) return m.a ~= 2 end, "two") end
    if die(5) == 1 then route:split(function(m) return { m, { n = m.n, a = m.a } } end) end
    route:to("out." .. i .. "." .. k)
  end
  if die(3) == 1 then route:otherwise():to("out." .. i .. ".else") end
end

local function random_message(die)
  return { type = ({ "A", "B", "x.a", "x.b" })[die(4)],
    data = { a = die(4), b = die(3) > 1 and { c = die(4) } or nil, n = die(5) } }
end

describe("what an explanation says", function()
  it("is what happens, with any rules and messages", function()
    for seed = 1, SEEDS do
      local die = die_of(seed)
      open(function()
        if die(2) == 1 then catga.routes { mode = "first", otherwise = "out.nobody" } end
        for i = 1, die(12) do random_route(die, i) end
      end)
      for _ = 1, 10 do
        local message = random_message(die)
        local after = app:position() - 1
        local expected = {}
        for _, send in ipairs(explain(message.type, message.data).sends) do
          expected[#expected + 1] = send.to .. " " .. catga.json.encode(send.message)
        end
        assert(app:publish(message.type, message.data))
        app:settle()
        local got = {}
        for _, event in ipairs(app:call(catga.events.read_all, { after = after })) do
          if event.type:find("^out%.") then
            got[#got + 1] = event.type .. " " .. catga.json.encode(event.data)
          end
        end
        assert.same(expected, got, ("seed %d, %s"):format(seed, catga.json.encode(message)))
      end
      app:stop()
      app = nil
    end
  end)
end)
