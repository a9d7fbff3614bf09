--- Projections of every kind: with SQL tables, by key, in partitions, inline, live; and what
--- becomes of events that they cannot handle.
local testing = require "catga.testing"
local apps = require "catga.app"
local catga = require "catga"
local state = require "catga.state"

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

local function after()
  if app then app:stop() end
  app = nil
end

describe("a projection with SQL tables", function()
  after_each(after)

  local ADD = "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n"

  local function totals(handler, more)
    return function()
      local p = catga.projection "Totals"
      p.tables = { "CREATE TABLE totals (name TEXT PRIMARY KEY, "
        .. "n INTEGER NOT NULL CHECK (n < 1000))" }
      for field, value in pairs(more or {}) do p[field] = value end
      p.on.Added = handler
    end
  end

  it("changes them by statements, with documents beside them", function()
    open(totals(function(event, model)
      model:sql(ADD, event.name, event.n)
      model:put(event.name, { last = event.n })
    end))
    append("s", "Added", { name = "a", n = 1 }, { name = "b", n = 2 }, { name = "a", n = 3 })
    app:settle()
    assert.same({ { name = "a", n = 4 }, { name = "b", n = 2 } },
      (rows("Totals", "SELECT * FROM totals ORDER BY name")))
    assert.same({ { key = "a", last = 3 } }, (rows("Totals",
      "SELECT key, doc->>'last' AS last FROM documents WHERE key = ?", "a")))
    assert.same({ last = 2 }, get("Totals", "b"))
  end)

  it("asks what the handlers before it, and it itself, have done", function()
    open(totals(function(event, model)
      model:put("seen", { name = event.name })
      model:sql(ADD, event.name, event.n)
      local row = model:rows("SELECT n, (SELECT doc->>'name' FROM documents WHERE key = 'seen') "
        .. "AS seen FROM totals WHERE name = ?", event.name)[1]
      local found = #model:find { name = event.name }
      model:put(event.name, { n = row.n, seen = row.seen, found = found })
    end))
    local list = {}
    for i = 1, 300 do list[i] = { name = "k" .. i % 3, n = 1 } end
    append("s", "Added", unpack(list))
    app:settle()
    assert.same({ n = 100, seen = "k2", found = 1 }, get("Totals", "k2"))
    assert.same({ { n = 300 } }, (rows("Totals", "SELECT sum(n) AS n FROM totals")))
  end)

  it("keeps nothing of an event whose statement fails, wherever in its batch it is", function()
    for _, asks in ipairs { false, true } do
      open(totals(function(event, model)
        model:put("before", { n = event.n })
        model:sql(ADD, event.name, event.n)
        if asks then model:rows("SELECT * FROM totals") end
        model:put("last", { n = event.n })
      end))
      append("s", "Added", { name = "a", n = 1 }, { name = "a", n = 2 }, { name = "a", n = 5000 },
        { name = "a", n = 4 })
      app:settle()
      local failed = status("Totals")
      assert.equal("failed", failed.status)
      assert.equal(2, failed.position)
      assert.equal(3, failed.error.position)
      assert.truthy(failed.error.message:find("CHECK constraint failed"), failed.error.message)
      assert.truthy(failed.error.message:find("INSERT INTO totals"))
      assert.same({ { name = "a", n = 3 } }, (rows("Totals", "SELECT * FROM totals")))
      assert.same({ n = 2 }, get("Totals", "before"))
      assert.same({ n = 2 }, get("Totals", "last"))
      app:stop()
    end
    app = nil
  end)

  it("keeps nothing of an event whose handler raises behind a question", function()
    open(totals(function(event, model)
      model:sql(ADD, event.name, event.n)
      model:put(event.name, {})
      model:rows("SELECT 1")
      if event.n == 3 then error("no three") end
    end, { on_error = "skip" }))
    append("s", "Added", { name = "a", n = 1 }, { name = "b", n = 3 }, { name = "a", n = 4 })
    app:settle()
    assert.equal("running", status("Totals").status)
    assert.same({ { name = "a", n = 5 } }, (rows("Totals", "SELECT * FROM totals")))
    assert.is_nil(get("Totals", "b"))
    assert.equal(1, status("Totals").skipped)
  end)

  it("goes on without events whose statements fail, however many", function()
    open(totals(function(event, model) model:sql(ADD, event.name, event.n) end,
      { on_error = "skip" }))
    local list, sum = {}, 0
    for i = 1, 200 do
      local is_bad = i % 5 == 0 or i == 1 or i > 195
      list[i] = { name = "k" .. i, n = is_bad and 1000 or i % 7 }
      if not is_bad then sum = sum + i % 7 end
    end
    append("s", "Added", unpack(list))
    app:settle()
    assert.same({ { sum = sum } }, (rows("Totals", "SELECT sum(n) AS sum FROM totals")))
    assert.equal(45, status("Totals").skipped)
    local skipped = app:call(function() return catga.projections.skipped("Totals", { max = 2 }) end)
    assert.equal(2, #skipped)
    assert.equal(200, skipped[1].position)
    assert.equal(45, skipped[1].number)
    assert.equal("Added", skipped[1].type)
    assert.truthy(skipped[1].message:find("CHECK constraint"))
  end)

  it("lets handlers change their own tables only, by values that SQL has", function()
    for _, case in ipairs {
      { "DROP TABLE totals", "not allowed here" },
      { "CREATE TABLE x (a)", "not allowed here" },
      { "UPDATE catga_checkpoints SET position = 0", "not allowed here" },
      { "DELETE FROM \"Totals@1\"", "not allowed here" },
      { "COMMIT", "not allowed here" },
      { "ATTACH 'x' AS y", "not allowed here" },
      { "PRAGMA user_version = 7", "not allowed here" },
      { "INSERT INTO totals VALUES ('a', random())", "random" },
      { "INSERT INTO totals VALUES ('a', CURRENT_TIMESTAMP)", "current_timestamp" },
      { "INSERT INTO totals VALUES ('a', 1); DELETE FROM totals", "one statement at a time" },
      { "INSERT INTO total VALUES ('a', 1)", "no such table: total" },
      { "INSERT INTO totals VALUES ('a', ?)", "1 values are needed and 0 were given" },
      { "", "no statement" },
      { "SELEC", "syntax error" },
    } do
      open(totals(function(_, model) model:sql(case[1]) end))
      append("s", "Added", {})
      app:settle()
      local failed = status("Totals")
      assert.equal("failed", failed.status, case[1])
      assert.truthy(failed.error.message:find(case[2], 1, true), failed.error.message)
      app:stop()
    end
    open(totals(function(_, model) model:sql("INSERT INTO totals VALUES (?, 1)", {}) end))
    append("s", "Added", {})
    app:settle()
    assert.truthy(status("Totals").error.message:find("value 1 of the statement is a table"))
  end)

  it("gives values as they were", function()
    open(function()
      local p = catga.projection "Values"
      p.tables = { "CREATE TABLE v (name TEXT, value)" }
      function p.on.Set(event, model)
        model:sql("INSERT INTO v VALUES ('text', ?)", "ä\0b")
        model:sql("INSERT INTO v VALUES ('bytes', ?)", "\255\0")
        model:sql("INSERT INTO v VALUES ('whole', ?)", 2 ^ 53)
        model:sql("INSERT INTO v VALUES ('part', ?)", 0.1)
        model:sql("INSERT INTO v VALUES ('yes', ?)", true)
        model:sql("INSERT INTO v VALUES ('none', ?)", nil)
        model:sql("INSERT INTO v VALUES ('null', ?)", event.null)
        model:sql("INSERT INTO v VALUES ('large', 9007199254740993)")
      end
    end)
    append("s", "Set", { null = catga.null })
    app:settle()
    local values = {}
    for _, row in ipairs((rows("Values", "SELECT name, value FROM v WHERE name <> 'large'"))) do
      values[row.name] = row.value == nil and "nil" or row.value
    end
    assert.same({ text = "ä\0b", bytes = "\255\0", whole = 2 ^ 53, part = 0.1, yes = 1,
      none = "nil", null = "nil" }, values)
    local none, err = rows("Values", "SELECT value FROM v")
    assert.is_nil(none)
    assert.truthy(err.message:find("column value has an integer beyond 2^53", 1, true))
  end)

  it("is read-only from outside", function()
    open(totals(function(event, model) model:sql(ADD, event.name, event.n) end))
    append("s", "Added", { name = "a", n = 1 })
    app:settle()
    for _, text in ipairs { "DELETE FROM totals", "PRAGMA user_version", "BEGIN", "DETACH main",
      "WITH x AS (SELECT 1) DELETE FROM totals" } do
      local none, err = rows("Totals", text)
      assert.is_nil(none)
      assert.equal("invalid", err.code)
    end
    local none, err = app:call(function()
      return catga.sql("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
        .. "SELECT max(n) FROM c", { on = "Totals", timeout = "50ms" })
    end)
    assert.is_nil(none)
    assert.equal("timeout", err.code)
    assert.same({ { name = "a", n = 1 } }, (rows("Totals", "SELECT * FROM totals")))
  end)
end)

describe("the tables of a projection", function()
  local dir
  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir " .. dir)
  end)
  after_each(function()
    after()
    os.execute("rm -rf " .. dir)
  end)

  local function define(tables, migrations, statement)
    return function()
      local p = catga.projection "T"
      p.tables = tables
      if migrations then p.migrations = migrations end
      function p.on.A(event, model) model:sql(statement, event.n) end
    end
  end

  it("are changed by migrations, each once", function()
    open(define({ "CREATE TABLE t (n)" }, nil, "INSERT INTO t VALUES (?)"), { data = dir })
    append("s", "A", { n = 1 })
    app:settle()
    app:stop()
    local migrations = { "ALTER TABLE t ADD COLUMN twice", "UPDATE t SET twice = n * 2" }
    for n = 2, 3 do
      open(define({ "CREATE TABLE t (n)" }, migrations, "INSERT INTO t VALUES (?1, ?1 * 2)"),
        { data = dir })
      append("s", "A", { n = n })
      app:settle()
      if n == 2 then app:stop() end
    end
    assert.same({ { n = 1, twice = 2 }, { n = 2, twice = 4 }, { n = 3, twice = 6 } },
      (rows("T", "SELECT * FROM t ORDER BY n")))
  end)

  it("are built anew when they are other ones, beside those that can be read", function()
    open(define({ "CREATE TABLE t (n)" }, nil, "INSERT INTO t VALUES (?)"), { data = dir })
    append("s", "A", { n = 1 }, { n = 2 })
    app:settle()
    app:stop()
    open(define({ "CREATE TABLE t (n, half)" }, nil, "INSERT INTO t VALUES (?1, ?1 / 2.0)"),
      { data = dir })
    assert.same({ { n = 1, half = 0.5 }, { n = 2, half = 1 } },
      (rows("T", "SELECT * FROM t ORDER BY n")))
    assert.truthy(said "projection T was rebuilt")
  end)

  it("that SQLite refuses are an error that names the statement", function()
    local refusing = assert(apps.open { define = define({ "CREATE TABLE t (" }, nil, "SELECT ?"),
      data = dir, sink = function() end })
    local ok, failure = pcall(refusing.start, refusing)
    refusing:stop()
    state[1].app = nil
    assert.is_false(ok)
    assert.truthy(tostring(failure.message):find("projection T: its tables: .*CREATE TABLE t"))
  end)
end)

