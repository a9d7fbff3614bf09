--- A returned invoice: the money goes back, and the books say so.
local catga = require "catga"

local RefundProcess = catga.process "RefundProcess"

function RefundProcess.process_id(refund) return "refund-" .. refund.id end

---@param refund { id: string, date: string, customer_id: string, amount_milli: integer }
function RefundProcess:execute(refund)
  local paid = self:refund_payment(refund)
  self:complete(refund)
  return { order_id = refund.id, refund_id = paid.refund_id }
end

function RefundProcess:refund_payment(refund)
  return self:send("RefundPayment", { order_id = refund.id, amount_milli = refund.amount_milli })
end

function RefundProcess:complete(refund)
  self:send("CompleteRefund", { order_id = refund.id, customer_id = refund.customer_id,
    month = refund.date:sub(1, 7), amount_milli = refund.amount_milli })
end
