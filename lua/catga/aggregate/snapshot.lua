--- Snapshots of aggregates: when one is due, what it holds, and whether one that was found may be
--- used.
---
--- A snapshot is derived: it is written after the commit that it is of, by a task of its own, and
--- one that is missing, damaged, of another shape, or not of this history is passed over.
---
--- A state that was made of a person's encrypted fields is encrypted with the same key; of one with
--- data of several persons no snapshot is taken: it could not be forgotten in part.
local errors = require "catga.error"
local host = require "catga.native.host"
local tasks = require "catga.task"
local json = require "catga.native.json"
local duration = require "catga.duration"
local personal = require "catga.personal"
local size_of = require "catga.settings".size
local stores = require "catga.aggregate.snapshot_store"

local M = {}

local FIND_MAX = 3      -- How many snapshots of one aggregate are looked at, newest first.
local EVERY_MAX = 1e9
local DEPTH_MAX = 200   -- Of tables in a state.

--- A snapshot as a store keeps it: flat, its state is text.
---@class catga.Snapshot
---@field version integer  of the last event in it
---@field event string     id of that event: a log that lost its end has another one there
---@field state string     JSON; encrypted if there is a key
---@field key string?      of the person whose data is in it
---@field shape string     what initial and apply were when it was taken
---@field time number      Unix ms, not before its last event
---@field check string     hash of all this, and of the aggregate's name and id

--- Where snapshots are kept. Its functions may wait.
---@class catga.SnapshotStore
---@field get fun(name: string, id: string, max_version: integer): catga.Snapshot?  the newest one
---  that is not above that version
---@field put fun(name: string, id: string, snapshot: catga.Snapshot)
---@field drop fun(name: string, id: string)

--- When snapshots are taken: as soon as one of the rules says so.
---@class catga.SnapshotRules
---@field every integer?     events since the last one
---@field after number?      ms since the last one
---@field bytes number?      bytes of events since the last one
---@field store catga.SnapshotStore
---@field writing table<string, boolean>  ids whose snapshot is being written
---@field said table<string, boolean>     complaints that were made

local function read_every(value)
  if type(value) == "number" and value % 1 == 0 and value >= 1 and value <= EVERY_MAX then
    return value
  end
  error(("snapshot.every is a number of events, from 1, not %s"):format(tostring(value)), 0)
end

local function read_after(value)
  local ms, fault = duration.parse(value, "snapshot.after")
  if not ms then error(fault, 0) end
  return ms
end

local function read_store(store)
  if type(store) == "table" and type(store.get) == "function" and type(store.put) == "function"
    and type(store.drop) == "function" then
    return store
  end
  error("snapshot.store is a table with the functions get, put and drop", 0)
end

local READERS = { every = read_every, after = read_after, store = read_store,
  bytes = function(value) return size_of(value, "snapshot.bytes") end }

--- Checks what a script has set. Raises when it is wrong.
---@param settings table
---@return catga.SnapshotRules? rules  nil: no snapshots
function M.rules(settings)
  if type(settings) ~= "table" then
    error("snapshot is a table of rules, such as { every = 100 }", 0)
  end
  if next(settings) == nil then return nil end
  local rules = { writing = {}, said = {} }
  for name, value in pairs(settings) do
    if not READERS[name] then
      error(("snapshot: unknown rule \"%s\"; there are every, after, bytes and store")
        :format(tostring(name)), 0)
    end
    rules[name] = READERS[name](value)
  end
  rules.store = rules.store or stores.log
  return rules
end

-- Says once for each kind of trouble that something is wrong: all works, but slower.
local function complain(app, class, id, what, failure)
  local key = what .. failure.code
  if class.snapshots.said[key] or app.stopping or app.is_closed then return end
  class.snapshots.said[key] = true
  app:say("warn", ("aggregate %s: the snapshot of %s %s: %s (said once)"):format(class.name, id,
    what, tostring(failure.message)))
end

local function check_of(class, id, snapshot)
  return host.sha256(table.concat({ class.name, id, ("%.0f"):format(snapshot.version),
    snapshot.event, snapshot.shape, ("%.0f"):format(snapshot.time), tostring(snapshot.key),
    snapshot.state }, "\0"))
end

local function is_whole(class, id, snapshot)
  return type(snapshot) == "table" and type(snapshot.version) == "number"
    and type(snapshot.time) == "number" and type(snapshot.state) == "string"
    and type(snapshot.shape) == "string" and type(snapshot.event) == "string"
    and snapshot.check == check_of(class, id, snapshot)
end

local function bound_to(class, id) return "snapshot\0" .. class.name .. "\0" .. id end

-- The state in plain; nil, after a complaint, when it cannot be had.
local function open_state(app, class, id, snapshot)
  if not snapshot.key then return snapshot.state end
  local text, err = personal.open_text(app, tostring(snapshot.key), bound_to(class, id),
    snapshot.state)
  if text then return text end
  if err.code ~= "forgotten" then complain(app, class, id, "is passed over", err) end
end

-- Is the event that the snapshot ends with the one that the stream has there? An event that
-- retention took away cannot be asked.
local function is_of_history(app, class, id, snapshot)
  local number = app.store:stream(class.name .. "-" .. id)
  if not number or snapshot.version >= app.store:count(number) then return false end
  local events = app.store:read(number, snapshot.version, 1)
  local event = events and events[1]
  return not event or event.version ~= snapshot.version or event.id == snapshot.event
end

-- The newest snapshot up to a version, as its store gives it.
local function get(app, class, id, max_version)
  local ok, snapshot = xpcall(class.snapshots.store.get, errors.catch, class.name, id, max_version)
  if ok then return snapshot end
  complain(app, class, id, "cannot be read", snapshot)
end

--- The newest snapshot that may be used. May yield.
---@param app catga.App
---@param class catga.AggregateClass
---@param id string
---@param upto catga.Until?
---@return catga.Snapshot?
---@return string? text  JSON of its state, decrypted
function M.find(app, class, id, upto)
  local max_version = upto and upto.version or math.huge
  for _ = 1, FIND_MAX do
    local snapshot = get(app, class, id, max_version)
    if snapshot == nil then return nil end
    local is_good = is_whole(class, id, snapshot)
    if not is_good then
      complain(app, class, id, "is passed over", errors.new("corrupt", "it is damaged"))
    elseif snapshot.version <= max_version and snapshot.shape == class.shape
      and not (upto and upto.at and snapshot.time > upto.at)
      and is_of_history(app, class, id, snapshot) then
      local text = open_state(app, class, id, snapshot)
      if text then return snapshot, text end
    end
    local version = type(snapshot) == "table" and tonumber(snapshot.version)
    if not version or version < 1 or version > max_version then return nil end
    max_version = version - 1
  end
end

-- Have so many events come since the last one that one is due?
local function is_long(rules, walk, version)
  return rules.every and version - walk.base >= rules.every
    or rules.bytes and walk.bytes >= rules.bytes
end

-- Has so much time passed since the last one?
local function is_old(rules, walk, now)
  return rules.after and walk.base_time and now - walk.base_time >= rules.after
end

-- What keeps a state from being the same after it was written and read: raises with the path.
local function check_plain(value, path, seen, depth)
  if type(value) ~= "table" or value == json.empty_array then return end
  if depth > DEPTH_MAX then error(("%s: over %d tables deep"):format(path, DEPTH_MAX), 0) end
  if seen[value] then
    error(("%s is the same table as %s: a snapshot would make two of it; let apply put a copy into "
      .. "the state"):format(path, seen[value]), 0)
  end
  local mt = getmetatable(value)
  if mt ~= nil and mt ~= json.array_mt then error(path .. " has a metatable", 0) end
  seen[value] = path
  for key, inner in pairs(value) do
    check_plain(inner, ("%s.%s"):format(path, tostring(key)), seen, depth + 1)
  end
end

-- JSON of a state, or nil and why it cannot be kept.
local function encode(app, value)
  local ok, fault = pcall(check_plain, value, "state", {}, 1)
  if not ok then return nil, errors.new("invalid", tostring(fault)) end
  return app.store:encode(value, "state")
end

-- The state as text, unless a snapshot is being written or that is not possible.
local function text_of(app, walk)
  if walk.class.snapshots.writing[walk.id] then return nil end
  if walk.key == false then
    complain(app, walk.class, walk.id, "cannot be taken", errors.new("invalid",
      "it would hold personal data of several persons"))
    return nil
  end
  local text, err = encode(app, walk.state)
  if not text then complain(app, walk.class, walk.id, "cannot be taken", err) end
  return text
end

--- Tells that the state was made of data that a key has encrypted.
---@param walk catga.Walk
---@param key string?  nil: it was not
function M.saw_key(walk, key)
  if not key or walk.key == key then return end
  if walk.key == nil then walk.key = key else walk.key = false end
end

--- The state as text when a snapshot of it is due now that events are saved.
---@param app catga.App
---@param walk catga.Walk
---@return string? text
function M.due_text(app, walk)
  local rules = walk.class.snapshots
  if not rules or walk.version <= walk.base then return nil end
  if not (is_long(rules, walk, walk.version) or is_old(rules, walk, app.clock:now())) then
    return nil
  end
  return text_of(app, walk)
end

-- Now, or the time of the event of a version when the clock was set back since.
local function time_of(app, class, id, version)
  local number = app.store:stream(class.name .. "-" .. id)
  local events = number and app.store:read(number, version, 1)
  local event = events and events[1]
  return math.max(app.clock:now(), event and event.version == version and event.time or 0)
end

local function put(app, class, id, snapshot)
  -- A store of its own may survive what the log loses.
  local ok, err = app:flushed()
  if not ok then error(err, 0) end
  class.snapshots.store.put(class.name, id, snapshot)
end

--- Writes a snapshot in a task of its own, once all that is committed is durable; what goes wrong
--- is said.
---@param app catga.App
---@param class catga.AggregateClass
---@param id string
---@param version integer
---@param event string  id of the event of that version
---@param text string   JSON of the state
---@param key string?    of the person whose data is in it
function M.write(app, class, id, version, event, text, key)
  local state, err = text, nil
  if key then state, err = personal.seal_text(app, key, bound_to(class, id), text) end
  if not state then -- The person was forgotten while this was under way, most likely.
    if err.code ~= "forgotten" then complain(app, class, id, "cannot be taken", err) end
    return
  end
  local snapshot = { version = version, event = event, state = state, key = key,
    shape = class.shape, time = time_of(app, class, id, version) }
  snapshot.check = check_of(class, id, snapshot)
  local writing = class.snapshots.writing
  writing[id] = true
  tasks.spawn(app, function()
    local ok, failure = xpcall(put, errors.catch, app, class, id, snapshot)
    writing[id] = nil
    if not ok then complain(app, class, id, "cannot be written", failure) end
  end)
end

--- Writes a snapshot when a load has read as many events as the rules allow for: the one before is
--- missing or was passed over.
---@param app catga.App
---@param walk catga.Walk
function M.after_load(app, walk)
  if not walk.event_id or not is_long(walk.class.snapshots, walk, walk.version) then return end
  local text = text_of(app, walk)
  if text then M.write(app, walk.class, walk.id, walk.version, walk.event_id, text, walk.key) end
end

--- Drops the snapshots of an aggregate. May yield.
---@param class catga.AggregateClass
---@param id string
function M.drop(class, id)
  if class.snapshots then class.snapshots.store.drop(class.name, id) end
end

return M
