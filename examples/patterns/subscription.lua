--- Subscription: a trial, then a bill every month until the customer cancels or the last period is
--- over; the price may change meanwhile. The loop keeps the journal short however long it lives.
local catga = require "catga"

local Subscription = catga.process "Subscription"

local DAY_MS = 86400000

-- Waits out the month: true when the customer cancels in it. Changes of the price are for the next.
local function is_cancelled_in_month(self, state, days)
  local month_end = self:now() + days * DAY_MS
  while self:now() < month_end do
    local left = ("%dms"):format(month_end - self:now())
    local change = self:receive("change", { timeout = left }) or {}
    if change.cancel then return true end
    state.cents = change.cents or state.cents
  end
  return false
end

function Subscription:execute(customer)
  self:mail(customer.id, "Welcome")
  if self:receive("change", { timeout = customer.trial }) then
    return { billed = 0, ended = "in the trial" }
  end
  return self:loop({ cents = customer.cents, billed = 0 }, function(state, period)
    self:mail(customer.id, "Bill", state.cents)
    state.billed = state.billed + state.cents
    local is_cancelled = is_cancelled_in_month(self, state, customer.days)
    if not is_cancelled and period < customer.periods then return state end
    self:mail(customer.id, "Goodbye")
    return nil, { billed = state.billed, ended = is_cancelled and "cancelled" or "over" }
  end)
end

function Subscription:mail(id, type, cents)
  assert(catga.events.append("Mail-" .. id, { { type = type, data = { cents = cents } } }))
end
