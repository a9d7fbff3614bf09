--- Early return: whoever runs the process gets its result as soon as that is certain; what takes
--- long goes on in a child that outlives it.
local catga = require "catga"

local Transaction = catga.process "Transaction"

function Transaction:execute(transaction)
  local checked = self:check(transaction.cents)
  self:start("Settlement", checked, { id = "settlement-" .. transaction.id, on_end = "abandon" })
  return checked
end

function Transaction:check(cents)
  if cents <= 0 then error(catga.error("no_amount")) end
  return { number = "T" .. cents, accepted = true }
end

local Settlement = catga.process "Settlement"

function Settlement:execute(settlement)
  self:sleep("2d")
  return self:settle(settlement.number)
end

function Settlement:settle(number) return number .. " settled" end
