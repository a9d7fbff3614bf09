--- Patterns of event types: tokens between dots, `*` is any one of them, `>` at the end one or
--- more. A trie finds the patterns that a type meets.
local M = {}

--- Checks a pattern: nil, or what is wrong with it.
---@param pattern any
---@return string? fault
function M.fault(pattern)
  if type(pattern) ~= "string" or pattern == "" or #pattern > 1024 then
    return "a type is a string of 1 to 1024 bytes"
  end
  if not M.is_wild(pattern) then return nil end
  if ("." .. pattern .. "."):find("..", 1, true) then
    return "there is an empty token between its dots"
  end
  if pattern:find("^>%.") or pattern:find(".>.", 1, true) then
    return "> stands for all that follows, so it is the last token"
  end
end

--- Has the pattern a wildcard? Only a whole token is one.
---@param pattern string
---@return boolean
function M.is_wild(pattern)
  return ("." .. pattern .. "."):find("%.[*>]%.") ~= nil
end

--- What all types of a pattern begin with, "" for nothing.
---@param pattern string
---@return string
function M.prefix(pattern)
  local at = ("." .. pattern .. "."):find("%.[*>]%.")
  return at and pattern:sub(1, at - 1) or pattern
end

--- Does a type meet a pattern? The plain way, token by token.
---@param pattern string
---@param kind string
---@return boolean
function M.matches(pattern, kind)
  if not M.is_wild(pattern) then return pattern == kind end
  local rest = kind .. "."
  for token in (pattern .. "."):gmatch("([^.]*)%.") do
    if token == ">" then return rest ~= "" end
    local is, after = rest:match("^([^.]*)%.(.*)$")
    if not is or token ~= "*" and token ~= is then return false end
    rest = after
  end
  return rest == ""
end

---@class catga.TopicTrie
---@field exact table<string, any[]>  of patterns without a wildcard
---@field root table
local Trie = {}
Trie.__index = Trie

---@return catga.TopicTrie
function M.new() return setmetatable({ exact = {}, root = { next = {} } }, Trie) end

local function put(holder, field, value)
  local list = holder[field]
  if not list then
    list = {}
    holder[field] = list
  end
  list[#list + 1] = value
end

--- Adds a value under a pattern.
---@param pattern string
---@param value any
function Trie:add(pattern, value)
  if not M.is_wild(pattern) then return put(self.exact, pattern, value) end
  local node = self.root
  for token in (pattern .. "."):gmatch("([^.]*)%.") do
    if token == ">" then return put(node, "tails", value) end
    local below = node.next[token]
    if not below then
      below = { next = {} }
      node.next[token] = below
    end
    node = below
  end
  put(node, "ends", value)
end

local function take(list, take_one)
  for i = 1, list and #list or 0 do take_one(list[i]) end
end

local function walk(node, rest, take_one)
  if rest == "" then return take(node.ends, take_one) end
  take(node.tails, take_one)
  local token, after = rest:match("^([^.]*)%.(.*)$")
  local below, any = node.next[token], node.next["*"]
  if below and token ~= "*" then walk(below, after, take_one) end
  if any then walk(any, after, take_one) end
end

--- Calls a function for each value whose pattern a type meets; one that was added under several
--- patterns may come several times.
---@param kind string
---@param take_one fun(value: any)
function Trie:each(kind, take_one)
  take(self.exact[kind], take_one)
  walk(self.root, kind .. ".", take_one)
end

return M
