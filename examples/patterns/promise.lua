--- Promise: an outside system finishes the work and says so by the promise's id, over HTTP, the CLI
--- or a command here; or it rejects it; or nothing comes in time.
local catga = require "catga"

local Payment = catga.process "Payment"

function Payment:execute(payment)
  local promise = self:promise()
  self:request(payment.id, promise.id)
  local receipt, err = promise:wait { timeout = "15m" }
  if receipt then return { receipt = receipt } end
  if err.code == "timeout" then return { state = "unknown" } end
  return { state = "refused", why = err.code }
end

-- The outside system gets the id and keeps it.
function Payment:request(id, promise_id)
  assert(catga.events.append("Requests", {
    { type = "PaymentRequested", data = { payment = id, callback = promise_id } },
  }))
end

catga.command("PaymentCallback", function(cmd)
  if cmd.refused then return catga.promises.reject(cmd.callback, catga.error(cmd.refused)) end
  return catga.promises.resolve(cmd.callback, cmd.receipt)
end)
