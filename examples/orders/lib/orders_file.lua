--- Orders out of a CSV file, in either of two layouts, told apart by the first line:
---
---   one line an invoice   InvoiceNo,InvoiceDate,CustomerID,TotalPrice
---   line items            InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,
---                         CustomerID,Country   (the published UCI Online Retail set)
---
--- Line items of an invoice are summed. An InvoiceNo that begins with C is a return. A line that
--- cannot be read is rejected with its number and the reason; the others go on.
local csv = require "csv"
local date = require "date"
local money = require "money"

local M = {}

local QUANTITY_MAX = 1000000000
local PAUSE_LINES = 50000 -- So often others get their turn while a large file is read.
local LAYOUTS = {
  { name = "invoices", "InvoiceNo", "InvoiceDate", "CustomerID", "TotalPrice" },
  { name = "line items", "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate",
    "UnitPrice", "CustomerID", "Country" },
}

--- An order or, with is_return, money to give back.
---@class orders.Invoice
---@field id string
---@field date string           "2010-12-01"
---@field customer_id string
---@field amount_milli integer  above 0
---@field is_return boolean?

---@class orders.File
---@field layout string
---@field invoices orders.Invoice[]   in the order of the file
---@field rejected { line: integer, reason: string }[]

local function trim(text) return text:match("^%s*(.-)%s*$") end

-- Column numbers by name, or what is wrong with the first line.
local function columns_of(fields)
  local places = {}
  for place, name in ipairs(fields) do places[trim(name)] = place end
  for _, layout in ipairs(LAYOUTS) do
    local found = { layout = layout, count = #fields }
    for _, name in ipairs(layout) do found[name] = places[name] end
    local is_whole = true
    for _, name in ipairs(layout) do is_whole = is_whole and found[name] ~= nil end
    if is_whole then return found end
  end
  return nil, ("the columns are %s; they must be %s, or %s"):format(table.concat(fields, ","),
    table.concat(LAYOUTS[1], ","), table.concat(LAYOUTS[2], ","))
end

local function amount_of(fields, columns)
  if columns.TotalPrice then
    local text = fields[columns.TotalPrice]
    local amount = money.parse(text)
    if not amount then return nil, ("TotalPrice \"%s\" is not a number"):format(text) end
    return amount
  end
  local quantity, price = fields[columns.Quantity], fields[columns.UnitPrice]
  local count = trim(quantity):match("^[+-]?%d+$") and tonumber(quantity)
  if not count or math.abs(count) > QUANTITY_MAX then
    return nil, ("Quantity \"%s\" is not a whole number"):format(quantity)
  end
  local milli = money.parse(price)
  if not milli then return nil, ("UnitPrice \"%s\" is not a number"):format(price) end
  if math.abs(count * milli) >= 2 ^ 53 then
    return nil, ("Quantity %s times UnitPrice %s is too much"):format(quantity, price)
  end
  return count * milli
end

-- One line as an invoice with its amount as it stands there, or what is wrong.
local function invoice_of(fields, columns)
  if #fields ~= columns.count then
    return nil, ("it has %d columns, the first line has %d"):format(#fields, columns.count)
  end
  local id = trim(fields[columns.InvoiceNo])
  if not id:match("^%w[%w_-]*$") or #id > 64 then
    return nil, ("InvoiceNo \"%s\" is not a number of an invoice"):format(id)
  end
  local day = date.parse(fields[columns.InvoiceDate])
  if not day then
    return nil, ("InvoiceDate \"%s\" is not a date"):format(fields[columns.InvoiceDate])
  end
  -- Some programs write whole numbers with a fraction where a column has gaps.
  local customer = trim(fields[columns.CustomerID]):gsub("^(%d+)%.0+$", "%1")
  if customer == "" then return nil, "CustomerID is empty" end
  if not customer:match("^%w[%w_-]*$") or #customer > 64 then
    return nil, ("CustomerID \"%s\" is not a number of a customer"):format(customer)
  end
  local amount, fault = amount_of(fields, columns)
  if not amount then return nil, fault end
  return { id = id, date = day, customer_id = customer, amount_milli = amount }
end

-- Takes what cannot be charged or given back out of the list.
local function settle(file, found)
  for _, invoice in ipairs(found) do
    local line = invoice.line
    invoice.line = nil
    if invoice.id:find("^[Cc]") then
      invoice.is_return, invoice.amount_milli = true, -invoice.amount_milli
    end
    if invoice.amount_milli > 0 then
      file.invoices[#file.invoices + 1] = invoice
    else
      file.rejected[#file.rejected + 1] = { line = line,
        reason = ("invoice %s: nothing to %s"):format(invoice.id,
          invoice.is_return and "give back" or "pay") }
    end
  end
  table.sort(file.rejected, function(a, b) return a.line < b.line end)
end

--- Reads orders.
---@param text string  the whole file
---@param pause fun()?  called again and again while a large file is read
---@return orders.File? file
---@return string? fault  the first line is not one of a known layout
function M.read(text, pause)
  local file, found, by_id, columns = { invoices = {}, rejected = {} }, {}, {}, nil
  local function reject(line, reason)
    file.rejected[#file.rejected + 1] = { line = line, reason = reason }
  end
  for line, fields, fault in csv.records(text) do
    if pause and line % PAUSE_LINES == 0 then pause() end
    if not columns then
      if fields then columns, fault = columns_of(fields) end
      if not columns then return nil, ("line %d: %s"):format(line, fault) end
      file.layout = columns.layout.name
    else
      local invoice
      if fields then invoice, fault = invoice_of(fields, columns) end
      local before = invoice and by_id[invoice.id]
      if not invoice then
        reject(line, fault)
      elseif not before then
        invoice.line = line
        by_id[invoice.id], found[#found + 1] = invoice, invoice
      elseif columns.TotalPrice then
        reject(line, ("invoice %s stands on line %d already"):format(invoice.id, before.line))
      else
        before.amount_milli = before.amount_milli + invoice.amount_milli
      end
    end
  end
  if not columns then return nil, "line 1: the file is empty" end
  settle(file, found)
  return file
end

return M
