--- The example against awk: a log of the same layout, written piece by piece, rotated, the program
--- killed in between; and this machine's own log when there is one.
local testing = require "catga.testing"

local LOG = "/var/log/dpkg.log"
local ROUNDS = 8
local STATUSES = { "half-installed", "unpacked", "unpacked", "half-configured", "installed" }

local dir, app
before_each(function()
  jit.off() -- Many short lives: compiling would be most of what they cost.
  local pipe = io.popen "mktemp -d"
  dir = pipe:read "*l"
  pipe:close()
end)
after_each(function()
  if app then app:stop() end
  app = nil
  os.execute("rm -rf '" .. dir .. "'")
  jit.on()
end)

-- What awk prints for some files: "name value" a line.
local function awk(program, files)
  local pipe = io.popen(("awk '%s' %s"):format(program, files))
  local counts = {}
  for line in pipe:lines() do
    local name, value = line:match "^(.-)%s+(%d+)$"
    counts[name] = tonumber(value)
  end
  pipe:close()
  return counts
end

local COUNTS = [[
  { n["lines"]++ }
  $3 ~ /^(install|upgrade|remove|purge|configure|trigproc)$/ { n[$3]++ }
  $3 == "status" { n["status " $4]++ }
  $3 == "install" || $3 == "upgrade" {
    if ($4 in open) n["flows superseded"]++
    open[$4] = $6
  }
  $3 == "status" && $4 == "installed" && ($5 in open) && open[$5] == $6 {
    n["flows installed"]++; n["runs closed"]++; delete open[$5]
  }
  $3 == "status" && ($4 == "not-installed" || $4 == "config-files") && ($5 in open) {
    n["flows removed"]++; delete open[$5]
  }
  END { for (name in n) print name, n[name] }
]]
local MINUTES = [[
  $3 == "status" && $4 == "installed" { n[$1 " " substr($2, 1, 5)]++ }
  END { for (name in n) print name, n[name] }
]]
local LONGEST = [[
  function seconds(t, p) { split(t, p, ":"); return p[1] * 3600 + p[2] * 60 + p[3] }
  $3 == "install" || $3 == "upgrade" { open[$4] = $6; at[$4] = seconds($2) }
  $3 == "status" && $4 == "installed" && ($5 in open) && open[$5] == $6 {
    took = seconds($2) - at[$5]; n[took]++; delete open[$5]
  }
  END { for (took in n) print "x" took, n[took] }
]]

-- Lines as dpkg writes them: packages are unpacked and configured in any order, some are removed,
-- installed once more before they were done, or left half way.
local function make_log(lines_min)
  local lines, at, packages = {}, 3600, {}
  local function say(format, ...)
    at = at + (math.random(4) == 1 and math.random(0, 40) or 0)
    lines[#lines + 1] = ("2026-01-02 %02d:%02d:%02d "):format(at / 3600, at / 60 % 60, at % 60)
      .. format:format(...)
  end
  while #lines < lines_min do
    local n = math.random(12)
    local name, p = ("pkg-%d:amd64"):format(n), packages[n]
    local what = math.random(20)
    if what == 1 then
      say("startup archives unpack")
    elseif what == 2 then
      say("trigproc %s 1.0 <none>", name)
      say("status half-configured %s 1.0", name)
      say("status installed %s 1.0", name)
    elseif p and what == 3 then
      say("remove %s %s <none>", name, p.version)
      say("status config-files %s %s", name, p.version)
      packages[n] = nil
    elseif not p or what == 4 then
      p = { version = "1." .. #lines, step = 0, before = p and p.version or "<none>" }
      packages[n] = p
      say("%s %s %s %s", p.before == "<none>" and "install" or "upgrade", name, p.before, p.version)
      if p.before ~= "<none>" then say("status half-configured %s %s", name, p.before) end
    elseif p.step < #STATUSES then
      p.step = p.step + 1
      if STATUSES[p.step] == "half-configured" then
        say("configure %s %s <none>", name, p.version)
      end
      say("status %s %s %s", STATUSES[p.step], name, p.version)
    end
  end
  return lines
end

local function append(lines, first, last)
  local file = assert(io.open(dir .. "/dpkg.log", "ab"))
  file:write(table.concat(lines, "\n", first, last), "\n")
  file:close()
end

local function rotate()
  os.execute(([[cd '%s' && for n in $(seq 30 -1 1); do
    if [ -e dpkg.log.$n ]; then mv dpkg.log.$n dpkg.log.$((n + 1)); fi
  done; mv dpkg.log dpkg.log.1; : >dpkg.log]]):format(dir))
end

local function open(path)
  app = assert(testing.app("examples/dpkg", { main = true, config = { path = path } }))
end

-- The counts of the read model, and the minutes of the stream.
local function results()
  app:advance "10m" -- The last windows close.
  local counts, minutes, longest = app:ask("Counts", {}), {}, {}
  for _, doc in ipairs(app:ask("InstallsInMinute", {})) do minutes[doc.minute] = doc.count end
  for _, one in ipairs(app:ask("Slowest", {})) do longest[#longest + 1] = one.seconds end
  return counts, minutes, longest
end

local function slowest_of(by_seconds)
  local all = {}
  for name, count in pairs(by_seconds) do
    for _ = 1, count do all[#all + 1] = tonumber(name:sub(2)) end
  end
  table.sort(all, function(a, b) return a > b end)
  for i = #all, 21, -1 do all[i] = nil end
  return all
end

local function compare(files)
  local counts, minutes, longest = results()
  assert.same(awk(COUNTS, files), counts)
  assert.same(awk(MINUTES, files), minutes)
  return longest
end

describe("examples/dpkg", function()
  for seed = 1, ROUNDS do
    it("comes to what awk counts, killed and rotated in between, seed " .. seed, function()
      math.randomseed(seed)
      local lines, written, kills = make_log(300), 1, 0
      append(lines, 1, 1)
      open(dir .. "/dpkg.log")
      while written < #lines do
        local more = math.min(#lines - written, math.random(1, 60))
        append(lines, written + 1, written + more)
        written = written + more
        local what = math.random(5)
        if what ~= 1 then app:advance "1s" end -- The follower looks.
        if what == 2 then rotate() end
        if what >= 4 then
          local last = app:position()
          app = assert(app:crash(math.random(math.max(1, last - 80), last)))
          kills = kills + 1
        end
      end
      app:advance "3s"
      rotate()
      local files = ("$(ls -rv %s/dpkg.log.*) %s/dpkg.log"):format(dir, dir)
      assert.same(slowest_of(awk(LONGEST, files)), compare(files))
      assert.is_true(kills > 0)
      assert.same({}, app:call(function() return require("catga").subscriptions.parked "flows" end))
    end)
  end

  it("comes to what awk counts of this machine's log", function()
    local file = io.open(LOG)
    if not file then return pending("there is no " .. LOG .. " on this machine") end
    file:close()
    os.execute(("cp %s '%s/dpkg.log'"):format(LOG, dir)) -- So that it stands still.
    open(dir .. "/dpkg.log")
    app:advance "1s"
    compare(dir .. "/dpkg.log")
  end)
end)
