--- Follows dpkg's log: all that it holds, then what comes; with --config once=true it ends when all
--- that it holds is done.
local catga = require "catga"
local intake = require "intake"
local summary = require "summary"

local is_live = false

local function write(line)
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

-- What is installed while this runs.
catga.on("InstallTimed", function(event)
  if is_live then
    catga.say(("%s %s %s after %.0f s"):format(event.outcome, event.package, event.version,
      event.seconds))
  end
end)

catga.main(function()
  local path = catga.config.get("path", { required = true })
  local is_once = catga.config.get("once", { type = "boolean" })
  local follower, before = intake.open(path)
  local taken = intake.catch_up(follower, path)
  catga.say(("read %d lines of %s, %d before"):format(taken, path, before))
  if is_once then
    summary.write(summary.await(before + taken), write)
    return catga.exit(0)
  end
  is_live = true
  intake.run(follower, path)
end)
