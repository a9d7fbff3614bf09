--- The process engine: starting, running, undoing, finishing and recovering processes.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local flags = require "catga.flags"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local floors = require "catga.process.floor"
local raw = require "catga.sandbox".raw
local undo = require "catga.process.undo"
local recovery = require "catga.process.recovery"
local starting = require "catga.process.start"
local dormants = require "catga.lazy".module "catga.process.dormant"
local Instance = require "catga.process.instance"
local control = require "catga.lazy".module "catga.process.control"
local children = require "catga.lazy".module "catga.process.children"
local mailbox = require "catga.lazy".module "catga.process.mailbox"
local updates = require "catga.lazy".module "catga.process.updates"

local M = {}

local RECOVERY_AT_ONCE = 1000 -- Processes whose replay is under way at the same time.

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

-- Those that wait and are not in memory; made when it is first needed.
local function dormant_of(self)
  local dormant = self.dormant
  if not dormant then
    dormant = dormants.new(self)
    self.dormant = dormant
  end
  return dormant
end

--- The body of a process begins to wait.
---@param p catga.Instance
---@param due number?  Unix ms
function Engine:waits(p, due) dormant_of(self):waits(p, due) end

-- An instance that is in memory from now on; nobody else may be active under this id.
function Engine:new_instance(class, id, stream)
  local p = setmetatable({ app = self.app, class = class, id = id, stream = stream, op = 0,
    now = 0, nth = 0, input = false, task = false, waiter = false, status = false }, Instance)
  self.active[id] = p
  self.active_count = self.active_count + 1
  return p
end

--- It is not in memory any more.
---@param p catga.Instance
function Engine:forget(p)
  if p.deadline_timer then
    p.app.clock:cancel(p.deadline_timer)
    p.deadline_timer = nil
  end
  if self.active[p.id] == p then
    self.active[p.id] = nil
    self.active_count = self.active_count - 1
  end
end

local STATUS_OF = { ProcessCompleted = "completed", ProcessCompensated = "compensated",
  ProcessFailed = "failed", ProcessCompensationFailed = "compensation_failed",
  ProcessCancelled = "cancelled", ProcessKilled = "killed" }
M.STATUS_OF = STATUS_OF

--- A process that may wait for what has happened looks again, if it has not ended.
---@param id string
function Engine:tell(id)
  local p = self:find(id)
  if p then mailbox.announce(p) end
end

--- A process has ended: forks of its parent, which may wait for it as well, look again.
---@param id string
function Engine:tell_forks(id)
  local forks = self.forks_waiting and self.forks_waiting[id]
  if not forks then return end
  self.forks_waiting[id] = nil
  for fork in raw.pairs(forks) do self:tell(fork) end
end

local function finish(p, kind, field, value)
  if p.children then children.end_all(p) end
  local tail = p.tags_changed and ',"tags":' .. journal.json.encode(p.tags) or nil
  local result = journal.must_write(p, kind, flags.CLOSES, "", field, value, tail)
  p.app.engine:forget(p)
  if p.parent_id then p.app.engine:tell(p.parent_id) end
  p.app.engine:tell_forks(p.id)
  if kind == "ProcessCompleted" then return p:settle("completed", result) end
  p:settle(STATUS_OF[kind], nil, errors.from(result))
end

-- Undoes what was done and ends the process as its error demands.
local function fail(p, failure, cancelled)
  p.ending = true
  if p.app.is_closed then return p.app.engine:let_go(p, failure) end
  if p.children then children.end_all(p) end
  local records, err = journal.records(p.app, p.stream)
  if not records then error(err, 0) end
  local list = undo.list(p.class, records)
  local last = cancelled and "ProcessCancelled" or #list > 0 and "ProcessCompensated"
    or p.compensating and "ProcessCompensated" or "ProcessFailed"
  if #list > 0 then
    if not p.compensating then
      journal.must_write(p, "ProcessCompensationStarted", 0, "", "error",
        journal.storable(p, failure), undo.note(p, failure))
    end
    p.compensating = true
    local ok, fault = undo.run(p, list, failure.failed_step)
    if not ok then
      return finish(p, "ProcessCompensationFailed", "error", journal.storable(p, fault))
    end
  end
  finish(p, last, "error", journal.storable(p, failure))
end

M.fail = fail

local function run_body(p)
  local class = p.class
  local task = state[1]
  task.process, task.flow = p, true
  local ok, result, err = xpcall(class.face.execute, errors.catch, class.self, p.input)
  task.flow = nil
  if p.halt then strands.checkpoint(p) end
  journal.check_end(p, "the end of execute")
  if p.updates then updates.end_all(p, not ok or result == nil and err ~= nil) end
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

--- Lets go of a process that stays unfinished in the journal; who waits for it gets the error.
---@param p catga.Instance
---@param failure catga.Error
function Engine:let_go(p, failure)
  self:forget(p)
  self:drop_strands(p)
  if p.status then return end
  p:settle("stopped", nil, errors.new(failure.code, failure.message, failure))
end

--- Begins, or goes on with, the body of a process.
---@param p catga.Instance
function Engine.launch(_, p)
  if p.app.stopping then p.halt, p.special = true, true end
  if p.timeout_at then control.arm_timeout(p) end
  p.task = tasks.spawn(p.app, run_body, p)
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

-- The outcome of a process that is not in memory, out of its last record, which must be durable.
local function stored_outcome(app, id, stream)
  local last, err = journal.read(app, stream, app.store:count(stream) - 1)
  if not last then return "stopped", nil, err end
  local ok, failed = app.store:wait(last.position)
  if not ok then return "stopped", nil, failed end
  local data = type(last.data) == "table" and last.data or {}
  local status, failure = STATUS_OF[last.type], data.error and errors.from(data.error)
  if not status then status, failure = why_unfinished(id, last) end
  if failure then failure.status = status end
  return status, data.result, failure
end

--- How a process that has ended did so: status, result, error.
---@param id string
---@param stream integer
function Engine:outcome(id, stream) return stored_outcome(self.app, id, stream) end

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
    if not starting.staged_for(unit and unit:refresh(), stream) then return nil end
    error(errors.new("would_deadlock", ("process %s starts only when this unit of work has "
      .. "committed; wait for it afterwards"):format(id)), 0)
  end
  if app.store:is_unfinished(stream) and not app.stopping then
    local failure = app.store:failure()
    if failure then return "stopped", nil, failure end -- A step could have effects, and no record.
    p = self:take_up(stream)
    if p then return p:wait() end
  end
  return stored_outcome(app, id, stream)
end

--- The app has stopped: who waits for a process gets an error; the processes go on after the next
--- start.
function Engine:stopped()
  if self.dormant then self.dormant:stop() end
  local failure = errors.new("closed", "the app was stopped", { retryable = true })
  for _, p in pairs(self.active) do
    if not p.status then p:settle("stopped", nil, failure) end
  end
  self.active, self.active_count = {}, 0
end

--- Starts a process; see lua/catga/process/start.lua. May yield.
---@param name string
---@param input any
---@param opts catga.StartOptions?
---@return string? id
---@return catga.Error? err
---@return catga.Instance? instance  when it was started here
function Engine:start(name, input, opts) return starting.start(self, name, input, opts) end

--- Starts a process and waits for its result. May yield.
---@param name string
---@param input any
---@param opts catga.StartOptions?
---@return any result
---@return catga.Error? err  err.status says how it ended
function Engine:run(name, input, opts)
  local task = state[1]
  if task.in_unit or task.limit then
    error(errors.new("would_deadlock", "catga.run in a unit of work waits for a process that "
      .. "starts only when the unit has committed; use catga.start"), 0)
  end
  local id, err, p = self:start(name, input, opts)
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
  if p.shadow then return p:settle("diverged", nil, failure) end
  local records = journal.records(self.app, p.stream)
  local last = records and records[#records]
  if not (last and last.type == "ProcessDiverged" and last.data.detail.at == p.diverged.at
    and last.data.detail.asked == p.diverged.asked) then
    journal.must_write(p, "ProcessDiverged", 0, "", "detail", p.diverged)
  end
  self.app:say("error", failure.message)
  self:drop_strands(p)
  self:forget(p)
  p:settle("diverged", nil, failure)
end

--- The strands of a process: the body's own, then its branches in the order of their making.
---@param p catga.Instance
---@return catga.Instance[]
function M.strands_of(p)
  local list = strands.branches_of(p)
  table.insert(list, 1, p)
  return list
end

--- Do all strands of a process wait for a time, or for something from outside?
---@param p catga.Instance
---@return boolean
function M.is_waiting(p)
  for _, s in ipairs(M.strands_of(p)) do
    if not s.waiting and not M.has_children(p, s) then return false end
  end
  return true
end

--- Has a strand branches of its own?
---@param p catga.Instance
---@param s catga.Instance
---@return boolean
function M.has_children(p, s)
  for b in raw.pairs(p.branches or {}) do
    if b.parent == s and b.group.kind ~= "update" then return true end
  end
  return false
end

--- Ends the tasks of a process, but for the running one.
---@param p catga.Instance
function Engine.drop_strands(_, p)
  for _, s in ipairs(M.strands_of(p)) do
    strands.release(s)
    if s.task and s.task ~= state[1] then tasks.drop(s.task) end
  end
  p.branches = nil
end

--- A strand of a process that is being ended is no more; with the last one its undo begins.
---@param p catga.Instance
---@param s catga.Instance
function Engine.strand_left(_, p, s)
  strands.release(s)
  if s == p then p.is_gone = true elseif p.branches then p.branches[s] = nil end
  if s.in_doubt then
    p.doubts = p.doubts or {}
    p.doubts[#p.doubts + 1] = s.in_doubt
  end
  if p.is_gone and not (p.branches and raw.next(p.branches)) then control.undo_cancelled(p) end
end

local function recover_one(engine, stream, id)
  local found = recovery.read(engine.app, stream)
  local p = engine:new_instance(found.class, id, stream)
  for field, value in pairs(found.fields) do p[field] = value end
  if found.fields.order and not found.failure then p.floor = floors.new(p, found.fields.order) end
  p.order = nil
  if p.update_entries then updates.recover(p) end
  if not found.failure then
    engine:launch(p)
    return p
  end
  p.ending = true
  p.task = tasks.spawn(engine.app, function()
    state[1].process = p
    if p.children then children.end_all(p) end
    fail(p, found.failure, found.is_cancelled)
  end)
  return p
end

--- An unfinished process by its id, taken up when it is not in memory; nil: there is none.
---@param id string
---@return catga.Instance?
function Engine:find(id)
  local p = self.active[id]
  if p then return p end
  local store = self.app.store
  local stream = store:stream(journal.PREFIX .. id)
  if not stream or not store:is_unfinished(stream) or self.app.stopping then return nil end
  return self:take_up(stream)
end

--- Cancels a process: the body is abandoned as soon as no attempt runs, its children are cancelled,
--- what was done is undone. May yield.
---@param id string
---@return boolean? ok
---@return catga.Error? err
function Engine:cancel(id) return control.cancel(self, id) end

--- Takes up an unfinished process that is not in memory: its body replays. What is wrong with it is
--- said, and does not concern the others.
---@param stream integer
---@return catga.Instance? instance
function Engine:take_up(stream)
  if self.app.store:failure() then return nil end -- A step could have effects, and no record.
  local name = self.app.store:name(stream)
  if name:sub(1, #journal.PREFIX) ~= journal.PREFIX then return nil end
  local id = name:sub(#journal.PREFIX + 1)
  if self.active[id] then return self.active[id] end
  local ok, p = xpcall(recover_one, errors.catch, self, stream, id)
  if ok then return p end
  self.app:say("error", ("process %s cannot go on: %s"):format(id, tostring(p)))
end

-- Takes up the processes of some streams; those that only wait are left out when there are many.
local function take_up_all(self, streams, from)
  local store, app = self.app.store, self.app
  local dormant = #streams > app.settings.processes_cached_max and dormant_of(self)
  for i = from, #streams do
    local stream = streams[i]
    -- Or it has ended meanwhile, or was asked for.
    if store:is_unfinished(stream) and not (dormant and dormant:leave_out(stream)) then
      self:take_up(stream)
    end
    if i % RECOVERY_AT_ONCE == 0 then
      if dormant then dormant:ready() end
      native_task.yield()
      if app.stopping then return end
    end
  end
  if dormant then dormant:ready() end
end

--- Takes up all unfinished processes; when there are many, in a task of its own: whatever is asked
--- for meanwhile is taken up at once. May yield.
---@return integer count
function Engine:recover()
  local streams = self.app.store:unfinished(journal.PREFIX)
  if #streams <= RECOVERY_AT_ONCE then
    take_up_all(self, streams, 1)
  else
    tasks.spawn(self.app, function() take_up_all(self, streams, 1) end)
  end
  return #streams
end

return M
