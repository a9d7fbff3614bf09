--- A bounded table in the order of use. Not for keys that are nil.
local M = {}

---@class catga.Lru
---@field count integer
---@field max integer
local Lru = {}
Lru.__index = Lru

local function unlink(node)
  node.before.after, node.after.before = node.after, node.before
end

local function link_first(head, node)
  node.before, node.after = head, head.after
  head.after.before = node
  head.after = node
end

---@param max integer  how many; `put` does not look at it, the user does
---@return catga.Lru
function M.new(max)
  local head = {}
  head.before, head.after = head, head
  return setmetatable({ count = 0, max = max, nodes = {}, head = head }, Lru)
end

--- The value of a key, which is the one used last from now on.
---@return any value  nil: there is none
function Lru:get(key)
  local node = self.nodes[key]
  if not node then return nil end
  if self.head.after ~= node then
    unlink(node)
    link_first(self.head, node)
  end
  return node.value
end

--- Sets a value that is not nil.
function Lru:put(key, value)
  local node = self.nodes[key]
  if node then
    node.value = value
    return
  end
  node = { key = key, value = value }
  self.nodes[key] = node
  self.count = self.count + 1
  link_first(self.head, node)
end

--- Removes a key.
function Lru:remove(key)
  local node = self.nodes[key]
  if not node then return end
  unlink(node)
  self.nodes[key] = nil
  self.count = self.count - 1
end

--- What was not used for longest.
---@return any key    nil: it is empty
---@return any value
function Lru:oldest()
  local node = self.head.before
  if node == self.head then return nil end
  return node.key, node.value
end

--- Removes everything.
function Lru:clear()
  self.head.before, self.head.after = self.head, self.head
  self.nodes, self.count = {}, 0
end

return M
