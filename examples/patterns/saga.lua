--- Saga: money goes from one account to another. When the deposit is refused the withdrawal is
--- undone; the two steps know nothing of each other.
local catga = require "catga"

local Transfer = catga.process "Transfer"

function Transfer:execute(transfer)
  self:withdraw(transfer.from, transfer.cents)
  self:deposit(transfer.to, transfer.cents)
  return { moved = transfer.cents }
end

-- What a step appends is in the commit of its completion: it is there exactly once.
local function move(account, cents)
  assert(catga.events.append("Account-" .. account, {
    { type = "Moved", data = { cents = cents } },
  }))
end

function Transfer:withdraw(from, cents) move(from, -cents) end

function Transfer:compensate_withdraw(_, from, cents) move(from, cents) end

function Transfer:deposit(to, cents)
  if to == "closed" then error(catga.error("account_closed", "nobody is paid there any more")) end
  move(to, cents)
end
