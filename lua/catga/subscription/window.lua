--- The window of a subscription: the events that were read and are not all done yet, which of them
--- may be delivered now, and the position below which everything is done. Pure: no store, no clock.
---
--- Events of one key go one at a time and in order: the first of a key is active, the others are
--- held. A key is blocked while an event of it is parked and the subscription keeps the others
--- back.
local M = {}

--- One event in the window.
---@class catga.Delivery
---@field position integer
---@field stream string
---@field version integer
---@field type string
---@field event table?      as it was read; nil: it has to be read again
---@field bytes number?     of its data, while there is the event
---@field key any           events with one key go in order; nil: no order
---@field state "held"|"ready"|"out"|"delayed"|"done"
---@field attempts integer  that have failed
---@field first_failed number?  Unix ms, of the failures since the start
---@field correlation_id string?  of its event
---@field is_replay boolean? it was parked: it does not count for the position
---@field mark table?       of the change under way, see SubscriptionRunner:begin_change
---@field saved_to integer?  position that the record of its end has recorded
---@field decision catga.Error?  what the handler asked for: another attempt, or to park
---@field token string?     of the external consumer that has it
---@field deadline number?  when it counts as lost, by the clock's mono
---@field task catga.Task?  of the handler that has it
---@field timer userdata?   of its delay

---@class catga.Window
---@field read_to integer          all events up to here were added
---@field list catga.Delivery[]    in order of positions, from `first` to `last`
---@field first integer
---@field last integer
---@field keys table<any, table>   { active?, first, last, [i], replays }: the held ones of a key
---@field blocked table<any, integer>  how many events of a key are parked
---@field ready catga.Delivery[]   from `ready_first` to `ready_last`
---@field out_count integer        deliveries under way
local Window = {}
Window.__index = Window

--- A window behind a position.
---@param position integer
---@return catga.Window
function M.new(position)
  return setmetatable({ read_to = position, list = {}, first = 1, last = 0, keys = {},
    blocked = {}, ready = {}, ready_first = 1, ready_last = 0, out_count = 0 }, Window)
end

local function make_ready(self, entry)
  entry.state = "ready"
  self.ready_last = self.ready_last + 1
  self.ready[self.ready_last] = entry
end

local function queue_of(self, key)
  local queue = self.keys[key]
  if not queue then
    queue = { first = 1, last = 0, replays = { first = 1, last = 0 } }
    self.keys[key] = queue
  end
  return queue
end

local function push(list, entry)
  list.last = list.last + 1
  list[list.last] = entry
  entry.state = "held"
end

local function shift(list)
  local entry = list[list.first]
  list[list.first] = nil
  list.first = list.first + 1
  return entry
end

-- Makes the next one of a key active when it may be: what was parked goes before the others.
local function release(self, key)
  local queue = self.keys[key]
  if not queue or queue.active then return end
  local entry
  if queue.replays[queue.replays.first] then
    entry = shift(queue.replays)
  elseif not queue[queue.first] then
    self.keys[key] = nil
  elseif not self.blocked[key] then
    entry = shift(queue)
  end
  if not entry then return end
  queue.active = entry
  make_ready(self, entry)
end

--- Adds an event that was read.
---@param entry catga.Delivery
function Window:add(entry)
  self.last = self.last + 1
  self.list[self.last] = entry
  local key = entry.key
  if key == nil then return make_ready(self, entry) end
  push(queue_of(self, key), entry)
  release(self, key)
end

--- Adds an event that was done before: it stands above the position as long as others before it are
--- not done.
---@param position integer
function Window:add_done(position)
  if self.first > self.last then return end
  self.last = self.last + 1
  self.list[self.last] = { position = position, state = "done", attempts = 0 }
end

--- Adds a parked event that is delivered again: before those of its key that wait.
---@param entry catga.Delivery
function Window:add_replay(entry)
  entry.is_replay = true
  local key = entry.key
  if key == nil then return make_ready(self, entry) end
  push(queue_of(self, key).replays, entry)
  release(self, key)
end

--- How many events it holds, done ones above the position included.
---@return integer
function Window:count() return self.last - self.first + 1 end

--- Everything up to here is done.
---@return integer
function Window:position()
  local head = self.list[self.first]
  return head and head.position - 1 or self.read_to
end

--- The position as it will be when an event is done.
---@param entry catga.Delivery
---@return integer
function Window:position_after(entry)
  if entry ~= self.list[self.first] then return self:position() end
  for i = self.first + 1, self.last do
    if self.list[i].state ~= "done" then return self.list[i].position - 1 end
  end
  return self.read_to
end

--- The next event to deliver, which is then out; nil: there is none.
---@return catga.Delivery?
function Window:take()
  local entry = self.ready[self.ready_first]
  if not entry then return nil end
  self.ready[self.ready_first] = nil
  self.ready_first = self.ready_first + 1
  entry.state = "out"
  self.out_count = self.out_count + 1
  return entry
end

--- How many events could be delivered now.
---@return integer
function Window:ready_count() return self.ready_last - self.ready_first + 1 end

--- A delivery has ended without success: the event waits, and those of its key behind it.
---@param entry catga.Delivery
function Window:delay(entry)
  entry.state = "delayed"
  self.out_count = self.out_count - 1
end

--- An event that waited may be delivered again.
---@param entry catga.Delivery
function Window:again(entry) make_ready(self, entry) end

--- An event that is out has come to its end: handled, parked or skipped.
---@param entry catga.Delivery
function Window:finish(entry)
  entry.state, entry.event = "done", nil
  self.out_count = self.out_count - 1
  while self.first <= self.last and self.list[self.first].state == "done" do
    self.list[self.first] = nil
    self.first = self.first + 1
  end
  local key = entry.key
  if key == nil then return end
  local queue = self.keys[key]
  if queue.active == entry then queue.active = nil end
  release(self, key)
end

--- Keeps the events of a key back, once more for each call.
---@param key any
function Window:block(key) self.blocked[key] = (self.blocked[key] or 0) + 1 end

--- Takes back one call of block.
---@param key any
function Window:unblock(key)
  local count = self.blocked[key]
  if not count then return end
  self.blocked[key] = count > 1 and count - 1 or nil
  release(self, key)
end

--- The positions of done events above the position.
---@return integer[]
function Window:done_above()
  local list = {}
  for i = self.first, self.last do
    local entry = self.list[i]
    if entry.state == "done" then list[#list + 1] = entry.position end
  end
  return list
end

return M
