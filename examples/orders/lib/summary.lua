--- What a person sees: progress while orders run, and the summary after them.
local catga = require "catga"
local money = require "money"

local M = {}

local REJECTED_SHOWN_MAX = 20 -- More are shown by reason.
local REASONS_SHOWN_MAX = 50
local LINES_SHOWN_MAX = 5 -- Numbers of lines that are rejected for the same reason.
local STILL_MS_MAX = 10000 -- A read model that lacks orders and does not move so long has stopped.
local STILL_MS_MAX_WITH_OTHERS = 500 -- One that holds other orders too has taken in all of them.
local NOTHING = { completed = 0, completed_milli = 0, refused = 0, refused_milli = 0, refunded = 0,
  refunded_milli = 0 }

--- A whole number with commas: 12345 is "12,345".
---@param n number
---@return string
function M.grouped(n)
  local text = ("%.0f"):format(n)
  return (text:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

--- One line of progress.
---@param tally orders.Tally
---@param ms number  since the start
---@return string
function M.progress(tally, ms)
  local rate = tally.ended / math.max(ms, 1) * 1000
  local left = rate > 0 and ("%.1f s left"):format((tally.total - tally.ended) / rate) or ""
  return ("  %s of %s orders  %s a second  %s in flight  %s"):format(M.grouped(tally.ended),
    M.grouped(tally.total), M.grouped(rate), M.grouped(tally.in_flight), left)
end

-- Does the read model hold these orders and no others?
local function is_same(total, tally)
  return total.completed == tally.completed and total.completed_milli == tally.completed_milli
    and total.refused == tally.compensated and total.refused_milli == tally.compensated_milli
    and total.refunded == tally.refunded and total.refunded_milli == tally.refunded_milli
end

--- Waits until the read model holds these orders and no others, or no longer moves. May yield.
---@param tally orders.Tally
---@return table total  its document
function M.wait_for_model(tally)
  local model = catga.model("Revenue")
  local wanted = tally.completed + tally.compensated + tally.refunded
  local held, moved_at = -1, catga.now()
  while true do
    local total = model:get("total") or NOTHING
    local count = total.completed + total.refused + total.refunded
    if count ~= held then held, moved_at = count, catga.now() end
    local still_ms_max = count < wanted and STILL_MS_MAX or STILL_MS_MAX_WITH_OTHERS
    if is_same(total, tally) or catga.now() - moved_at > still_ms_max then return total end
    catga.sleep("5ms")
  end
end

-- Months from the first to the last of the invoices.
local function months_of(invoices)
  local seen, months = {}, {}
  for _, invoice in ipairs(invoices) do
    local month = invoice.date:sub(1, 7)
    if not seen[month] then seen[month], months[#months + 1] = true, month end
  end
  table.sort(months)
  return months
end

-- Does it hold more orders, as when another file was run into the same data directory before?
local function holds_more(total, tally)
  return total.completed + total.refused + total.refunded
    > tally.completed + tally.compensated + tally.refunded
end

local function percentile(sorted, share)
  return sorted[math.max(1, math.ceil(#sorted * share))]
end

local function write_speed(tally, write)
  local ran = tally.ended - tally.found
  if ran == 0 then
    write("every order was done before: nothing ran twice, nothing ran now")
    return
  end
  if tally.found > 0 then write(("done before %d"):format(tally.found)) end
  if tally.resumed > 0 then write(("taken up again %d"):format(tally.resumed)) end
  write(("orders a second %.0f"):format(ran / math.max(tally.ms, 1) * 1000))
  if #tally.latencies > 0 then
    table.sort(tally.latencies)
    write(("latency p50 %.0f ms"):format(percentile(tally.latencies, 0.5)))
    write(("latency p99 %.0f ms"):format(percentile(tally.latencies, 0.99)))
  end
end

-- "line 7", "lines 7, 9", "lines 7, 9, 11, 12, 20 and 135,075 more".
local function lines_text(lines)
  local shown = table.concat(lines, ", ", 1, math.min(#lines, LINES_SHOWN_MAX))
  local more = #lines - LINES_SHOWN_MAX
  return ("line%s %s%s"):format(#lines > 1 and "s" or "", shown,
    more > 0 and (" and %s more"):format(M.grouped(more)) or "")
end

local function write_by_reason(rejected, write)
  local reasons, by_reason = {}, {}
  for _, one in ipairs(rejected) do
    local lines = by_reason[one.reason]
    if not lines then
      lines = {}
      by_reason[one.reason], reasons[#reasons + 1] = lines, one.reason
    end
    lines[#lines + 1] = one.line
  end
  for i = 1, math.min(#reasons, REASONS_SHOWN_MAX) do
    write(("  %s: %s"):format(lines_text(by_reason[reasons[i]]), reasons[i]))
  end
  if #reasons > REASONS_SHOWN_MAX then
    write(("  and %s more reasons"):format(M.grouped(#reasons - REASONS_SHOWN_MAX)))
  end
end

--- Writes the lines that could not be read; many of them by reason.
---@param rejected { line: integer, reason: string }[]
---@param write fun(line: string)
function M.rejected(rejected, write)
  if #rejected == 0 then return end
  write(("rejected %d"):format(#rejected))
  if #rejected > REJECTED_SHOWN_MAX then return write_by_reason(rejected, write) end
  for _, one in ipairs(rejected) do write(("  line %d: %s"):format(one.line, one.reason)) end
end

local function write_figures(figures, months, month_milli, write)
  write(("completed %d"):format(figures.completed))
  write(("compensated %d"):format(figures.refused))
  write("revenue " .. money.format(figures.completed_milli))
  for _, month in ipairs(months) do write(month .. " " .. money.format(month_milli(month))) end
  if figures.refunded > 0 then
    write("refunds " .. money.format(figures.refunded_milli))
    write("revenue less refunds " .. money.format(figures.completed_milli - figures.refunded_milli))
  end
  write("ordered " .. money.format(figures.completed_milli + figures.refused_milli))
end

--- Writes the summary: sums out of the read model, checked against the outcomes. May yield.
---@param invoices orders.Invoice[]
---@param tally orders.Tally
---@param write fun(line: string)
---@return boolean ok  every order ended well, and the read model agrees
function M.write(invoices, tally, write)
  local total, model = M.wait_for_model(tally), catga.model("Revenue")
  local ok = tally.failed == 0
  if is_same(total, tally) then
    write_figures(total, months_of(invoices), function(month)
      return (model:get("month/" .. month) or NOTHING).completed_milli
    end, write)
  else
    write_figures({ completed = tally.completed, completed_milli = tally.completed_milli,
      refused = tally.compensated, refused_milli = tally.compensated_milli,
      refunded = tally.refunded, refunded_milli = tally.refunded_milli }, months_of(invoices),
      function(month) return tally.months[month] or 0 end, write)
    if holds_more(total, tally) then
      write("the data directory holds orders of other files too; these figures are of this one")
    else
      ok = false
      write(("the read model differs from the outcomes: it has revenue %s of %d orders")
        :format(money.format(total.completed_milli), total.completed))
    end
  end
  write_speed(tally, write)
  for _, fault in ipairs(tally.faults) do write("failed " .. fault) end
  if tally.failed > #tally.faults then write(("failed %d in all"):format(tally.failed)) end
  return ok
end

return M
