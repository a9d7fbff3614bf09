--- Scavenging: sealed segments are written anew without what is not needed any more; and
--- compressing them. Segment after segment, a little at a time, while everything else goes on.
---
--- Positions and versions stay what they were. Readers by position do not see what is gone.
local errors = require "catga.error"
local native_task = require "catga.native.task"
local policies = require "catga.events.policy"

local M = {}

local RECORDS = 2000   -- Looked at in one go.
local STREAMS = 50     -- Decided about in one go: each may be searched for an age.
local POLL_MS = 5      -- Between looks whether a segment is rewritten, or the index has time.
local BUSY_MS_MAX = 600000 -- How long the index may have no time, or no table of the segment.

-- Calls fn until it says that it is done; lets others run in between. Nothing, or the error.
local function repeat_until_done(fn)
  while true do
    local is_done, err = fn()
    if is_done then return nil end
    if is_done == nil then return err end
    native_task.yield()
  end
end

-- Decides about all streams that were found.
local function decide(app, store)
  local policy = policies.new(app)
  local from = 1
  while true do
    local names = store:scavenge_names(from, STREAMS)
    if #names == 0 then return nil end
    for i, name in ipairs(names) do
      local ok, first, since, kept, keeps_first = policy:try(name)
      if not ok then return first end
      if first then store:scavenge_decide(from + i - 1, first, since, kept, keeps_first) end
    end
    from = from + #names
    native_task.yield()
  end
end

-- How much of the segment would go; or nil and an error.
local function look(app, store, number)
  local ok, err = store:scavenge_begin(number)
  if not ok then return nil, err end
  err = repeat_until_done(function() return store:scavenge_survey(RECORDS) end)
    or decide(app, store)
  if err then return nil, err end
  if not store:scavenge_may_drop() then return { dropped = 0, dropped_bytes = 0, bytes = 0 } end
  err = repeat_until_done(function() return store:scavenge_weigh(RECORDS) end)
  if err then return nil, err end
  return store:scavenge_weight()
end

-- Waits until the segment is written anew; or nil and an error.
local function await_rewrite(app, store)
  while true do
    app.clock:sleep(POLL_MS)
    if app.is_closed then return nil, errors.new("closed", "the app was stopped") end
    local is_done, err = store:scavenge_done()
    if is_done ~= false then return is_done, err end
  end
end

-- Writes the segment anew. What it was decided by must be durable before. Tries again while the
-- index has no time for it, or had to be mended first.
local function rewrite(app, store, number, drops, compress)
  local ok, err = app:flushed()
  if not ok then return nil, err end
  local deadline = app.clock:mono() + BUSY_MS_MAX
  while true do
    if app.is_closed then return nil, errors.new("closed", "the app was stopped") end
    ok, err = store:scavenge_rewrite(number, drops, compress)
    if ok then ok, err = await_rewrite(app, store) end
    if ok then return true end
    if err.code ~= "busy" or app.clock:mono() > deadline then return nil, err end
    app.clock:sleep(POLL_MS)
  end
end

-- Is the segment worth writing anew?
local function is_worth(app, weight)
  return weight.dropped > 0
    and weight.dropped_bytes * 100 >= weight.bytes * app.settings.scavenge_min
end

local function one_segment(app, seal, summary)
  local store = app.store
  local weight, err = look(app, store, seal.number)
  if not weight then return nil, err end
  if not is_worth(app, weight) then
    summary.left_events = summary.left_events + weight.dropped
    return true
  end
  local ok, fault = rewrite(app, store, seal.number, true, seal.compressed)
  if not ok then return nil, fault end
  summary.rewritten = summary.rewritten + 1
  summary.removed_events = summary.removed_events + weight.dropped
  summary.removed_bytes = summary.removed_bytes + weight.dropped_bytes
  return true
end

-- Runs fn for each sealed segment; only one such run at a time.
local function each_segment(app, what, fn)
  if app.scavenging then
    return nil, errors.new("busy", ("%s is under way: segment %d of %d"):format(app.scavenging.what,
      app.scavenging.done, app.scavenging.segments), { retryable = true })
  end
  local seals = app.store:seals()
  local progress = { what = what, done = 0, segments = #seals }
  app.scavenging = progress
  local ok, result, err = pcall(function()
    for _, seal in ipairs(seals) do
      if app.is_closed then return nil, errors.new("closed", "the app was stopped") end
      local done, fault = fn(seal)
      if not done then return nil, fault end
      progress.done = progress.done + 1
    end
    return true
  end)
  app.scavenging = nil
  if not app.is_closed then app.store:scavenge_end() end
  if not ok and app.is_closed then return nil, errors.new("closed", "the app was stopped") end
  if not ok then return nil, errors.from(result) end
  return result, err
end

--- Scavenges all sealed segments. May yield.
---@param app catga.App
---@return table? summary
---@return catga.Error? err
function M.run(app)
  local summary = { segments = #app.store:seals(), rewritten = 0, removed_events = 0,
    removed_bytes = 0, left_events = 0 }
  local ok, err = each_segment(app, "scavenge", function(seal)
    return one_segment(app, seal, summary)
  end)
  if not ok then return nil, err end
  if summary.rewritten > 0 then
    app:say("info", ("scavenged %d of %d segments: %d events, %.1f MiB"):format(summary.rewritten,
      summary.segments, summary.removed_events, summary.removed_bytes / 2 ^ 20))
  end
  return summary
end

--- Compresses sealed segments. May yield.
---@param app catga.App
---@param older_ms number  only those that were sealed longer ago
---@return table? summary
---@return catga.Error? err
function M.compress(app, older_ms)
  local before = app.clock:now() - older_ms
  local summary = { segments = #app.store:seals(), compressed = 0, bytes_before = 0,
    bytes_after = 0 }
  local ok, err = each_segment(app, "compress", function(seal)
    if seal.compressed or seal.sealed > before then return true end
    local began, refused = app.store:scavenge_begin(seal.number)
    if not began then return nil, refused end
    local done, fault = rewrite(app, app.store, seal.number, false, true)
    if not done then return nil, fault end
    summary.compressed = summary.compressed + 1
    summary.bytes_before = summary.bytes_before + seal.size
    summary.bytes_after = summary.bytes_after + app.store:seals()[seal.number + 1].size
    return true
  end)
  if not ok then return nil, err end
  return summary
end

return M
