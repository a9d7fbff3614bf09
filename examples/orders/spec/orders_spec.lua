--- The orders example: reading files, the flow, and whole years of orders, on a memory log.
local testing = require "catga.testing"
local catga = require "catga"
local date = require "date"
local job = require "job"
local money = require "money"
local orders_file = require "orders_file"

local DIR = debug.getinfo(1, "S").source:match("^@(.*)/spec/[^/]*$")

-- All scripts of the app but main.lua, which would run the whole job at once.
local function define()
  for _, name in ipairs { "handlers", "order_process", "refund_process", "revenue", "simulate" } do
    dofile(DIR .. "/" .. name .. ".lua")
  end
end

local function order(id, pounds)
  return { id = id, date = "2010-12-01", customer_id = "17850", amount_milli = money.parse(pounds) }
end

local function steps_of(app, id)
  local steps = {}
  for _, record in ipairs(app:journal(id)) do
    if record.type:find("^ProcessStep") then
      steps[#steps + 1] = record.type:sub(12) .. " " .. record.data.step
    end
  end
  return steps
end

-- The types of the events in an order's own stream.
local function events_of(app, id)
  return app:call(function()
    local types = {}
    for _, event in ipairs(catga.events.read("Order-" .. id)) do types[#types + 1] = event.type end
    return types
  end)
end

describe("money", function()
  it("is read exactly, to the nearest thousandth", function()
    for text, milli in pairs { ["139.12"] = 139120, ["22.200000000000003"] = 22200,
      ["112.75999999999999"] = 112760, ["0.0005"] = 1, ["0.00049"] = 0, ["-7"] = -7000,
      [".5"] = 500, ["5."] = 5000, ["-0.0005"] = -1, ["+1.005"] = 1005, [" 1 "] = 1000,
      ["999999999999.9994"] = 999999999999999 } do
      assert.equal(milli, money.parse(text), text)
    end
  end)

  it("is nothing else than a decimal number", function()
    for _, text in ipairs { "", ".", "-", "1,5", "1e3", "0x10", "1.2.3", "12a", "nan", "£5",
      "1234567890123" } do
      assert.is_nil(money.parse(text), text)
    end
  end)

  it("is written with three decimals", function()
    assert.equal("8042073.744", money.format(8042073744))
    assert.equal("-0.005", money.format(-5))
    assert.equal("0.000", money.format(0))
  end)
end)

describe("dates", function()
  it("are read in both ways", function()
    for text, day in pairs { ["2010-12-01"] = "2010-12-01", ["12/1/2010 8:26"] = "2010-12-01",
      ["2010-12-01 08:26:00"] = "2010-12-01", ["2011-02-28T23:59:59Z"] = "2011-02-28",
      ["2/29/2012"] = "2012-02-29" } do
      assert.equal(day, date.parse(text), text)
    end
  end)

  it("must be in the calendar", function()
    for _, text in ipairs { "", "2010-13-01", "2011-02-29", "13/1/2010 8:26", "2010-12-01 25:00",
      "12/1/10", "2010-12-01x", "yesterday", "0/1/2010" } do
      assert.is_nil(date.parse(text), text)
    end
  end)
end)

describe("a file with one line an invoice", function()
  it("gives orders, and returns for numbers that begin with C", function()
    local file = orders_file.read("InvoiceNo,InvoiceDate,CustomerID,TotalPrice\n"
      .. "536365,2010-12-01,17850,139.12\n536366,2010-12-01,17850,22.200000000000003\n"
      .. "C536379,2010-12-01,14527,-27.5\n")
    assert.same({
      { id = "536365", date = "2010-12-01", customer_id = "17850", amount_milli = 139120 },
      { id = "536366", date = "2010-12-01", customer_id = "17850", amount_milli = 22200 },
      { id = "C536379", date = "2010-12-01", customer_id = "14527", amount_milli = 27500,
        is_return = true } }, file.invoices)
    assert.same({}, file.rejected)
  end)

  it("goes on after lines that it cannot read, and names them", function()
    local file = orders_file.read("\239\187\191InvoiceNo,InvoiceDate,CustomerID,TotalPrice\r\n"
      .. "1,2010-12-01,5,1.5\r\n" .. "2,2010-12-01,5\r\n" .. "3,2010-12-32,5,1\r\n"
      .. "4,2010-12-01,5,abc\r\n" .. "1,2010-12-01,5,7\r\n" .. "\r\n" .. "5,2010-12-01,,7\r\n"
      .. "6,2010-12-01,5,0\r\n" .. ",2010-12-01,5,1\r\n" .. "9,2010-12-01,5,2")
    assert.same({ "1", "9" }, { file.invoices[1].id, file.invoices[2].id })
    assert.equal(2, #file.invoices)
    local reasons = {}
    for i, rejected in ipairs(file.rejected) do
      reasons[i] = rejected.line .. " " .. rejected.reason
    end
    assert.same({ "3 it has 3 columns, the first line has 4",
      '4 InvoiceDate "2010-12-32" is not a date', '5 TotalPrice "abc" is not a number',
      "6 invoice 1 stands on line 2 already", "8 CustomerID is empty",
      "9 invoice 6: nothing to pay", '10 InvoiceNo "" is not a number of an invoice' }, reasons)
  end)

  it("must say in its first line what it holds", function()
    local file, fault = orders_file.read("InvoiceNo,Date\n1,2")
    assert.is_nil(file)
    assert.matches("^line 1: the columns are InvoiceNo,Date; they must be", fault)
    assert.equal("line 1: the file is empty", select(2, orders_file.read("")))
  end)
end)

describe("a file of line items", function()
  local HEAD = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

  it("is summed by invoice", function()
    local file = orders_file.read(HEAD
      .. '536365,85123A,"HEART, ""WHITE""",6,12/1/2010 8:26,2.55,17850,United Kingdom\n'
      .. "C536379,D,Discount,-1,12/1/2010 9:41,27.5,14527,United Kingdom\n"
      .. '536365,71053,"LAMP\nON TWO LINES",6,2010-12-01 08:26:00,3.391,17850.0,United Kingdom\n')
    assert.equal("line items", file.layout)
    assert.same({}, file.rejected)
    assert.equal(2, #file.invoices)
    assert.equal(15300 + 20346, file.invoices[1].amount_milli)
    assert.equal("17850", file.invoices[1].customer_id)
    assert.is_true(file.invoices[2].is_return)
    assert.equal(27500, file.invoices[2].amount_milli)
  end)

  it("counts lines also behind quoted line ends, and goes on after an open quote", function()
    local file = orders_file.read(HEAD .. '1,a,"x\ny",1,1/2/2011 8:26,1,5,UK\n'
      .. '2,a,"x,1,1/2/2011 8:26,1,5,UK\n' .. "3,a,x,1.5,1/2/2011 8:26,1,5,UK\n"
      .. '4,a,"x"y,1,1/2/2011 8:26,1,5,UK\n' .. "5,a,x,1,1/2/2011 8:26,one,5,UK\n"
      .. "6,a,x,2,1/2/2011 8:26,1,5,UK\n")
    assert.same({ "1", "6" }, { file.invoices[1].id, file.invoices[2].id })
    local lines = {}
    for i, rejected in ipairs(file.rejected) do lines[i] = rejected.line end
    assert.same({ 4, 5, 6, 7 }, lines)
  end)
end)

describe("an order", function()
  local app
  before_each(function() app = assert(testing.app(define)) end)
  after_each(function() app:stop() end)

  it("is reserved, paid, shipped and completed", function()
    local result = assert(app:run("OrderProcess", order("1", "139.12")))
    assert.same({ order_id = "1", payment_id = "P-1", tracking = "STD-1" }, result)
    assert.same({ "Completed reserve_inventory", "Completed process_payment", "Completed ship",
      "Completed complete" }, steps_of(app, "order-1"))
    assert.same({ "OrderCompleted" }, events_of(app, "1"))
  end)

  it("goes by express above 1,000 pounds", function()
    assert.equal("STD-1", app:run("OrderProcess", order("1", "1000")).tracking)
    assert.equal("EXP-2", app:run("OrderProcess", order("2", "1000.001")).tracking)
  end)

  it("above 10,000 pounds is refused once and undone", function()
    assert(app:run("OrderProcess", order("1", "10000")))
    local result, err = app:run("OrderProcess", order("2", "10000.001"))
    assert.is_nil(result)
    assert.equal("payment_refused", err.code)
    assert.equal("compensated", err.status)
    assert.same({ "Completed reserve_inventory", "Failed process_payment",
      "Compensated reserve_inventory" }, steps_of(app, "order-2"))
    assert.same({ "OrderRefused" }, events_of(app, "2"))
  end)

  it("given twice is the same run, with another amount it is a conflict", function()
    local first = assert(app:run("OrderProcess", order("1", "5")))
    assert.same(first, app:run("OrderProcess", order("1", "5")))
    assert.same({ "OrderCompleted" }, events_of(app, "1"))
    local result, err = app:run("OrderProcess", order("1", "6"))
    assert.is_nil(result)
    assert.equal("conflict", err.code)
  end)

  it("killed behind any record of its journal comes to the same end", function()
    for _, pounds in ipairs { "139.12", "20000" } do
      local id = "k" .. pounds
      local before = app:position()
      app:run("OrderProcess", order(id, pounds))
      local events, status = events_of(app, id), app:wait("order-" .. id)
      for position = before + 1, app:position() do
        local later = assert(testing.app(define, { memory = app:snapshot(position) }))
        assert.equal(status, (later:wait("order-" .. id)), id .. " cut at " .. position)
        assert.same(events, events_of(later, id))
        later:stop()
      end
    end
  end)
end)

describe("an order that nobody ships", function()
  it("gets its money back", function()
    local refunds = 0
    local app = assert(testing.app(define, { stubs = {
      ShipOrder = function() return nil, catga.error("no_carrier", "nobody ships today") end,
      RefundPayment = function()
        refunds = refunds + 1
        return {}
      end } }))
    local _, err = app:run("OrderProcess", order("1", "5"))
    assert.equal("no_carrier", err.code)
    assert.equal(1, refunds)
    assert.same({ "Completed reserve_inventory", "Completed process_payment", "Failed ship",
      "Compensated process_payment", "Compensated reserve_inventory" }, steps_of(app, "order-1"))
    app:stop()
  end)
end)

describe("revenue", function()
  it("is by month, by customer and in all, and tells refunds apart", function()
    local app = assert(testing.app(define))
    app:run("OrderProcess", order("1", "5"))
    app:run("OrderProcess", order("2", "7.25"))
    app:run("OrderProcess", order("3", "10000.5"))
    app:run("RefundProcess", order("C4", "2"))
    local other = order("5", "1")
    other.date, other.customer_id = "2011-01-31", "9"
    app:run("OrderProcess", other)
    app:settle()
    local december = { completed = 2, completed_milli = 12250, refused = 1,
      refused_milli = 10000500, refunded = 1, refunded_milli = 2000 }
    assert.same(december, app:ask("Revenue", { month = "2010-12" }))
    assert.same(december, app:ask("Revenue", { customer_id = "17850" }))
    assert.equal(1000, app:ask("Revenue", { month = "2011-01" }).completed_milli)
    assert.equal(13250, app:ask("Revenue", {}).completed_milli)
    app:stop()
  end)
end)

-- Runs the job on an app and gives what it says as a table: the text behind the first word or two.
local function run_job(app, path)
  local lines = {}
  local ok, tally = app:call(job.run, { path = path, quiet = true, write = function(line)
    local name, value = line:match("^(.-) ([%d.]+)$")
    lines[name or line] = value or true
  end })
  return ok, tally, lines
end

-- What must come out, from the orders alone.
local function expected_of(invoices)
  local sums = { completed = 0, compensated = 0, revenue = 0, ordered = 0, months = {} }
  for _, invoice in ipairs(invoices) do
    if not invoice.is_return then
      local month, is_refused = invoice.date:sub(1, 7), invoice.amount_milli > money.pounds(10000)
      local outcome = is_refused and "compensated" or "completed"
      sums[outcome] = sums[outcome] + 1
      sums.ordered = sums.ordered + invoice.amount_milli
      local paid = is_refused and 0 or invoice.amount_milli
      sums.revenue, sums.months[month] = sums.revenue + paid, (sums.months[month] or 0) + paid
    end
  end
  return sums
end

local function check_year(app, path)
  local file = assert(app:call(job.orders, path))
  local sums = expected_of(file.invoices)
  local ok, tally, lines = run_job(app, path)
  assert.is_true(ok)
  assert.equal(0, tally.found)
  local function check_lines(said)
    assert.equal(("%d"):format(sums.completed), said.completed)
    assert.equal(("%d"):format(sums.compensated), said.compensated)
    assert.equal(money.format(sums.revenue), said.revenue)
    assert.equal(money.format(sums.ordered), said.ordered)
    for month, milli in pairs(sums.months) do
      assert.equal(money.format(milli), said[month], month)
    end
  end
  check_lines(lines)
  local position = app:position()
  local _, again, said = run_job(app, path)
  assert.equal(#file.invoices, again.found)
  assert.is_true(said["every order was done before: nothing ran twice, nothing ran now"])
  check_lines(said)
  assert.equal(position, app:position(), "the second run writes nothing")
  return file, sums
end

describe("a year", function()
  it("of the simulated shop comes out as its orders add up, and runs once", function()
    local app = assert(testing.app(define))
    local file, sums = check_year(app)
    assert.equal(20000, #file.invoices)
    -- The same seed gives the same shop.
    assert.equal(9594947980, sums.ordered)
    assert.equal(42, sums.compensated)
    app:stop()
  end)

  it("of the file in CATGA_ORDERS comes out as its orders add up, and runs once", function()
    local path = os.getenv("CATGA_ORDERS")
    if not path or path == "" then
      return pending("CATGA_ORDERS names no file")
    end
    local app = assert(testing.app(define))
    local file, sums = check_year(app, path)
    if file.layout == "invoices" and #file.invoices == 18532 then -- The real year.
      assert.same({ 18490, 42, 8042073744, 8911407904 },
        { sums.completed, sums.compensated, sums.revenue, sums.ordered })
    end
    app:stop()
  end)

  it("that cannot be read ends in a message", function()
    local app = assert(testing.app(define))
    local ok, _, lines = run_job(app, DIR .. "/no-such-file.csv")
    assert.is_false(ok)
    local said = next(lines)
    assert.matches("^no orders: .*no%-such%-file.csv", said)
    app:stop()
  end)
end)
