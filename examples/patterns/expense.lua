--- Expense report: it is created, an outside system decides it through a promise, then it is paid;
--- small ones need nobody.
local catga = require "catga"

local Expense = catga.process "Expense"

function Expense:execute(expense)
  self:note(expense.id, "ExpenseCreated", { cents = expense.cents })
  if expense.cents > 5000 then
    local promise = self:promise()
    self:note(expense.id, "DecisionAsked", { callback = promise.id })
    local decision, err = promise:wait { timeout = "10d" }
    if err or decision ~= "approved" then
      self:note(expense.id, "ExpenseRefused", { why = err and err.code or decision })
      return "refused"
    end
  end
  self:note(expense.id, "ExpensePaid", { cents = expense.cents })
  return "paid"
end

function Expense:note(id, type, data)
  assert(catga.events.append("Expense-" .. id, { { type = type, data = data } }))
end

catga.command("Decide", function(cmd)
  return catga.promises.resolve(cmd.callback, cmd.decision)
end)
