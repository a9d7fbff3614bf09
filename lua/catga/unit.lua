--- The unit of work: what a handler, step or event delivery does to the store, as one commit.
---
--- Appends are checked and encoded when they are made, visible to reads in the unit, and written
--- together when the outermost handler ends well; a failed inner handler takes back what it staged.
local state = require "catga.state"
local errors = require "catga.error"
local encode_json = require "catga.native.json".encode
local metadata = require "catga.events.metadata"
local guard_ids = require "catga.events.ids".guard
local is_behind = require "catga.commit".is_behind
local is_schema = require "catga.upcast".is_schema
local personal = require "catga.personal"
local invalidation = require "catga.lazy".module "catga.policy.invalidation"
local flags_of = require "catga.flags"
local tasks = require "catga.task"
local PERSONAL, INTERNAL = flags_of.PERSONAL, flags_of.INTERNAL
local inline = require "catga.lazy".module "catga.projection.inline"

local M = {}

--- A field of an event whose personal fields are encrypted already.
M.SEALED = {}

local ANY, NONE, EXISTS = -1, -2, -3
local EXPECT = { any = ANY, none = NONE, exists = EXISTS }

--- One staged record.
---@class catga.Staged
---@field stream integer   stream number; it may be stale after a wait, see Unit:refresh
---@field name string      of the stream
---@field expected integer version it must follow, or ANY
---@field type string
---@field data string      JSON, as it is stored
---@field plain string?    JSON before its personal fields were encrypted
---@field key string?      with which they were
---@field flags integer    other than 0 and PERSONAL: the runtime's own, not delivered to handlers
---@field ctx catga.Ctx?   envelope of the message whose handler staged it
---@field conditions { stream: string, expected: integer }[]?  of the appends that begin with it
---@field schema integer?  schema version of the data; nil: 1
---@field extra table?     further fields of its metadata
---@field is_imported boolean?  it has happened before: not delivered to handlers
---@field guard (fun(): catga.Error?)?  what must still hold when the unit commits

---@class catga.Unit
---@field app catga.App
---@field n integer                 records staged
---@field evicted_count integer?     of the store when the stream numbers were looked at last
---@field ops catga.Staged[]
---@field has_conditions boolean?   some record carries conditions
---@field after (fun())[]           run once the commit is durable
---@field keys integer?             change of keys that must be durable before the commit
---@field conflict catga.Error?     the unit read or expected something that is no longer so
---@field answers table[]?           of messages that it has handled, see policy/deduplicate.lua
---@field held_from integer?         it belongs to no handler, and lets go at its end of what its
---  task holds beyond so many things: keys and locks of what inline routes have sent
local Unit = {}
Unit.__index = Unit

--- The unit of the running task, made on first use.
---@param task catga.Task
---@return catga.Unit
function M.of(task)
  local unit = task.unit
  if unit then return unit:refresh() end
  unit = setmetatable({ app = task.app, n = 0, ops = {}, after = {} }, Unit)
  task.unit = unit
  return unit
end

--- Makes the stream numbers of what is staged right again: a stream that was not used for long may
--- have left memory during a wait, and has another number when it is back. To be called after any
--- wait before numbers are compared; `of` does.
---@return catga.Unit self
function Unit:refresh()
  if self.n == 0 then return self end
  local store = self.app.store
  local evicted_count = store:evicted_count()
  if self.evicted_count == evicted_count then return self end
  for i = 1, self.n do
    local op = self.ops[i]
    if store:is_stale(op.stream) then op.stream = store:stream(op.name, true) end
  end
  self.evicted_count = evicted_count
  return self
end

--- How many records of the stream the unit has staged.
---@param stream integer
---@return integer
function Unit:staged_count(stream)
  local count = 0
  for i = 1, self.n do
    if self.ops[i].stream == stream then count = count + 1 end
  end
  return count
end

-- What was expected, as the store says it, when a stream with that last version meets it.
local function check_last(name, last, expect)
  local wanted = EXPECT[expect] or expect
  if type(wanted) ~= "number" or wanted % 1 ~= 0 or expect == wanted and wanted < 0 then
    return nil, errors.new("invalid", "expect is a version (0, 1, 2, ...), \"none\", \"exists\" or "
      .. "\"any\", not " .. tostring(expect))
  end
  local holds = wanted == ANY or (wanted == NONE and last < 0) or (wanted == EXISTS and last >= 0)
    or (wanted >= 0 and wanted == last)
  if not holds then
    local is = last < 0 and "it has no event" or "its version is " .. last
    return nil, errors.new("conflict", ("stream %s: expected %s, %s"):format(name,
      tostring(expect), is), { retryable = true })
  end
  return wanted
end

-- The version that the next record of the stream must follow when something was expected.
local function check_expected(store, unit, stream, expect)
  local last = store:count(stream) + unit:staged_count(stream) - 1
  local wanted, err = check_last(store:name(stream), last, expect)
  if not wanted or wanted == ANY then return wanted, err end
  return last < 0 and NONE or last
end

-- A condition as it stands before the unit's own records are written: what the stream has now was
-- there before, but for what the unit itself has staged.
local function check_condition(store, unit, name, expect)
  local stream = store:stream(name)
  local count = stream and store:count(stream) or 0
  local staged = stream and unit:staged_count(stream) or 0
  local wanted, err = check_last(name, count + staged - 1, expect)
  if not wanted then return nil, err end
  if wanted >= 0 then return count > 0 and count - 1 or NONE end
  if wanted == EXISTS and count == 0 then return ANY end -- It will: the unit writes it.
  return wanted
end

-- The generation of scripts whose code runs in a task: of the handler, of the process whose step
-- runs, or the newest.
local function generation_of(task)
  local entry = task.ctx and task.ctx.entry
  local process = task.process
  return entry and entry.registry or process and process.class.registry or task.app.registry
end

--- The schema version of a new event: what it says, or the newest that the generation of scripts
--- knows whose code makes it.
---@param task catga.Task
---@param event { type: string, schema: integer? }
---@return integer? schema
---@return catga.Error? err  the event names a version that nobody knows
function M.schema_of(task, event)
  local upcasts = generation_of(task).upcasts
  if not upcasts and event.schema == nil then return 1 end
  local newest = upcasts and upcasts:schema(event.type) or 1
  local schema = event.schema or newest
  if not is_schema(schema) or schema > newest then
    return nil, errors.new("invalid", ("event %s: schema is a version from 1 to %d, the newest "
      .. "that the upcasters know, not %s"):format(event.type, newest, tostring(schema)))
  end
  return schema
end

-- Encodes an event: as it is stored, before its personal fields were encrypted (nil: it has none),
-- the change of keys that must be durable first, and the key. Or nil and an error. What has
-- flags is the runtime's own; what is SEALED was encrypted in the log that it was exported from.
local function encode(app, stream_name, event, flags)
  local declared = app.registry.personal and app.registry.personal[event.type]
  if declared and not (flags or event[M.SEALED]) then
    return personal.seal(app, stream_name, declared, event.data)
  end
  local data, err = app.store:encode(event.data, event.type)
  if not data then return nil, err end
  return data, nil
end

-- Lists, parked events and exports hold it in JSON.
local function is_type(kind)
  return type(kind) == "string" and kind ~= ""
    and (not kind:find("[\128-\255]") or encode_json(kind) ~= nil)
end

--- Stages events of one stream.
---@param stream_name string
---@param events { type: string, data: any, id: string?, schema: integer? }[]  schema: of data that
---  is older than the newest version
---@param expect integer|"any"|"none"|"exists"|nil  default "any"
---@param flags integer?  of the runtime's own records
---@return integer? version  of the last event
---@return catga.Error? err
function Unit:append(stream_name, events, expect, flags)
  local store = self.app.store
  local stream = store:stream(stream_name, true)
  if not stream then
    return nil, errors.new("invalid", "a stream name has 1 to 1024 bytes of UTF-8")
  end
  local gone = not flags and metadata.tombstone(self.app, self, stream_name)
  if gone then return nil, gone end
  local expected, err = check_expected(store, self, stream, expect or "any")
  if err then return nil, err end
  if self.n == 0 then self.evicted_count = store:evicted_count() end
  local staged, ctx, has_ids, keys = {}, state[1].ctx, false, nil
  for i, event in ipairs(events) do
    if type(event) ~= "table" or not is_type(event.type) then
      return nil, errors.new("invalid", ("event %d of the append to %s needs a type, which is a "
        .. "string of UTF-8"):format(i, stream_name))
    end
    local data, plain, change, key = encode(self.app, stream_name, event, flags)
    if not data then return nil, plain end
    keys = change or keys
    local schema, fault = M.schema_of(state[1], event)
    if not schema then return nil, fault end
    staged[i] = { stream = stream, name = stream_name, expected = expected, type = event.type,
      data = data, plain = plain, key = key, flags = (flags or 0) + (change and PERSONAL or 0),
      ctx = ctx, schema = schema > 1 and schema or nil,
      extra = event.extra or event.id and { event_id = event.id },
      is_imported = event.is_imported }
    has_ids = has_ids or event.id ~= nil
    if expected ~= ANY then
      expected = store:count(stream) + self:staged_count(stream) + i - 1
    end
  end
  if has_ids then staged[1].guard = guard_ids(self.app, stream_name, staged) end
  self.keys = keys or self.keys -- The last change: they become durable in order.
  for i = 1, #staged do self.ops[self.n + i] = staged[i] end
  self.n = self.n + #staged
  local version = store:count(stream) + self:staged_count(stream) - 1
  local route = not flags and self.app.registry.inline_routes
  if route and not events[1].is_imported then
    local routed, failure = route(self, staged)
    if not routed then return nil, failure end
  end
  return version
end

--- Stages a record of the runtime's own whose data is JSON already.
---@param stream_name string
---@param kind string
---@param data string  JSON
function Unit:record(stream_name, kind, data)
  local store = self.app.store
  local stream = store:stream(stream_name, true)
  if self.n == 0 then self.evicted_count = store:evicted_count() end
  self.n = self.n + 1
  self.ops[self.n] = { stream = stream, name = stream_name, expected = ANY, type = kind,
    data = data, flags = INTERNAL }
end

--- Takes over what another unit of the same app has staged, behind its own.
---@param other catga.Unit
function Unit:absorb(other)
  self:refresh()
  other:refresh()
  for i = 1, other.n do self.ops[self.n + i] = other.ops[i] end
  for i = 1, #other.after do self.after[#self.after + 1] = other.after[i] end
  self.n = self.n + other.n
  self.evicted_count = other.evicted_count or self.evicted_count
  self.has_conditions = self.has_conditions or other.has_conditions
  self.keys = other.keys or self.keys
end

-- The conditions, checked and in order of the streams' names.
local function check_conditions(unit, conditions)
  local names, list = {}, {}
  for name in pairs(conditions) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local expected, err = check_condition(unit.app.store, unit, name, conditions[name])
    if not expected then return nil, err end
    list[i] = { stream = name, expected = expected }
  end
  return list
end

--- Stages events of several streams, all or none of them, on conditions on streams that they do not
--- write. The conditions must hold now and when the unit commits.
---@param appends { stream: string, events: table[], expect: any }[]
---@param conditions table<string, integer|"any"|"none"|"exists">
---@return { stream: string, version: integer }[]? results  version of the last event, in order
---@return catga.Error? err
function Unit:append_all(appends, conditions)
  local n, after = self:mark()
  local checked, err = check_conditions(self, conditions)
  if not checked then return nil, err end
  local results = {}
  for i, one in ipairs(appends) do
    local version, fault = self:append(one.stream, one.events, one.expect)
    if not version then
      self:take_back(n, after)
      return nil, fault
    end
    results[i] = { stream = one.stream, version = version }
  end
  local first = self.ops[n + 1]
  if checked[1] and first then
    first.conditions, self.has_conditions = checked, true
  end
  return results
end

--- Remembers what to do when the commit is durable.
---@param fn fun()
function Unit:on_commit(fn) self.after[#self.after + 1] = fn end

--- What is staged now, for take_back.
---@return integer, integer
function Unit:mark() return self.n, #self.after end

--- Takes back what was staged since a mark.
---@param n integer      as mark has given them
---@param after integer
function Unit:take_back(n, after)
  for i = n + 1, self.n do self.ops[i] = nil end
  self.n = n
  for i = after + 1, #self.after do self.after[i] = nil end
end

--- What is stored beside an event: the conversation it belongs to and the message, or process,
--- whose handler made it; and the schema version of its data unless that is 1. Raises when it is
--- over message_size_max.
---@param task catga.Task
---@param ctx catga.Ctx?    default that of the task
---@param schema integer?   nil: 1
---@param extra table?      further fields
---@return string? json     nil when there is nothing to say; raises when it cannot be stored
function M.metadata(task, ctx, schema, extra)
  ctx = ctx or task.ctx
  local p = task.process
  if not ctx then
    if not (p or schema or extra) then return nil end
    -- Staged by the step itself.
    ctx = p and { correlation_id = p.correlation_id or p.id, id = p.id } or {}
  end
  local fields = { correlation_id = ctx.correlation_id, causation_id = ctx.id, schema = schema,
    hops = task.app.registry.routes and ctx.hops }
  if extra then
    for name, value in pairs(extra) do fields[name] = value end
  end
  local text, err = task.app.store:encode(fields, "metadata")
  if not text then error(err, 0) end -- Without it an id or a schema version would be lost.
  return text
end

-- Is it an event of the scripts?
local function is_event(op) return op.flags == 0 or op.flags == PERSONAL end

--- Looks whether what was staged may still be committed, before the store builds the commit.
---@return boolean ok
---@return catga.Error? err  code "conflict": run the unit again; "deleted"
function Unit:verify()
  local app = self.app
  local is_marked = metadata.is_used(app)
  for i = 1, self.n do
    local op = self.ops[i]
    local err = op.guard and op.guard()
      or is_marked and is_event(op) and metadata.tombstone(app, nil, op.name)
    if err then return false, err end
  end
  return true
end

-- Puts the conditions on the commit, before records of the unit change what they speak of.
local function write_conditions(unit, store)
  for i = 1, unit.n do
    local conditions = unit.ops[i].conditions
    for k = 1, conditions and #conditions or 0 do
      local ok, err = store:expect(conditions[k].stream, conditions[k].expected)
      if not ok then return false, err end
    end
  end
  return true
end

--- Adds the staged records to the commit that the store is building.
---@param task catga.Task
---@return boolean ok
---@return catga.Error? err
function Unit:write(task)
  local store = self.app.store
  local json, ctx, schema, extra
  self:refresh()
  if self.has_conditions then
    local ok, err = write_conditions(self, store)
    if not ok then return false, err end
  end
  for i = 1, self.n do
    local op = self.ops[i]
    if i == 1 or op.ctx ~= ctx or op.schema ~= schema or op.extra ~= extra then
      ctx, schema, extra = op.ctx, op.schema, op.extra
      local is_made, text = pcall(M.metadata, task, ctx, schema, extra)
      if not is_made then return false, errors.from(text) end
      json = text
    end
    local version, id = store:add(op.stream, op.expected, op.type, op.data, json, op.flags)
    if not version then return false, id end
    op.version, op.id, op.metadata = version, id, json
  end
  return true
end

local function delivered(app, op, position)
  local stale = app.registry.invalidations and app.registry.invalidations[op.type]
  if stale then invalidation.event(app, stale, op.plain or op.data) end
  if is_event(op) and not op.is_imported
    and (app.registry.events[op.type] or app.registry.upcasts) then
    app.mediator:deliver(op, position)
  end
end

--- Runs what waits for the commit, then delivers the events.
---@param first integer?  position of the first staged record
function Unit:committed(first)
  local app = self.app
  for i = 1, #self.after do
    local ok, failure = xpcall(self.after[i], errors.catch)
    if not ok then -- What is committed has succeeded, and the others are to hear of it.
      app:say("error", "after a commit: " .. tostring(failure) .. (failure.traceback or ""))
    end
  end
  -- Most units have one record; LuaJIT cannot compile a loop that ends after its first round.
  if self.n > 0 then delivered(app, self.ops[1], first) end
  for i = 2, self.n do delivered(app, self.ops[i], first and first + i - 1) end
end

--- Waits until the keys with which the unit's events are encrypted are durable: no event may be
--- that cannot be read. May yield.
---@return boolean ok
---@return catga.Error? err
function Unit:await_keys()
  if not self.keys or not self.app.personal then return true end
  return self.app.personal:wait(self.keys)
end

--- Lets go of what was held until the end of this unit.
function Unit:let_go()
  local task = state[1]
  if self.held_from and task.holds then tasks.let_go(task, self.held_from) end
end

-- Commits the unit of the running task alone and parks until it is durable.
local function commit(self)
  local task = state[1]
  if self.n == 0 then
    self:committed()
    return true
  end
  local ok, err = self:await_keys()
  if not ok then return false, err end
  local token
  if self.app.inline then
    token, err = inline.prepare(self.app, self)
    if not token then return false, err end
  end
  local first, after = self:put_down(task)
  if not first then
    if token then inline.revoke(token) end
    if not is_behind(after) then return false, after end
    self.app.clock:sleep(1)
    return commit(self)
  end
  if token then inline.place(token, after - 1) end
  ok, err = self.app.store:wait(after - 1)
  if not ok then return false, err end
  self:committed(first)
  return true
end

--- Commits the unit of the running task alone and parks until it is durable. May yield.
---@return boolean ok
---@return catga.Error? err  code "conflict": run the unit again
function Unit:commit()
  local ok, err = commit(self)
  if self.held_from then self:let_go() end
  return ok, err
end

--- Makes the commit of what is staged; does not wait.
---@param task catga.Task
---@return integer? first  position of the first record
---@return integer|catga.Error after  position behind the last; or the error
function Unit:put_down(task)
  if self.app.is_closed then return nil, errors.new("closed", "the app was stopped") end
  local store = self.app.store
  local holds, changed = self:verify()
  if not holds then return nil, changed end
  store:begin()
  local written, fault = self:write(task)
  if not written then
    store:rollback()
    return nil, fault
  end
  return store:commit()
end

return M
