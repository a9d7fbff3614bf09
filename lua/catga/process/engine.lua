--- The process engine: starting, running, undoing, finishing and recovering processes.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local bit = require "bit"
local flags = require "catga.flags"
local is_behind = require "catga.commit".is_behind
local unit_of = require "catga.unit".of
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local floors = require "catga.process.floor"
local raw = require "catga.sandbox".raw
local undo = require "catga.process.undo"
local random = require "catga.process.random"
local recovery = require "catga.process.recovery"
local process_id = require "catga.process.id"

local M = {}

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
---@field waiting boolean?     its body waits for a time, or for something from outside
---@field cancelled catga.Error?
---@field in_doubt table?      the step that may have been attempted before a crash, as it is undone
---@field doubts table[]?      those of strands that a cancel has ended
---@field prefix string?       of a branch: of the numbers of its operations
---@field root catga.Instance? of a branch: the process
---@field branches table<catga.Branch, true>?  that have not ended
---@field floor catga.Floor?   while there are branches
---@field branch_histories table<string, table>?  while it replays, by prefix
---@field groups table<integer|string, true>?  operations that had branches, while it replays
---@field is_gone boolean?     the body's own strand was ended by a cancel
---@field ending boolean?      its body is over
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
    generator = random.new(hash48(first[1].id .. (self.prefix or "")))
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
  if not native_task.can_park() then entry[1] = nil end -- Then park raises.
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
  return setmetatable({ app = app, active = {}, active_count = 0 }, Engine)
end

-- An instance that is in memory from now on; nobody else may be active under this id.
local function new_instance(engine, class, id, stream)
  local p = setmetatable({ app = engine.app, class = class, id = id, stream = stream, op = 0,
    now = 0, nth = 0, input = false, task = false, waiter = false, status = false }, Instance)
  engine.active[id] = p
  engine.active_count = engine.active_count + 1
  return p
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
  local result = journal.must_write(p, kind, flags.CLOSES, "", field, value)
  forget(p)
  if kind == "ProcessCompleted" then return p:settle("completed", result) end
  p:settle(STATUS_OF[kind], nil, errors.from(result))
end

-- Undoes what was done and ends the process as its error demands.
local function fail(p, failure, cancelled)
  p.ending = true
  if p.app.is_closed then return p.app.engine:let_go(p, failure) end
  local records, err = journal.records(p.app, p.stream)
  if not records then error(err, 0) end
  local list = undo.list(p.class, records)
  local last = cancelled and "ProcessCancelled" or #list > 0 and "ProcessCompensated"
    or p.compensating and "ProcessCompensated" or "ProcessFailed"
  if #list > 0 then
    if not p.compensating then
      journal.must_write(p, "ProcessCompensationStarted", 0, "", "error",
        journal.storable(p, failure))
    end
    p.compensating = true
    local ok, fault = undo.run(p, list)
    if not ok then
      return finish(p, "ProcessCompensationFailed", "error", journal.storable(p, fault))
    end
  end
  finish(p, last, "error", journal.storable(p, failure))
end

local function run_body(p)
  local class = p.class
  local task = state[1]
  task.process, task.flow = p, true
  local ok, result, err = xpcall(class.face.execute, errors.catch, class.self, p.input)
  task.flow = nil
  if p.halt then strands.checkpoint(p) end
  journal.check_end(p, "the end of execute")
  p.ending = true
  if not ok and type(result) ~= "table" then result = errors.from(result) end
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
  if self.app.is_closed then return self.app.engine:let_go(self, failure) end
  self.app:say("error", ("process %s stopped: %s%s"):format(self.id, tostring(failure),
    failure.traceback or ""))
  forget(self)
  self:settle("stopped", nil, failure)
end

--- Lets go of a process that stays unfinished in the journal; who waits for it gets the error.
---@param p catga.Instance
---@param failure catga.Error
function Engine:let_go(p, failure)
  forget(p)
  self:drop_strands(p)
  if p.status then return end
  p:settle("stopped", nil, errors.new(failure.code, failure.message, failure))
end

local function launch(p)
  if p.app.stopping then p.halt, p.special = true, true end
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
  if records[1].type ~= "ProcessStarted" or type(first) ~= "table" then
    return nil, errors.new("damaged", ("the journal of process %s does not begin with its start")
      :format(id))
  end
  local before = app.store:encode(first.input, "input")
  local now, fault = app.store:encode(input, "input")
  if not now then return nil, fault end
  if first.name ~= class.name or before ~= now then
    return nil, errors.new("conflict", ("process %s was started before with %s; the same "
      .. "process id is the same run, so give another id or the same input"):format(id,
      first.name ~= class.name and "another process, " .. tostring(first.name)
        or "a different input"))
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
  local id, err = process_id.of(class, input, app)
  if not id then return nil, nil, nil, err end
  local stream = app.store:stream(journal.PREFIX .. id, true)
  if not stream then
    return nil, nil, nil, errors.new("invalid", "process id " .. id
      .. " is too long, or not UTF-8")
  end
  return class, id, stream
end

-- The conversation that a process belongs to, when a message started it.
local function correlation_tail(task)
  local ctx = task.ctx
  return ctx and (',"correlation_id":' .. journal.json.encode(ctx.correlation_id)) or nil
end

-- What the unit has staged for a stream, or nil.
local function staged_for(unit, stream)
  for i = 1, unit and unit.n or 0 do
    if unit.ops[i].stream == stream then return unit.ops[i] end
  end
end

-- A process whose start a unit of work has committed, as its journal tells.
local function launch_committed(engine, class, id)
  local stream = engine.app.store:stream(journal.PREFIX .. id)
  local records, err = engine.app.store:read(stream, 0, 1)
  if not records then return engine.app:say("error", tostring(err)) end
  if engine.active[id] then return end
  local p = new_instance(engine, class, id, stream)
  local first = records[1]
  p.input, p.now, p.correlation_id = first.data.input, first.time, first.data.correlation_id
  launch(p)
end

-- Inside a unit of work the start is one more staged record.
local function stage_start(engine, task, class, id, stream, input)
  local json, err = engine.app.store:encode(input, "input")
  if not json then return nil, err end
  local unit = unit_of(task)
  local field, value = "input", json
  if input == nil then field, value = "nil", "true" end
  local data = ("{%s\"%s\":%s%s}"):format(start_head(engine, class), field, value,
    correlation_tail(task) or "")
  local staged = staged_for(unit, stream)
  if staged then
    if staged.data == data then return id end
    return nil, errors.new("conflict", ("process %s was started in this unit of work already, with "
      .. "something else"):format(id))
  end
  unit.ops[unit.n + 1] = { stream = stream, name = journal.PREFIX .. id, expected = -2,
    type = "ProcessStarted", data = data, flags = flags.JOURNAL + flags.OPENS, ctx = task.ctx }
  unit.n = unit.n + 1
  unit:on_commit(function() launch_committed(engine, class, id) end)
  return id
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
  local ok, value, time = app.store:journal(stream, "ProcessStarted", flags.OPENS,
    start_head(self, class), "input", input, correlation_tail(task))
  if not ok then
    forget(p)
    p:settle("failed", nil, value)
    if not is_behind(value) then return nil, value end
    app.clock:sleep(1)
    return self:start(name, input) -- Another one may have started it meanwhile.
  end
  if task.ctx then p.correlation_id = task.ctx.correlation_id end
  p.input, p.now = value, time
  launch(p)
  return id, nil, p
end

-- Why a process that is not in memory has not ended.
local function why_unfinished(id, last)
  if last.type == "ProcessDiverged" then
    return "diverged", errors.new("diverged", ("process %s stopped because its script asks for "
      .. "something else than its journal holds; bring back the script"):format(id))
  end
  return "stopped", errors.new("stopped", ("process %s is not finished and does not run: the app "
    .. "stops, or what it said when it stopped tells why"):format(id), { retryable = true })
end

-- The outcome of a process that is not in memory, out of its last record.
local function stored_outcome(app, id, stream)
  local records, err = app.store:read(stream, app.store:count(stream) - 1, 1)
  if not records then return "stopped", nil, err end
  local last = records[1]
  local data = type(last.data) == "table" and last.data or {}
  local status, failure = STATUS_OF[last.type], data.error and errors.from(data.error)
  if not status then status, failure = why_unfinished(id, last) end
  if failure then failure.status = status end
  return status, data.result, failure
end

--- Waits for the end of a process; nil when there is none. May yield.
---@param id string
---@return string? status
---@return any result
---@return catga.Error? err
function Engine:wait(id)
  local app = self.app
  local p = self.active[id]
  if p then return p:wait() end
  local stream = app.store:stream(journal.PREFIX .. id)
  if not stream then return nil end
  if app.store:count(stream) == 0 then
    local unit = state[1].unit
    if not staged_for(unit and unit:refresh(), stream) then return nil end
    error(errors.new("would_deadlock", ("process %s starts only when this unit of work has "
      .. "committed; wait for it afterwards"):format(id)), 0)
  end
  if app.store:is_unfinished(stream) and not app.stopping then
    p = self:take_up(stream)
    if p then return p:wait() end
  end
  return stored_outcome(app, id, stream)
end

--- The app has stopped: who waits for a process gets an error; the processes go on after the next
--- start.
function Engine:stopped()
  local failure = errors.new("closed", "the app was stopped", { retryable = true })
  for _, p in pairs(self.active) do
    if not p.status then p:settle("stopped", nil, failure) end
  end
  self.active, self.active_count = {}, 0
end

--- Starts a process and waits for its result. May yield.
---@param name string
---@param input any
---@return any result
---@return catga.Error? err  err.status says how it ended
function Engine:run(name, input)
  local task = state[1]
  if task.in_unit or task.limit then
    error(errors.new("would_deadlock", "catga.run in a unit of work waits for a process that "
      .. "starts only when the unit has committed; use catga.start"), 0)
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
  self:drop_strands(p)
  forget(p)
  p:settle("diverged", nil, failure)
end

--- The strands of a process: the body's own, then its branches in no order.
---@param p catga.Instance
---@return catga.Instance[]
function M.strands_of(p)
  local list = { p }
  for b in raw.pairs(p.branches or {}) do list[#list + 1] = b end
  return list
end

--- Ends the tasks of a process, but for the running one.
---@param p catga.Instance
function Engine.drop_strands(_, p)
  for _, s in ipairs(M.strands_of(p)) do
    if s.task and s.task ~= state[1] then native_task.drop(s.task) end
  end
  p.branches = nil
end

--- A strand of a cancelled process is no more; with the last one its undo begins.
---@param p catga.Instance
---@param s catga.Instance
function Engine:strand_left(p, s)
  if s == p then p.is_gone = true elseif p.branches then p.branches[s] = nil end
  if s.in_doubt then
    p.doubts = p.doubts or {}
    p.doubts[#p.doubts + 1] = s.in_doubt
  end
  if p.is_gone and not (p.branches and raw.next(p.branches)) then self:undo_cancelled(p) end
end

--- Undoes a cancelled process in a task of its own; its body never runs again.
---@param p catga.Instance
function Engine:undo_cancelled(p)
  p.floor = nil
  p.task = tasks.spawn(self.app, function()
    state[1].process = p
    p.halt, p.ending = nil, true
    journal.must_write(p, "ProcessCancelRequested", 0, "", "error",
      journal.storable(p, p.cancelled), journal.in_doubt(p.doubts or {}))
    fail(p, p.cancelled, true)
  end)
end

-- May a strand of a cancelled process be ended where it stands? While it replays it is not known
-- which step may have been under way, so it goes on to it; an attempt that runs ends first.
local function may_end(s)
  if not s.task or s.task.limit then return false end
  return s.napping or not (s.history or s.floor and s.floor:is_replaying())
end

--- Cancels a process: the body is abandoned as soon as no attempt runs, what was done is undone.
--- May yield.
---@param id string
---@return boolean? ok
---@return catga.Error? err
function Engine:cancel(id)
  local p = self.active[id]
  if not p then return nil, errors.new("not_found", "no process " .. id .. " is running") end
  if not p.ending and not p.cancelled then
    p.cancelled, p.halt = errors.new("cancelled", "process " .. id .. " was cancelled"), true
    p.special = true
    for _, s in ipairs(M.strands_of(p)) do
      if may_end(s) and native_task.drop(s.task) then self:strand_left(p, s) end
    end
  end
  p:wait()
  return true
end

local function recover_one(engine, stream, id)
  local found = recovery.read(engine.app, stream)
  local p = new_instance(engine, found.class, id, stream)
  for field, value in pairs(found.fields) do p[field] = value end
  if found.fields.order and not found.failure then p.floor = floors.new(p, found.fields.order) end
  p.order = nil
  if not found.failure then
    launch(p)
    return p
  end
  p.ending = true
  p.task = tasks.spawn(engine.app, function()
    state[1].process = p
    fail(p, found.failure, found.is_cancelled)
  end)
  return p
end

--- Takes up an unfinished process that is not in memory: its body replays. What is wrong with it is
--- said, and does not concern the others.
---@param stream integer
---@return catga.Instance? instance
function Engine:take_up(stream)
  local name = self.app.store:name(stream)
  if name:sub(1, #journal.PREFIX) ~= journal.PREFIX then return nil end
  local id = name:sub(#journal.PREFIX + 1)
  if self.active[id] then return self.active[id] end
  local ok, p = xpcall(recover_one, errors.catch, self, stream, id)
  if ok then return p end
  self.app:say("error", ("process %s cannot go on: %s"):format(id, tostring(p)))
end

--- Takes up all unfinished processes. May yield.
---@return integer count
function Engine:recover()
  local streams = self.app.store:unfinished()
  local store = self.app.store
  for i, stream in ipairs(streams) do
    if store:is_unfinished(stream) then self:take_up(stream) end -- Or it has ended meanwhile.
    if i % RECOVERY_AT_ONCE == 0 then
      native_task.yield()
      if self.app.stopping then break end
    end
  end
  return #streams
end

return M
