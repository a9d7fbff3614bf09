--- Deduplicate: a message whose key was handled within the window gets the answer that the first
--- one got; while that one is under way, it waits for it. A failure is not remembered.
---
--- In memory: after a restart nothing is known. `idempotent = true` and the key of a message are
--- what lasts.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local units = require "catga.unit"
local lru = require "catga.policy.lru"
local keys = require "catga.policy.keys"
local waits = require "catga.policy.waits"

local M = {}

M.fields = {
  key = { "key" },
  window = { "duration", "10m" },
  max = { "count", 100000, 1, 10000000 }, -- keys; when there are more, the oldest is forgotten
}
M.short = "key"
M.memory = { "window", "max" }

function M.check(p)
  if not p.key then error("deduplicate needs a key, such as { key = \"payment_id\" }", 0) end
end

---@class catga.Deduplicator
local Deduplicator = {}
Deduplicator.__index = Deduplicator

---@param app catga.App
---@param p table
function M.new(app, p)
  return setmetatable({ app = app, window = p.window, known = lru.new(p.max), flights = {},
    duplicates = 0, forgotten = 0 }, Deduplicator)
end

---@return table
function Deduplicator:status()
  return { keys = self.known.count, duplicates = self.duplicates, forgotten = self.forgotten }
end

-- Keys are looked up without being moved, so they leave in the order in which they came.
function Deduplicator:find(key)
  local node = self.known.nodes[key]
  if node and node.value.until_ms > self.app.clock:mono() then return node.value end
end

function Deduplicator:remember(key, answer)
  local known, now = self.known, self.app.clock:mono()
  known:remove(key)
  while known.count > 0 do
    local oldest, one = known:oldest()
    if one.until_ms > now and known.count < known.max then break end
    if one.until_ms > now then self.forgotten = self.forgotten + 1 end
    known:remove(oldest)
  end
  known:put(key, { value = answer.value, err = answer.err, until_ms = now + self.window })
end

local Flight = {}
Flight.__index = Flight

function Flight:land(result)
  if self.of.flights[self.key] == self then self.of.flights[self.key] = nil end
  for i = 1, #self do waits.wake(self[i], result or "gone") end
end

function Flight:release() self:land(nil) end

-- What duplicates get for an answer: a copy, or, of what cannot be copied, why there is none. The
-- message itself is done, and must not be handled again.
local function answer_of(value)
  local ok, copy = pcall(keys.copy, value)
  if ok then return { value = copy } end
  return { err = errors.new("invalid", "the message was handled before, but its answer cannot be "
    .. "given again: " .. tostring(copy)) }
end

-- The answer to one of the key that the open unit of work has handled, and not taken back since.
local function find_in_unit(self, key, unit)
  for _, one in ipairs(unit.answers) do
    if one.of == self and one.key == key then
      for i = 1, #unit.after do
        if unit.after[i] == one.hook then return one.answer end
      end
    end
  end
end

-- The first one of a key; nested ones are remembered when what they did is committed.
local function handle(self, key, inner, data, ctx)
  local task = state[1]
  if task.in_unit or task.limit then
    local value, err = inner(data, ctx)
    if value ~= nil or err == nil then
      local answer = answer_of(value)
      local unit = units.of(task)
      local function remember() self:remember(key, answer) end
      unit:on_commit(remember)
      unit.answers = unit.answers or {}
      table.insert(unit.answers, { of = self, key = key, answer = answer, hook = remember })
    end
    return value, err
  end
  local flight = setmetatable({ of = self, key = key, task = task }, Flight)
  self.flights[key] = flight
  tasks.hold(task, flight)
  local value, err = inner(data, ctx)
  tasks.unhold(task, flight)
  if value == nil and err ~= nil then
    flight:land({ err = err })
    return nil, err
  end
  local answer = answer_of(value)
  self:remember(key, answer)
  flight:land(answer)
  return value
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param self catga.Deduplicator
---@param scope catga.PolicyScope
function M.layer(inner, p, self, scope)
  local what = scope.name .. ": deduplicate.key"
  return function(data, ctx)
    local key, err = keys.of(p.key, data, ctx, what)
    if err then return nil, err end
    while true do
      local unit = state[1].unit
      local found = unit and unit.answers and find_in_unit(self, key, unit) or self:find(key)
      local flight = self.flights[key]
      if not (found or flight) then return handle(self, key, inner, data, ctx) end
      if flight and flight.task == state[1] then return inner(data, ctx) end -- It sends itself.
      if flight and tasks.is_circular(flight.task) then
        return nil, errors.new("would_deadlock", ("%s: the message of this key is under way and "
          .. "waits, by way of others, for the one that sends it again"):format(scope.name),
          { retryable = true })
      end
      self.duplicates = self.duplicates + 1
      if found then return keys.copy(found.value), found.err end
      local result, fault = waits.join(scope.app, flight)
      if not result then return nil, fault end
      if result ~= "gone" then return keys.copy(result.value), result.err end
    end
  end
end

return M
