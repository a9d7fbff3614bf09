--- Tags: what lists of processes can be filtered by.
local errors = require "catga.error"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"

local M = {}

local TAGS_MAX = 64        -- Of one process.
local TAG_BYTES_MAX = 1024 -- Of a tag's name, and of its value.
local SCALAR = { string = true, number = true, boolean = true }

local function check_tags(tags)
  if type(tags) ~= "table" then
    return errors.new("invalid", "tags are a table of text to value")
  end
  local count = 0
  for name, value in pairs(tags) do
    count = count + 1
    if type(name) ~= "string" or #name > TAG_BYTES_MAX or not SCALAR[type(value)]
      or type(value) == "string" and #value > TAG_BYTES_MAX or value ~= value
      or not journal.json.encode { [name] = value } then
      return errors.new("invalid", ("tag %s: names are text, values are text, numbers or booleans, "
        .. "each at most %d bytes"):format(tostring(name), TAG_BYTES_MAX))
    end
  end
  if count > TAGS_MAX then
    return errors.new("invalid", ("a process may have %d tags, not %d"):format(TAGS_MAX, count))
  end
end

--- The tags of a new process: those of its class, and over them those that were given.
---@param class catga.ProcessClass
---@param input any
---@param opts catga.StartOptions?
---@return table? tags
---@return catga.Error? err
function M.of(class, input, opts)
  local own, given = class.options.tags, opts and opts.tags
  if own == nil and given == nil then return nil end
  if type(own) == "function" then own = own(input) end
  local err = own ~= nil and check_tags(own) or given ~= nil and check_tags(given)
  if err then return nil, err end
  local tags = {}
  for _, from in ipairs { own or {}, given or {} } do
    for name, value in pairs(from) do tags[name] = value end
  end
  err = check_tags(tags)
  if err then return nil, err end
  return next(tags) ~= nil and tags or nil
end

--- Changes tags of the running process, as an operation of its body; null takes one away. May
--- yield.
---@param s catga.Instance
---@param changes table
function M.change(s, changes)
  local root = s.root or s
  local op = strands.begin(s, "self:tag")
  return strands.operate(s, function()
    local key = strands.key_of(s, op)
    local recorded = s.history and journal.recorded(s, op, "tag", "tags")
    if recorded then
      strands.take_turn(s, recorded, "tag tags")
      if recorded.error then error(errors.from(recorded.error), 0) end
      return
    end
    strands.go_live(s, "tag tags", key)
    local tags = {}
    for name, value in pairs(root.tags or {}) do tags[name] = value end
    for name, value in pairs(changes) do
      tags[name] = value ~= journal.json.null and value or nil
    end
    local err = check_tags(tags)
    local head = ('"op":%s,'):format(type(key) == "string" and '"' .. key .. '"' or key)
    if err then -- Journaled, so that a body that catches it goes on the same way on a replay.
      error(errors.from(journal.must_write(s, "ProcessTagged", 0, head, "error",
        journal.storable(s, err))), 0)
    end
    journal.must_write(s, "ProcessTagged", 0, head, "tags", tags)
    root.tags, root.tags_changed = tags, true
    if s.halt then strands.checkpoint(s) end
  end)
end

return M
