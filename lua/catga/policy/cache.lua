--- Cache: answers of queries and calls, for a time; one asks, others who want the same wait for his
--- answer. Only what succeeded is kept; each caller gets a copy of its own.
---
--- In a unit of work that has staged something it stands aside: what is not committed must not be
--- given to others, and the unit must see what it has done.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local lru = require "catga.policy.lru"
local keys = require "catga.policy.keys"
local waits = require "catga.policy.waits"
local raw_next = require "catga.sandbox".raw.next

local M = {}

M.fields = {
  ttl = { "duration", nil },              -- an answer is given for so long
  max = { "count", 1000, 1, 10000000 },   -- answers kept; the one used longest ago goes first
  key = { "key" },                        -- default: the whole message
  invalidated_by = { "events" },          -- event types; with a field, only answers of that key
}
M.short = "ttl"
M.memory = { "ttl", "max" }
M.uses = { query = true, call = true }
M.why = "an answer from a cache leaves out what the handler does: only queries and calls may"

function M.check(p)
  if not p.ttl then error("cache needs a ttl, such as { ttl = \"1m\" }", 0) end
end

---@class catga.AnswerCache
local Cache = {}
Cache.__index = Cache

---@param app catga.App
---@param p table
function M.new(app, p)
  return setmetatable({ app = app, ttl = p.ttl, answers = lru.new(p.max), flights = {}, hits = 0,
    misses = 0, shared = 0, invalidated = 0 }, Cache)
end

--- Forgets the answer of a key, or all of them. Answers that are under way are not kept.
---@param key any?
function Cache:invalidate(key)
  self.invalidated = self.invalidated + 1
  if key ~= nil then
    self.answers:remove(key)
    if self.flights[key] then self.flights[key].is_stale = true end
    self.flights[key] = nil
    return
  end
  self.answers:clear()
  for _, flight in raw_next, self.flights do flight.is_stale = true end
  self.flights = {}
end

---@return table
function Cache:status()
  return { entries = self.answers.count, hits = self.hits, misses = self.misses,
    shared = self.shared, invalidated = self.invalidated }
end

-- One that asks for others too.
local Flight = {}
Flight.__index = Flight

-- Gives everybody who waits what came of it; nil: the one who asked is gone.
function Flight:land(result)
  local cache = self.cache
  if cache.flights[self.key] == self then cache.flights[self.key] = nil end
  for i = 1, #self do waits.wake(self[i], result or "gone") end
end

function Flight:release() self:land(nil) end

local function keep(cache, key, value)
  local answers = cache.answers
  if answers.count >= answers.max and not answers.nodes[key] then
    answers:remove((answers:oldest()))
  end
  answers:put(key, { value = value, until_ms = cache.app.clock:mono() + cache.ttl })
end

local function ask(cache, key, inner, data, ctx)
  local task = state[1]
  local flight = setmetatable({ cache = cache, key = key, task = task }, Flight)
  cache.flights[key] = flight
  tasks.hold(task, flight)
  local value, err = inner(data, ctx)
  tasks.unhold(task, flight)
  local failed = value == nil and err ~= nil
  local ok, kept = true, nil
  if not failed then ok, kept = pcall(keys.copy, value) end
  if not ok then
    flight:land({ err = errors.new("invalid", "the answer cannot be kept: " .. tostring(kept)) })
    return value
  end
  if not (failed or flight.is_stale) then keep(cache, key, kept) end
  flight:land({ value = kept, err = failed and err or nil })
  return value, err
end

-- Waits for the answer that another one asks for; false: he is gone.
local function share(cache, flight)
  cache.shared = cache.shared + 1
  local result, err = waits.join(cache.app, flight)
  if result == "gone" then return false end
  if not result then return true, nil, err end
  if result.err then return true, nil, result.err end
  return true, keys.copy(result.value)
end

-- The answer of a key: kept, under way, or asked for.
local function answer(cache, key, inner, data, ctx)
  while true do
    local found = cache.answers:get(key)
    if found and found.until_ms > cache.app.clock:mono() then
      cache.hits = cache.hits + 1
      return keys.copy(found.value)
    end
    local flight = cache.flights[key]
    -- It asks itself, perhaps by way of others.
    if flight and tasks.is_circular(flight.task) then return inner(data, ctx) end
    if not flight then
      cache.misses = cache.misses + 1
      return ask(cache, key, inner, data, ctx)
    end
    local is_there, value, err = share(cache, flight)
    if is_there then return value, err end
  end
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param cache catga.AnswerCache
---@param scope catga.PolicyScope
function M.layer(inner, p, cache, scope)
  local what = scope.name .. ": cache.key"
  for kind, key_fn in raw_next, p.invalidated_by or {} do
    require("catga.policy.invalidation").add(scope.registry, kind, cache, key_fn or nil, what)
  end
  return function(data, ctx)
    local unit = state[1].unit
    if unit and unit.n > 0 then return inner(data, ctx) end
    local key, err
    if p.key then
      key, err = keys.of(p.key, data, ctx, what)
    elseif ctx.n then
      key = keys.text({ n = ctx.n, unpack(ctx, 1, ctx.n) })
    else
      key = keys.text(data)
    end
    if err then return nil, err end
    if not key then return inner(data, ctx) end -- It holds a function or the like.
    return answer(cache, key, inner, data, ctx)
  end
end

return M
