--- What the log came to, for people.
local catga = require "catga"

local M = {}

local SHOWN = 10
local LOOK = "20ms"
local LOOKS_MAX = 6000

-- The highest counts first.
local function busiest(minutes)
  local list = {}
  for _, doc in ipairs(minutes) do list[#list + 1] = doc end
  table.sort(list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.minute < b.minute
  end)
  return list
end

--- Waits until flows and read models have seen all lines. May yield.
---@param lines integer  that were read
---@return table counts
function M.await(lines)
  for _ = 1, LOOKS_MAX do
    local counts = assert(catga.ask("Counts", {}))
    local flows = assert(catga.subscriptions.get "flows")
    if counts.lines == lines and flows.lag == 0
      and (counts["flows installed"] or 0) >= (counts["runs closed"] or 0) then
      return counts
    end
    catga.sleep(LOOK)
  end
  error("flows and read models have not caught up with the log", 0)
end

--- Writes it. May yield.
---@param counts table
---@param write fun(line: string)
function M.write(counts, write)
  write(("lines %d"):format(counts.lines or 0))
  for _, name in ipairs { "install", "upgrade", "remove", "status installed" } do
    write(("%s %d"):format(name, counts[name] or 0))
  end
  for _, outcome in ipairs { "installed", "superseded", "removed", "stalled" } do
    write(("flows %s %d"):format(outcome, counts["flows " .. outcome] or 0))
  end
  write "slowest:"
  for i, one in ipairs(assert(catga.ask("Slowest", {}))) do
    if i <= SHOWN then
      write(("  %6.0f s  %s %s"):format(one.seconds, one.package, one.version))
    end
  end
  write "busiest minutes so far:"
  for i, one in ipairs(busiest(assert(catga.ask("InstallsInMinute", {})))) do
    if i <= SHOWN then write(("  %6d  %s"):format(one.count, one.minute)) end
  end
end

return M
