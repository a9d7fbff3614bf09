--- The read model: revenue by month and by customer, and in all, in thousandths of a pound.
---
--- Keys are "total", "month/2010-12" and "customer/17850".
local catga = require "catga"

local revenue = catga.projection "Revenue"
revenue.version = 1

local FIELDS = { "completed", "completed_milli", "refused", "refused_milli", "refunded",
  "refunded_milli" }

local function add(model, event, count)
  local amount = count .. "_milli"
  local function change(doc)
    if not doc.completed then -- A new document is empty.
      for _, name in ipairs(FIELDS) do doc[name] = 0 end
    end
    doc[count] = doc[count] + 1
    doc[amount] = doc[amount] + event.amount_milli
  end
  model:update("total", change)
  model:update("month/" .. event.month, change)
  model:update("customer/" .. event.customer_id, change)
end

function revenue.on.OrderCompleted(event, model) add(model, event, "completed") end
function revenue.on.OrderRefused(event, model) add(model, event, "refused") end
function revenue.on.OrderRefunded(event, model) add(model, event, "refunded") end

--- Revenue of a month ("2010-12"), a customer ("17850"), or in all.
catga.query("Revenue", function(query)
  local key = query.month and "month/" .. query.month
    or query.customer_id and "customer/" .. query.customer_id or "total"
  return catga.model("Revenue"):get(key)
end)
