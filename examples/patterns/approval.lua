--- Human approval: two of three managers say yes; when they take more than a day, the head of the
--- department decides alone. `form` says what they fill in.
local catga = require "catga"

local Purchase = catga.process "Purchase"

function Purchase:execute(purchase)
  if purchase.cents > 100000 then
    local answer, err = self:approval("purchase", { timeout = "24h", quorum = 2,
      approvers = { "ann", "bob", "cid" }, form = { budget = "string" } })
    if err then answer = self:approval("escalation", { approvers = { "head" } }) end
    if not answer.approved then
      error(catga.error("rejected", answer.reason or "a manager said no"))
    end
    return self:buy(purchase.id, answer.values.budget or "none", answer.by)
  end
  return self:buy(purchase.id, "petty cash", {})
end

function Purchase:buy(id, budget, by)
  return { bought = id, budget = budget, by = by }
end
