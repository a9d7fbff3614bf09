--- Projections of every kind: by key, in partitions, inline, live; events that they cannot handle.
local testing = require "catga.testing"
local catga = require "catga"
local native_task = require "catga.native.task"
local runners = require "catga.projection.runner"

local app

local function open(define, opts)
  local opened, err = testing.app(define, opts or {})
  assert(opened, err and err.message)
  app = opened
  return app
end

local function append(stream, kind, ...)
  local events = {}
  for i, data in ipairs { ... } do events[i] = { type = kind, data = data } end
  app:call(function() assert(catga.events.append(stream, events)) end)
end

local function status(name)
  for _, one in ipairs(app.app.projections:status()) do
    if one.name == name then return one end
  end
end

local function get(name, key) return app:document(name, key) end

local function rows(name, ...)
  local given = { ... }
  return app:call(function() return catga.model(name):rows(unpack(given)) end)
end

local function said(pattern)
  for _, line in ipairs(app.lines) do
    if line:find(pattern) then return line end
  end
end

local function refused(define, pattern)
  local ok, err = testing.app(define)
  assert.is_nil(ok)
  assert.truthy(tostring(err.message):find(pattern), tostring(err.message))
end

local function after()
  if app then app:stop() end
  app = nil
end

describe("a projection by key", function()
  after_each(after)

  it("folds the events of several streams and types into documents", function()
    open(function()
      local p = catga.projection "Customers"
      p.key = { OrderPaid = "customer_id", CustomerMoved = "id",
        GiftSent = function(event) return event.from and { event.from, event.to } or nil end,
        CustomerLeft = "id" }
      function p.initial(key) return { id = key, paid = 0 } end
      function p.fold.OrderPaid(doc, event) doc.paid = doc.paid + event.amount end
      function p.fold.CustomerMoved(doc, event)
        return { id = doc.id, paid = doc.paid, city = event.city }
      end
      function p.fold.GiftSent(doc, _, ctx) doc.gift = ctx.stream end
      function p.fold.CustomerLeft() return catga.dropped end
    end)
    append("Order-1", "OrderPaid", { customer_id = "c1", amount = 5 }, { amount = 9 })
    append("Customer-c1", "CustomerMoved", { id = "c1", city = "Rome" })
    append("Order-2", "OrderPaid", { customer_id = "c1", amount = 6 })
    append("Gift-1", "GiftSent", { from = "c1", to = "c2" }, {})
    append("Customer-c3", "CustomerMoved", { id = "c3", city = "Bonn" })
    append("Customer-c3", "CustomerLeft", { id = "c3" })
    append("Order-4", "OrderPaid", { customer_id = 17, amount = 1 })
    app:settle()
    assert.same({ id = "c1", paid = 11, city = "Rome", gift = "Gift-1" }, get("Customers", "c1"))
    assert.same({ id = "c2", paid = 0, gift = "Gift-1" }, get("Customers", "c2"))
    assert.is_nil(get("Customers", "c3"))
    assert.same({ id = "17", paid = 1 }, get("Customers", "17"))
  end)

  it("is checked when the scripts are loaded", function()
    refused(function() catga.projection "A".fold.X = function() end end, "fold needs key")
    refused(function() catga.projection "A".key = "x" end, "there is no fold")
    refused(function() catga.projection "A".key = 5 end, "key is the name of a field")
    refused(function()
      local p = catga.projection "A"
      p.key = { Y = "id" }
      function p.fold.X() end
    end, "key has nothing for X")
    refused(function()
      local p = catga.projection "A"
      function p.on.X() end
      function p.fold.X() end
    end, "handles X already")
    refused(function() catga.projection "A".lifecycle = "lazy" end,
      "one of background, inline, live")
    refused(function() catga.projection "A".on_error = "ignore" end, "dead_letter, skip, stop")
    refused(function() catga.projection "A".partition = "x" end, "partition needs partitions")
    refused(function() catga.projection "A".partitions = 0 end, "from 1 to 1024")
    refused(function() catga.projection "A".tables = "CREATE" end, "list of SQL statements")
    refused(function() catga.projection "A".migrations = { "X" } end, "migrations need tables")
    refused(function() catga.projection "A".lifecyle = "live" end, "did you mean lifecycle")
    refused(function()
      local p = catga.projection "A"
      p.lifecycle, p.tables = "inline", { "CREATE TABLE t (n)" }
    end, "an inline projection keeps documents")
  end)
end)

describe("a projection in partitions", function()
  after_each(function()
    runners.limits.events = 1000
    after()
  end)

  it("keeps the order of each, and commits all of them at once", function()
    local seen, order_of = {}, {}
    open(function()
      local p = catga.projection "P"
      p.partitions, p.partition = 4, function(event) return event.key end
      function p.on.Stepped(event, model)
        local key = "doc-" .. event.key .. "-" .. event.n % 5
        local doc = model:get(key) or { list = catga.json.array() }
        doc.list[#doc.list + 1] = event.n
        model:put(key, doc)
        seen[#seen + 1] = event.key .. event.n
        order_of[event.key] = order_of[event.key] or {}
        table.insert(order_of[event.key], event.n)
      end
    end)
    local list = {}
    for i = 1, 200 do list[i] = { key = "k" .. i % 8, n = math.ceil(i / 8) } end
    append("s", "Stepped", unpack(list))
    app:settle()
    for key = 0, 7 do
      for n, is in ipairs(order_of["k" .. key]) do assert.equal(n, is) end
      assert.same({ 5, 10, 15, 20, 25 }, get("P", ("doc-k%d-0"):format(key)).list)
    end
    local is_mixed
    for i = 1, #seen do is_mixed = is_mixed or seen[i] ~= list[i].key .. list[i].n end
    assert.is_true(is_mixed, "the partitions wait for each other")
    assert.equal(200, status("P").position)
  end)

  it("lets an event of several wait for all before it", function()
    open(function()
      local p = catga.projection "Pairs"
      p.partitions = 8
      function p.key(event) return event.keys end
      function p.fold.Moved(doc, event)
        local text = doc.text or ""
        doc.text = text .. event.n .. " "
      end
    end)
    app:call(function()
      catga.events.append("s", { { type = "Moved", data = { keys = { "a" }, n = 1 } },
        { type = "Moved", data = { keys = { "b" }, n = 2 } },
        { type = "Moved", data = { keys = { "a", "b" }, n = 3 } },
        { type = "Moved", data = { keys = { "b" }, n = 4 } } })
    end)
    app:settle()
    assert.equal("1 3 ", get("Pairs", "a").text)
    assert.equal("2 3 4 ", get("Pairs", "b").text)
  end)

  it("stops in front of a bad event, with all before it and nothing behind it", function()
    open(function()
      local p = catga.projection "P"
      p.partitions, p.partition = 4, "key"
      function p.on.Stepped(event, model)
        if event.n == 37 then error("not this one") end
        model:update("k" .. event.key, function(doc) doc.n = (doc.n or 0) + 1 end)
        model:put("n" .. event.n, {})
      end
    end)
    local list = {}
    for i = 1, 100 do list[i] = { key = tostring(i % 7), n = i } end
    append("s", "Stepped", unpack(list))
    app:settle()
    local failed = status("P")
    assert.equal("failed", failed.status)
    assert.equal(36, failed.position)
    assert.equal(37, failed.error.position)
    local sum = 0
    for key = 0, 6 do sum = sum + get("P", "k" .. key).n end
    assert.equal(36, sum)
    assert.is_nil(get("P", "n38"))
    assert.same({}, get("P", "n36"))
  end)

  it("cannot wait in a handler", function()
    for _, call in ipairs { function(model) model:find() end,
      function(model) model:rows("SELECT 1") end } do
      open(function()
        local p = catga.projection "P"
        p.partitions, p.tables = 2, { "CREATE TABLE t (n)" }
        function p.on.A(_, model) call(model) end
      end)
      append("s", "A", {})
      app:settle()
      assert.truthy(status("P").error.message:find("cannot be used in a projection with "
        .. "partitions"))
      app:stop()
    end
    app = nil
  end)
end)

describe("an inline projection", function()
  after_each(after)

  local function stock(more)
    return function()
      local p = catga.projection "Stock"
      p.lifecycle = "inline"
      function p.on.Taken(event, model)
        local doc = model:get(event.sku) or { left = 10 }
        if doc.left < event.count then error(catga.error("sold_out", "only " .. doc.left)) end
        doc.left = doc.left - event.count
        model:put(event.sku, doc)
      end
      catga.command("Take", function(cmd)
        assert(catga.events.append("Stock-" .. cmd.sku, { { type = "Taken", data = cmd } }))
        return true
      end)
      if more then more(p) end
    end
  end

  it("is seen from the turn of the commit on", function()
    local dir = os.tmpname()
    os.remove(dir)
    finally(function() os.execute("rm -rf " .. dir) end)
    open(stock(function()
      catga.command("TakeAndLook", function(cmd)
        local one = assert(catga.send("Take", cmd))
        return one
      end)
    end), { data = dir })
    assert(app:send("Take", { sku = "a", count = 1 })) -- The document is in memory from here on.
    app:call(function()
      catga.spawn(function() catga.send("TakeAndLook", { sku = "a", count = 3 }) end)
      repeat
        native_task.yield()
        local next_position, durable = app.app.store:positions()
        local doc = app.app.projections.runners.Stock.documents:peek("a")
        if next_position == 3 and durable < 3 then
          assert.equal('{"left":6}', doc)
          break
        end
        assert.is_true(durable < 3, "it was never seen before it was durable")
      until false
    end)
    app:settle()
    assert.equal(2, status("Stock").position)
    assert.same({ left = 6 }, get("Stock", "a"))
  end)

  it("refuses a unit whose event its handler refuses, and keeps nothing of it", function()
    open(stock())
    assert(app:send("Take", { sku = "a", count = 8 }))
    local none, err = app:send("Take", { sku = "a", count = 3 })
    assert.is_nil(none)
    assert.equal("sold_out", err.code)
    assert.truthy(err.message:find("inline projection Stock cannot take Taken %(stream Stock%-a%): "
      .. ".*only 2"), err.message)
    assert.same({ left = 2 }, get("Stock", "a"))
    assert(app:send("Take", { sku = "a", count = 2 }))
    assert.same({ left = 0 }, get("Stock", "a"))
    assert.equal(2, app:position() - 1)
  end)

  it("drops what it did when the commit meets a conflict, and does it once", function()
    local runs = 0
    open(stock(function()
      catga.command("TakeOnce", function()
        runs = runs + 1
        assert(catga.events.append("Stock-b", { { type = "Taken",
          data = { sku = "b", count = 4 } } }))
        assert(catga.events.append("Other", { { type = "Noted", data = {} } },
          { expect = runs == 1 and "none" or 0 }))
        if runs == 1 then -- Somebody else is quicker, when this one is ready to commit.
          catga.spawn(function()
            assert(catga.events.append("Other", { { type = "Noted", data = {} } }))
          end):wait()
        end
        return true
      end)
    end))
    assert(app:send("Take", { sku = "b", count = 1 }))
    assert(app:send("TakeOnce", {}))
    assert.equal(2, runs)
    assert.same({ left = 5 }, get("Stock", "b"))
    assert(app:send("Take", { sku = "b", count = 5 }))
    assert.same({ left = 0 }, get("Stock", "b"))
  end)

  it("takes the events of steps with their completion", function()
    open(stock(function()
      local P = catga.process "Buy"
      function P:execute(input)
        self:take(input)
        return "bought"
      end
      function P:take(input)
        assert(catga.events.append("Stock-c", { { type = "Taken", data = { sku = "c",
          count = input.count } } }))
        return true
      end
      P.settings = { take = { attempts = 1 } }
    end))
    assert.equal("bought", app:run("Buy", { id = "1", count = 4 }))
    assert.same({ left = 6 }, get("Stock", "c"))
    local none, err = app:run("Buy", { id = "2", count = 7 })
    assert.is_nil(none)
    assert.truthy(tostring(err.message):find("only 6"), err.message)
    assert.same({ left = 6 }, get("Stock", "c"))
  end)

  it("is the same when it is built from the log, after a kill at any place", function()
    open(stock())
    local kept = {}
    for i = 1, 30 do
      app:send("Take", { sku = "k" .. i % 4, count = i % 3 + 1 })
      kept[i] = app.app.json.encode { get("Stock", "k0") or "-", get("Stock", "k1") or "-",
        get("Stock", "k2") or "-", get("Stock", "k3") or "-" }
      if i % 3 == 0 then
        app = assert(app:crash())
        assert.equal(kept[i], app.app.json.encode { get("Stock", "k0") or "-",
          get("Stock", "k1") or "-", get("Stock", "k2") or "-", get("Stock", "k3") or "-" })
      end
    end
  end)

  it("runs many units at once as if one after the other", function()
    open(stock())
    app:call(function()
      local outcomes = { taken = 0, refused = 0 }
      local list = {}
      for i = 1, 200 do
        list[i] = catga.spawn(function()
          local ok, err = catga.send("Take", { sku = "s" .. i % 7, count = 1 })
          if ok then outcomes.taken = outcomes.taken + 1 end
          if err then outcomes.refused = outcomes.refused + 1 end
        end)
      end
      for _, one in ipairs(list) do one:wait() end
      assert.same({ taken = 70, refused = 130 }, outcomes)
      for i = 0, 6 do assert.same({ left = 0 }, catga.model("Stock"):get("s" .. i)) end
    end)
    assert.equal(70, #app:call(function() return catga.events.read_all { max = 1000 } end))
  end)

  it("finds what is committed, and says what it does not know", function()
    open(stock(function(p)
      function p.on.Timed(_, model, ctx) model:put("t", { at = ctx.time }) end
      function p.on.Searched(_, model) model:find() end
      function p.on.Known(_, model, ctx)
        model:put("k", { stream = ctx.stream, type = ctx.type,
          correlated = ctx.correlation_id ~= nil })
      end
      catga.command("Do", function(cmd)
        assert(catga.events.append("x", { { type = cmd.type, data = {} } }))
        return true
      end)
    end))
    assert(app:send("Take", { sku = "a", count = 3 }))
    assert.same({ { left = 7 } }, app:call(function()
      return (catga.model("Stock"):find { left = 7 })
    end))
    local _, err = app:send("Do", { type = "Timed" })
    assert.truthy(err.message:find("ctx.time is not known in an inline projection"))
    _, err = app:send("Do", { type = "Searched" })
    assert.truthy(err.message:find("model:find cannot be used in an inline projection"))
    assert(app:send("Do", { type = "Known" }))
    assert.same({ stream = "x", type = "Known", correlated = true }, get("Stock", "k"))
  end)

  it("refuses its events while it cannot go on, and lets others pass", function()
    local is_mended = true
    local function define()
      stock(function(p)
        function p.on.Odd(_, model)
          if not is_mended then error("not today") end
          model:put("odd", {})
        end
      end)()
      catga.command("Note", function(cmd)
        assert(catga.events.append("n", { { type = cmd.type, data = {} } }))
        return true
      end)
    end
    open(define)
    app:call(function() assert(catga.projections.stop("Stock")) end)
    assert(app:send("Note", { type = "Odd" })) -- It follows later, when it is started.
    is_mended = false
    app:call(function() assert(catga.projections.start("Stock")) end)
    app:settle()
    assert.equal("failed", status("Stock").status)
    local none, err = app:send("Take", { sku = "a", count = 1 })
    assert.is_nil(none)
    assert.equal("projection_failed", err.code)
    assert.truthy(err.message:find("inline projection Stock has stopped at position 1"),
      err.message)
    assert(app:send("Note", { type = "Else" }))
    is_mended = true
    app:call(function() assert(catga.projections.start("Stock")) end)
    app:settle()
    assert(app:send("Take", { sku = "a", count = 1 }))
    assert.same({ left = 9 }, get("Stock", "a"))
    assert.same({}, get("Stock", "odd"))
  end)
end)

describe("a live projection", function()
  after_each(after)

  it("is built from the log at each start, before anybody reads it", function()
    local function define()
      local p = catga.projection "Live"
      p.lifecycle, p.tables = "live", { "CREATE TABLE t (n INTEGER)" }
      function p.on.A(event, model)
        model:sql("INSERT INTO t VALUES (?)", event.n)
        model:update("all", function(doc) doc.n = (doc.n or 0) + event.n end)
      end
    end
    local dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir " .. dir)
    open(define, { data = dir })
    append("s", "A", { n = 1 }, { n = 2 })
    app:settle()
    for _ = 1, 2 do
      app:stop()
      open(define, { data = dir })
      assert.same({ n = 3 }, get("Live", "all"))
      assert.same({ { n = 3 } }, (rows("Live", "SELECT sum(n) AS n FROM t")))
    end
    assert.is_nil(io.open(dir .. "/models/Live@1.sqlite"))
    append("s", "A", { n = 4 })
    app:settle()
    assert.same({ n = 7 }, get("Live", "all"))
    app:call(function() assert(catga.projections.rebuild("Live", { wait = true })) end)
    assert.same({ n = 7 }, get("Live", "all"))
    assert.same({ { n = 7 } }, (rows("Live", "SELECT sum(n) AS n FROM t")))
    os.execute("rm -rf " .. dir)
  end)
end)

describe("an event that a projection cannot handle", function()
  after_each(after)

  local function define(on_error)
    return function()
      local p = catga.projection "P"
      p.on_error = on_error
      function p.on.A(event, model)
        model:put("half", {})
        if event.n % 3 == 0 then error("no threes") end
        model:delete("half")
        model:update("all", function(doc) doc.n = (doc.n or 0) + event.n end)
      end
    end
  end

  it("is passed over when that is asked for: counted, said and listed", function()
    open(define "skip")
    local list = {}
    for i = 1, 10 do list[i] = { n = i } end
    append("s", "A", unpack(list))
    app:settle()
    local is = status("P")
    assert.equal("running", is.status)
    assert.equal(3, is.skipped)
    assert.equal(10, is.position)
    assert.same({ n = 37 }, get("P", "all"))
    assert.is_nil(get("P", "half"))
    assert.truthy(said "projection P passed over position 9 %(A%): .*no threes")
    local skipped = app:call(function() return catga.projections.skipped("P") end)
    assert.equal(3, #skipped)
    assert.same({ 9, 6, 3 }, { skipped[1].position, skipped[2].position, skipped[3].position })
    assert.equal("s", skipped[1].stream)
    assert.truthy(skipped[1].message:find("no threes"))
  end)

  it("becomes a dead letter, once, when that is asked for, and can be retried", function()
    open(define "dead_letter")
    append("s", "A", { n = 1 }, { n = 3 }, { n = 4 })
    app:settle()
    app:call(function() assert(catga.projections.rebuild("P", { wait = true })) end)
    local function letters()
      return app:call(function() return catga.dead_letters.list { kind = "projection" } end)
    end
    local list = letters()
    assert.equal(1, #list)
    assert.equal("P", list[1].source)
    assert.equal("A", list[1].type)
    assert.truthy(list[1].reason.message:find("no threes"))
    local letter = app:call(function() return catga.dead_letters.get(list[1].id) end)
    assert.equal(2, letter.position)
    assert.same({ n = 3 }, letter.data)
    assert.equal(1, status("P").skipped)
    assert.same({ n = 5 }, get("P", "all"))
    app.app.registry.projections.P.handlers.A = function(event, model)
      model:put("mended", event)
    end
    app:call(function() assert(catga.dead_letters.retry(list[1].id)) end)
    app:settle()
    assert.same({ n = 3 }, get("P", "mended"))
    assert.equal(0, #letters())
  end)

  it("is handled once more when its dead letter is retried", function()
    local is_mended = false
    open(function()
      local p = catga.projection "P"
      p.on_error, p.tables = "skip", { "CREATE TABLE t (n)" }
      function p.on.A(event, model)
        model:sql("INSERT INTO t VALUES (?)", event.n)
        if event.n == 2 and not is_mended then error("not yet") end
        model:update("all", function(doc) doc.n = (doc.n or 0) + event.n end)
      end
    end)
    append("s", "A", { n = 1 }, { n = 2 }, { n = 4 })
    app:settle()
    local function retry(position)
      return app:call(function()
        return require("catga.projection.retry").retry(app.app, { source = "P",
          position = position })
      end)
    end
    local none, err = retry(2)
    assert.is_nil(none)
    assert.truthy(err.message:find("not yet"))
    assert.same({ n = 5 }, get("P", "all"))
    is_mended = true
    assert.is_true(retry(2))
    assert.same({ n = 7 }, get("P", "all"))
    assert.same({ { n = 7 } }, (rows("P", "SELECT sum(n) AS n FROM t")))
    none, err = retry(9)
    assert.is_nil(none)
    assert.equal("not_found", err.code)
    append("s", "A", { n = 8 })
    app:settle()
    assert.same({ n = 15 }, get("P", "all"))
    assert.equal(4, status("P").position)
  end)

  it("is passed over also when an upcaster cannot read it", function()
    open(function()
      define "skip"()
      catga.upcast("A", 1, function(data)
        if data.n == 2 then error("cannot read") end
        return data
      end)
    end)
    app:call(function()
      for i = 1, 4 do
        assert(catga.events.append("s", { { type = "A", schema = 1, data = { n = i } } }))
      end
    end)
    app:settle()
    assert.equal("running", status("P").status)
    assert.same({ n = 5 }, get("P", "all"))
    assert.equal(2, status("P").skipped)
  end)
end)

describe("the handler of a projection", function()
  after_each(after)

  it("has no effects, and nothing that is another the next time", function()
    for what, call in pairs {
      ["catga.send"] = function() catga.send("X", {}) end,
      ["catga.publish"] = function() catga.publish("X", {}) end,
      ["catga.events.append"] = function() catga.events.append("s", {}) end,
      ["catga.start"] = function() catga.start("P", {}) end,
      ["catga.now"] = function() catga.now() end,
      ["catga.model"] = function() catga.model("P"):get("x") end,
      ["os.time"] = function() os.time() end,
      ["math.random"] = function() math.random() end,
      ["io.open"] = function() io.open("/tmp/x", "w") end,
    } do
      open(function()
        local p = catga.projection "P"
        function p.on.A() call() end
      end)
      append("s", "A", {})
      app:settle()
      local failed = status("P")
      assert.equal("failed", failed.status, what)
      assert.truthy(failed.error.message:find(what .. " in the handler of a projection, which runs "
        .. "again when the model is rebuilt", 1, true), failed.error.message)
      app:stop()
    end
    app = nil
  end)
end)
