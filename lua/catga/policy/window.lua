--- The newest outcomes of calls: the last so many, or those of the last so many ms in ten slices.
local M = {}

local SLICES = 10
local min = math.min

---@class catga.OutcomeWindow
---@field total integer
---@field failed integer
---@field slow integer
local Count = {}
Count.__index = Count

-- What an outcome as a number (1 failed, 2 slow, 3 both) counts, up or down.
local function count(self, outcome, by)
  if outcome % 2 == 1 then self.failed = self.failed + by end
  if outcome >= 2 then self.slow = self.slow + by end
end

-- The ring is full of good outcomes at first, and `total` is bounded without a branch: so it is
-- the same work from the first call on, and one trace of LuaJIT.
function Count:add(_, failed, slow)
  local place = self.next
  local old, new = self.ring[place], (failed and 1 or 0) + (slow and 2 or 0)
  if old ~= new then
    self.ring[place] = new
    count(self, old, -1)
    count(self, new, 1)
  end
  self.total = min(self.total + 1, self.size)
  self.next = place % self.size + 1
end

function Count.turn() end

function Count:clear()
  local ring = {}
  for i = 1, self.size do ring[i] = 0 end
  self.ring, self.next, self.total, self.failed, self.slow = ring, 1, 0, 0, 0
end

local Time = {}
Time.__index = Time

--- Lets go of what is older than the window.
---@param now number
function Time:turn(now)
  local slice = math.floor(now / self.slice_ms)
  if slice == self.slice then return end
  for i = math.max(self.slice + 1, slice - SLICES + 1), slice do
    local one = self.slices[i % SLICES]
    if one then
      self.total, self.failed, self.slow = self.total - one.total, self.failed - one.failed,
        self.slow - one.slow
      self.slices[i % SLICES] = nil
    end
  end
  self.slice = slice
end

function Time:add(now, failed, slow)
  self:turn(now)
  local place = self.slice % SLICES
  local one = self.slices[place]
  if not one then
    one = { total = 0, failed = 0, slow = 0 }
    self.slices[place] = one
  end
  one.total, self.total = one.total + 1, self.total + 1
  if failed then one.failed, self.failed = one.failed + 1, self.failed + 1 end
  if slow then one.slow, self.slow = one.slow + 1, self.slow + 1 end
end

function Time:clear()
  self.slices, self.total, self.failed, self.slow = {}, 0, 0, 0
end

--- Makes a window.
---@param size integer|{ ms: number }  calls, or a time
---@return catga.OutcomeWindow
function M.new(size)
  local window
  if type(size) == "number" then
    window = setmetatable({ size = size }, Count)
  else
    window = setmetatable({ slice_ms = size.ms / SLICES, slice = -1 }, Time)
  end
  window:clear()
  return window
end

return M
