--- Dispatch: from a message's name to its handler, through the behaviors, in a unit of work.
---
--- A handler's closure is composed once when an app is loaded. The outermost handler opens the unit
--- of work; nested sends join it, and a nested failure takes back only what the nested one staged.
local state = require "catga.state"
local errors = require "catga.error"
local encode_json = require "catga.native.json".encode
local units = require "catga.unit"
local tasks = require "catga.task"
local presenter = require "catga.event"
local raw_next = require "catga.sandbox".raw.next
local invalidation = require "catga.lazy".module "catga.policy.invalidation"

local handlers = require "catga.lazy".module "catga.outbox.handlers"
local live = require "catga.lazy".module "catga.stream.live"
local route_unstored = require "catga.lazy".call("catga.route.unstored", "take")

local M = {}

local unit_of, catch = units.of, errors.catch
local CONFLICT_RUNS_MAX = 10 -- How often a unit of work runs again after a conflict.
local KEY_BYTES_MAX = 512
local NOTHING = {}

--- Envelope of a message. Ids are made when they are first read.
---@class catga.Ctx
---@field name string            of the message
---@field kind "command"|"query"|"event"
---@field id string              of the message
---@field key string             stable over all attempts: the message's id or key, or the step's;
---  of an event its id and which of its handlers this is
---@field attempt integer        1 for the first
---@field correlation_id string  of the first message of the conversation
---@field causation_id string?   of the message or event that caused this one
---@field stream string?         of an event
---@field version integer?       of an event
---@field position integer?      of an event
---@field hops integer?          how many routes the message has gone through
---@field after integer?         of a query: models that it reads must have seen this position
---@field after_timeout_ms number?  how long it waits for them
local Ctx = {}
local LAZY = {}

function LAZY.id(ctx) return ctx.app:new_id() end
-- A message from a step, and what it leads to, has a key that all attempts of the step share.
function LAZY.key(ctx)
  local p, parent = ctx.process, ctx.parent
  if p then
    local id = p.id
    if id:find("[%%/]") then id = id:gsub("[%%/]", { ["%"] = "%25", ["/"] = "%2F" }) end
    return id .. "/" .. p.run .. "/" .. ctx.path .. "/" .. ctx.nth
  end
  if parent then return parent.key .. "/" .. ctx.nth end
  return ctx.id
end
function LAZY.correlation_id(ctx)
  local p, parent = ctx.process, ctx.parent
  if p then return p.correlation_id or p.id end
  return parent and parent.correlation_id or ctx.id
end
function LAZY.causation_id(ctx)
  local parent = ctx.parent
  if ctx.process then return ctx.process.id end
  return parent and parent.id or nil
end

function LAZY.hops(ctx)
  local parent = ctx.parent
  return parent and parent.hops
end

--- A new id, never given before.
function Ctx:new_id() return self.app:new_id() end
--- Milliseconds since the Unix epoch.
function Ctx:now() return self.app.clock:now() end

-- What all messages of a handler have in common is not in each envelope.
local OF_ENTRY = { app = true, name = true, kind = true }

local CTX = {
  __index = function(ctx, field)
    if OF_ENTRY[field] then return ctx.entry[field] end
    local lazy = LAZY[field]
    if lazy then
      local value = lazy(ctx)
      ctx[field] = value
      return value
    end
    return Ctx[field]
  end,
}

-- Takes what of an envelope is given instead of being made. Written out: LuaJIT would make a trace
-- of a loop and of each way through it.
local function take_given(ctx, opts)
  if opts.id ~= nil then ctx.id = opts.id end
  if opts.key ~= nil then ctx.key = opts.key end
  if opts.has_key ~= nil then ctx.has_key = opts.has_key end
  if opts.attempt ~= nil then ctx.attempt = opts.attempt end
  if opts.correlation_id ~= nil then ctx.correlation_id = opts.correlation_id end
  if opts.causation_id ~= nil then ctx.causation_id = opts.causation_id end
  if opts.stream ~= nil then ctx.stream = opts.stream end
  if opts.version ~= nil then ctx.version = opts.version end
  if opts.position ~= nil then ctx.position = opts.position end
  if opts.hops ~= nil then ctx.hops = opts.hops end
  if opts.after ~= nil then ctx.after, ctx.after_timeout_ms = opts.after, opts.after_timeout_ms end
end

local function new_ctx(entry, parent, opts)
  local nth
  if parent then
    nth = parent.sent + 1
    parent.sent = nth
  end
  local ctx = setmetatable({ entry = entry, parent = parent, attempt = 1, nth = nth, sent = 0,
    has_key = false }, CTX)
  if opts then take_given(ctx, opts) end
  return ctx
end

---@class catga.Mediator
---@field app catga.App
local Mediator = {}
Mediator.__index = Mediator

-- Ends a dispatch: counts and reports a failure.
local function report(self, entry, err)
  entry.counter.failures = entry.counter.failures + 1
  if err.traceback and not err.reported then
    err.reported = true
    self.app:say("error", ("%s %s: %s%s"):format(entry.kind, entry.name, err.message,
      err.traceback))
  end
end

---@param app catga.App
---@return catga.Mediator
function M.new(app) return setmetatable({ app = app }, Mediator) end

local protected = require "catga.protected".call

-- Runs the handler inside the open unit; takes back what it staged when it fails.
local function run_nested(task, entry, data, ctx)
  local unit = task.unit
  local n, after = 0, 0
  if unit then n, after = unit:mark() end
  local ok, value, err = xpcall(protected, catch, entry.run, data, ctx)
  if ok and (value ~= nil or err == nil) then return value end
  if task.unit then task.unit:take_back(n, after) end
  if ok then return nil, errors.from(err) end
  return nil, value
end

-- Runs the handler as a unit of work of its own.
local function run_unit(task, entry, data, ctx)
  for _ = 1, CONFLICT_RUNS_MAX do
    ctx.sent = 0 -- What it sends has the same keys in every run.
    task.in_unit = true
    local ok, value, err = xpcall(protected, catch, entry.run, data, ctx)
    task.in_unit = nil
    local unit = task.unit
    task.unit = nil
    if not ok then value, err = nil, value end
    if value == nil and err ~= nil then
      -- The unit itself met the conflict that it would have met at its commit.
      if not (unit and unit.conflict == err) then return nil, errors.from(err) end
    else
      if not unit then return value end
      local committed, fault = unit:commit()
      if committed then return value end
      if fault.code ~= "conflict" then return nil, fault end
    end
  end
  return nil, errors.new("conflict", ("%s met a conflicting change %d times in a row")
    :format(entry.name, CONFLICT_RUNS_MAX), { retryable = true })
end

-- The same; what it holds until its unit has ended (keys, locks of what it sent) is let go.
local function run_outermost(task, entry, data, ctx)
  local count = task.holds and #task.holds or 0
  local value, err = run_unit(task, entry, data, ctx)
  if task.holds then tasks.let_go(task, count) end
  return value, err
end

-- Runs the handler once, in the open unit or as one of its own.
local function attempt_once(data, ctx)
  local task = state[1]
  if task.in_unit or task.limit then return run_nested(task, ctx.entry, data, ctx) end
  return run_outermost(task, ctx.entry, data, ctx)
end

--- One attempt of a message whose envelope says which; what policies stand around. May yield.
Mediator.attempt = attempt_once

--- The envelope of an entry that handles several messages at once, in the conversation of one.
---@param entry catga.Entry
---@param first catga.Ctx
---@return catga.Ctx
function Mediator.envelope(entry, first)
  return new_ctx(entry, nil, { correlation_id = first.correlation_id, causation_id = first.id })
end

-- Runs what stands around all attempts.
local function run_outside(task, entry, data, ctx)
  local timed = task.timed
  local ok, value, err = xpcall(protected, catch, entry.outer, data, ctx)
  if ok and (value ~= nil or err == nil) then return value end
  task.timed = timed
  if ok then return nil, errors.from(err) end
  return nil, value
end

--- Runs a composed entry with an envelope and returns the handler's answer. May yield.
---@param entry catga.Entry
---@param data any
---@param opts table?  what of the envelope is given: id, key, attempt, correlation_id, ...
---@return any value
---@return catga.Error? err
function Mediator:run(entry, data, opts)
  local task = state[1]
  local outer_ctx, outer_flow = task.ctx, task.flow
  local ctx = new_ctx(entry, outer_ctx, opts)
  if task.limit and not outer_ctx and task.process and entry.kind == "command" then
    local p = task.process -- Sent by a step: the same key in all its attempts.
    p.nth = p.nth + 1
    ctx.process, ctx.path, ctx.nth, ctx.attempt = p, p.path or p.key or p.op, p.nth, p.attempt
  end
  task.ctx, task.flow = ctx, nil
  entry.counter.calls = entry.counter.calls + 1
  local value, err
  if entry.outer then
    value, err = run_outside(task, entry, data, ctx)
  elseif task.in_unit or task.limit then
    value, err = run_nested(task, entry, data, ctx)
  else
    value, err = run_outermost(task, entry, data, ctx)
  end
  task.ctx, task.flow = outer_ctx, outer_flow
  if err ~= nil then report(self, entry, err) end
  return value, err
end

--- Sends a command from inside a step: it joins the step's unit of work. May yield.
---@param p catga.Instance
---@param name string
---@param data any
---@param path string|integer  operation, "3", "3/undo" or "3.2.1"
---@param nth integer          which send of the step it is
---@param attempt integer
---@return any value
---@return catga.Error? err
function Mediator:send_in_step(p, name, data, path, nth, attempt)
  local app = self.app
  local entry = app.registry.handlers[name]
  if not entry or entry.kind ~= "command" then
    return nil, app.registry:unknown("command", name)
  end
  local task = state[1]
  local outer = task.ctx
  local ctx = setmetatable({ entry = entry, parent = outer, process = p, path = path, nth = nth,
    attempt = attempt, sent = 0, has_key = false }, CTX)
  task.ctx = ctx
  entry.counter.calls = entry.counter.calls + 1
  local value, err = (entry.outer and run_outside or run_nested)(task, entry, data, ctx)
  task.ctx = outer
  if err ~= nil then report(self, entry, err) end
  return value, err
end

local function is_key(key)
  return type(key) == "string" and key ~= "" and #key <= KEY_BYTES_MAX
    and encode_json(key) ~= nil
end

--- Sends a command or asks a query by name. May yield.
---@param kind "command"|"query"
---@param name string
---@param data any
---@param opts table?
---@return any value
---@return catga.Error? err
function Mediator:send(kind, name, data, opts)
  local entry = self.app.registry.handlers[name]
  if not entry or entry.kind ~= kind then
    return nil, self.app.registry:unknown(kind, name)
  end
  if opts and opts.has_key and not is_key(opts.key) then
    return nil, errors.new("invalid", ("%s %s: the id or key of a message is a string of 1 to %d "
      .. "bytes of UTF-8"):format(kind, name, KEY_BYTES_MAX))
  end
  local value, err = self:run(entry, data, opts) -- No tail call: a trace has few of them.
  return value, err
end

--- Options of a message that comes from outside: an id or key makes its outcome stored.
---@param opts { id: string?, key: string?, correlation_id: string? }?
---@return table?
function Mediator.outside(opts)
  if not opts then return nil end
  local key = opts.key or opts.id
  return { id = opts.id, key = key, has_key = key ~= nil, correlation_id = opts.correlation_id }
end

-- The events that the handlers get may be newer than what was staged: scripts were reloaded while
-- the unit was under way. What to deliver, as it was staged, or upcast; nil: it was dropped.
local function upcast(app, op)
  local upcasts = app.registry.upcasts
  if not upcasts or (op.schema or 1) >= (upcasts:schema(op.type) or 1) then return op end
  local data = app.json.decode(op.plain or op.data)
  local event = presenter.present(app, { type = op.type, data = data,
    version = op.version, stream = op.name, id = op.id,
    metadata = op.metadata and app.json.decode(op.metadata) })
  if not event then return nil end
  return setmetatable({ type = event.type, data = assert(app.json.encode(event.data)),
    plain = false }, -- The op's own is older.
    { __index = op })
end

--- A staged event as handlers get it: as it was staged, or upcast; nil: it was dropped.
Mediator.newest = upcast

-- The body of a task that handles one event.
local function handle_event(data, opts)
  local entry = opts.entry
  local app = entry.app
  local _, err = app.mediator:run(entry, data, opts)
  if not err then return end
  local op, position = opts.op, opts.position
  if not err.reported then
    app:say("error", ("event %s at position %s: handler failed: %s"):format(op.type,
      tostring(position), tostring(err)))
  end
  if op.name then handlers.failed(app, op, position, entry, opts.entries, opts.cause, err) end
end

local function deliver_to(app, entries, i, op, cause, position)
  local opts = { entry = entries[i], entries = entries, op = op, cause = cause, id = op.id,
    key = op.id .. "/" .. i, correlation_id = cause.correlation_id,
    causation_id = cause.causation_id, version = op.version, position = position,
    stream = op.name, hops = cause.hops }
  local data = app.json.decode(op.plain or op.data) -- Each handler gets its own copy.
  tasks.spawn(app, protected, handle_event, data, opts)
end

local function deliver(self, op, position)
  local app = self.app
  local entries = app.registry.events[op.type]
  if not entries then return end
  local cause = op.metadata and app.json.decode(op.metadata) or NOTHING
  -- Most events have one handler; LuaJIT cannot compile a loop that ends after its first round.
  deliver_to(app, entries, 1, op, cause, position)
  for i = 2, #entries do deliver_to(app, entries, i, op, cause, position) end
end

--- Delivers an event to its handlers, each as a task and a unit of its own.
---@param op catga.Staged
---@param position integer?  nil: it is not stored
function Mediator:deliver(op, position)
  local ok, event = pcall(upcast, self.app, op)
  if ok then
    if event then deliver(self, event, position) end
    return
  end
  self.app:say("error", tostring(errors.from(event).message))
end

local function check_publish(name, opts)
  if type(name) ~= "string" or name == "" then
    error("catga.publish: the type of an event is a string that is not empty", 3)
  end
  if not opts or opts.qos and (opts.qos == 0 or opts.qos == 1) and raw_next(opts) == "qos"
    and raw_next(opts, "qos") == nil then
    return
  end
  for option, value in pairs(opts) do
    if option ~= "qos" or value ~= 0 and value ~= 1 then
      error(("catga.publish: unknown option %s = %s; there is qos, 0 or 1"):format(tostring(option),
        tostring(value)), 3)
    end
  end
end

local function deliver_unstored(self, op)
  local app = self.app
  self:deliver(op)
  if app.registry.routes then route_unstored(app, op) end
  if app.live_streams then live.deliver(app, op) end
end

-- An event that is not stored: delivered when the open unit has committed, or at once.
local function publish_unstored(self, task, name, data)
  local app = self.app
  local json, fault = app.store:encode(data, name)
  if not json then return nil, fault end
  local registry = app.registry
  local stale = registry.invalidations and registry.invalidations[name]
  if stale then invalidation.event(app, stale, json) end
  if not (registry.events[name] or registry.routes or app.live_streams) then return true end
  local op = { type = name, data = json, id = app:new_id(), metadata = units.metadata(task),
    schema = units.schema_of(task, { type = name }) }
  if not (task.in_unit or task.limit) then
    deliver_unstored(self, op)
  else
    unit_of(task):on_commit(function() deliver_unstored(self, op) end)
  end
  return true
end

--- Publishes an event: staged in the open unit, or as a unit of its own. May yield.
---@param name string
---@param data any
---@param opts { qos: 0|1|nil }?
---@return boolean? ok
---@return catga.Error? err
function Mediator:publish(name, data, opts)
  check_publish(name, opts)
  local task = state[1]
  if opts and opts.qos == 0 then return publish_unstored(self, task, name, data) end
  local was_in_unit = task.in_unit or task.limit
  local unit = unit_of(task)
  local version, err = unit:append("$type-" .. name, { { type = name, data = data } }, "any")
  if was_in_unit then return version and true, err end
  task.unit = nil
  if not version then return nil, err end
  local ok, fault = unit:commit()
  return ok or nil, fault
end

return M
