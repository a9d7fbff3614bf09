--- Shadows: the replay of a recorded process that only looks. A shadow is an instance that the
--- engine does not know; its body runs over the journal as it is and stops where something new
--- would happen. It writes nothing, calls no handler and leaves no timer.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local journal = require "catga.process.journal"
local floors = require "catga.process.floor"
local recovery = require "catga.process.recovery"
local Instance = require "catga.process.instance"
local updates = require "catga.lazy".module "catga.process.updates"
local raw = require "catga.sandbox".raw

local M = {}

local WAIT_MS = 60000 -- How long a replay may take that other tasks hold up.

--- What a shadow has come to.
---@class catga.Shadow
---@field ended { ok: boolean, result: any }?  the body has come to its end
---@field last table    last record of the journal
---@field count integer  of its records

--- Where a strand of a shadow has stopped.
---@class catga.ShadowStop
---@field key integer|string  number of the operation
---@field asked string        its kind and name
---@field at string           file:line

-- Is the strand at rest: stopped, or waiting for branches that are?
local function is_at_rest(p, s)
  if s.stopped then return true end
  for b in raw.pairs(p.branches or {}) do
    if b.parent == s and b.group.kind ~= "update" then return true end
  end
  return false
end

--- A strand of a shadow has stopped or ended: when that was the last one that could go on, the
--- replay is done.
---@param p catga.Instance
function M.check(p)
  if p.status or not is_at_rest(p, p) or p.floor and p.floor:is_replaying() then return end
  for b in raw.pairs(p.branches or {}) do
    if not is_at_rest(p, b) then return end
  end
  p:settle("replayed")
end

local function rest(p)
  M.check(p)
  while true do native_task.park() end -- Its stack is looked at, then it is dropped.
end

--- A strand of a shadow is where something new would happen. Does not return.
---@param s catga.Instance
---@param asked string                 kind and name of the operation
---@param key (integer|string)?        its number
function M.stop(s, asked, key)
  s.stopped = { asked = asked, key = key or s.key or s.op, at = journal.body_place(s) }
  rest(s.root or s)
end

local function run(p)
  local task = state[1]
  task.process, task.flow = p, true
  local ok, result, err = xpcall(p.class.face.execute, errors.catch, p.class.self, p.input)
  task.flow = nil
  journal.check_end(p, "the end of execute")
  if ok and result == nil and err ~= nil then ok, result = false, errors.from(err) end
  p.shadow.ended, p.stopped = { ok = ok, result = result }, true
  if p.floor then p.floor:leave(p) end
  if p.updates then updates.end_all(p, not ok) end
  rest(p)
end

-- Records that a replay goes through: a loop's journal is read from its last rounds on.
local function length_of(app, stream, count, max)
  local carrier = count > max and journal.find_carrier(app, stream, count)
  return carrier and count - carrier.version or count
end

-- The instance of a shadow, ready to run; raises what is wrong with the journal.
local function make(app, id, stream)
  local count, max = app.store:count(stream), app.settings.process_replay_max
  if length_of(app, stream, count, max) > max then
    error(errors.new("limit", ("the journal of process %s has %d records; process_replay_max "
      .. "allows %d for a replay that only looks"):format(id, count, max)), 0)
  end
  local found = recovery.read(app, stream)
  local p = setmetatable({ app = app, class = found.class, id = id, stream = stream, op = 0,
    nth = 0, task = false, waiter = false, status = false }, Instance)
  for field, value in raw.pairs(found.fields) do p[field] = value end
  p.doubt, p.paused, p.timeout_at, p.special = nil, nil, nil, true
  p.shadow = { count = count, last = assert(journal.read(app, stream, count - 1)) }
  if found.fields.order then p.floor = floors.new(p, found.fields.order) end
  if p.update_entries then updates.recover(p) end
  return p
end

-- Waits until the shadow has come to rest, then calls fn with it; then it is gone.
local function look(p, fn)
  local clock = p.app.clock
  p.task = tasks.spawn(p.app, run, p)
  local limit = clock:after(WAIT_MS, function()
    if p.status then return end
    p:settle("stopped", nil, errors.new("timeout", ("the replay of process %s took longer than %d "
      .. "ms"):format(p.id, WAIT_MS), { retryable = true }))
  end)
  local function finish(ok, ...)
    clock:cancel(limit)
    p.app.engine:drop_strands(p)
    if not ok then error((...), 0) end
    return ...
  end
  return finish(xpcall(function()
    local status, _, failure = p:wait()
    return fn(p, status, failure)
  end, errors.catch))
end

--- Replays the journal of a process that is there, running or not, and calls a function with what
--- came of it. May yield.
---@param app catga.App
---@param id string
---@param stream integer
---@param fn fun(p: catga.Instance, status: string, failure: catga.Error?): any, any  status:
---  "replayed", "diverged", or "stopped" for a fault of its own; what it returns is returned
---@return any ...  nil and an error when the journal cannot be read
function M.with(app, id, stream, fn)
  local ok, p = pcall(make, app, id, stream)
  if not ok then return nil, errors.from(p) end
  return look(p, fn)
end

--- The stream of a process that there is, or was.
---@param app catga.App
---@param id any
---@return integer? stream
---@return catga.Error? err
function M.stream_of(app, id)
  local stream = type(id) == "string" and app.store:stream(journal.PREFIX .. id)
  if stream and app.store:count(stream) > 0 then return stream end
  return nil, errors.new("not_found", "there is no process " .. tostring(id))
end

return M
