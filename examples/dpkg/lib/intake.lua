--- Reading dpkg's log: follows it from where the last start was, batch by batch.
local catga = require "catga"

local M = {}

local BATCH_LINES = 500

local ATTEMPTS, PAUSE = 5, "1s" -- Of one batch: the disk may be full for a while.

local function take(path, lines, position)
  local batch = { path = path, lines = lines, position = position }
  for attempt = 1, ATTEMPTS do
    local count, err = catga.send("TakeLines", batch)
    if count then return end
    if not err.retryable or attempt == ATTEMPTS then error(err, 0) end
    catga.sleep(PAUSE)
  end
end

--- Opens the log where it was left. May yield.
---@param path string
---@return catga.Follower follower
---@return integer lines  that were read before
function M.open(path)
  local last = assert(catga.ask("LogPosition", { path = path }))
  local follower = assert(catga.fs.follow(path, { from = last.position }))
  return follower, last.lines
end

--- Takes what the log holds by now. May yield.
---@param follower catga.Follower
---@param path string
---@return integer taken
function M.catch_up(follower, path)
  local taken = 0
  while true do
    local lines, position = follower:poll(BATCH_LINES)
    if not lines then return taken end
    take(path, lines, position)
    taken = taken + #lines
  end
end

--- Takes what comes, for ever. May yield.
---@param follower catga.Follower
---@param path string
function M.run(follower, path)
  while true do
    local lines, position = follower:read(BATCH_LINES)
    if not lines then return end
    take(path, lines, position)
  end
end

return M
