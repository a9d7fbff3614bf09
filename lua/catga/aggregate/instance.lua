--- One aggregate at work: what a command sees as `self`.
---
--- Its fields are id, stream, version and state; its own affairs are kept under a key that no
--- script has, so that any other name is free for commands.
local state = require "catga.state"
local json = require "catga.native.json"
local running = require "catga.face".running
local unit_of = require "catga.unit".of
local fold = require "catga.aggregate.fold"
local snapshots = require "catga.aggregate.snapshot"

local M = {}

local OWN = {}

--- An aggregate's own affairs.
---@class catga.AggregateOwn
---@field walk catga.Walk       how it was read; its state and version go on
---@field saved integer         version of the last event that is stored or staged
---@field raised { type: string, data: string, version: integer }[]  not saved yet; data is JSON
---@field past string?          why it takes no commands: it is of the past
---@field broken catga.Error?   apply failed half way: the state is of no use

---@class catga.Aggregate
---@field id string
---@field stream string
---@field version integer  of the last event that was applied; -1: none
---@field state table      changed by apply functions only

--- Fields that are there in every aggregate.
M.FIELDS = { id = true, stream = true, version = true, state = true }

--- Makes one out of what was read.
---@param walk catga.Walk
---@param past string?
---@return catga.Aggregate
function M.new(walk, past)
  return setmetatable({ id = walk.id, stream = walk.stream, version = walk.version,
    state = walk.state,
    [OWN] = { walk = walk, saved = walk.version, raised = {}, past = past } },
    walk.class.metatable)
end

--- The metatable of all aggregates of a class.
---@param class catga.AggregateClass
---@return table
function M.metatable(class)
  local members, verbs, name = class.members, M.verbs, class.name
  return {
    __index = function(_, key)
      local value = verbs[key]
      if value ~= nil then return value end
      return members[key]
    end,
    __newindex = function(_, key)
      error(("aggregate %s: %s cannot be set: what changes belongs into self.state, by an apply "
        .. "function"):format(name, tostring(key)), 2)
    end,
    __tostring = function(self)
      return ("aggregate %s, version %d"):format(self.stream, self.version)
    end,
  }
end

-- The own affairs of an aggregate; raises at the caller of the verb for anything else.
local function own_of(self, verb)
  local own = type(self) == "table" and rawget(self, OWN)
  if not own then
    error(("%s is a method of an aggregate: self:%s(...)"):format(verb, verb), 3)
  end
  if own.broken then
    error(("aggregate %s is of no use any more, load it again: %s"):format(self.stream,
      own.broken.message), 3)
  end
  return own
end

--- Methods that every aggregate has.
M.verbs = {}
local verbs = M.verbs

-- The JSON of a raised event; raises what is wrong with it.
local function encode(app, class, kind, data)
  if type(kind) ~= "string" or kind == "" then
    error(("aggregate %s: raise(type, data): the type is a string that is not empty"):format(
      class.name), 3)
  end
  local fault = not class.appliers[kind] and fold.unknown(class, kind)
  if fault then error(("aggregate %s: raise: %s"):format(class.name, fault), 3) end
  if data == nil then data = {} end
  local text, err = app.store:encode(data, kind)
  if not text then error(err, 0) end
  return text
end

--- Raises an event: it is applied to the state at once, and stored by save.
---@param kind string
---@param data any?  default {}; what apply gets is a copy, as it will be read
function verbs.raise(self, kind, data)
  local own = own_of(self, "raise")
  local app = running("raise", "raise in a step")
  local walk = own.walk
  if own.past then error(("%s takes no commands: %s"):format(self.stream, own.past), 2) end
  local text = encode(app, walk.class, kind, data)
  local version = self.version + 1
  local ok, failure = pcall(fold.apply, walk.class, self.state, fold.ctx(self.id, self.stream),
    { { type = kind, data = json.decode(text), version = version } })
  if not ok then
    own.broken = failure
    error(failure, 0)
  end
  self.version = version
  own.raised[#own.raised + 1] = { type = kind, data = text, version = version }
end

--- The events that were raised and are not saved.
---@return { type: string, data: any, version: integer }[]
function verbs.uncommitted(self)
  local list = {}
  for i, event in ipairs(own_of(self, "uncommitted").raised) do
    list[i] = { type = event.type, data = json.decode(event.data), version = event.version }
  end
  return list
end

-- Stages the raised events, and a snapshot for when they are durable.
local function stage(self, own, app, unit)
  local walk, raised = own.walk, own.raised
  local version, err = unit:append(self.stream, self:uncommitted(),
    own.saved < 0 and "none" or own.saved)
  if not version then return nil, err end
  walk.state, walk.version = self.state, version
  if walk.class.snapshots then
    for _, event in ipairs(raised) do walk.bytes = walk.bytes + #event.data end
    walk.base_time = walk.base_time or app.clock:now()
    for i = unit.n - #raised + 1, unit.n do snapshots.saw_key(walk, unit.ops[i].key) end
    local text, last = snapshots.due_text(app, walk), unit.ops[unit.n]
    local key = walk.key -- Later events of the unit may change it.
    if text then
      unit:on_commit(function()
        walk.base, walk.bytes, walk.base_time = version, 0, app.clock:now()
        snapshots.write(app, walk.class, self.id, version, last.id, text, key)
      end)
    end
  end
  return version
end

--- Saves what was raised: staged in the open unit of work, or as one commit that is durable when
--- this returns. Another one's events since the load are a conflict: load again, or use update. A
--- handler that fails with this conflict runs again. May yield.
---@return integer? version  of the last event; -1: there is none
---@return catga.Error? err  "conflict", "limit", "failed", ...
function verbs.save(self)
  local own = own_of(self, "save")
  local app = running("save", "save in a step")
  if #own.raised == 0 then return own.saved end
  if self.id == "" then error("an aggregate without an id cannot be saved", 2) end
  local task = state[1]
  local unit = unit_of(task)
  local is_joining = task.in_unit or task.limit
  if not is_joining then task.unit = nil end
  local version, err = stage(self, own, app, unit)
  if version and not is_joining then
    local ok
    ok, err = unit:commit()
    if not ok then version = nil end
  end
  if not version then
    if is_joining and err.code == "conflict" then unit.conflict = err end
    return nil, err
  end
  own.saved, own.raised = version, {}
  return version
end

return M
