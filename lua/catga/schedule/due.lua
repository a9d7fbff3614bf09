--- What is due when: the earliest first (a binary heap).
local M = {}

---@class catga.Due
---@field n integer
---@field times number[]
---@field items any[]
local Due = {}
Due.__index = Due

---@return catga.Due
function M.new() return setmetatable({ n = 0, times = {}, items = {} }, Due) end

local function swap(self, a, b)
  local times, items = self.times, self.items
  times[a], times[b] = times[b], times[a]
  items[a], items[b] = items[b], items[a]
end

--- Adds an item.
---@param time number
---@param item any
function Due:push(time, item)
  local at = self.n + 1
  self.n, self.times[at], self.items[at] = at, time, item
  while at > 1 do
    local above = math.floor(at / 2)
    if self.times[above] <= self.times[at] then break end
    swap(self, above, at)
    at = above
  end
end

--- When the first item is due, and which it is.
---@return number? time  nil: there is none
---@return any item
function Due:first() return self.times[1], self.items[1] end

--- Takes the first item out.
---@return any item
function Due:pop()
  local item, n = self.items[1], self.n
  swap(self, 1, n)
  self.times[n], self.items[n], self.n = nil, nil, n - 1
  local at = 1
  while true do
    local least = at
    for child = at * 2, math.min(at * 2 + 1, n - 1) do
      if self.times[child] < self.times[least] then least = child end
    end
    if least == at then return item end
    swap(self, at, least)
    at = least
  end
end

return M
