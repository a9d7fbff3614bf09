--- Who of a process's strands may run its body's code: one at a time, in the order of the journal,
--- live and on replay alike.
---
--- A strand has the floor from the record that ends an operation of its own to its next operation.
--- Live, strands take it in the order in which their records became durable, which is that of the
--- journal; on replay in the order of the recorded ones. A new branch comes before any of them.
--- A process without branches and updates has no floor. An update is recorded too: its strand
--- begins when its turn has come.
local state = require "catga.state"
local native_task = require "catga.native.task"

local M = {}

---@class catga.Floor
---@field owner catga.Instance|false   the strand that runs, or is about to
---@field starters catga.Instance[]    new branches, in order
---@field queue catga.Instance[]       strands that may go on, in order
---@field order table[]                recorded operations that are done, in the journal's order;
---  one with `begin` is an update, for which that function makes the strand
---@field next integer                 place in `order` of the one whose turn it is
---@field waiting table<table, catga.Instance>  strands by the recorded operation they wait for
---@field late catga.Instance[]        strands whose next operation is not recorded
---@field coming integer               strands that were woken and have not said what they wait for
local Floor = {}
Floor.__index = Floor

--- A floor that the strand has.
---@param owner catga.Instance
---@param order table[]?  what is recorded, while the process replays
---@return catga.Floor
function M.new(owner, order)
  return setmetatable({ owner = owner, starters = {}, queue = {}, order = order or {}, next = 1,
    waiting = {}, late = {}, coming = 0 }, Floor)
end

local function park(strand)
  strand.floor_task = state[1]
  native_task.park()
  strand.floor_task = false
end

local function wake(strand)
  if strand.floor_task then native_task.wake(strand.floor_task) end
end

-- Gives the floor to who is next.
local function hand_on(self)
  if self.owner then return end
  local strand = table.remove(self.starters, 1)
  if not strand and self.next <= #self.order then
    local entry = self.order[self.next]
    strand = self.waiting[entry] or entry.begin and entry.begin()
    if not strand then return end
    self.waiting[entry] = nil
    self.next = self.next + 1
  elseif not strand and self.late[1] then
    local late = self.late
    self.late = {}
    for _, one in ipairs(late) do wake(one) end
  end
  if not strand then strand = table.remove(self.queue, 1) end
  if not strand then return end
  self.owner = strand
  wake(strand)
end

--- Is there still something recorded to be gone through?
---@return boolean
function Floor:is_replaying() return self.next <= #self.order end

--- The strand's code has come to an operation, or to its end.
---@param strand catga.Instance
function Floor:leave(strand)
  if self.owner ~= strand then return end
  self.owner = false
  hand_on(self)
end

--- Waits until the strand may go on with its code. May yield.
---@param strand catga.Instance
function Floor:enter(strand)
  if self.owner == strand then return end
  self.queue[#self.queue + 1] = strand
  hand_on(self)
  if self.owner ~= strand then park(strand) end
end

--- Waits until all that the journal holds before this recorded operation was gone through. The
--- strand has the floor then. May yield.
---@param strand catga.Instance
---@param entry table  as in `order`
function Floor:turn(strand, entry)
  self.waiting[entry] = strand
  hand_on(self)
  if self.owner ~= strand then park(strand) end
end

--- Waits until all that is recorded was gone through: before that nothing new may happen. May
--- yield.
---@param strand catga.Instance
function Floor:await_replay(strand)
  if not self:is_replaying() then return end
  self.late[#self.late + 1] = strand
  hand_on(self)
  park(strand)
  if strand.is_released then
    strand.is_released = nil
    self.coming = self.coming - 1
  end
end

--- Lets strands go on that wait for the end of the replay.
---@param takes fun(strand: catga.Instance): boolean  which of them
function Floor:release_late(takes)
  local late = self.late
  self.late = {}
  for _, strand in ipairs(late) do
    if takes(strand) then
      strand.is_released = true
      self.coming = self.coming + 1
      wake(strand)
    else
      self.late[#self.late + 1] = strand
    end
  end
end

--- A new branch: its code comes next, behind those that were added before.
---@param strand catga.Instance
function Floor:add(strand) self.starters[#self.starters + 1] = strand end

--- The first thing in a new branch's task: waits until its code may begin. May yield.
---@param strand catga.Instance
function Floor:begin(strand)
  hand_on(self)
  if self.owner ~= strand then park(strand) end
end

--- Nobody can go on: what is recorded next is not asked for by any strand.
---@return table? entry  what is recorded
function Floor:stuck_at()
  if self.owner or self.starters[1] or self.coming > 0 then return nil end
  if not self:is_replaying() then return nil end
  local entry = self.order[self.next]
  if not (self.waiting[entry] or entry.begin) then return entry end
end

return M
