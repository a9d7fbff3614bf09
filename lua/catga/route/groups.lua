--- Groups of messages that are being gathered: in memory as they are in the log, and taken back
--- when the unit of work that changed them does not commit.
local errors = require "catga.error"
local json = require "catga.native.json"
local state = require "catga.state"
local units = require "catga.unit"
local INTERNAL = require "catga.flags".INTERNAL
local personal = require "catga.lazy".module "catga.personal"
local conditions = require "catga.route.conditions"
local raw_next = require "catga.sandbox".raw.next
local copy = require "catga.route.copy"
local due = require "catga.schedule.due"
local states = require "catga.route.state"

local M = {}

local KEY_BYTES_MAX = 512
local PAGE = 1000 -- Messages of a group read at once.

--- One group.
---@class catga.RouteGroup
---@field aggregate string
---@field text string    its key as JSON
---@field key any
---@field from integer   version of its first message in its stream
---@field items any[]
---@field keys table<integer, string>?  of those items that hold personal data
---@field first table    what is kept of the first event, see `kept_of`
---@field last table     of the last one
---@field due number?    when its time is over, Unix ms
---@field attempts integer?  that its end has failed
---@field is_gone boolean?

---@class catga.RouteGroups
---@field app catga.App
---@field set string
---@field by_name table<string, table<string, catga.RouteGroup>>
---@field count integer
---@field due catga.Due
---@field undo fun()[]
local Groups = {}
Groups.__index = Groups

---@param app catga.App
---@param set string
---@return catga.RouteGroups
function M.new(app, set)
  return setmetatable({ app = app, set = set, by_name = {}, count = 0, due = due.new(),
    undo = {} }, Groups)
end

--- Checks the options of an aggregate. Raises.
---@param aggregate table
---@param rule catga.Rule
---@param where string
function M.check(aggregate, rule, where)
  if not aggregate.name then
    if not rule.is_named then
      error(where .. " keeps its state under a name: give the route one, { name = ... }, or the "
        .. "aggregate", 0)
    end
    aggregate.name = rule.name
  end
  if type(aggregate.by) == "string" and aggregate.by ~= "split" then
    aggregate.by = conditions.getter(conditions.make(aggregate.by, "exists", nil, where).path)
  end
  if type(aggregate.by) ~= "function" and aggregate.by ~= "split" then
    error(where .. ": by is a field, a function(message, event), or \"split\": the message that a "
      .. "split has taken apart", 0)
  end
  local complete = aggregate.complete
  if complete == nil and aggregate.by == "split" then
    complete = "split"
    aggregate.complete = complete
  end
  local is_count = type(complete) == "number" and complete % 1 == 0 and complete >= 1
    and complete <= aggregate.items_max
  if complete ~= nil and complete ~= "split" and type(complete) ~= "function" and not is_count then
    error(("%s: complete is a count up to items_max (%d), a function(items, key), or \"split\"")
      :format(where, aggregate.items_max), 0)
  end
  if complete == nil and not aggregate.timeout then
    error(where .. " needs complete or timeout: without either it never ends", 0)
  end
end

local function stream_name(self, aggregate, text)
  return states.GATHER_PREFIX .. self.set .. "/" .. aggregate .. "/" .. text
end

-- A message made of personal data, as it is stored: encrypted with the key of its event.
local function seal(self, message, key, bound)
  if not key then return message end
  local text, err = self.app.store:encode(message, "message")
  local sealed
  if text then sealed, err = personal.seal_text(self.app, key, bound, text) end
  if not sealed then error(err, 0) end
  return { sealed = sealed, key = key }
end

-- The message again; nil: its person was forgotten.
local function unseal(self, stored, is_sealed, bound)
  if not is_sealed then return stored end
  local text, err = personal.open_text(self.app, stored.key, bound, stored.sealed)
  if text then return (json.decode(text)) end
  if err.code == "forgotten" then return nil end
  error(err, 0)
end

-- What of an event is kept beside its message.
local function kept_of(event)
  return { type = event.type, id = event.id, correlation_id = event.correlation_id,
    hops = event.hops, stream = event.stream, position = event.position, split = event.split }
end

local function key_of(step, message, event)
  local by = step.aggregate.by
  local key
  if by == "split" then
    key = event.split and event.split.id
  else
    key = by(message, event)
  end
  local kind = type(key)
  local text = (kind == "string" or kind == "number" or kind == "boolean") and json.encode(key)
  if not text or #text > KEY_BYTES_MAX then
    error(errors.new("invalid", ("%s: aggregate: %s"):format(step.at, by == "split"
      and "the message is no part of a split" or ("by gave %s; it gives a string, number or "
      .. "boolean of up to %d bytes"):format(tostring(key), KEY_BYTES_MAX)),
      { retryable = true }), 0)
  end
  return key, text
end

local function put(self, group)
  local of = self.by_name[group.aggregate]
  if not of then
    of = {}
    self.by_name[group.aggregate] = of
  end
  of[group.text], group.is_gone = group, nil
  self.count = self.count + 1
end

local function remove(self, group)
  self.by_name[group.aggregate][group.text], group.is_gone = nil, true
  self.count = self.count - 1
end

local function undo_later(self, fn) self.undo[#self.undo + 1] = fn end

local function put_back(self, group)
  put(self, group)
  if group.due then self.due:push(group.due, group) end
end

--- What was changed until now, for take_back.
---@return integer
function Groups:mark() return #self.undo end

--- Takes back what was changed since a mark.
---@param mark integer
function Groups:take_back(mark)
  for i = #self.undo, mark + 1, -1 do
    self.undo[i]()
    self.undo[i] = nil
  end
end

--- What was changed is committed.
function Groups:committed() self.undo = {} end

-- The version that the next record of a stream gets.
local function next_version(app, unit, name)
  local stream = app.store:stream(name, true)
  if not stream then
    error(errors.new("limit", "the names of the aggregate and the key are too long: " .. name), 0)
  end
  return app.store:count(stream) + unit:staged_count(stream)
end

local function new_group(self, turn, step, key, text, from)
  if self.count >= self.app.settings.route_groups_max then
    error(errors.new("limit", ("%d groups are being gathered (route_groups_max); the next ones "
      .. "wait until some are complete"):format(self.count), { retryable = true }), 0)
  end
  local aggregate = step.aggregate
  local group = { aggregate = aggregate.name, text = text, key = key, from = from, items = {},
    due = aggregate.timeout and self.app.clock:now() + aggregate.timeout or nil }
  put(self, group)
  undo_later(self, function() remove(self, group) end)
  if group.due then self.due:push(group.due, group) end
  turn:note_group { "+", group.aggregate, text, from, group.due }
  return group
end

local function is_complete(step, group)
  local complete, count = step.aggregate.complete, #group.items
  if complete == "split" then
    local split = group.last.split
    if split and count >= split.total then return "complete" end
  elseif type(complete) == "number" then
    if count >= complete then return "complete" end
  elseif complete and complete(group.items, group.key) then
    return "complete"
  end
  return count >= step.aggregate.items_max and "full" or nil
end

-- The message that a group becomes, and its event.
local function result_of(step, group, reason)
  local items = copy(group.items)
  local fn = step.aggregate.result
  local message
  if fn then
    message = fn(items, group.key, reason)
    if message == nil then
      error(errors.new("invalid", step.at .. ": the aggregate's result returned nothing; a filter "
        .. "behind it drops", { retryable = true }), 0)
    end
  else
    message = { key = group.key, items = json.array(items), count = #items, reason = reason }
  end
  local event = copy(group.last)
  event.correlation_id = group.first.correlation_id or group.first.id
  event.split = nil
  return message, event
end

M.result = result_of

--- Ends a group: its message goes on. Raises what the rest of the rule raises. May yield.
---@param turn catga.RouteTurn
---@param step catga.RouteStep
---@param group catga.RouteGroup
---@param reason "complete"|"full"|"timeout"
---@param go_on fun(message: any, event: table, sink: table)
---@param sink table
function Groups:finish(turn, step, group, reason, go_on, sink)
  remove(self, group)
  undo_later(self, function() put_back(self, group) end)
  turn:note_group { "-", group.aggregate, group.text }
  local message, event = result_of(step, group, reason)
  return go_on(message, event, sink)
end

--- Drops a group with what it has gathered.
---@param turn catga.RouteTurn
---@param group catga.RouteGroup
function Groups:drop(turn, group)
  remove(self, group)
  undo_later(self, function() put_back(self, group) end)
  turn:note_group { "-", group.aggregate, group.text }
end

--- Adds a message to its group, which may be complete then. Raises. May yield.
---@param turn catga.RouteTurn
---@param step catga.RouteStep
---@param message any
---@param event table
---@param go_on fun(message: any, event: table, sink: table)
---@param sink table
function Groups:add(turn, step, message, event, go_on, sink)
  local key, text = key_of(step, message, event)
  local name = stream_name(self, step.aggregate.name, text)
  local unit = units.of(state[1])
  local of = self.by_name[step.aggregate.name]
  local group = of and of[text]
    or new_group(self, turn, step, key, text, next_version(self.app, unit, name))
  local kept = kept_of(event)
  local person = not event.forgotten and event.personal or nil
  local version, err = unit:append(name, { { type = "RouteGathered", data = { from = group.from,
    message = seal(self, message, person, name), is_sealed = person and true, event = kept } } },
    "any", INTERNAL)
  if not version then error(err, 0) end
  local items, count, first, last = group.items, #group.items, group.first, group.last
  items[count + 1] = copy(message)
  if person then
    group.keys = group.keys or {}
    group.keys[count + 1] = person
  end
  group.first, group.last = first or kept, kept
  if last and (last.hops or 0) > (kept.hops or 0) then kept.hops = last.hops end
  undo_later(self, function()
    items[count + 1], group.first, group.last = nil, first, last
    if group.keys then group.keys[count + 1] = nil end
  end)
  local reason = is_complete(step, group)
  if reason then return self:finish(turn, step, group, reason, go_on, sink) end
end

local LETTER = "letter of a group" -- What encrypted items of letters are bound to.

--- The messages of a group for a dead letter: as they are, or, where some hold personal data,
--- { plain } or { key, sealed } each; those of persons who were forgotten are left out. Raises.
---@param group catga.RouteGroup
---@return any[] items
---@return boolean? are_sealed
function Groups:stored_items(group)
  if not (group.keys and raw_next(group.keys)) then return group.items end
  local items = {}
  for i, item in ipairs(group.items) do
    local ok, one = pcall(seal, self, item, group.keys[i], LETTER)
    if not ok and one.code ~= "forgotten" then error(one, 0) end
    if ok then items[#items + 1] = group.keys[i] and one or { plain = one } end
  end
  return json.array(items), true
end

--- The same again, without those of persons who were forgotten meanwhile. Raises.
---@param app catga.App
---@param items any[]
---@return any[]
function M.items_of_letter(app, items)
  local list = {}
  for _, one in ipairs(items) do
    if one.sealed then
      list[#list + 1] = unseal({ app = app }, one, true, LETTER)
    else
      list[#list + 1] = one.plain
    end
  end
  return list
end

--- What would become of a message, without effect.
---@param self catga.RouteGroups?  nil: nothing was ever gathered
---@param step catga.RouteStep
---@param message any
---@param event table
---@param call fun(fn: function, ...): any  calls functions of the script
---@return { text: string, is_complete: boolean, message: any, event: table }? preview
---@return catga.Error? err
function M.preview(self, step, message, event, call)
  local aggregate = step.aggregate
  local ok, key, text = pcall(call, function() return key_of(step, message, event) end)
  if not ok then return nil, errors.from(key) end
  local of = self and self.by_name[aggregate.name]
  local open = of and of[text]
  local items = open and copy(open.items) or {}
  items[#items + 1] = copy(message)
  local kept = kept_of(event)
  local group = { key = key, items = items, first = open and open.first or kept, last = kept }
  local reason = call(is_complete, step, group)
  local what = ("number %d under %s in %s"):format(#items, text, aggregate.name)
  if not reason then return { text = "would be " .. what .. ", and wait" } end
  local made, made_event = call(result_of, step, group, reason)
  return { text = ("would be %s, which is then %s"):format(what, reason), is_complete = true,
    message = made, event = made_event or kept }
end

--- The group whose time is over first, and when; nothing: none has a time. May be over already.
---@return number? due
---@return catga.RouteGroup? group
function Groups:first_due()
  while true do
    local time, group = self.due:first()
    if not time then return nil end
    if not group.is_gone and group.due == time then return time, group end
    self.due:pop()
  end
end

--- Lets a group wait until another time.
---@param group catga.RouteGroup
---@param time number  Unix ms
function Groups:postpone(group, time)
  group.due = time
  self.due:push(time, group)
end

-- The messages of a group, read back.
local function read_items(self, group)
  local store = self.app.store
  local name = stream_name(self, group.aggregate, group.text)
  local stream = store:stream(name)
  local from, count = group.from, stream and store:count(stream) or 0
  while from < count do
    local records, err = store:read(stream, from, PAGE)
    if not records then error(err, 0) end
    if #records == 0 then break end
    for _, record in ipairs(records) do
      local data = record.data
      local message = unseal(self, data.message, data.is_sealed, name)
      if message == nil then
        self.app:say("warn", ("routes %s: a message that %s had gathered was of a person who was "
          .. "forgotten"):format(self.set, group.aggregate))
      else
        group.items[#group.items + 1] = message
        if data.is_sealed then
          group.keys = group.keys or {}
          group.keys[#group.items] = data.message.key
        end
      end
      group.first, group.last = group.first or record.data.event, record.data.event
      from = record.version + 1
    end
  end
  if not group.first then
    error(errors.new("corrupt", ("routes %s: what the aggregate %s has gathered under %s is not "
      .. "there"):format(self.set, group.aggregate, group.text)), 0)
  end
end

--- Takes up what the log says. Raises when it cannot be read.
---@param found table<string, table<string, { from: integer, due: number? }>>
function Groups:recover(found)
  for aggregate, of in pairs(found) do
    for text, one in pairs(of) do
      local group = { aggregate = aggregate, text = text, key = json.decode(text),
        from = one.from, due = one.due, items = {} }
      read_items(self, group)
      put(self, group)
      if group.due then self.due:push(group.due, group) end
    end
  end
end

--- All groups, for a checkpoint: { "+", aggregate, key, from, due? } each.
---@return table[]
function Groups:list()
  local list = {}
  for aggregate, of in pairs(self.by_name) do
    for text, group in pairs(of) do
      list[#list + 1] = { "+", aggregate, text, group.from, group.due }
    end
  end
  return list
end

return M
