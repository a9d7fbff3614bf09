--- The examples of README.md and of docs/ run as they stand there.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"

-- Text of a file.
local function text_of(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- The blocks of Lua of a file, or below one of its headings.
local function blocks_of(path, heading)
  local text = text_of(path)
  if heading then
    local first = assert(text:find("\n## " .. heading .. "\n", 1, true), heading)
    text = text:sub(first + 1, (text:find("\n## ", first + 1, true) or 0) - 1)
  end
  local blocks = {}
  for block in text:gmatch "```lua\n(.-)```" do blocks[#blocks + 1] = block end
  return blocks
end

-- An app of the first block below a heading of README.md, for the function.
local function with_section(heading, fn)
  local dir = app_dir.new { ["main.lua"] = blocks_of("README.md", heading)[1] }
  local app = assert(testing.app(dir))
  fn(app)
  app:stop()
  app_dir.remove_all()
end

describe("README.md", function()
  it("has an event store that works", function()
    with_section("The event store", function(app)
      local order = { id = "7", customer = "Ann", total = 12.5 }
      assert.equal(0, app:send("PlaceOrder", order))
      assert.equal("conflict", select(2, app:send("PlaceOrder", order)).code)
      app:advance("1s")
      assert.equal(12.5, app:ask("CustomerTotal", { customer = "Ann" }))
      assert.equal(0, app:ask("CustomerTotal", { customer = "Bob" }))
    end)
  end)

  it("has an aggregate that works", function()
    with_section("Aggregates", function(app)
      assert.equal(500, app:send("Pay", { id = "1", cents = 500 }))
      assert.equal("no_money", select(2, app:send("Pay", { id = "1", cents = -501 })).code)
    end)
  end)

  it("has a subscription that works", function()
    local catga = require "catga"
    with_section("Subscriptions", function(app)
      for _, email in ipairs { "a@b", catga.null } do
        assert(app:call(catga.events.append, "Order-1", { { type = "OrderPlaced",
          data = { email = email ~= catga.null and email or nil } } }))
      end
      app:advance("1m")
      assert.equal(1, #app:call(catga.events.read, "Mail-a@b"))
      assert.equal(1, app.app.subscriptions:get("mailer").parked)
    end)
  end)

  it("has messages, routes, streams and policies that work", function()
    local catga = require "catga"
    with_section("Messages, routes, streams, policies", function(app)
      for i = 1, 3 do
        assert(app:send("Order", { id = tostring(i), country = "DE", total = 900 * i }))
        app:settle()
        app:advance("45m")
      end
      app:advance("3h")
      assert.equal(2, #app:call(catga.events.read, "$type-orders.large"))
      assert.equal(1, #app:call(catga.events.read, "$type-orders.small"))
      local counted = 0
      for _, event in ipairs(app:call(catga.events.read, "ShippedByHour")) do
        counted = counted + event.data.count
      end
      assert.is_true(counted > 0)
    end)
  end)

  it("has a declaration of personal data that works", function()
    with_section("Personal data", function(app)
      assert.equal("not_found", select(2, app:send("ForgetCustomer", { id = "42" })).code)
    end)
  end)
end)

describe("the page on the event store", function()
  it("has an app that works", function()
    local catga = require "catga"
    local dir = app_dir.new { ["main.lua"] = blocks_of("docs/event-store.md")[1] }
    local app = assert(testing.app(dir))
    local order = { id = "7", customer = "Ann", total = 12.5 }
    assert.equal(0, app:send("PlaceOrder", order))
    assert.equal("conflict", select(2, app:send("PlaceOrder", order)).code)
    assert.same({ { stream = "Order-7", version = 1 }, { stream = "Account-Ann", version = 0 } },
      app:send("PayOrder", order))
    assert.equal("conflict", select(2, app:send("PayOrder", order)).code)
    assert(app:call(catga.events.append, "Order-7", { { type = "Sent" } }))
    assert.same({ "OrderPlaced", "OrderPaid", "Sent" }, app:ask("OrderEvents", order))
    assert(app:call(catga.events.append, "Blocked-Bob", { { type = "Blocked" } }))
    assert.equal(0, app:send("PlaceOrder", { id = "8", customer = "Bob" }))
    assert.equal("conflict", select(2, app:send("PayOrder", { id = "8", customer = "Bob" })).code)
    app:stop()
    app_dir.remove_all()
  end)
end)

describe("the page on messages", function()
  it("has a sample that works", function()
    local catga = require "catga"
    local blocks = blocks_of "docs/messages.md"
    local dir = app_dir.new { ["main.lua"] = blocks[1], ["mend.lua"] = blocks[2] }
    local app = assert(testing.app(dir))
    local function types_of(id)
      local list = {}
      for i, event in ipairs(app:call(catga.events.read, "Order-" .. id)) do
        list[i] = event.type
      end
      return list
    end
    app:send("PlaceOrder", { id = "7", amount = 5, customer = "Ann" })
    app:send("PlaceOrder", { id = "8", amount = 5000, customer = "Ann" })
    app:settle()
    assert.same({ "OrderPlaced", "OrderCharged" }, types_of "7")
    assert.same({ "OrderPlaced" }, types_of "8")
    assert.equal(2, app:call(catga.outbox.status).delayed)
    local snapshot = app:snapshot()
    app:stop()
    app = assert(testing.app(dir, { main = true, memory = snapshot }))
    app:settle()
    assert.same({ "OrderPlaced", "OrderCharged" }, types_of "8")
    app:stop()
    app_dir.remove_all()
  end)

  it("names all routes, options and verbs", function()
    local page = text_of "docs/messages.md"
    for route in text_of("lua/catga/http/messages.lua"):gmatch "[GP][EOU][SU]?T (/[%w-]+)" do
      assert.truthy(page:find(route, 1, true), route)
    end
    for option in text_of("lua/catga/outbox/enqueue.lua"):gmatch "function CHECK%.(%l+)" do
      assert.truthy(page:find("`" .. option, 1, true), option)
    end
    for _, module in ipairs { "outbox", "dead_letters" } do
      for name in pairs(require("catga." .. module .. ".face")) do
        assert.truthy(page:find(name .. "(", 1, true) or page:find("`" .. name, 1, true), name)
      end
    end
  end)
end)

describe("the page on running Catga", function()
  it("has every error code", function()
    local page = text_of "docs/operations.md"
    local codes, list = {}, assert(io.popen "find lua/catga -name '*.lua'")
    for path in list:lines() do
      for code in text_of(path):gmatch 'errors%.new%("([%l_]+)"' do codes[code] = path end
    end
    list:close()
    for code in text_of("src/base/err.h"):gmatch 'X%(CG_E[%u]+, %-?%d+, "([%l_]+)"' do
      codes[code] = "err.h"
    end
    -- They are told from one function of the runtime to another.
    for _, own in ipairs { "end", "cut", "missing", "redo" } do codes[own] = nil end
    assert.truthy(codes.forgotten)
    for code, path in pairs(codes) do
      code = code:gsub("^unknown_.*", "unknown_...")
      assert.truthy(page:find("`" .. code .. "`", 1, true), code .. " of " .. path)
    end
  end)

  it("goes with a page for each error of processes, and none for others", function()
    local codes = {}
    local list = assert(io.popen "find lua/catga/process lua/catga/schedule* -name '*.lua'")
    for path in list:lines() do
      for code in text_of(path):gmatch 'errors%.new%("([%l_]+%l)"' do codes[code] = path end
    end
    list:close()
    local index = text_of "docs/errors/README.md"
    for code, path in pairs(codes) do
      local page = io.open("docs/errors/" .. code .. ".md")
      assert.truthy(page, code .. " of " .. path)
      assert.truthy(page:read("*l"):find("^# " .. code .. ": "), code)
      page:close()
      assert.truthy(index:find("(" .. code .. ".md)", 1, true), code)
    end
    for code in index:gmatch "%(([%l_]+)%.md%)" do assert.truthy(codes[code], code) end
  end)

  it("has settings that are known, and names all", function()
    local known = require "catga.settings".KNOWN
    local text = text_of "docs/operations.md"
    for name in pairs(known) do assert.truthy(text:find("`" .. name .. "`", 1, true), name) end
    local sample = assert(loadstring(blocks_of("docs/operations.md")[1]))()
    for name in pairs(sample) do assert.truthy(known[name], name) end
  end)
end)

describe("the page on aggregates", function()
  local blocks = blocks_of "docs/aggregates.md"
  local dir, app

  before_each(function()
    dir = app_dir.new { ["main.lua"] = blocks[1] }
    app = assert(testing.app(dir))
  end)

  after_each(function()
    app:stop()
    app_dir.remove_all()
  end)

  it("has an app that works", function()
    assert.is_true(app:send("OpenAccount", { id = "1", owner = "Ann" }))
    assert.is_true(app:send("OpenAccount", { id = "2", owner = "Bob" }))
    assert.equal("exists", select(2, app:send("OpenAccount", { id = "1", owner = "Ann" })).code)
    assert.equal("no_money", select(2, app:send("Transfer", { from = "1", to = "2",
      cents = 5 })).code)
    app:call(function()
      assert(require "catga".events.append("Account-1",
        { { type = "Paid", data = { amount = 7 }, schema = 1 } }))
    end)
    assert.equal(200, app:send("Transfer", { from = "1", to = "2", cents = 200 }))
    assert.equal(500, app:ask("Balance", { id = "1" }))
    assert.equal(700, app:ask("Balance", { id = "1", as_of = { version = 1 } }))
  end)

  it("has a spec that works", function()
    local ran
    local opened = testing.app
    local chunk = assert(loadstring(blocks[2], "@aggregates.md"))
    setfenv(chunk, setmetatable({ describe = function(_, fn) fn() end, it = function(_, fn)
      testing.app = function() return opened(dir) end
      local ok, failure = pcall(fn)
      testing.app = opened
      assert(ok, failure)
      ran = true
    end }, { __index = _G }))
    chunk()
    assert.is_true(ran)
  end)
end)

describe("the page on subscriptions", function()
  local dir, app

  before_each(function()
    dir = app_dir.new { ["main.lua"] = blocks_of("docs/subscriptions.md")[1] }
    app = assert(testing.app(dir))
  end)

  after_each(function()
    app:stop()
    app_dir.remove_all()
  end)

  local function status(name) return app.app.subscriptions:get(name) end

  it("has an app that works", function()
    local catga = require "catga"
    app:call(function()
      for i = 1, 3 do
        assert(catga.events.append("Order-" .. i, { { type = "OrderCreated",
          data = { order_id = i, total = i == 2 and 0 or 10 * i,
            email = i < 3 and "a@b" or nil } } }))
      end
    end)
    app:advance("1m")
    assert.equal(40, app:send("Total", { bills = 2 }))
    assert.equal(1, status("mailer").parked)
    assert.equal("nothing to bill", app:call(catga.subscriptions.parked, "billing")[1].reason)
    local taken = app:call(catga.subscriptions.take, "warehouse", 10)
    assert.equal(3, #taken)
    assert.is_true(app:call(catga.subscriptions.ack, "warehouse", taken[1].token))
    assert.equal(1, #app:call(catga.events.read, "Mail-1"))
    app = assert(app:crash())
    app:advance("1m")
    assert.equal(1, #app:call(catga.events.read, "Mail-1"))
    assert.equal(1, status("mailer").parked)
  end)
end)

describe("the page on schedules", function()
  it("has an app that works", function()
    local catga = require "catga"
    local dir = app_dir.new { ["main.lua"] = blocks_of("docs/schedules.md")[1] }
    local app = assert(testing.app(dir))
    app:advance("24h")
    local reports = app:call(catga.events.read, "Reports")
    assert.same({ { kind = "daily", time = "2026-01-01T02:00:00Z" } }, { reports[1].data })
    assert.equal(1767603600000, app:send("Remind", { user = "ann" })) -- Monday, 9 o'clock.
    assert.equal("exists", select(2, app:send("Remind", { user = "ann" })).code)
    assert.same({ count = 4 }, app:send("Again", { from = "2025-12-29",
      to = "2026-01-01T12:00:00Z" }))
    app:advance("1m")
    assert.equal(4, #app:call(catga.events.read, "Reports"))
    app = assert(app:crash())
    app:advance("96h")
    assert.equal(1, app:call(catga.schedules.get, "remind-ann").runs)
    app:stop()
    app_dir.remove_all()
  end)

  it("names every option", function()
    local page = text_of "docs/schedules.md"
    for option in pairs(require "catga.schedule.definition".KNOWN) do
      assert.truthy(page:find("`" .. option .. "`", 1, true), option)
    end
    for verb in pairs(require "catga.schedule.verbs") do
      assert.truthy(page:find(verb .. "(", 1, true) or page:find(verb .. " {", 1, true), verb)
    end
  end)
end)

describe("the page that compares flows", function()
  local catga = require "catga"
  local blocks = blocks_of "docs/flows-compared.md"
  local names = { "methods", "self:step", "declaration", "saga" }

  local function dir_of(i)
    return app_dir.new { ["commands.lua"] = blocks[1], ["main.lua"] = blocks[i + 1] }
  end

  -- What happened to an order.
  local function events_of(app, id)
    local types = {}
    for i, event in ipairs(app:call(catga.events.read, "Order-" .. id) or {}) do
      types[i] = event.type
    end
    return table.concat(types, " ")
  end

  local CASES = {
    { { id = "1", cents = 500 }, "StockReserved CardCharged Shipped" },
    { { id = "2", cents = 500000 }, "StockReserved CardCharged ExpressShipped" },
    { { id = "3", cents = 500, to = "nowhere" },
      "StockReserved CardCharged CardRefunded StockReleased" },
  }

  after_each(app_dir.remove_all)

  it("has as many samples as forms", function() assert.equal(1 + #names, #blocks) end)

  for i = 1, 3 do
    it("has a process that works, as " .. names[i], function()
      local dir = dir_of(i)
      local app = assert(testing.app(dir))
      for _, case in ipairs(CASES) do
        local order = case[1]
        local result, err = app:run("OrderProcess", order)
        assert.equal(case[2], events_of(app, order.id))
        if order.to then
          assert.same({ "no_address", "compensated" }, { err.code, err.status })
        else
          assert.same({ id = order.id, parcel = "parcel-" .. order.id }, result)
        end
        assert.is_nil((testing.chaos(dir, "OrderProcess", order)))
      end
      app:stop()
    end)
  end

  it("has a saga that works", function()
    local app = assert(testing.app(dir_of(4)))
    for _, case in ipairs(CASES) do
      local order = case[1]
      assert.is_true(app:send("PlaceOrder", order))
      app:advance("1m")
      assert.equal(case[2], events_of(app, order.id))
      assert.equal(order.to and "failed" or "shipped", app:ask("OrderStatus", order).at)
    end
    app:stop()
  end)

  it("has a saga that survives a kill at every record", function()
    local dir = dir_of(4)
    for _, case in ipairs(CASES) do
      local order = case[1]
      local app = assert(testing.app(dir))
      local first = app:position()
      app:send("PlaceOrder", order)
      app:advance("1m")
      local last = app:position()
      for position = first + 1, last - 1 do
        local snapshot = app:snapshot(position)
        local again = assert(testing.app(dir, { memory = snapshot, start = app.clock:now() }))
        again:advance("1m")
        assert.equal(case[2], events_of(again, order.id))
        again:stop()
      end
      app:stop()
    end
  end)
end)

describe("the page on processes", function()
  local catga = require "catga"
  local blocks = blocks_of "docs/processes.md"
  local dir, app
  local order = { id = "7", customer = "zoe", items = { "pen", "ink" }, amount = 1200 }

  before_each(function()
    dir = app_dir.new { ["main.lua"] = blocks[1] }
    app = assert(testing.app(dir))
  end)

  after_each(function()
    app:stop()
    app_dir.remove_all()
  end)

  local function call(fn, ...)
    local ok, err = app:call(fn, ...)
    assert.is_true(ok, tostring(err))
    app:settle()
  end

  it("has an app that works", function()
    local id = app:start("Order", order)
    assert.equal("order-7", id)
    app:settle()
    call(catga.processes.signal, id, "picked", { shelf = 3 })
    call(catga.processes.approve, id, "large order", { discount = 100 }, { by = "ann" })
    app = assert(app:crash())
    call(catga.processes.approve, id, "large order", nil, { by = "bob" })
    local shown = app:call(catga.processes.get, id)
    assert.equal("promise", shown.waits[1].kind)
    assert.same({ customer = "zoe", stage = "paid" }, shown.tags)
    assert.equal("paid", app:call(catga.processes.query, id, "stage"))
    assert.is_nil((app:call(catga.processes.update, id, "change_shelf", "five")))
    assert.equal(5, app:call(catga.processes.update, id, "change_shelf", 5))
    assert.equal("same", app:call(catga.processes.replay, id).verdict)
    call(catga.promises.resolve, shown.waits[1].name, "truck 5")
    app:publish("Delivered", { order = "7" })
    local _, result = app:wait(id)
    assert.same({ reserved = 2, payment = "P-7", shelf = 5, truck = "truck 5", delivered = true },
      result)
    local survey = app:call(catga.processes.list, { name = "Survey" })[1]
    assert.equal(id, survey.parent)
    call(catga.processes.signal, survey.id, "phone", "well")
    assert.equal("well", select(2, app:wait(survey.id)))
  end)

  it("undoes when it is rejected, or refused", function()
    app:start("Order", order)
    app:settle()
    call(catga.processes.reject, "order-7", "large order", { by = "eve" })
    local status, _, err = app:wait("order-7")
    assert.same({ "compensated", "not_approved" }, { status, err.code })
    local _, refused = app:run("Order", { id = "8", customer = "zoe", items = { "pen" },
      amount = 1000 })
    assert.same({ "compensated", "not_picked" }, { refused.status, refused.code })
  end)

  it("names all routes and settings", function()
    local page = text_of "docs/processes.md"
    for route in text_of("lua/catga/http/processes.lua"):gmatch "[GP][EO]S?T (/[%w-]+)" do
      assert.truthy(page:find(route, 1, true), route)
    end
    for name in pairs(require "catga.process.verbs") do
      assert.truthy(name == "new_id" or name == "send" or name == "time"
        or page:find("self:" .. name, 1, true), name)
    end
    for _, status in pairs(require "catga.process.engine".STATUS_OF) do
      assert.truthy(page:find("`" .. status .. "`", 1, true), status)
    end
  end)

  it("has a spec that works", function()
    local ran
    local chaos = testing.chaos
    local chunk = assert(loadstring(blocks[2], "@processes.md"))
    local function it(_, fn)
      testing.chaos = function(_, ...) return chaos(dir, ...) end
      local ok, failure = pcall(fn)
      testing.chaos = chaos
      assert(ok, failure)
      ran = true
    end
    setfenv(chunk, setmetatable({ assert = assert, describe = function(_, fn) fn() end, it = it },
      { __index = _G }))
    chunk()
    assert.is_true(ran)
  end)
end)
