--- The process engine: starting, running, undoing, finishing and recovering processes.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local bit = require "bit"
local unit_of = require "catga.unit".of
local journal = require "catga.process.journal"
local steps = require "catga.process.steps"
local undo = require "catga.process.undo"
local random = require "catga.process.random"

local M = {}

local ID_BYTES_MAX = 512
local RECOVERY_AT_ONCE = 1000 -- Processes whose replay is under way at the same time.

--- A process in memory.
---@class catga.Instance
---@field id string
---@field run integer
---@field class catga.ProcessClass
---@field stream integer
---@field op integer           number of the last operation the body asked for
---@field nth integer          sends of the step so far
---@field attempt integer      of the step that runs
---@field path string?         while it undoes: "3/undo"; else the operation counts
---@field history table?       while it replays
---@field input any
---@field now number           time of the last record it has seen
---@field status string|false  how it ended
---@field result any           of a completed one
---@field failure catga.Error? of one that ended otherwise
---@field waiter catga.Task|false  the first that waits for the end; more are in `future`
---@field doubt integer?       operation that may have been attempted before a crash
---@field halt boolean?        no further step begins: cancelled, or the app stops
---@field special boolean?     it replays, was recovered, or is to halt: not the usual case
---@field waiting boolean?     its body sleeps
---@field cancelled catga.Error?
local Instance = { run = 1, attempt = 1 } -- What most instances have in common is not in each.
Instance.__index = Instance

--- Time of the flow: that of the last journaled operation.
function Instance:time() return self.now end

-- A whole number from 0 to 2^48-1 out of text (FNV-1a on two words).
local function hash48(text)
  local low, high = 0x811c9dc5, 0x1234567
  for i = 1, #text do
    low = bit.tobit(bit.bxor(low, text:byte(i)) * 0x0193 + bit.lshift(low, 24))
    high = bit.tobit(bit.bxor(high, bit.rshift(low, 9)) * 0x0193 + i)
  end
  return low % 2 ^ 32 + (high % 2 ^ 16) * 2 ^ 32
end

--- The process's own random numbers: seeded by the id of its start record, so a replay, and no
--- other process, sees the same.
function Instance:random()
  local generator = self.generator
  if not generator then
    local first = self.app.store:read(self.stream, 0, 1)
    generator = random.new(hash48(first[1].id))
    self.generator = generator
  end
  return generator()
end

--- Wakes who waits for the end of the process.
---@param status string
---@param result any
---@param failure catga.Error?
function Instance:settle(status, result, failure)
  self.status, self.result = status, result
  if failure then
    failure.status = status
    self.failure = failure
  end
  local waiter = self.waiter
  if waiter then
    self.waiter = false
    if waiter[1] then native_task.wake(waiter[1]) end
  end
  if self.future then self.future:set() end
end

local function park_as(entry)
  native_task.park()
  entry[1] = nil -- An interrupted task must not be woken a second time.
end

--- Waits for the end: status, result, error. May yield.
function Instance:wait()
  if not self.status then
    if not self.waiter then
      local entry = { state[1] }
      self.waiter = entry
      tasks.wait(park_as, entry)
    else
      self.future = self.future or tasks.future()
      self.future:wait()
    end
  end
  return self.status, self.result, self.failure
end

---@class catga.Engine
---@field app catga.App
---@field active table<string, catga.Instance>
---@field active_count integer
local Engine = {}
Engine.__index = Engine

---@param app catga.App
---@return catga.Engine
function M.new(app)
  return setmetatable({ app = app, active = {}, active_count = 0, starting = {} }, Engine)
end

local function new_instance(engine, class, id, stream)
  local p = setmetatable({ app = engine.app, class = class, id = id, stream = stream, op = 0,
    now = 0, nth = 0, input = false, task = false, waiter = false, status = false }, Instance)
  engine.active[id] = p
  engine.active_count = engine.active_count + 1
  return p
end

local function process_id(class, input, app)
  local id
  if class.face.process_id then
    id = class.face.process_id(input)
  elseif type(input) == "string" then
    id = input
  elseif type(input) == "table" and input.id ~= nil then
    id = input.id
  else
    return app:new_id()
  end
  if type(id) == "number" then id = ("%.14g"):format(id) end
  if type(id) ~= "string" or id == "" or #id > ID_BYTES_MAX then
    return nil, errors.new("invalid", ("process %s: the process id must be a string of 1 to %d bytes,"
      .. " got %s"):format(class.name, ID_BYTES_MAX, type(id)))
  end
  return id
end

local function forget(p)
  local engine = p.app.engine
  if engine.active[p.id] == p then
    engine.active[p.id] = nil
    engine.active_count = engine.active_count - 1
  end
end

local STATUS_OF = { ProcessCompleted = "completed", ProcessCompensated = "compensated",
  ProcessFailed = "failed", ProcessCompensationFailed = "compensation_failed",
  ProcessCancelled = "cancelled" }
M.STATUS_OF = STATUS_OF

local function finish(p, kind, field, value)
  local result = journal.must_write(p, kind, journal.CLOSES, "", field, value)
  forget(p)
  if kind == "ProcessCompleted" then return p:settle("completed", result) end
  p:settle(STATUS_OF[kind], nil, errors.from(result))
end

-- Undoes what was done and ends the process as its error demands.
local function fail(p, failure, cancelled)
  local records = journal.records(p.app, p.stream)
  local list = undo.list(p.class, records)
  local last = cancelled and "ProcessCancelled" or #list > 0 and "ProcessCompensated"
    or p.compensating and "ProcessCompensated" or "ProcessFailed"
  if #list > 0 then
    if not p.compensating then
      journal.must_write(p, "ProcessCompensationStarted", 0, "", "error", errors.stored(failure))
    end
    p.compensating = true
    local ok, err = undo.run(p, list)
    if not ok then return finish(p, "ProcessCompensationFailed", "error", errors.stored(err)) end
  end
  finish(p, last, "error", errors.stored(failure))
end

local function run_body(p)
  local class = p.class
  local task = state[1]
  task.process, task.flow = p, true
  local ok, result, err = xpcall(class.face.execute, errors.catch, class.self, p.input)
  task.flow = nil
  if p.history and p.history.last > p.op then
    local entry = p.history[p.op + 1]
    journal.diverge(p, p.op + 1, entry.kind .. " " .. entry.name, "the end of execute")
  end
  if ok and result == nil and err ~= nil then ok, result = false, errors.from(err) end
  if ok then
    local stored, fault = pcall(finish, p, "ProcessCompleted", "result", result)
    if stored then return end
    result = errors.from(fault)
  end
  if result.traceback and not result.reported then
    p.app:say("warn", ("process %s %s: %s%s"):format(class.name, p.id, result.message,
      result.traceback))
  end
  fail(p, result)
end

--- The engine itself failed in this process: it stays in the journal as it is.
---@param failure catga.Error|string
function Instance:crashed(failure)
  failure = errors.from(failure)
  self.app:say("error", ("process %s stopped: %s%s"):format(self.id, tostring(failure),
    failure.traceback or ""))
  forget(self)
  self:settle("stopped", nil, failure)
end

local function launch(p)
  p.task = tasks.spawn(p.app, run_body, p)
end

local function start_head(engine, class)
  local head = class.start_head
  if not head or class.start_code ~= engine.app.registry.hash then
    class.start_code = engine.app.registry.hash
    head = ('"name":%s,"run":1,"engine":%d,"code":"%s",'):format(journal.json.encode(class.name),
      journal.ENGINE, class.start_code or "")
    class.start_head = head
  end
  return head
end

-- An id that exists already: the same run when the input is the same, else a conflict.
local function started_before(engine, class, id, stream, input)
  local app = engine.app
  local records, err = app.store:read(stream, 0, 1)
  if not records then return nil, err end
  local first = records[1].data
  local before = app.store:encode(first.input, "input")
  local now, fault = app.store:encode(input, "input")
  if not now then return nil, fault end
  if first.name ~= class.name or before ~= now then
    return nil, errors.new("conflict", ("process %s was started before with %s; the same process id "
      .. "is the same run, so give another id or the same input"):format(id,
      first.name ~= class.name and "another process, " .. first.name or "a different input"))
  end
  local next_position = app.store:positions()
  local ok, failed = app.store:wait(next_position - 1) -- It may not be durable yet.
  if not ok then return nil, failed end
  return id
end

local function prepare(engine, name, input)
  local app = engine.app
  local class = app.registry.processes[name]
  if not class then return nil, nil, nil, app.registry:unknown("process", name) end
  if app.stopping then
    return nil, nil, nil, errors.new("closed", "the app is stopping; start it again later",
      { retryable = true })
  end
  local id, err = process_id(class, input, app)
  if not id then return nil, nil, nil, err end
  local stream = app.store:stream(journal.PREFIX .. id, true)
  if not stream then
    return nil, nil, nil, errors.new("invalid", "process id " .. id .. " is too long")
  end
  return class, id, stream
end

-- The conversation that a process belongs to, when a message started it.
local function correlation_tail(task)
  local ctx = task.ctx
  return ctx and (',"correlation_id":' .. journal.json.encode(ctx.correlation_id)) or nil
end

-- Inside a unit of work the start is one more staged record.
local function stage_start(engine, task, class, id, stream, input)
  local app = engine.app
  local json, err = app.store:encode(input, "input")
  if not json then return nil, err end
  local unit = unit_of(task)
  if unit:staged_count(stream) > 0 then return id end
  local p = new_instance(engine, class, id, stream)
  p.input = nil
  if input ~= nil then p.input = app.json.decode(json) end
  p.now = app.clock:now()
  forget(p) -- It is known once the unit has committed.
  unit.ops[unit.n + 1] = { stream = stream, expected = -2, type = "ProcessStarted",
    data = ("{%s\"%s\":%s%s}"):format(start_head(engine, class), input == nil and "nil" or "input",
      input == nil and "true" or json, correlation_tail(task) or ""),
    flags = 1 + journal.OPENS, value = input }
  unit.n = unit.n + 1
  unit:on_commit(function()
    engine.active[id] = p
    engine.active_count = engine.active_count + 1
    launch(p)
  end)
  return id
end

local function journal_start(engine, task, class, stream, input)
  local app = engine.app
  local ok, value, time = app.store:journal(stream, "ProcessStarted", journal.OPENS,
    start_head(engine, class), "input", input, correlation_tail(task))
  if ok or not journal.is_behind(value) then return ok, value, time end
  app.clock:sleep(1)
  return journal_start(engine, task, class, stream, input)
end

--- Starts a process; durable when it returns (or staged in the open unit). May yield.
---@param name string
---@param input any
---@return string? id
---@return catga.Error? err
---@return catga.Instance? instance  when it was started here
function Engine:start(name, input)
  local class, id, stream, err = prepare(self, name, input)
  if not class then return nil, err end
  local app = self.app
  local task = state[1]
  if app.store:count(stream) > 0 then return started_before(self, class, id, stream, input) end
  if task.in_unit or task.limit then
    return stage_start(self, task, class, id, stream, input)
  end

  local p = new_instance(self, class, id, stream)
  local ok, value, time = journal_start(self, task, class, stream, input)
  if not ok then
    forget(p)
    p:settle("failed", nil, value)
    return nil, value
  end
  if task.ctx then p.correlation_id = task.ctx.correlation_id end
  p.input, p.now = value, time
  launch(p)
  return id, nil, p
end

-- The outcome of a process that is not in memory, out of its last record.
local function stored_outcome(app, id)
  local stream = app.store:stream(journal.PREFIX .. id)
  local count = stream and app.store:count(stream) or 0
  if count == 0 then return nil end
  local records = app.store:read(stream, count - 1, 1)
  local last = records and records[1]
  if not last then return nil end
  return STATUS_OF[last.type] or "stopped", last.data.result,
    last.data.error and errors.from(last.data.error) or nil, last
end
M.stored_outcome = stored_outcome

--- Waits for the end of a process. May yield.
---@param id string
---@return string? status
---@return any result
---@return catga.Error? err
function Engine:wait(id)
  local p = self.active[id]
  if p then return p:wait() end
  local status, result, err = stored_outcome(self.app, id)
  if err then err.status = status end
  return status, result, err
end

--- Starts a process and waits for its result. May yield.
---@param name string
---@param input any
---@return any result
---@return catga.Error? err  err.status says how it ended
function Engine:run(name, input)
  local task = state[1]
  if task.in_unit or task.limit then
    error(errors.new("would_deadlock", "catga.run in a unit of work waits for a process that starts "
      .. "only when the unit has committed; use catga.start"), 0)
  end
  local id, err, p = self:start(name, input)
  if not id then return nil, err end
  local _, result, failure
  if p then
    _, result, failure = p:wait()
  else
    _, result, failure = self:wait(id)
  end
  return result, failure
end

--- Records that a script no longer matches the journal and lets go of the process.
---@param p catga.Instance
---@param failure catga.Error
function Engine:stop_diverged(p, failure)
  local records = journal.records(self.app, p.stream)
  local last = records and records[#records]
  if not (last and last.type == "ProcessDiverged" and last.data.detail.at == p.diverged.at
    and last.data.detail.asked == p.diverged.asked) then
    journal.must_write(p, "ProcessDiverged", 0, "", "detail", p.diverged)
  end
  self.app:say("error", failure.message)
  forget(p)
  p:settle("diverged", nil, failure)
end

--- Undoes a cancelled process in a task of its own; its body never runs again.
---@param p catga.Instance
function Engine:undo_cancelled(p)
  p.task = tasks.spawn(self.app, function()
    state[1].process = p
    p.halt = nil
    journal.must_write(p, "ProcessCancelRequested", 0, "", "error", errors.stored(p.cancelled))
    fail(p, p.cancelled, true)
  end)
end

--- Cancels a process: the body is abandoned as soon as no attempt runs, what was done is undone.
--- May yield.
---@param id string
---@return boolean? ok
---@return catga.Error? err
function Engine:cancel(id)
  local p = self.active[id]
  if not p then return nil, errors.new("not_found", "no process " .. id .. " is running") end
  if not p.compensating and not p.cancelled then
    p.cancelled, p.halt = errors.new("cancelled", "process " .. id .. " was cancelled"), true
    p.special = true
    if not p.task.limit and native_task.drop(p.task) then self:undo_cancelled(p) end
  end
  p:wait()
  return true
end

local function recover_one(engine, stream)
  local app = engine.app
  local records, err = journal.records(app, stream)
  if not records then error(err, 0) end
  local first = records[1].data
  local id = app.store:name(stream):sub(#journal.PREFIX + 1)
  local class = app.registry.processes[first.name]
  if not class then
    app:say("error", ("process %s waits for its script: no process is called %s in this app")
      :format(id, tostring(first.name)))
    return
  end
  local p = new_instance(engine, class, id, stream)
  if first.run ~= 1 then p.run = first.run end
  p.input, p.now = first.input, records[1].time
  p.correlation_id = first.correlation_id
  local history = journal.history(records)
  p.history = history[1] and history or nil
  p.doubt, p.special = history.last + 1, true
  local failure, cancelled
  for _, record in ipairs(records) do
    if record.type == "ProcessCancelRequested" then
      failure, cancelled = errors.from(record.data.error), true
    elseif record.type == "ProcessCompensationStarted" then
      failure = errors.from(record.data.error)
      p.compensating = true
    end
  end
  if not failure then return launch(p), p end
  p.task = tasks.spawn(app, function()
    state[1].process = p
    fail(p, failure, cancelled)
  end)
  return nil, p
end

--- Takes up all unfinished processes: their bodies replay. May yield.
---@return integer count
function Engine:recover()
  local streams = self.app.store:unfinished()
  for i, stream in ipairs(streams) do
    recover_one(self, stream)
    if i % RECOVERY_AT_ONCE == 0 then native_task.yield() end
  end
  return #streams
end

return M
