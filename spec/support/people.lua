--- Persons with encrypted fields, for the specs of personal data.
---
---   local people = dofile "spec/support/people.lua"
---   app = assert(testing.app(people.define))
---   app:send("Register", people.person("7"))
local catga = require "catga"

local M = { SECRET = "Ada Lovelace of London", STREET = "12 St James's Square",
  PHONE = "+44 20 7946 0958" }

--- Events that were delivered since it was set to {}.
M.delivered = {}

--- Registers the type, a command that stores it, a handler and a projection.
function M.define()
  catga.personal("Registered", { subject = "customer_id",
    fields = { "name", "address.street", "contacts[].phone" } })
  catga.command("Register", function(cmd)
    local ok, err = catga.events.append("Customer-" .. cmd.customer_id,
      { { type = "Registered", data = cmd } })
    if not ok then return nil, err end
    return catga.events.read("Customer-" .. cmd.customer_id)
  end)
  catga.on("Registered", function(event) M.delivered[#M.delivered + 1] = event end)
  local people = catga.projection "People"
  function people.on.Registered(event, model, ctx)
    model:put(event.customer_id, { name = event.name, city = event.address.city,
      forgotten = ctx.forgotten })
  end
end

--- The data of one.
---@param id string
---@return table
function M.person(id)
  return { customer_id = id, name = M.SECRET, address = { street = M.STREET, city = "London" },
    contacts = { { kind = "mobile", phone = M.PHONE }, { kind = "none" } } }
end

return M
