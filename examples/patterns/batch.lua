--- Batch: thousands of records page by page, at most four at the same time. The loop journals each
--- page and lets go of what was before it; a kill costs the page under way, without its done ones.
local catga = require "catga"

local Batch = catga.process "Batch"

function Batch:execute(batch)
  return self:loop({ from = 1, done = 0, sum = 0 }, function(state)
    local page = self:read_page(state.from, batch.records, batch.page)
    local sums = self:map(page, function(record) return self:process(record) end, { max = 4 })
    for _, sum in ipairs(sums) do state.sum = state.sum + sum end
    state.from, state.done = state.from + batch.page, state.done + #page
    if state.from > batch.records then return nil, { done = state.done, sum = state.sum } end
    return state
  end)
end

-- Stands for a query: the numbers of the records.
function Batch:read_page(from, records, size)
  local page = catga.json.array {}
  for record = from, math.min(from + size - 1, records) do page[#page + 1] = record end
  return page
end

function Batch:process(record)
  catga.sleep("1s")
  return record * 2
end
