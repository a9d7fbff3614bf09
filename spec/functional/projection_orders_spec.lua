--- Projections over orders, as documents and as SQL tables: what they come to is what SQLite
--- computes of the same orders with plain SQL, also when the program is killed again and again on
--- its way.
---
--- CATGA_ORDERS is a file of orders, one a line: InvoiceNo,InvoiceDate,CustomerID,TotalPrice.
--- Without it orders of that layout are made up.
local apps = require "catga.app"
local catga = require "catga"
local clocks = require "catga.native.clock"
local native = require "catga.native.model"
local native_task = require "catga.native.task"
local state = require "catga.state"
local models = require "catga.model"
local runners = require "catga.projection.runner"
local tasks = require "catga.task"
local raw = require "catga.sandbox".raw

local KILLS = tonumber(os.getenv "CATGA_KILLS") or 100
local MADE_UP = 8000
local APPEND_MAX = 500
local BATCH = 10 -- Events of a transaction: small, so that there are many places to be killed at.

-- Numbers that are the same in every run.
local function generator(seed)
  return function(below)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return math.floor(seed / 65536) % below
  end
end

local function made_up()
  local random, lines = generator(7), {}
  for i = 1, MADE_UP do
    local day = math.floor(i * 373 / MADE_UP)
    local month, year = math.floor(day / 31) % 12 + 1, 2010 + math.floor(day / 31 / 12)
    local sign = random(20) == 0 and "-" or ""
    lines[i] = ("%s%d,%d-%02d-%02d,%d,%s%d.%02d"):format(sign == "-" and "C" or "", 500000 + i,
      year, month, day % 28 + 1, 12000 + random(400), sign, random(900), random(100))
  end
  return lines
end

local function lines_of_file(path)
  local lines, is_first = {}, true
  for line in io.lines(path) do
    if not is_first then lines[#lines + 1] = (line:gsub("\r$", "")) end
    is_first = false
  end
  return lines
end

-- { id, date, customer_id, amount }: the amount as it is written.
local function read_orders()
  local path = os.getenv("CATGA_ORDERS")
  local lines = path and path ~= "" and lines_of_file(path) or made_up()
  local orders = {}
  for _, line in ipairs(lines) do
    local id, date, customer, amount = line:match("^([^,]*),([^,]*),([^,]*),([^,]*)$")
    orders[#orders + 1] = { id = id, date = date:sub(1, 10), customer_id = customer,
      amount = amount }
  end
  return orders
end

local orders = read_orders()

local function milli(text)
  return math.floor(tonumber(text) * 1000 + 0.5)
end

local AVERAGE = [[
  SELECT a.day AS day, (SELECT sum(b.total) FROM day b
    WHERE b.day > date(a.day, '-7 days') AND b.day <= a.day) / 7.0 AS average
  FROM day a ORDER BY a.day]]

-- What plain SQL makes of the orders.
local function expected()
  local db = native.open()
  local function run(...)
    local list = native.statements()
    for _, one in ipairs { ... } do list:add(1, unpack(one)) end
    return assert(models.await(db:run(list)))
  end
  local list = native.statements()
  list:add(1, "CREATE TABLE csv (id TEXT, date TEXT, customer TEXT, price TEXT)")
  list:add(1, "BEGIN")
  for _, order in ipairs(orders) do
    list:add(1, "INSERT INTO csv VALUES (?, ?, ?, ?)", order.id, order.date, order.customer_id,
      order.amount)
  end
  list:add(1, "COMMIT")
  list:add(1, "CREATE TABLE orders AS SELECT date, customer, "
    .. "CAST(floor(CAST(price AS REAL) * 1000 + 0.5) AS INTEGER) AS milli FROM csv")
  list:add(1, "CREATE TABLE day AS SELECT date AS day, sum(milli) AS total FROM orders "
    .. "GROUP BY date")
  assert(models.await(db:run(list)))
  local result = {
    months = run { "SELECT substr(date, 1, 7) AS month, sum(milli) AS total FROM orders "
      .. "GROUP BY 1 ORDER BY 1" },
    customers = run { "SELECT customer, sum(milli) AS total, count(*) AS orders FROM orders "
      .. "GROUP BY 1 ORDER BY 1" },
    top = run { "SELECT customer, sum(milli) AS total FROM orders GROUP BY 1 "
      .. "ORDER BY 2 DESC, 1 LIMIT 20" },
    averages = run { AVERAGE },
  }
  db:close()
  return result
end

-- The two kinds of projection, and what is read of each.
local kinds = {}

kinds["SQL tables"] = {
  define = function()
    local sales = catga.projection "Sales"
    sales.tables = {
      "CREATE TABLE month (month TEXT PRIMARY KEY, total INTEGER NOT NULL)",
      "CREATE TABLE customer (customer TEXT PRIMARY KEY, total INTEGER NOT NULL, "
        .. "orders INTEGER NOT NULL)",
      "CREATE TABLE day (day TEXT PRIMARY KEY, total INTEGER NOT NULL)",
      "CREATE INDEX customer_total ON customer (total)",
    }
    function sales.on.OrderPlaced(event, model)
      local amount = milli(event.amount)
      model:sql("INSERT INTO month VALUES (?, ?) ON CONFLICT (month) DO UPDATE "
        .. "SET total = total + excluded.total", event.date:sub(1, 7), amount)
      model:sql("INSERT INTO customer VALUES (?, ?, 1) ON CONFLICT (customer) DO UPDATE "
        .. "SET total = total + excluded.total, orders = orders + 1", event.customer_id, amount)
      if tonumber(event.customer_id) and tonumber(event.customer_id) % 7 == 0 then
        -- One that asks before it changes.
        local row = model:rows("SELECT total FROM day WHERE day = ?", event.date)[1]
        if row then
          model:sql("UPDATE day SET total = ? WHERE day = ?", row.total + amount, event.date)
        else
          model:sql("INSERT INTO day VALUES (?, ?)", event.date, amount)
        end
      else
        model:sql("INSERT INTO day VALUES (?, ?) ON CONFLICT (day) DO UPDATE "
          .. "SET total = total + excluded.total", event.date, amount)
      end
    end
  end,
  read = function()
    local sales = catga.model "Sales"
    return {
      months = assert(sales:rows("SELECT month, total FROM month ORDER BY month")),
      customers = assert(sales:rows("SELECT customer, total, orders FROM customer "
        .. "ORDER BY customer")),
      top = assert(sales:rows("SELECT customer, total FROM customer "
        .. "ORDER BY total DESC, customer LIMIT 20")),
      averages = assert(sales:rows(AVERAGE)),
    }
  end,
}

local DAY_MS = 86400000

local function day_number(text)
  local year, month, day = text:match("^(%d+)-(%d+)-(%d+)$")
  return math.floor(raw.time { year = year, month = month, day = day, hour = 12 } * 1000 / DAY_MS)
end

local function averages_of(days)
  local by_number, list = {}, {}
  for _, one in ipairs(days) do by_number[day_number(one.day)] = one.total end
  for i, one in ipairs(days) do
    local number, sum = day_number(one.day), 0
    for back = 0, 6 do sum = sum + (by_number[number - back] or 0) end
    list[i] = { day = one.day, average = sum / 7 }
  end
  return list
end

local function read_documents()
  local sales = catga.model "Sales"
  local function all(kind, order, max)
    local docs, offset = {}, 0
    repeat
      local page = assert(sales:find({ kind = kind }, { order = order, max = max or 10000,
        offset = offset }))
      offset = offset + #page
      for _, doc in ipairs(page) do docs[#docs + 1] = doc end
    until max or #page < 10000
    return docs
  end
  local result = { months = {}, customers = {}, top = {} }
  for i, doc in ipairs(all("month", "name")) do
    result.months[i] = { month = doc.name, total = doc.total }
  end
  for i, doc in ipairs(all("customer", "name")) do
    result.customers[i] = { customer = doc.name, total = doc.total, orders = doc.orders }
  end
  local all_of_them = all("customer", "-total")
  table.sort(all_of_them, function(a, b)
    if a.total ~= b.total then return a.total > b.total end
    return a.name < b.name
  end)
  for i = 1, math.min(20, #all_of_them) do
    result.top[i] = { customer = all_of_them[i].name, total = all_of_them[i].total }
  end
  local days = {}
  for i, doc in ipairs(all("day", "name")) do days[i] = { day = doc.name, total = doc.total } end
  result.averages = averages_of(days)
  return result
end

local function define_documents(partitions)
  return function()
    local sales = catga.projection "Sales"
    if partitions then sales.partitions = partitions end
    function sales.key(event)
      return { "month/" .. event.date:sub(1, 7), "customer/" .. event.customer_id,
        "day/" .. event.date }
    end
    function sales.initial(key)
      local kind, name = key:match("^(%a+)/(.*)$")
      return { kind = kind, name = name, total = 0, orders = 0 }
    end
    function sales.fold.OrderPlaced(doc, event)
      doc.total, doc.orders = doc.total + milli(event.amount), doc.orders + 1
    end
  end
end

kinds["documents by key"] = { define = define_documents(), read = read_documents }

kinds["documents of an inline projection"] = { read = read_documents, define = function()
  define_documents()()
  -- Killed while it catches up.
  local sales = state.loading.projections.Sales
  sales.lifecycle = "inline"
end }

-- Orders of one customer are in order, others are not: every partition adds to documents of its
-- own.
kinds["documents in partitions"] = { read = read_documents, define = function()
  local sales = catga.projection "Sales"
  sales.partitions, sales.partition = 8, "customer_id"
  local function add(model, kind, name, event)
    model:update(kind .. "/" .. name, function(doc)
      doc.kind, doc.name = kind, name
      doc.total = (doc.total or 0) + milli(event.amount)
      doc.orders = (doc.orders or 0) + 1
    end)
  end
  function sales.on.OrderPlaced(event, model)
    add(model, "customer", event.customer_id, event)
    add(model, "day", event.date, event)
    add(model, "month", event.date:sub(1, 7), event)
  end
end }

local function temporary_directory()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir " .. path) == 0)
  return path
end

local function open(dir, define, lines)
  local app = assert(apps.open { define = define, data = dir, clock = clocks.virtual(1e12),
    sink = function(level, text) lines[#lines + 1] = level .. " " .. text end })
  state[1].app = app
  return app
end

local function drop_tasks(app)
  for _, task in ipairs(native_task.live()) do
    if task.app == app then native_task.drop(task) end
  end
  app.clock:close()
  state[1].app = nil
end

-- A data directory with the orders in its log.
local function filled()
  local dir = temporary_directory()
  local app = open(dir, function() end, {})
  app:start()
  for from = 1, #orders, APPEND_MAX do
    local events = {}
    for i = from, math.min(from + APPEND_MAX - 1, #orders) do
      events[#events + 1] = { type = "OrderPlaced", data = orders[i] }
    end
    assert(catga.events.append("Orders", events))
  end
  assert(app:stop())
  drop_tasks(app)
  return dir
end

local function compare(wanted, is)
  for _, what in ipairs { "months", "customers", "top", "averages" } do
    assert.equal(#wanted[what], #is[what], what)
    for i, row in ipairs(wanted[what]) do
      for field, value in pairs(row) do
        local other = is[what][i][field]
        local same = type(value) == "number" and math.abs(value - other) <= 1e-9 * math.abs(value)
          or value == other
        assert.is_true(same, ("%s %d %s: %s is not %s"):format(what, i, field, tostring(other),
          tostring(value)))
      end
    end
  end
end

describe("a projection over orders", function()
  local wanted
  setup(function()
    jit.off()
    runners.limits.events = BATCH
    wanted = expected()
  end)
  teardown(function()
    jit.on()
    runners.limits.events = 1000
  end)

  for _, name in ipairs { "SQL tables", "documents by key", "documents in partitions",
    "documents of an inline projection" } do
    it(("killed %d times comes to what SQLite computes: %s"):format(KILLS, name), function()
      local kind, random, lines = kinds[name], generator(#name), {}
      local dir = filled()
      local kills, lives, at_commits = 0, 0, 0
      while kills < KILLS do
        lives = lives + 1
        assert.is_true(lives < KILLS * 2, "it ends before it can be killed")
        local app = open(dir, kind.define, lines)
        tasks.spawn(app, app.start, app)
        local function runner() return app.projections.runners.Sales end
        while not (runner() and runner().documents) do native_task.yield() end
        -- It gets as far as leaves something to do for the lives to come.
        local first = runner().position
        local most = math.max(1, math.floor((#orders - first) / (KILLS - kills + 1)))
        local target = math.min(first + 1 + random(most), #orders)
        while runner().handled < target and runner().status == "running" do native_task.yield() end
        for _ = 1, random(3) do native_task.yield() end
        local is_unfinished = runner().position < #orders and runner().status == "running"
        if runner().pending then at_commits = at_commits + 1 end
        app:abandon()
        drop_tasks(app)
        if not is_unfinished then break end
        kills = kills + 1
      end
      assert.is_true(at_commits > 0, "no kill while a transaction was under way")
      assert.equal(KILLS, kills)
      local app = open(dir, kind.define, lines)
      app:start()
      app.projections:wait_for(#orders)
      compare(wanted, kind.read())
      assert.equal("running", app.projections.runners.Sales.status)
      assert.equal(#orders, app.projections.runners.Sales:read_position())
      assert(app:stop())
      drop_tasks(app)
      os.execute("rm -rf " .. dir)
    end)
  end
end)
