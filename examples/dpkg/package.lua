--- A package, as the log tells of it: each of its lines is one event of its stream.
---
--- An install (or upgrade) opens a run; the status "installed" of the new version closes it, and so
--- does that the package is gone. All lines between belong to the run, and to its flow.
local catga = require "catga"
local dpkg_line = require "dpkg_line"

local Package = catga.aggregate "Package"
Package.snapshot = { every = 100 }

local OPENS = { install = true, upgrade = true }
local GONE = { ["not-installed"] = true, ["config-files"] = true }

function Package.initial() return { runs = 0 } end

function Package.apply.PackageInstallBegan(state, event)
  state.runs = state.runs + 1
  state.version, state.is_open = event.version, true
end
function Package.apply.PackageInstalled(state, event)
  if event.run then state.is_open = nil end
end
function Package.apply.PackageStatusChanged(state, event)
  if GONE[event.status] then state.is_open = nil end
end

function Package.apply.PackageActed() end

function Package:run() return self.state.is_open and self.id .. "#" .. self.state.runs or nil end

function Package:take_action(line)
  local data = { package = self.id, action = line.what, version = line.version,
    before = line.before, at = line.at }
  if OPENS[line.what] then
    data.superseded = self:run()
    data.run = self.id .. "#" .. self.state.runs + 1
    return self:raise("PackageInstallBegan", data)
  end
  data.run = self:run()
  self:raise("PackageActed", data)
end

function Package:take_status(line)
  local data = { package = self.id, status = line.what, version = line.version, at = line.at,
    run = self:run() }
  if line.what ~= "installed" then return self:raise("PackageStatusChanged", data) end
  if data.version ~= self.state.version then data.run = nil end
  self:raise("PackageInstalled", data)
end

local POSITION = "DpkgPosition" -- One event a batch of lines: how far the log was read.

-- How far the log was read: the position, and the version of its stream.
local function position_of(path)
  local last = assert(catga.events.read(POSITION, { backward = true, max = 1 }))[1]
  if not last then return nil, "none", 0 end
  if last.data.path ~= path then return nil, last.version, last.data.lines end
  return last.data.position, last.version, last.data.lines
end

catga.query("LogPosition", function(query)
  local position, _, lines = position_of(query.path)
  return { position = position, lines = lines }
end)

-- Lines become events, and the position moves on, in one unit of work: both or neither.
catga.command("TakeLines", function(cmd)
  local _, version, before = position_of(cmd.path)
  local packages, order, notes = {}, {}, {}
  for _, text in ipairs(cmd.lines) do
    local line = dpkg_line.parse(text)
    if line.package then
      local package = packages[line.package]
      if not package then
        package = Package.load(line.package)
        packages[line.package] = package
        order[#order + 1] = package
      end
      if line.kind == "action" then package:take_action(line) else package:take_status(line) end
    else
      notes[#notes + 1] = { type = "DpkgNoted", data = { text = text, at = line.at } }
    end
  end
  for _, package in ipairs(order) do assert(package:save()) end
  if notes[1] then assert(catga.events.append("DpkgNotes", notes)) end
  local lines = before + #cmd.lines
  assert(catga.events.append(POSITION, { { type = "DpkgLogRead", data = { path = cmd.path,
    position = cmd.position, lines = lines } } }, { expect = version }))
  return lines
end)
