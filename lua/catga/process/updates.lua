--- Updates: functions of P.updates that change a running process and give a result. An update is
--- recorded, then its handler runs as a strand of its own, with operations u1.1, u1.2, ... of the
--- first one; its place in the journal is where it runs on replay. A validator refuses before
--- anything is recorded.
---
--- A process whose body has come to its end waits for the updates that run; one that fails ends
--- them at their next operation, as `all` does with its branches.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local outside = require "catga.process.outside"
local queries = require "catga.process.queries"
local branches = require "catga.process.branches"
local shadow = require "catga.process.shadow"
local raw = require "catga.sandbox".raw

local M = {}

local OPEN_MAX = 1000 -- Updates of one process that run at the same time.
local TAKE_UP_MAX = 100 -- How often a process is taken up that leaves memory again at once.

--- One update; of a recovered one, its entry in the history.
---@class catga.Update
---@field name string
---@field value any         until its handler has it
---@field update integer?   its number, once it is accepted
---@field id string?        that who sent it has given
---@field time number?      of the record that accepts it; nil: it is not recorded yet
---@field is_done boolean?  its outcome is recorded
---@field future catga.Future?  its result and error, where somebody waits

--- The updates of a process; also the group that their strands belong to.
---@class catga.Updates
---@field kind "update"
---@field root catga.Instance
---@field parent catga.Instance  the same, as in other groups
---@field count integer     accepted so far
---@field open integer      strands that have not ended
---@field by_id table<string, catga.Update>
---@field pending table<catga.Update, true>  for which somebody waits
---@field is_closed boolean?  no further ones: the body is over
---@field is_over boolean?  the body has failed: they end at their next operation
---@field waiter catga.Task?  the body, at its end
local Updates = {}
Updates.__index = Updates

local function of(p)
  local u = p.updates
  if u then return u end
  u = setmetatable({ kind = "update", root = p, parent = p, count = 0, open = 0, by_id = {},
    pending = {} }, Updates)
  p.updates = u
  return u
end

local function answer(u, update, value, err)
  u.pending[update] = nil
  if update.future then update.future:set(value, err) end
end

local function ended_before(p, update)
  return errors.new("ended", ("process %s ended before update %s was done"):format(p.id,
    update.name))
end

--- A strand has ended: it is done, or the body has failed.
---@param s catga.Branch
function Updates:ended(s)
  local p = self.root
  if p.branches then p.branches[s] = nil end
  self.open = self.open - 1
  if not s.update.is_done then answer(self, s.update, nil, ended_before(p, s.update)) end
  if p.shadow then shadow.check(p) end
  local waiter = self.waiter
  self.waiter = nil
  if waiter then native_task.wake(waiter) end
end

-- Nothing of it is recorded.
local function refuse(s, update, failure)
  local u = s.root.updates
  if update.id then u.by_id[update.id] = nil end
  answer(u, update, nil, errors.from(failure))
  u:ended(s)
  return false
end

-- What its validator says against an update, or nil.
local function objection(p, update)
  local validator = p.class.face.validators[update.name]
  if not validator then return nil end
  local ok, fine, err = queries.call(p, ("validator %s of process %s"):format(update.name,
    p.class.name), validator, update.value)
  if not ok then return fine end
  if fine then return nil end
  return err ~= nil and err or errors.new("update_refused", ("process %s refuses update %s")
    :format(p.id, update.name))
end

-- Records a new update and gives its strand the floor; false: it was refused.
local function accept(s, update)
  local p = s.root
  local u = p.updates
  strands.go_live(s, "update " .. update.name)
  if s.halt then strands.checkpoint(s) end
  local failure = objection(p, update)
  if failure then return refuse(s, update, failure) end
  u.count = u.count + 1
  update.update, s.index, s.prefix = u.count, u.count, ("u%d."):format(u.count)
  local json = journal.json.encode
  local ok, value = pcall(journal.must_write, s, "ProcessUpdateAccepted", 0,
    ('"update":%d,"name":%s,%s'):format(u.count, json(update.name),
      update.id and '"id":' .. json(update.id) .. "," or ""), "value", update.value)
  if not ok then return refuse(s, update, value) end
  update.value, update.time = value, s.now
  p.floor:enter(s)
  return true
end

-- Records what came of it, unless that is recorded.
local function conclude(s, update, ok, value)
  if update.is_done then return end
  local p = s.root
  local what = ("the end of update %d"):format(update.update)
  strands.go_live(s, what)
  if s.halt then strands.checkpoint(s) end
  local head = ('"update":%d,'):format(update.update)
  if ok then
    ok, value = pcall(journal.must_write, s, "ProcessUpdateCompleted", 0, head, "result", value)
  end
  if ok then
    update.is_done = true
    return answer(p.updates, update, value)
  end
  local failure = errors.from(value)
  if failure.traceback and not failure.reported then
    p.app:say("warn", ("process %s %s, update %s: %s%s"):format(p.class.name, p.id, update.name,
      failure.message, failure.traceback))
  end
  local stored = journal.must_write(s, "ProcessUpdateFailed", 0, head, "error",
    journal.storable(s, failure))
  update.is_done = true
  answer(p.updates, update, nil, errors.from(stored))
end

local function run_handler(s, update)
  local p, value = s.root, update.value
  update.value = nil
  local handler = p.class.face.updates[update.name]
  if not handler then
    journal.diverge(s, "u" .. update.update, "update " .. update.name, "no such update")
  end
  local ok, result, err = xpcall(handler, errors.catch, p.class.self, value)
  if s.halt and not s.floor:is_replaying() then strands.checkpoint(s) end
  journal.check_end(s, ("the end of update %d"):format(update.update))
  if ok and result == nil and err ~= nil then ok, result = false, errors.from(err) end
  return ok, result
end

local function run(s, update)
  local task, p = state[1], s.root
  local u, floor = p.updates, p.floor
  task.process, task.flow = s, true
  if update.time then
    floor:begin(s)
  elseif not accept(s, update) then
    return
  end
  if strands.is_over(s) then
    floor:leave(s)
    return u:ended(s)
  end
  local ok, result = run_handler(s, update)
  floor:leave(s)
  conclude(s, update, ok, result)
  u:ended(s)
  task.flow = nil
  if floor:is_replaying() then return strands.check_stuck(s, "nothing more") end
  strands.drop_floor(p)
  if p.napping and not p.floor then p.app.engine:waits(p, p.nap_until or nil) end -- It may leave.
end

-- Begins the strand of an update.
local function begin(p, update)
  local u = p.updates
  local n = update.update or 0
  local s = strands.branch(p, u, n, ("u%d."):format(n))
  s.update, s.doubt = update, false
  if update.time then -- Its next operation may have been attempted before a crash.
    local history = s.history
    s.now = update.time
    s.doubt = not p.shadow and not (history and history.is_asleep)
      and (history and history.last or 0) + 1
  end
  p.branches = p.branches or {}
  p.branches[s] = true
  u.open = u.open + 1
  s.task = tasks.spawn(p.app, run, s, update)
  return s
end

--- Prepares the recorded updates of a process that is about to replay: each begins when its place
--- in the journal has come.
---@param p catga.Instance
function M.recover(p)
  local u = of(p)
  for n, entry in raw.pairs(p.update_entries) do
    u.count = math.max(u.count, n)
    if entry.id then u.by_id[entry.id] = entry end
    entry.begin = function() return begin(p, entry) end
  end
  p.update_entries = nil
end

--- The body is over: waits for the updates that run, or are recorded behind it. May yield.
---@param p catga.Instance
---@param has_failed boolean  they end at their next operation
function M.end_all(p, has_failed)
  local u, floor = p.updates, p.floor
  u.is_closed = true
  if has_failed then u.is_over = true end
  if not floor then return end
  floor:leave(p)
  if has_failed and p.branches then branches.poke_all(p) end
  if p.shadow then shadow.check(p) end
  while u.open > 0 or floor:is_replaying() do
    strands.check_stuck(p, "the end of execute")
    u.waiter = state[1]
    native_task.park()
  end
  if p.halt then strands.checkpoint(p) end
end

--- The process is over, or is let go of: who waits for an update gets an error.
---@param p catga.Instance
---@param failure catga.Error?
function M.let_go(p, failure)
  local u = p.updates
  u.is_closed = true
  local list = {}
  for update in raw.pairs(u.pending) do list[#list + 1] = update end
  local is_stopped = p.status == "stopped" or p.status == "diverged"
  for _, update in ipairs(list) do
    answer(u, update, nil, is_stopped and failure or ended_before(p, update))
  end
end

-- The outcome of an update by the id that was given to it, out of the journal: found, value, error.
local function outcome_of(app, id, stream, update_id)
  local records, err = journal.records(app, stream)
  if not records then return true, nil, err end
  local n, name
  for _, record in ipairs(records) do
    local data = record.data
    if record.type == "ProcessUpdateAccepted" and data.id == update_id then
      n, name = data.update, data.name
    elseif n and record.type == "ProcessUpdateCompleted" and data.update == n then
      return true, data.result
    elseif n and record.type == "ProcessUpdateFailed" and data.update == n then
      return true, nil, errors.from(data.error)
    end
  end
  if n then return true, nil, ended_before({ id = id }, { name = name }) end
  return false
end

-- Waits for the outcome of an update that is known.
local function wait_for(u, update)
  update.future = update.future or tasks.future()
  u.pending[update] = true
  return update.future:wait()
end

-- An update whose id is known: what it came to, as soon as it has.
local function again(p, update, name)
  if update.name ~= name then
    return nil, errors.new("conflict", ("update id %s of process %s was given to update %s "
      .. "before"):format(update.id, p.id, update.name))
  end
  local value, err
  if update.is_done then
    local _
    _, value, err = outcome_of(p.app, p.id, p.stream, update.id)
    return value, err
  end
  value, err = wait_for(p.updates, update)
  if err ~= nil then return nil, err end
  local ok, copy = queries.copy(p.app, value, "result") -- Who sent it first has the other one.
  return ok and copy or value
end

local function busy(id)
  return errors.new("busy", ("process %s is still being recovered"):format(id),
    { retryable = true })
end

-- Why a process takes no update, or nil.
local function closed(p)
  if p.status == "stopped" or p.status == "diverged" then return p.failure end
  if p.status or p.ending or p.cancelled or p.updates and p.updates.is_closed then
    return errors.new("ended", ("process %s has come to its end and takes no more updates")
      :format(p.id))
  end
  if outside.is_replaying(p) then return busy(p.id) end
  if p.updates and p.updates.open >= OPEN_MAX then
    return errors.new("limit", ("%d updates of process %s run already"):format(OPEN_MAX, p.id),
      { retryable = true })
  end
end

local function send(p, name, value, id)
  local err = closed(p)
  if err then return nil, err end
  if not p.class.face.updates[name] then return nil, queries.unknown(p, "update", name) end
  local ok, given = queries.copy(p.app, value, "value")
  if not ok then return nil, given end
  local u = of(p)
  local update = { name = name, value = given, id = id }
  if id then u.by_id[id] = update end
  strands.open_floor(p)
  begin(p, update)
  return wait_for(u, update)
end

-- The process in memory, its body where it was: it may leave again meanwhile, then once more.
local function take_up(engine, id)
  for _ = 1, TAKE_UP_MAX do
    local found, p = outside.find(engine, id)
    if not found or not p then return found, p end
    outside.await_rest(p)
    if p.status or engine.active[id] == p then return found, p end
  end
end

--- Sends an update to a process and waits for what comes of it. It is no part of a unit of work:
--- what it does stays when the caller fails; give it an id, so that it is done once. May yield.
---@param engine catga.Engine
---@param id string      of the process
---@param name string    of the update
---@param value any
---@param opts { id: string? }?  the same id again is the same update and gives the same outcome
---@return any result
---@return catga.Error? err  "not_found", "unknown_update", "ended"; what the validator or the
---  update returned or raised
function M.update(engine, id, name, value, opts)
  local app = engine.app
  local update_id = opts and opts.id
  if update_id ~= nil then
    local ok, err = outside.check_name("the id of an update", update_id)
    if not ok then return nil, err end
  end
  local stream, err = shadow.stream_of(app, id)
  if not stream then return nil, err end
  if app.stopping then return nil, errors.new("closed", "the app is stopping") end
  local found, p = take_up(engine, id)
  if found and not p then
    return nil, errors.new("stopped", "process " .. id .. " does not run")
  end
  local known = update_id and found and p.updates and p.updates.by_id[update_id]
  if known then return again(p, known, name) end
  if update_id and (not found or p.status or p.ending) then
    local is_known, result, failure = outcome_of(app, id, stream, update_id)
    if is_known then return result, failure end
  end
  if not found then return nil, p or busy(id) end
  return send(p, name, value, update_id)
end

return M
