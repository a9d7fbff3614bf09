--- Recording what a subscription has done: now and then what was only read, and the whole state.
local tasks = require "catga.task"
local commits = require "catga.commit"
local journal = require "catga.subscription.journal"

local M = {}

--- Is a checkpoint of the whole state due? Reading it back then costs as much as the records behind
--- it.
---@param self catga.SubscriptionRunner
---@return boolean
function M.is_due(self)
  return self.increments > self.definition.checkpoint_records + self.parked_count
    + self.window:count()
end

-- The whole state, as a checkpoint has it.
local function checkpoint_data(self, to)
  local from = journal.count(self.app.store, self.name)
  for mark in pairs(self.changes) do from = math.min(from, mark.at) end
  local attempts, parked = {}, {}
  for position, count in pairs(self.attempts) do attempts[#attempts + 1] = { position, count } end
  for i = self.window.first, self.window.last do
    local entry = self.window.list[i]
    if entry.attempts > 0 and entry.state ~= "done" then
      attempts[#attempts + 1] = { entry.position, entry.attempts }
    end
  end
  for position, one in pairs(self.parked) do
    parked[#parked + 1] = { position, one.at, one.replaying }
  end
  table.sort(parked, function(a, b) return a[1] < b[1] end)
  local done = self.window:done_above()
  for position in pairs(self.was_done) do done[#done + 1] = position end
  return { from = from, to = to, done = done, attempts = attempts, parked = parked,
    paused = self.is_paused }
end

-- The record of what is done and not recorded, and what remains to be done when it fails.
local function next_record(self)
  local to = self.window:position()
  if M.is_due(self) then
    return "SubscriptionCheckpoint", checkpoint_data(self, to), to
  end
  local done = {}
  for _, entry in ipairs(self.unsaved) do
    if entry.position > to then done[#done + 1] = entry.position end
  end
  if #done == 0 and to <= self.saved_to then return nil end
  return "SubscriptionMoved", { to = to, done = #done > 0 and done or nil }, to
end

--- Records what is done. May yield.
---@param self catga.SubscriptionRunner
function M.save(self)
  if self.is_saving then return end
  self.is_saving = true
  if self.save_timer then self.app.clock:cancel(self.save_timer) end
  self.save_timer = nil
  local kind, data, to = next_record(self)
  local unsaved = self.unsaved
  self.unsaved = {}
  local ok, err = true, nil
  if kind then
    ok, err = commits.records(self.app, function(add)
      add(journal.PREFIX .. self.name, kind, data)
    end)
  end
  self.is_saving = nil
  if ok and kind then
    self.saved_to = math.max(self.saved_to, to)
    self.increments = kind == "SubscriptionCheckpoint" and 0 or self.increments + 1
  elseif not ok then
    for _, entry in ipairs(self.unsaved) do unsaved[#unsaved + 1] = entry end
    self.unsaved = unsaved
    if not (self.app.is_closed or self.app.is_failed or self.is_halting) then
      self.app:say("warn", ("subscription %s: its checkpoint waits: %s"):format(self.name,
        err.message))
      M.later(self)
    end
  end
  if self.idle and self.working == 0 then self.idle:set() end
end

--- Records what is done in a task of its own.
---@param self catga.SubscriptionRunner
function M.soon(self)
  if self.is_saving or self.saves_soon or self.is_halting then return end
  self.saves_soon = true
  tasks.spawn(self.app, function()
    self.saves_soon = nil
    M.save(self)
  end)
end

--- Something is done: sees to it that it is recorded.
---@param self catga.SubscriptionRunner
function M.moved(self)
  if #self.unsaved >= self.definition.checkpoint_events then
    M.soon(self)
  elseif #self.unsaved > 0 then
    M.later(self)
  end
end

--- Records what is done after the delay of the checkpoint.
---@param self catga.SubscriptionRunner
function M.later(self)
  if self.save_timer or self.is_halting then return end
  self.save_timer = self:after(self.definition.checkpoint_delay, function()
    self.save_timer = nil
    M.save(self)
  end)
end

return M
