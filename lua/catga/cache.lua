--- Caches in memory, by name. What is in one is lost when the program ends.
---
---   local prices = catga.cache("prices", { ttl = "5m", entries_max = 1000 })  -- in a script
---   prices:set("apple", { cents = 30 })
---   local price = prices:get_or("pear", function(key) return fetch_price(key) end)
---
--- Values are copied when they are set and when they are got, so nobody changes what others see;
--- they are data: no functions, no cycles. The least recently used entries make room for new ones.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local duration = require "catga.duration"
local settings = require "catga.settings"
local registries = require "catga.registry"
local effect = require "catga.face".effect
local json = require "catga.native.json"
local buffer = require "string.buffer"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

local KEY_BYTES_MAX = 1024
local ENTRY_BYTES = 200 -- What an entry costs beside key and value, about.
local OPTIONS = { ttl = true, entries_max = true, size_max = true }
local SET_OPTIONS = { ttl = true }

---@class catga.CacheStats
---@field entries integer
---@field bytes integer      of keys and values, with what an entry costs
---@field hits integer
---@field misses integer
---@field evictions integer  entries that made room
---@field expired integer    entries that were found too old
---@field loads integer      functions of get_or that were called
---@field shared integer     calls of get_or that waited for the function of another

--- One cache of an app.
---@class catga.CacheStore
---@field app catga.App
---@field name string
---@field entries table<string, table>  by key: key, value or text, bytes, due?, older?, newer?
---@field newest table?  of the list by use
---@field oldest table?
---@field flights table<string, table>  values on the way: future, leader, is_stale
---@field counts catga.CacheStats
local Store = {}
Store.__index = Store

local codec -- Of values that are tables: lists stay lists, errors stay errors.

local function codec_of()
  if not codec then
    codec = buffer.new { metatable = { json.array_mt, getmetatable(errors.new "x") } }
  end
  return codec
end

--- A cache that belongs to no name: for other parts of the runtime.
---@param app catga.App
---@param name string
---@param opts { ttl_ms: number?, entries_max: integer?, bytes_max: integer? }?
---@return catga.CacheStore
function M.new(app, name, opts)
  opts = opts or {}
  local self = setmetatable({ app = app, name = name, entries = {}, flights = {},
    counts = { entries = 0, bytes = 0, hits = 0, misses = 0, evictions = 0, expired = 0,
      loads = 0, shared = 0 } }, Store)
  self:configure(opts)
  return self
end

--- Sets the bounds; entries that are too many go.
---@param opts { ttl_ms: number?, entries_max: integer?, bytes_max: integer? }
function Store:configure(opts)
  self.ttl_ms = opts.ttl_ms
  self.entries_max = opts.entries_max or self.app.settings.cache_entries_max
  self.bytes_max = opts.bytes_max or self.app.settings.cache_size_max
  self:make_room()
end

local function unlink(self, entry)
  if entry.newer then entry.newer.older = entry.older else self.newest = entry.older end
  if entry.older then entry.older.newer = entry.newer else self.oldest = entry.newer end
  entry.newer, entry.older = nil, nil
end

local function link_newest(self, entry)
  entry.older = self.newest
  if self.newest then self.newest.newer = entry else self.oldest = entry end
  self.newest = entry
end

local function remove(self, entry)
  unlink(self, entry)
  self.entries[entry.key] = nil
  self.counts.entries = self.counts.entries - 1
  self.counts.bytes = self.counts.bytes - entry.bytes
end

--- Lets the least recently used entries go until the rest fits.
function Store:make_room()
  local counts = self.counts
  while counts.entries > self.entries_max or counts.bytes > self.bytes_max do
    counts.evictions = counts.evictions + 1
    remove(self, self.oldest)
  end
end

-- The entry of a key, unless it is too old.
local function find(self, key)
  local entry = self.entries[key]
  if not entry then return nil end
  if entry.due and entry.due <= self.app.clock:mono() then
    remove(self, entry)
    self.counts.expired = self.counts.expired + 1
    return nil
  end
  if entry.newer then
    unlink(self, entry)
    link_newest(self, entry)
  end
  return entry
end

local function value_of(entry)
  if entry.text then return codec_of():set(entry.text):decode() end
  return entry.value
end

-- The bytes of a value: its text when it has to be copied, and how many.
local function encode(name, key, value)
  local kind = type(value)
  if kind == "string" then return nil, #value end
  if kind == "number" or kind == "boolean" or value == json.null then return nil, 8 end
  if kind ~= "table" then
    error(("cache %s: the value of \"%s\" is a %s; data can be cached: text, numbers, booleans and "
      .. "tables of them"):format(name, key, kind), 4)
  end
  local ok, text = pcall(function() return codec_of():reset():encode(value):get() end)
  if ok then return text, #text end
  codec = nil
  error(("cache %s: the value of \"%s\" cannot be copied: %s; data can be cached: text, numbers, "
    .. "booleans and tables of them"):format(name, key, tostring(text)), 4)
end

-- A value on the way is older than what is set or deleted meanwhile.
local function outdate(self, key)
  local flight = self.flights[key]
  if flight then flight.is_stale = true end
end

local function put(self, key, value, ttl_ms)
  local text, bytes = encode(self.name, key, value)
  local before = self.entries[key]
  if before then remove(self, before) end
  bytes = bytes + #key + ENTRY_BYTES
  if bytes > self.bytes_max then return false end
  ttl_ms = ttl_ms or self.ttl_ms
  local entry = { key = key, text = text, value = not text and value or nil, bytes = bytes,
    due = ttl_ms and self.app.clock:mono() + ttl_ms or nil }
  if not text then entry.value = value end
  self.entries[key] = entry
  link_newest(self, entry)
  self.counts.entries = self.counts.entries + 1
  self.counts.bytes = self.counts.bytes + bytes
  self:make_room()
  return true
end

--- The value of a key, or nil.
---@param key string
---@return any value
function Store:get(key)
  local entry = find(self, key)
  if not entry then
    self.counts.misses = self.counts.misses + 1
    return nil
  end
  self.counts.hits = self.counts.hits + 1
  return value_of(entry)
end

--- Sets the value of a key.
---@param key string
---@param value any
---@param ttl_ms number?
---@return boolean is_kept  false: it alone is larger than the cache
function Store:set(key, value, ttl_ms)
  outdate(self, key)
  return put(self, key, value, ttl_ms)
end

---@param key string
---@return boolean was_there
function Store:delete(key)
  outdate(self, key)
  local entry = self.entries[key]
  if entry then remove(self, entry) end
  return entry ~= nil
end

--- Deletes everything.
function Store:clear()
  for key in pairs(self.flights) do outdate(self, key) end
  self.entries, self.newest, self.oldest = {}, nil, nil
  self.counts.entries, self.counts.bytes = 0, 0
end

-- Ends a flight. `is_over`: it has an outcome; else another may lead.
local function land(self, key, flight, is_over, ...)
  if self.flights[key] == flight then self.flights[key] = nil end
  tasks.at_end(flight.leader, flight, nil)
  flight.future:set(is_over, ...)
end

-- Calls the function as the one whose value all others wait for.
local function lead(self, key, flight, fn, ttl_ms)
  local task = state[1]
  tasks.at_end(task, flight, function() land(self, key, flight, false) end)
  self.counts.loads = self.counts.loads + 1
  local ok, value, err = xpcall(fn, errors.catch, key)
  if not ok then
    -- A leader that ran out of its own time says nothing about the function.
    land(self, key, flight, not task.timed_out, nil, value, true)
    error(value, 0)
  end
  if value ~= nil and not flight.is_stale then
    local is_data, failure = xpcall(put, errors.catch, self, key, value, ttl_ms)
    if not is_data then
      land(self, key, flight, true, nil, failure, true)
      error(failure, 0)
    end
  end
  land(self, key, flight, true, value, err, false)
  return value, err
end

-- What a flight comes to.
local function join(flight)
  local task = state[1]
  local function done(ok, ...)
    task.awaits = nil
    if not ok then error((...), 0) end
    return ...
  end
  task.awaits = flight.leader
  return done(pcall(flight.future.wait, flight.future))
end

--- The value of a key; when there is none, that of the function, which is kept. The function is
--- called once for all that ask at the same time; nil and an error are not kept. May yield.
---@param key string
---@param fn fun(key: string): any, any
---@param ttl_ms number?
---@return any value
---@return catga.Error? err  what the function gave
function Store:get_or(key, fn, ttl_ms)
  local value = self:get(key)
  while value == nil do
    local flight = self.flights[key]
    if not flight then
      flight = { future = tasks.future(), leader = state[1] }
      self.flights[key] = flight
      return lead(self, key, flight, fn, ttl_ms)
    end
    if tasks.is_circular(flight.leader) then
      error(errors.new("would_deadlock", ("cache %s: the function of get_or for \"%s\" asks for "
        .. "the same key%s"):format(self.name, key, flight.leader == state[1] and ""
        or ", by way of others")), 0)
    end
    self.counts.shared = self.counts.shared + 1
    local is_over, given, err, is_raised = join(flight)
    if is_over then
      if is_raised then error(err, 0) end
      local entry = given ~= nil and find(self, key)
      if entry then given = value_of(entry) end
      return given, err
    end
    value = self:get(key)
  end
  return value
end

--- What it has done, and holds now.
---@return catga.CacheStats
function Store:stats()
  local copy = {}
  for name, count in pairs(self.counts) do copy[name] = count end
  return copy
end

-- The face for scripts: a name, whose cache belongs to the app that runs.

---@class catga.Cache
---@field name string
local Cache = {}
Cache.__index = Cache

local function check_options(what, opts, known, level)
  if opts == nil then return {} end
  for name in raw_pairs(opts) do
    if not known[name] then
      local near = registries.suggest(tostring(name), known)
      error(("%s: unknown option %s; there are %s%s"):format(what, tostring(name),
        table.concat(registries.sorted_names(known), ", "),
        near and "; did you mean " .. near .. "?" or ""), level + 1)
    end
  end
  local ttl_ms = opts.ttl and duration.ms(opts.ttl, what .. ": ttl") or nil
  if ttl_ms == 0 then error(what .. ": ttl must be longer than 0", level + 1) end
  return { ttl_ms = ttl_ms, entries_max = opts.entries_max,
    bytes_max = opts.size_max and settings.size(opts.size_max, what .. ": size_max") or nil }
end

local function define(registry, name, opts)
  local at = registries.caller()
  local caches = registry.caches
  if not caches then
    caches = {}
    registry.caches = caches
  end
  if caches[name] then
    error(("%s: cache %s has its options already, at %s; name it without options here"):format(at,
      name, caches[name].at), 0)
  end
  local most = opts.entries_max
  if most ~= nil and (type(most) ~= "number" or most < 1 or most % 1 ~= 0) then
    error(("%s: cache %s: entries_max is a whole number from 1"):format(at, name), 0)
  end
  caches[name] = check_options("cache " .. name, opts, OPTIONS, 3)
  caches[name].at = at
end

--- The cache of a name. Options are given once, at the top level of a script; without them the
--- settings cache_entries_max and cache_size_max are its bounds, and entries do not age.
---@param name string
---@param opts { ttl: string?, entries_max: integer?, size_max: string? }?
---@return catga.Cache
function M.of(name, opts)
  if type(name) ~= "string" or name == "" then error("catga.cache needs a name", 2) end
  if opts ~= nil then
    if not state.loading then
      error("catga.cache: the options of a cache belong at the top level of a script", 2)
    end
    define(state.loading, name, opts)
  end
  return setmetatable({ name = name }, Cache)
end

-- The store behind a name, in the running app.
local function store_of(self, what, key)
  local app = effect(what, 4)
  if key ~= nil and (type(key) ~= "string" or #key > KEY_BYTES_MAX) then
    error(("%s: the key is a string of at most %d bytes, got %s"):format(what, KEY_BYTES_MAX,
      type(key)), 3)
  end
  local stores = app.caches
  if not stores then
    stores = {}
    app.caches = stores
  end
  local store = stores[self.name]
  local defined = app.registry.caches and app.registry.caches[self.name]
  if not store then
    store = M.new(app, self.name, defined)
    stores[self.name] = store
    store.defined = defined
  elseif store.defined ~= defined then -- The scripts were loaded anew.
    store.defined = defined
    store:configure(defined or {})
  end
  return store
end

--- The value of a key, or nil.
---@param key string  at most 1024 bytes
---@return any value  a copy
function Cache:get(key) return store_of(self, "cache:get", key or false):get(key) end

--- Sets the value of a key; nil deletes it.
---@param key string
---@param value any  data: text, numbers, booleans, tables of them
---@param opts { ttl: string? }?
---@return boolean is_kept  false: it alone is larger than the cache
function Cache:set(key, value, opts)
  local store = store_of(self, "cache:set", key or false)
  if value == nil then
    store:delete(key)
    return true
  end
  return store:set(key, value, check_options("cache:set", opts, SET_OPTIONS, 2).ttl_ms)
end

---@param key string
---@return boolean was_there
function Cache:delete(key) return store_of(self, "cache:delete", key or false):delete(key) end

--- The value of a key; when there is none, that of the function, which is kept. The function is
--- called once for all that ask at the same time; nil and an error are not kept. May yield.
---@param key string
---@param fn fun(key: string): any, catga.Error?
---@param opts { ttl: string? }?
---@return any value
---@return catga.Error? err
function Cache:get_or(key, fn, opts)
  local store = store_of(self, "cache:get_or", key or false)
  if type(fn) ~= "function" then error("cache:get_or(key, fn) needs a function", 2) end
  return store:get_or(key, fn, check_options("cache:get_or", opts, SET_OPTIONS, 2).ttl_ms)
end

--- Deletes everything.
function Cache:clear() store_of(self, "cache:clear"):clear() end

--- What it has done, and holds now.
---@return catga.CacheStats
function Cache:stats() return store_of(self, "cache:stats"):stats() end

return M
