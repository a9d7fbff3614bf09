--- Split and merge: a large piece of work in chunks at the same time, two results at a time taken
--- in as they come, the last when all are there.
local catga = require "catga"

local Count = catga.process "Count"

function Count:execute(input)
  local chunks = {}
  for from = 1, #input.words, 2 do
    chunks[#chunks + 1] = { input.words[from], input.words[from + 1] }
  end
  local progress = {} -- Shared by the branches: on replay it fills up in the same order.
  local counts = self:map(chunks, function(chunk, place)
    local letters = self:count(chunk)
    progress[#progress + 1] = place
    return letters
  end)
  local total = 0
  for _, letters in ipairs(counts) do total = total + letters end
  return { total = total, chunks = #chunks, first = progress[1] }
end

function Count:count(chunk)
  catga.sleep(#chunk[1] .. "s") -- Longer words take longer.
  return #table.concat(chunk)
end
