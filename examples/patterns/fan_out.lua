--- Fan out: a child a region, all at the same time, each a process of its own with its own journal
--- and undo. When one fails the others are cancelled, then all is undone.
local catga = require "catga"

local Campaign = catga.process "Campaign"

function Campaign:execute(campaign)
  local children = {}
  for i, region in ipairs(campaign.regions) do
    children[i] = self:start("Region", { name = region }, { id = campaign.id .. "/" .. region })
  end
  local mails = 0
  for i, child in ipairs(children) do
    local sent, err = child:wait()
    if err then error(catga.error("region_failed", campaign.regions[i])) end
    mails = mails + sent
  end
  return mails
end

local Region = catga.process "Region"

function Region:execute(region)
  self:rent(region.name)
  if region.name == "nowhere" then error(catga.error("no_people")) end
  self:sleep("1h")
  return #region.name
end

local function note(name, type)
  assert(catga.events.append("Region-" .. name, { { type = type } }))
end

function Region:rent(name) note(name, "Rented") end
function Region:compensate_rent(_, name) note(name, "Returned") end
