--- Cron: a process starts every night at three. Each run knows its time; what one run leaves for
--- the next is in the store, here the position up to which the report was made.
local catga = require "catga"

local Report = catga.process "Report"

function Report:execute(input)
  local last = self:last_report(input.kind)
  local count = self:count_orders(last and last.upto or 0)
  return self:write(input.kind, { time = input.scheduled_time, orders = count.orders,
    upto = count.upto })
end

function Report:last_report(kind)
  local events = catga.events.read("Report-" .. kind, { backward = true, max = 1 })
  return events and events[1] and events[1].data or false
end

function Report:count_orders(after)
  local orders, upto = 0, after
  for _, event in ipairs(catga.events.read_all { after = after, max = 1000 }) do
    upto = event.position
    if event.type == "OrderPlaced" then orders = orders + 1 end
  end
  return { orders = orders, upto = upto }
end

function Report:write(kind, report)
  assert(catga.events.append("Report-" .. kind, { { type = "Reported", data = report } }))
  return report.orders
end

catga.schedule("nightly-report", "0 3 * * *", "Report", { kind = "daily" }, { overlap = "skip" })
