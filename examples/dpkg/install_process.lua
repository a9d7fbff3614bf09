--- One flow for each package that is installed or upgraded: it waits for the statuses that dpkg
--- writes, until the package is installed, is gone, or is installed once more before it was done.
local catga = require "catga"

local Install = catga.process "PackageInstall"

local ENDS = { installed = "installed", superseded = "superseded", ["not-installed"] = "removed",
  ["config-files"] = "removed" }

function Install.process_id(input) return input.run end

function Install:execute(input)
  local reached, last = {}, input.at
  while true do
    local change, late = self:receive("status", { timeout = input.stalled })
    if late then return self:finish(input, "stalled", reached, last) end
    last = change.at
    if change.version == input.version then -- An upgrade begins with statuses of the old one.
      reached[change.status] = reached[change.status] or change.at
    end
    local outcome = ENDS[change.status]
    if outcome then return self:finish(input, outcome, reached, last) end
  end
end

function Install:finish(input, outcome, reached, last)
  local function seconds(status) return reached[status] and (reached[status] - input.at) / 1000 end
  local result = { package = input.package, version = input.version, run = input.run,
    action = input.action, outcome = outcome, at = last, seconds = (last - input.at) / 1000,
    unpacked = seconds "unpacked", configured = seconds "half-configured" }
  assert(catga.events.append("Installs", { { type = "InstallTimed", data = result } }))
  return result
end

local function signal(run, value)
  local ok, err = catga.processes.signal(run, "status", value)
  if ok or err.code == "ended" then return true end -- It was given up, or superseded.
  return nil, err
end

-- From the events of packages to their flows. Events of one package come in order, and what is done
-- for one is a commit together with the record that it is done: each flow hears each status once.
catga.events.subscribe {
  name = "flows", category = "Package", group = { consumers = 8, order = "stream" },
  types = { "PackageInstallBegan", "PackageStatusChanged", "PackageInstalled" },
  handle = function(event, ctx)
    if ctx.name == "PackageInstallBegan" then
      if event.superseded then
        assert(signal(event.superseded, { status = "superseded", at = event.at }))
      end
      return assert(catga.start("PackageInstall", { run = event.run, package = event.package,
        version = event.version, action = event.action, at = event.at,
        stalled = catga.config.get("stalled", { type = "duration" }) }))
    end
    if not event.run then return true end
    return signal(event.run, { status = event.status, version = event.version, at = event.at })
  end,
}
