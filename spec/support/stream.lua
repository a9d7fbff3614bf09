--- Orders for specs of streams: those of the file in CATGA_ORDERS, else made ones of the same
--- layout; and what plain loops over them come to.
---
---   local orders = dofile "spec/support/stream.lua"
---   orders.list()      { { id, date, customer, amount }, ... } in the order of the file
local random = require "catga.process.random"
local times = require "catga.time"

local M = {}

local DAY_MS = 86400000
local GAP_DAYS = 30
local LINE = "^([^,]+),(%d%d%d%d%-%d%d%-%d%d)[^,]*,(%d+),([%d.]+)"

--- A die of a seed: die(n) is 1 to n.
---@param seed integer
---@return fun(n: integer): integer
function M.die(seed)
  local next_random = random.new(seed)
  for _ = 1, 10 do next_random() end
  return function(n) return math.floor(next_random() * n) + 1 end
end

-- Amounts are whole thousandths, so that sums are exact in any order.
local function read(path)
  local list = {}
  local file = assert(io.open(path))
  for line in file:lines() do
    local id, date, customer, amount = line:match(LINE)
    if id then
      list[#list + 1] = { id = id, date = date, customer = customer,
        amount = math.floor(tonumber(amount) * 1000 + 0.5) }
    end
  end
  file:close()
  return list
end

local function made(count)
  local die, list = M.die(7), {}
  local first = times.days_of(2010, 12, 1)
  for i = 1, count do
    local day = first + math.floor((i - 1) * 373 / count)
    list[i] = { id = tostring(536364 + i), date = times.format(day * DAY_MS):sub(1, 10),
      customer = tostring(12345 + die(math.ceil(count / 4))), amount = die(900000) }
  end
  return list
end

--- The orders.
---@param count integer  of made ones
---@return table[] list
---@return boolean is_real
function M.list(count)
  local path = os.getenv("CATGA_ORDERS")
  if path and path ~= "" then return read(path), true end
  return made(count), false
end

--- The same, mixed up: each moves by at most so many places.
---@param list table[]
---@param seed integer
---@param most integer
---@return table[]
function M.shuffled(list, seed, most)
  local die, keyed = M.die(seed), {}
  for i, order in ipairs(list) do keyed[i] = { at = i + die(most), i = i, order = order } end
  table.sort(keyed, function(a, b) return a.at < b.at or a.at == b.at and a.i < b.i end)
  local result = {}
  for i, one in ipairs(keyed) do result[i] = one.order end
  return result
end

local function ms_of(order) return assert(times.parse(order.date)) end

--- Revenue by month: "2010-12" to thousandths.
---@param list table[]
---@return table<string, integer>
function M.months(list)
  local sums = {}
  for _, order in ipairs(list) do
    local month = order.date:sub(1, 7)
    sums[month] = (sums[month] or 0) + order.amount
  end
  return sums
end

--- Sessions: "customer first-day" to { count, amount, last }.
---@param list table[]
---@return table<string, table>
function M.sessions(list)
  local by, result = {}, {}
  for _, order in ipairs(list) do
    by[order.customer] = by[order.customer] or {}
    table.insert(by[order.customer], order)
  end
  for customer, orders in pairs(by) do
    table.sort(orders, function(a, b) return a.date < b.date end)
    local one
    for _, order in ipairs(orders) do
      local t = ms_of(order)
      if not one or t - one.last > GAP_DAYS * DAY_MS then
        one = { count = 0, amount = 0, first = t }
        result[customer .. " " .. order.date] = one
      end
      one.count, one.amount, one.last = one.count + 1, one.amount + order.amount, t
    end
  end
  for _, one in pairs(result) do one.first = nil end
  return result
end

return M
