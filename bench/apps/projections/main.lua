--- main.lua - projections that catch up with events that lie in the log: put, update, fold by
--- key, SQL tables; how long an idle one takes for one event; and what an inline one costs a
--- command.
---
--- Environment: BENCH_EVENTS is how many events of each kind (default 200000), BENCH_KEYS how many
--- documents are updated (default 10000), BENCH_ONLY one kind.
local catga = require "catga"
local clocks = require "catga.native.clock"

local APPEND = 500 -- Events of one commit.
local LOOKS = 200  -- Events for the lag.
local clock        -- Of the run, made in main.

local put = catga.projection "Put"
function put.on.Created(event, model)
  model:put(event.order_id, { status = "created", customer_id = event.customer_id,
    amount = event.amount })
end

local update = catga.projection "Update"
function update.on.Paid(event, model)
  model:update(event.customer_id, function(doc)
    doc.total = (doc.total or 0) + event.amount
    doc.count = (doc.count or 0) + 1
  end)
end

local fold = catga.projection "Fold"
fold.key = "customer_id"
function fold.fold.Shipped(doc, event)
  doc.total = (doc.total or 0) + event.amount
  doc.count = (doc.count or 0) + 1
end

local tables = catga.projection "Tables"
tables.tables = { "CREATE TABLE totals (customer TEXT PRIMARY KEY, total REAL, count INTEGER)" }
function tables.on.Billed(event, model)
  model:sql("INSERT INTO totals VALUES (?, ?, 1) ON CONFLICT (customer) DO UPDATE SET "
    .. "total = total + excluded.total, count = count + 1", event.customer_id, event.amount)
end

local inline = catga.projection "Inline"
inline.lifecycle = "inline"
function inline.on.Noted(event, model)
  model:update(event.customer_id, function(doc) doc.count = (doc.count or 0) + 1 end)
end

local KINDS = { { "Put", "Created" }, { "Update", "Paid" }, { "Fold", "Shipped" },
  { "Tables", "Billed" } }

local function event(kind, number, keys)
  -- Keys in no order, as ids are.
  local shuffled = number * 7919 % 1000003
  return { type = kind, data = { order_id = ("o%07d"):format(shuffled),
    customer_id = "c" .. shuffled % keys, amount = number % 100 + 0.5 } }
end

local function fill(kind, count, keys)
  for first = 1, count, APPEND do
    local events = {}
    for i = first, math.min(first + APPEND - 1, count) do
      events[#events + 1] = event(kind, i, keys)
    end
    assert(catga.events.append("Bench-" .. kind, events))
  end
end

local function measure(name, kind, count, keys)
  assert(catga.projections.stop(name))
  fill(kind, count, keys)
  local position = catga.position()
  collectgarbage()
  collectgarbage()
  local begin = clock:mono()
  assert(catga.projections.start(name))
  local _, err = catga.model(name, { after = position, timeout = "600s" }):get("none")
  if err then error(err) end
  print(("projection %s: %.0f a second"):format(name:lower(),
    count / (clock:mono() - begin) * 1000))
end

local function measure_lag()
  local samples = {}
  for i = 1, LOOKS do
    catga.sleep("2ms") -- It is idle again.
    assert(catga.events.append("Lag", { event("Created", 2000000 + i, 10) }))
    local begin = clock:mono()
    local _, err = catga.model("Put", { after = catga.position() }):get("none")
    if err then error(err) end
    samples[i] = clock:mono() - begin
  end
  table.sort(samples)
  print(("projection lag idle, p50: %.3f ms"):format(samples[math.floor(LOOKS / 2)]))
  print(("projection lag idle, p99: %.3f ms"):format(samples[math.floor(LOOKS * 0.99)]))
end

-- Appends of 64 writers, with and without an inline projection that takes the event.
local function measure_inline(kind, title, count)
  local number, begin = 0, clock:mono()
  catga.map(function()
    if number < count then
      number = number + 1
      return number
    end
  end, function(n)
    assert(catga.events.append("Inline-" .. n % 64, { event(kind, n, 1000) }))
  end, { max = 64 })
  print(("%s: %.0f a second"):format(title, count / (clock:mono() - begin) * 1000))
end

catga.main(function()
  local count = tonumber(os.getenv("BENCH_EVENTS") or 200000)
  local keys = tonumber(os.getenv("BENCH_KEYS") or 10000)
  local only = os.getenv("BENCH_ONLY")
  clock = clocks.system()
  for _, one in ipairs(KINDS) do
    if not only or only == one[1] then measure(one[1], one[2], count, keys) end
  end
  if not only then
    measure_lag()
    measure_inline("Other", "append beside an inline projection", math.floor(count / 10))
    measure_inline("Noted", "append into an inline projection", math.floor(count / 10))
  end
  clock:close()
  catga.exit(0)
end)
