--- Inline projections: their handlers run on the events of a unit of work before it commits, and
--- readers see what they changed from the turn on in which it does.
---
--- The handlers of a unit run without waiting, in the turn of its commit, so nothing comes between:
--- no lock is held, and what they did is dropped when the commit is refused. One that asks for a
--- document that is not in memory is taken back; the document is read, and all of them run again.
---
--- Three layers lie over the database: what the handlers of the running unit change (`changed` of
--- the documents), what is committed and not written yet (`fresh`), and what is being written
--- (`writing`). A task writes behind, when the commits are durable, with the checkpoint. After a
--- crash the runner catches up from there, before the app serves.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local json = require "catga.native.json"
local documents = require "catga.projection.documents"
local runners = require "catga.lazy".module "catga.projection.runner"
local flags = require "catga.flags"
local registries = require "catga.registry"
local sandbox = require "catga.sandbox"
local units = require "catga.unit"
local models = require "catga.model"

local M = {}

local WHAT = "an inline projection"
local FRESH_MAX = 100000    -- Changes that wait to be written; then units of work wait.
local WAIT_MS_MAX = 30000   -- How long one waits for that, or for a model that is being swapped.
local RUNS_MAX = 1000       -- How often the handlers of a unit run to read what they ask for.
local RETRY_MS = 1000
local RETRYABLE = { busy = true, disk_full = true }
local HIDDEN = { position = true, version = true, id = true, time = true }

---@class catga.Inline           of an app, `app.inline`; nil: there is no inline projection
---@field attached catga.Runner[]  those that have caught up, by name
---@field gates table<string, catga.Future>   by name: it is about to catch up, units wait
---@field refused table<string, catga.Error>  by name: it cannot go on, units with its events fail

--- What a read gives that another version was swapped for in the meantime.
M.AGAIN = {}

local function of(app)
  local self = app.inline
  if not self then
    self = { attached = {}, gates = {}, refused = {} }
    app.inline = self
  end
  return self
end

-- What is known only when an event is committed is not there for handlers.
local ENVELOPE = {
  __index = function(ctx, field)
    if HIDDEN[field] then
      error(("ctx.%s is not known in %s: its handlers run before the commit"):format(field,
        WHAT), 2)
    end
    local event = rawget(ctx, 1)
    local value = event[field]
    if value == nil and (field == "correlation_id" or field == "causation_id") then
      local metadata = event.metadata
      value = type(metadata) == "table" and metadata[field] or nil
    end
    return value
  end,
}

--- The envelope of an event for the handlers of an inline projection.
---@param event table
---@return table ctx
function M.envelope(event) return setmetatable({ event }, ENVELOPE) end

local function is_event(op) return op.flags == 0 or op.flags == flags.PERSONAL end

-- Does the unit hold events for the definition?
local function concerns(definition, unit)
  local handlers = definition.handlers
  for i = 1, unit.n do
    local op = unit.ops[i]
    if handlers[op.type] and is_event(op) then return true end
  end
  return false
end

-- The events of a unit as handlers get them; each projection gets its own.
local function present(app, task, op)
  local newest = app.mediator.newest(app, op)
  if not newest then return nil end
  return setmetatable({ type = newest.type, stream = op.name, schema = op.schema,
    data = json.decode(newest.plain or newest.data) }, {
    __index = function(event, field)
      if field ~= "metadata" then return nil end
      local text = units.metadata(task, op.ctx, op.schema, op.extra)
      event.metadata = text and json.decode(text) or nil
      return event.metadata
    end,
  })
end

local function failure_of(runner, event, caught)
  local failure = caught.error
  local message = tostring(failure.message)
  if caught.at and not message:find(caught.at, 1, true) then
    message = caught.at .. ": " .. message
  end
  return errors.new(failure.code, ("inline projection %s cannot take %s (stream %s): %s"):format(
    runner.name, event.type, event.stream, message), { retryable = failure.retryable,
    traceback = failure.traceback })
end

-- Runs a projection's handlers on a unit: true; nil and what was missing; false and an error.
local function run_handlers(runner, task, unit)
  local docs, handlers = runner.documents, runner.definition.handlers
  docs.missing, docs.atomic = {}, WHAT
  for i = 1, unit.n do
    local op = unit.ops[i]
    local event = is_event(op) and present(runner.app, task, op)
    local handler = event and handlers[event.type]
    if handler then
      docs:begin(event)
      local ok, caught = xpcall(handler, runners.catch, event.data, docs, M.envelope(event))
      if next(docs.missing) ~= nil and (ok or caught.error == documents.MISSING) then
        return nil, docs.missing
      end
      if not ok then return false, failure_of(runner, event, caught) end
    end
  end
  return true
end

local function drop_changes(runner)
  local docs = runner.documents
  docs.changed, docs.changed_count, docs.changed_bytes, docs.missing = {}, 0, 0, nil
end

-- Reads what was missing. False and an error when that fails.
local function read_missing(runner, missing)
  local docs, keys = runner.documents, {}
  for key in sandbox.raw.pairs(missing) do keys[#keys + 1] = key end
  local writes = runner.writes
  local ahead = docs:read_ahead(keys)
  tasks.wait(ahead.job.wait, ahead.job)
  if runner.writes ~= writes then return true end -- It may be older than what was written: again.
  return docs:prefetched(ahead)
end

-- Runs the handlers of all that are concerned: true; false and an error; or nil when something had
-- to be read.
local function attempt(self, task, unit, token)
  for i = 1, #self.attached do
    local runner = self.attached[i]
    if concerns(runner.definition, unit) then
      token[#token + 1] = runner
      local ok, outcome = run_handlers(runner, task, unit)
      if not ok then
        M.revoke(token)
        if ok == false then return false, outcome end
        local is_read, err = read_missing(runner, outcome)
        if not is_read then return false, err end
        return nil
      end
    end
  end
  return true
end

-- What a unit must wait for before its handlers can run: a future; or the error that refuses it.
local function obstacle(self, unit, definitions)
  for name, err in sandbox.raw.pairs(self.refused) do
    local definition = definitions[name]
    if definition and concerns(definition, unit) then return nil, err end
  end
  for name, gate in sandbox.raw.pairs(self.gates) do
    local definition = definitions[name]
    if definition and concerns(definition, unit) then return gate end
  end
  for i = 1, #self.attached do
    local runner = self.attached[i]
    if runner.fresh_count >= FRESH_MAX and concerns(runner.definition, unit) then
      runner.space = runner.space or tasks.future()
      return runner.space
    end
  end
end

-- Waits for a future, not for ever.
local function wait_bounded(app, future)
  local timer = app.clock:after(WAIT_MS_MAX, function() future:set() end)
  future:wait()
  app.clock:cancel(timer)
end

-- Waits until nothing is in the way; false and an error when something stays there.
local function wait_for_way(self, app, unit)
  local deadline = app.clock:mono() + WAIT_MS_MAX
  while true do
    local future, err = obstacle(self, unit, app.registry.projections)
    if err then return false, err end
    if not future then return true end
    if app.clock:mono() >= deadline then
      return false, errors.new("busy", ("an inline projection has not caught up within %d s; try "
        .. "again later"):format(WAIT_MS_MAX / 1000), { retryable = true })
    end
    wait_bounded(app, future)
  end
end

--- Runs the handlers on what a unit has staged. Nothing may wait between this and the commit; then
--- `place`, or `revoke` when it was refused. May yield.
---@param app catga.App
---@param unit catga.Unit
---@return table? token
---@return catga.Error? err  a handler has failed: the unit must not commit
function M.prepare(app, unit)
  local self, task = app.inline, state[1]
  local pure, flow = task.pure, task.flow
  for _ = 1, RUNS_MAX do
    local is_free, err = wait_for_way(self, app, unit)
    if not is_free then return nil, err end
    local token = {}
    task.pure, task.flow = sandbox.PROJECTING, nil
    local ok, failure = attempt(self, task, unit, token)
    task.pure, task.flow = pure, flow
    if ok then return token end
    if ok == false then return nil, failure end
  end
  return nil, errors.new("limit", ("the handlers of inline projections have asked for other "
    .. "documents %d times over for one unit of work"):format(RUNS_MAX))
end

--- The commit was refused: what the handlers did is dropped.
---@param token table
function M.revoke(token)
  for i = 1, #token do drop_changes(token[i]) end
end

--- The commit has its place: readers see what the handlers did.
---@param token table
---@param position integer  of the last record of the unit
---@return table undo  for unplace
function M.place(token, position)
  local undo = {}
  for i = 1, #token do
    local runner = token[i]
    local docs, fresh, before = runner.documents, runner.fresh, {}
    for key, text in sandbox.raw.pairs(docs.changed) do
      if fresh[key] == nil then runner.fresh_count = runner.fresh_count + 1 end
      before[key] = fresh[key] == nil and before or fresh[key]
      fresh[key] = text
    end
    undo[i] = { runner = runner, before = before, to = runner.fresh_to, placed = runner.placed + 1 }
    runner.placed, runner.fresh_to = runner.placed + 1, position
    drop_changes(runner)
    if runner.sleeper then runner.sleeper:set() end
  end
  return undo
end

--- The commit was refused after all, in the turn of its place.
---@param undo table
function M.unplace(undo)
  for i = 1, #undo do
    local one = undo[i]
    local runner = one.runner
    if runner.placed ~= one.placed then return end -- Later: the log has failed, and that is final.
    for key, text in sandbox.raw.pairs(one.before) do
      if text == one.before then
        runner.fresh[key], runner.fresh_count = nil, runner.fresh_count - 1
      else
        runner.fresh[key] = text
      end
    end
    runner.fresh_to = one.to
  end
end

local function wake_waiters(runner)
  local waiting = runner.flushed
  runner.flushed = nil
  if waiting then waiting:set() end
end

-- Writes what is committed, once it is durable. May yield.
local function write(runner)
  local docs = runner.documents
  local changes, to = runner.fresh, runner.fresh_to
  runner.fresh, runner.fresh_count = {}, 0
  docs.under[1], docs.under[2] = runner.fresh, changes
  local ok, err = runner.app.store:wait(to)
  if not ok then error(err, 0) end
  while true do
    ok, err = models.await(runner.place:get():apply(runner.name, runner.slot, runner.position, to,
      changes))
    if ok then break end
    if not RETRYABLE[err.code] then error(err, 0) end
    runner.app:say("warn", ("projection %s waits: %s"):format(runner.name, err.message))
    tasks.wait(runner.app.clock.sleep, runner.app.clock, RETRY_MS)
  end
  runner.writes = runner.writes + 1
  docs:remember_all(changes)
  docs.under[2] = nil
  runner.position, runner.reached = to, math.max(runner.reached, to)
  if runner.space then runner.space:set() end
  runner.space = nil
  wake_waiters(runner)
  runner.projections:moved()
end

--- The work of a projection that has caught up: writes behind. Must run in its task. May yield.
---@param runner catga.Runner
function M.run(runner)
  while not runner.is_stopping do
    while runner.fresh_to > runner.position do write(runner) end
    runner.sleeper = tasks.future()
    runner.sleeper:wait()
    runner.sleeper = nil
  end
end

--- A document as readers see it. May yield.
---@param runner catga.Runner
---@param key string
---@return string|false|table|nil json  AGAIN: another version serves
---@return catga.Error? err
function M.get(runner, key)
  local docs = runner.documents
  while true do
    local text = docs:peek(key)
    if text ~= nil then return text end
    if not runner.place:serves() then return M.AGAIN end
    local writes = runner.writes
    local list, err = models.await(runner.place:get():fetch(runner.name, runner.slot, { key }))
    if not list then return nil, err end
    text = docs:peek(key)
    if text ~= nil then return text end
    if runner.writes == writes then return list[1] end
  end
end

--- Waits until everything committed so far is in the database. May yield.
---@param runner catga.Runner
function M.flush(runner)
  local to = runner.fresh_to
  while runner.is_inline and runner.position < to do
    runner.flushed = runner.flushed or tasks.future()
    runner.flushed:wait()
  end
end

local function attach(runner)
  local self = of(runner.app)
  runner.fresh, runner.fresh_count, runner.placed, runner.writes = {}, 0, 0, 0
  runner.fresh_to = runner.position
  local docs = runner.documents
  docs:reset()
  docs.under = { runner.fresh }
  runner.is_inline = true
  self.attached[#self.attached + 1] = runner
  table.sort(self.attached, function(a, b) return a.name < b.name end)
end

local function open_gate(app, name)
  local gate = of(app).gates[name]
  of(app).gates[name] = nil
  if gate then gate:set() end
end

--- Takes part in no unit of work any more.
---@param runner catga.Runner
function M.detach(runner)
  local self = of(runner.app)
  for i = #self.attached, 1, -1 do
    if self.attached[i] == runner then table.remove(self.attached, i) end
  end
  runner.is_inline = nil
  runner.documents.missing = nil
  wake_waiters(runner)
end

--- It cannot go on: units of work with its events are refused, or it would miss them.
---@param runner catga.Runner
function M.refuse(runner)
  if runner.is_inline then M.detach(runner) end
  local err = runner.error
  of(runner.app).refused[runner.name] = errors.new("projection_failed", ("inline projection %s has "
    .. "stopped%s, so its events are refused: %s; mend it, or set its lifecycle to \"background\"")
    :format(runner.name, err.position and " at position " .. err.position or "", err.message))
  open_gate(runner.app, runner.name)
end

--- It is tried again.
---@param runner catga.Runner
function M.allow(runner)
  local self = of(runner.app)
  self.refused[runner.name] = nil
  open_gate(runner.app, runner.name)
end

--- Everything durable was seen: closes the gate for units with its events, and, once all of those
--- that came before are in the model too, lets it take part. Called by its task. May yield.
---@param runner catga.Runner
function M.take_over(runner)
  local self, name = of(runner.app), runner.name
  if not self.gates[name] then
    self.gates[name] = tasks.future()
    runner.gate_until = (runner.app.store:positions()) - 1
  end
  if runner.handled < runner.gate_until then return end
  local former = runner.projections.former[name]
  if former and former.is_inline then M.flush(former) end
  if not runner.is_serving then
    local projections = runner.projections
    local ok, failure = xpcall(projections.take_over, errors.catch, projections, runner)
    if not ok then
      open_gate(runner.app, name)
      error(failure, 0)
    end
    if not runner.is_serving then return end
  end
  attach(runner)
  runner.gate_until = nil
  open_gate(runner.app, name)
  runner.projections:moved()
end

--- Ends with the app: whoever waits goes on.
---@param app catga.App
function M.stop(app)
  local self = app.inline
  for _, name in ipairs(registries.sorted_names(self.gates)) do open_gate(app, name) end
end

return M
