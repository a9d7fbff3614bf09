--- Projections from outside: pause, resume, stop, start, status, reading one's own writes, HTTP,
--- SQL.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local json = require "catga.native.json"
local native_task = require "catga.native.task"

local app, dir

local function open(define, opts)
  opts = opts or {}
  opts.data = dir
  local opened, err = testing.app(define, opts)
  assert(opened, err and err.message)
  app = opened
  return app
end

local function append(kind, ...)
  local events = {}
  for i, data in ipairs { ... } do events[i] = { type = kind, data = data } end
  app:call(function() assert(catga.events.append("s", events)) end)
end

-- A verb of catga.projections.
local function control(verb, ...)
  local given = { ... }
  return app:call(function() return catga.projections[verb](unpack(given)) end)
end

local function request(method, path, body, query)
  return app:call(function()
    app.app.handling = app.app.handling or 0
    local status, _, text, name, value = http.handle(app.app, method, path, query or {}, {},
      body and json.encode(body) or "")
    return status, json.decode(text), name, value
  end)
end

local function sums()
  local p = catga.projection "Sums"
  p.key = "name"
  function p.fold.Added(doc, event) doc.n = (doc.n or 0) + event.n end
end

local function temporary()
  dir = os.tmpname()
  os.remove(dir)
  assert(os.execute("mkdir " .. dir) == 0)
end

local function after()
  if app then app:stop() end
  app = nil
  if dir then os.execute("rm -rf " .. dir) end
  dir = nil
end

describe("a projection that is paused", function()
  after_each(after)

  it("handles nothing until it is resumed, also over a restart", function()
    temporary()
    open(sums)
    append("Added", { name = "a", n = 1 })
    app:settle()
    local is = assert(control("pause", "Sums", { note = "repair" }))
    assert.equal("paused", is.status)
    assert.equal("repair", is.note)
    append("Added", { name = "a", n = 2 })
    app:settle()
    app:stop()
    open(sums)
    append("Added", { name = "a", n = 4 })
    app:settle()
    is = assert(control("get", "Sums"))
    assert.equal("paused", is.status)
    assert.is_true(is.lag >= 2)
    assert.equal("repair", is.note)
    assert.same({ n = 1 }, app:document("Sums", "a"))
    for _, verb in ipairs { "start", "rebuild" } do
      local none, err = control(verb, "Sums")
      assert.is_nil(none)
      assert.equal("conflict", err.code)
    end
    assert.equal("running", control("resume", "Sums").status)
    app:settle()
    assert.same({ n = 7 }, app:document("Sums", "a"))
    app:stop()
    open(sums)
    assert.equal("running", control("get", "Sums").status)
  end)

  it("is found by its name only", function()
    open(sums)
    for _, verb in ipairs { "get", "pause", "resume", "stop", "start", "rebuild", "skipped" } do
      local none, err = control(verb, "Sum")
      assert.is_nil(none)
      assert.equal("unknown_projection", err.code)
      assert.truthy(err.message:find("did you mean Sums"))
    end
  end)
end)

describe("a projection that is stopped", function()
  after_each(after)

  it("goes on when it is started, where it was", function()
    open(sums)
    append("Added", { name = "a", n = 1 })
    app:settle()
    assert.equal("stopped", control("stop", "Sums").status)
    append("Added", { name = "a", n = 2 })
    app:settle()
    assert.same({ n = 1 }, app:document("Sums", "a"))
    for _ = 1, 3 do
      assert.equal("running", control("start", "Sums").status)
      for _ = 1, 3 do native_task.yield() end
      control("stop", "Sums")
    end
    control("start", "Sums")
    app:settle()
    assert.same({ n = 3 }, app:document("Sums", "a"))
    assert.equal(0, control("get", "Sums").lag)
  end)
end)

describe("the status of a projection", function()
  after_each(after)

  it("tells lag in events and in time, and the rate", function()
    open(sums)
    append("Added", { name = "a", n = 1 })
    app:settle()
    control("get", "Sums")
    control("stop", "Sums")
    append("Added", { name = "a", n = 2 }, { name = "b", n = 2 })
    app:advance("20s")
    local is = control("get", "Sums")
    assert.equal(2, is.lag)
    assert.equal(20000, is.lag_ms)
    assert.equal("background", is.lifecycle)
    control("start", "Sums")
    for i = 1, 10 do
      append("Added", { name = "a", n = i }, { name = "c", n = i })
      app:advance("1s")
      is = control("get", "Sums")
    end
    assert.equal(0, is.lag)
    assert.equal(0, is.lag_ms)
    assert.is_true(is.rate > 1 and is.rate < 5, tostring(is.rate))
    assert.equal(1, #control("list"))
  end)
end)

describe("a query after a position", function()
  after_each(after)

  local function define()
    sums()
    catga.command("Add", function(cmd)
      assert(catga.events.append("s", { { type = "Added", data = cmd } }))
      return true
    end)
    catga.query("Sum", function(query)
      local doc, err = catga.model("Sums"):get(query.name)
      if err then return nil, err end
      return doc or catga.null
    end)
    catga.query("SumThrough", function(query) return catga.ask("Sum", query) end)
  end

  it("sees what was done up to it", function()
    open(define)
    app:call(function()
      for i = 1, 50 do
        assert(catga.send("Add", { name = "a", n = 1 }))
        local position = catga.position()
        assert.equal(i, position)
        assert.same({ n = i }, catga.ask(i % 2 == 0 and "Sum" or "SumThrough", { name = "a" },
          { after = position }))
      end
      assert(catga.send("Add", { name = "a", n = 1 }))
      assert.same({ n = 51 }, catga.model("Sums", { after = catga.position() }):get("a"))
    end)
  end)

  it("gives up after its timeout, and at once when the model does not move", function()
    open(define)
    app:call(function()
      local started = catga.now()
      local none, err = catga.ask("Sum", { name = "a" }, { after = 1000, timeout = "2s" })
      assert.is_nil(none)
      assert.equal("behind", err.code)
      assert.is_true(err.retryable)
      assert.truthy(err.message:find("stands at position 0 and 1000 is asked for; it did not come "
        .. "there within 2000 ms"), err.message)
      assert.equal(2000, catga.now() - started)
      assert.is_nil((catga.ask("Sum", { name = "a" }, { after = 1000 })))
      assert.equal(7000, catga.now() - started) -- The setting after_timeout.
      catga.projections.pause("Sums")
      none, err = catga.ask("Sum", { name = "a" }, { after = 1000 })
      assert.is_nil(none)
      assert.truthy(err.message:find("it is paused"), err.message)
      assert.equal(7000, catga.now() - started)
      assert.error_matches(function() catga.ask("Sum", {}, { afer = 1 }) end,
        "unknown option afer")
      assert.error_matches(function() catga.ask("Sum", {}, { after = "1" }) end,
        "after is a position")
    end)
  end)

  it("may come over HTTP, by the position of the answer before", function()
    open(define)
    local status, _, name, position = request("POST", "/commands/Add", { name = "a", n = 4 })
    assert.equal(200, status)
    assert.equal("Catga-Position", name)
    local answer
    status, answer = request("POST", "/queries/Sum", { name = "a" }, { after = position })
    assert.equal(200, status)
    assert.same({ n = 4 }, answer)
    status, answer = request("POST", "/queries/Sum", { name = "a" },
      { after = "99", timeout = "10ms" })
    assert.equal(503, status)
    assert.equal("behind", answer.code)
    status = request("POST", "/queries/Sum", { name = "a" }, { after = "x" })
    assert.equal(400, status)
  end)
end)

describe("projections over HTTP", function()
  after_each(after)

  it("are listed, shown and steered", function()
    open(sums)
    append("Added", { name = "a", n = 1 })
    app:settle()
    local status, answer = request("GET", "/projections")
    assert.equal(200, status)
    assert.equal("Sums", answer[1].name)
    for _, case in ipairs { { "pause", "paused" }, { "resume", "running" }, { "stop", "stopped" },
      { "start", "running" } } do
      status, answer = request("POST", "/projections/Sums/" .. case[1], { note = "x" })
      assert.equal(200, status)
      assert.equal(case[2], answer.status)
    end
    status, answer = request("POST", "/projections/Sums/rebuild", { wait = true })
    assert.equal(200, status)
    assert.is_true(answer.is_serving)
    assert.same({}, select(2, request("GET", "/projections/Sums/skipped")))
    assert.equal(404, (request("GET", "/projections/Sum")))
    assert.equal(404, (request("POST", "/projections/Sums/explode", {})))
  end)

  local function three()
    sums()
    local p = catga.projection "Stock"
    p.tables = { "CREATE TABLE stock (sku TEXT PRIMARY KEY, n INTEGER)" }
    function p.on.Added(event, model)
      model:sql("INSERT OR REPLACE INTO stock VALUES (?, ?)", event.name, event.n)
      model:put(event.name, event)
    end
    local live = catga.projection "Live"
    live.lifecycle = "live"
    function live.on.Added(event, model) model:put(event.name, event) end
  end

  it("answer SQL over all of them", function()
    temporary()
    open(three)
    append("Added", { name = "a", n = 1 }, { name = "b", n = 2 })
    app:settle()
    local function ask(query, more)
      local body = more or {}
      body.query = query
      return request("POST", "/sql", body)
    end
    local status, answer = ask("SELECT s.sku, s.n, d.doc->>'n' AS sum, t.key "
      .. "FROM \"Stock\".stock s JOIN Sums d ON d.key = s.sku "
      .. "JOIN \"Stock\".documents t ON t.key = s.sku ORDER BY 1")
    assert.equal(200, status, answer.detail)
    assert.same({ { sku = "a", n = 1, sum = 1, key = "a" },
      { sku = "b", n = 2, sum = 2, key = "b" } }, answer.rows)
    assert.same({ { name = "sku" }, { name = "n" }, { name = "sum" }, { name = "key" } },
      answer.columns)
    assert.same({ { n = 2 } }, select(2, ask("SELECT count(*) AS n FROM stock")).rows)
    status, answer = ask("SELECT ? AS x, NULL AS y", { params = { "p" } })
    assert.equal(200, status)
    assert.same({ { x = "p", y = catga.null } }, answer.rows)
    status, answer = ask("SELECT key FROM documents ORDER BY key", { on = "Live", max = 1 })
    assert.equal(200, status)
    assert.same({ { key = "a" } }, answer.rows)
    assert.is_true(answer.more)
    for _, query in ipairs { "DELETE FROM Sums", "ATTACH 'x' AS y", "PRAGMA query_only = 0",
      "SELECT nothing" } do
      status, answer = ask(query)
      assert.equal(422, status, query)
      assert.equal("invalid", answer.code)
    end
    assert.equal(400, (request("POST", "/sql", {})))
    assert.equal(400, (request("POST", "/sql", { query = "SELECT 1", maximum = 5 })))
    assert.equal(404, (ask("SELECT 1", { on = "Nobody" })))
  end)
end)
