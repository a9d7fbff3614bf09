--- The read model: how many lines of which kind there were, and which installs took longest.
local catga = require "catga"

local Slowest = catga.projection "Slowest"
Slowest.version = 1

local KEPT = 20

local function count(model, name)
  model:update("counts", function(doc) doc[name] = (doc[name] or 0) + 1 end)
end

function Slowest.on.PackageInstallBegan(event, model)
  count(model, "lines")
  count(model, event.action)
end
function Slowest.on.PackageActed(event, model)
  count(model, "lines")
  count(model, event.action)
end
function Slowest.on.PackageStatusChanged(event, model)
  count(model, "lines")
  count(model, "status " .. event.status)
end
function Slowest.on.PackageInstalled(event, model)
  count(model, "lines")
  count(model, "status installed")
  if event.run then count(model, "runs closed") end
end
function Slowest.on.DpkgNoted(_, model) count(model, "lines") end

function Slowest.on.InstallTimed(event, model)
  count(model, "flows " .. event.outcome)
  if event.outcome ~= "installed" then return end
  model:update("slowest", function(doc)
    doc.list = doc.list or {}
    table.insert(doc.list, event)
    table.sort(doc.list, function(a, b)
      if a.seconds ~= b.seconds then return a.seconds > b.seconds end
      return a.run < b.run
    end)
    doc.list[KEPT + 1] = nil
  end)
end

--- Lines by kind, and flows by how they ended.
catga.query("Counts", function() return catga.model("Slowest"):get("counts") or {} end)

--- The installs that took longest, the slowest first.
catga.query("Slowest", function()
  local doc = catga.model("Slowest"):get("slowest")
  return doc and doc.list or {}
end)
