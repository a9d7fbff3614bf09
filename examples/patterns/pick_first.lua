--- Pick first: the same question to several services; the first answer counts, the others end, and
--- what they have done is undone.
local catga = require "catga"

local Quote = catga.process "Quote"

local TAKES = { slow = "3m", quick = "5s" }

local function ask(self, id, carrier) -- A part of the body; as a method it would be a step.
  self:reserve(id, carrier)
  self:sleep(TAKES[carrier])
  return "offer of " .. carrier
end

function Quote:execute(quote)
  local offer, from = self:any("carriers", {
    slow = function() return ask(self, quote.id, "slow") end,
    quick = function() return ask(self, quote.id, "quick") end,
    broken = function() error(catga.error("carrier_closed")) end,
  })
  return { offer = offer, from = from }
end

local function note(id, type, carrier)
  assert(catga.events.append("Quote-" .. id, { { type = type, data = { carrier = carrier } } }))
end

function Quote:reserve(id, carrier) note(id, "Reserved", carrier) end
function Quote:compensate_reserve(_, id, carrier) note(id, "Released", carrier) end
