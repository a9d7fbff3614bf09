--- A simulated shop: orders from a fixed seed, with the monthly shape and the price quantiles of
--- the real year of the Online Retail set (see README.md). The same seed gives the same orders.
local catga = require "catga"
local money = require "money"

local COUNT = 20000
local SEED = 20101201
local CUSTOMERS = 4338

-- Orders of the real year by month, and the last day that has any.
local MONTHS = {
  { "2010-12", 1400, 31 }, { "2011-01", 987, 31 }, { "2011-02", 997, 28 },
  { "2011-03", 1321, 31 }, { "2011-04", 1149, 30 }, { "2011-05", 1555, 31 },
  { "2011-06", 1393, 30 }, { "2011-07", 1331, 31 }, { "2011-08", 1280, 31 },
  { "2011-09", 1755, 30 }, { "2011-10", 1929, 31 }, { "2011-11", 2657, 30 },
  { "2011-12", 778, 9 },
}
local REAL_COUNT = 18532

-- Pounds of an order by the share of orders that are not above it.
local QUANTILES = {
  { 0, 0.38 }, { 0.001, 1.9 }, { 0.005, 5.04 }, { 0.01, 8.5 }, { 0.02, 15 }, { 0.05, 38.2 },
  { 0.1, 85.86 }, { 0.15, 112.76 }, { 0.2, 134.77 }, { 0.25, 158.03 }, { 0.3, 183.5 },
  { 0.4, 240.39 }, { 0.5, 303.04 }, { 0.6, 341.7 }, { 0.7, 417.56 }, { 0.8, 546.64 },
  { 0.85, 653.9 }, { 0.9, 824.41 }, { 0.93, 1007.75 }, { 0.95, 1236.48 }, { 0.97, 1732.93 },
  { 0.98, 2243.7 }, { 0.99, 3844.84 }, { 0.995, 5727 }, { 0.997, 8142.75 }, { 0.998, 10303.95 },
  { 0.999, 14415.74 }, { 0.9995, 19150.66 }, { 1, 168469.6 },
}

-- The "minimal standard" generator of Park and Miller: 0 < r < 1, exact in doubles.
local function generator(seed)
  local state = seed % 2147483647
  if state == 0 then state = 1 end
  return function()
    state = state * 16807 % 2147483647
    return state / 2147483647
  end
end

-- Between two quantiles prices grow by equal factors; whole pence.
local function price_milli(share)
  local i = 2
  while share > QUANTILES[i][1] do i = i + 1 end
  local low, high = QUANTILES[i - 1], QUANTILES[i]
  local part = (share - low[1]) / (high[1] - low[1])
  local pounds = low[2] * (high[2] / low[2]) ^ part
  return math.floor(pounds * 100 + 0.5) * money.pounds(1) / 100
end

local function days_of_month(random, count, last_day)
  local days = {}
  for i = 1, count do days[i] = 1 + math.floor(random() * last_day) end
  table.sort(days)
  return days
end

local function simulate(count, seed)
  local random, invoices, before = generator(seed), {}, 0
  for _, month in ipairs(MONTHS) do
    before = before + month[2]
    local until_number = math.floor(count * before / REAL_COUNT + 0.5)
    for _, day in ipairs(days_of_month(random, until_number - #invoices, month[3])) do
      -- A few customers order much, most of them once or twice.
      local customer = 10001 + math.floor(CUSTOMERS * random() ^ 2)
      invoices[#invoices + 1] = { id = ("S%06d"):format(#invoices + 1),
        date = ("%s-%02d"):format(month[1], day), customer_id = ("%d"):format(customer),
        amount_milli = price_milli(random()) }
    end
  end
  return invoices
end

--- Orders of the simulated shop: { count?, seed? } gives the same list every time.
catga.query {
  name = "SimulatedOrders",
  input = { count = "integer?", seed = "integer?" },
  handle = function(query) return simulate(query.count or COUNT, query.seed or SEED) end,
}
