--- Writes what is there at the end, for the checker: orders, outcomes, journals, sums.
---
---   order ID MONTH AMOUNT            as it was read
---   outcome PROCESS OUTCOME          as the program says now
---   record PROCESS TYPE OP           one line a journal record, in order; OP may be "-"
---   sum NAME COUNT AMOUNT            of the read model: completed, refused
---   month MONTH AMOUNT               of the read model
local catga = require "catga"

local M = {}

local PAGE = 10000
local PREFIX = "Process-"

local function write_journals(file)
  local after = 0
  while true do
    local events, position = catga.events.read_all { after = after, max = PAGE, journals = true }
    if not events then error(position, 0) end
    for _, event in ipairs(events) do
      if event.stream:sub(1, #PREFIX) == PREFIX then
        file:write(("record %s %s %s\n"):format(event.stream:sub(#PREFIX + 1), event.type,
          tostring(event.data.op or "-")))
      end
    end
    if position == after then return end
    after = position
  end
end

local function write_sums(file, months)
  local model = catga.model("Revenue")
  local total = model:get("total")
  file:write(("sum completed %d %.0f\n"):format(total.completed, total.completed_milli))
  file:write(("sum refused %d %.0f\n"):format(total.refused, total.refused_milli))
  for month in pairs(months) do
    local doc = model:get("month/" .. month)
    file:write(("month %s %.0f\n"):format(month, doc and doc.completed_milli or -1))
  end
end

---@param path string
---@param invoices orders.Invoice[]
---@param outcomes table<string, string>  by process id
function M.write(path, invoices, outcomes)
  local file = assert(io.open(path, "w"))
  local months = {}
  for _, invoice in ipairs(invoices) do
    months[invoice.date:sub(1, 7)] = true
    file:write(("order %s %s %.0f\n"):format(invoice.id, invoice.date:sub(1, 7),
      invoice.amount_milli))
    local id = "order-" .. invoice.id
    file:write(("outcome %s %s\n"):format(id, outcomes[id]))
  end
  write_journals(file)
  write_sums(file, months)
  assert(file:close())
end

return M
