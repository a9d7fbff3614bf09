--- Ending, holding and mending processes from outside: cancel, timeout, kill, pause, resume, retry,
--- skip.
local errors = require "catga.error"
local state = require "catga.state"
local tasks = require "catga.task"
local flags = require "catga.flags"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local mailbox = require "catga.process.mailbox"
local children = require "catga.process.children"
local outside = require "catga.process.outside"

local M = {}

local LOOK_MS = 60000 -- How often a timeout looks whether the clock has jumped.

local function engine_module() return require "catga.process.engine" end

--- Undoes a process that is being ended, in a task of its own; its body never runs again.
---@param p catga.Instance
function M.undo_cancelled(p)
  p.floor, p.napping = nil, false
  p.task = tasks.spawn(p.app, function()
    state[1].process = p
    p.halt, p.ending = nil, true
    journal.must_write(p, p.has_timed_out and "ProcessTimedOut" or "ProcessCancelRequested", 0, "",
      "error", journal.storable(p, p.cancelled), journal.in_doubt(p.doubts or {}))
    if p.children then children.end_all(p) end
    engine_module().fail(p, p.cancelled, not p.has_timed_out)
  end)
end

-- May a strand of a process that is being ended be ended where it stands? While it replays it is
-- not known which step may have been under way, so it goes on to it; an attempt that runs ends
-- first.
local function may_end(s)
  if not s.task or s.task.limit then return false end
  return s.napping or not (s.history or s.floor and s.floor:is_replaying())
end

local function abandon_body(p, failure)
  p.cancelled, p.halt, p.special, p.paused = failure, true, true, nil
  for _, s in ipairs(engine_module().strands_of(p)) do
    if may_end(s) and tasks.drop(s.task) then p.app.engine:strand_left(p, s) end
  end
end

-- What is told of a process that is ended by hand.
local function text_of_end(id, how, opts)
  return ("process %s was %s%s"):format(id, how,
    opts and opts.reason and ": " .. tostring(opts.reason) or "")
end

--- Cancels a process and waits until it has ended. May yield.
---@param engine catga.Engine
---@param id string
---@param opts { reason: string? }?
---@return boolean? ok
---@return catga.Error? err  "not_found", "ended"
function M.cancel(engine, id, opts)
  local stream, p = outside.find(engine, id)
  if not stream then return nil, p end
  if not p then
    return nil, errors.new("stopped", ("process %s does not run and cannot be undone; what it said "
      .. "when it stopped tells why. `kill` ends it without undoing anything"):format(id))
  end
  if not p.ending and not p.cancelled then
    abandon_body(p, errors.new("cancelled", text_of_end(id, "cancelled", opts)))
  end
  p:wait()
  return true
end

--- Ends a process when its time has come; looks again while it has not.
---@param p catga.Instance
function M.arm_timeout(p)
  local ms = p.timeout_at - p.app.clock:now()
  p.deadline_timer = p.app.clock:after(math.max(0, math.min(ms, LOOK_MS)), function()
    p.deadline_timer = nil
    if p.status or p.ending or p.cancelled then return end
    if p.app.clock:now() < p.timeout_at then return M.arm_timeout(p) end
    p.has_timed_out = true
    abandon_body(p, errors.new("timeout", ("process %s has used up its time"):format(p.id)))
  end)
end

-- Appends a record to a journal from outside of its process and waits until it is durable.
local function append(app, stream, id, type, flag, data)
  local store = app.store
  local json, err = store:encode(data, type)
  if not json then return nil, err end
  store:begin()
  local version
  version, err = store:add(stream, -1, type, json, nil, flags.JOURNAL + flag)
  if not version then
    store:rollback()
    return nil, err
  end
  local first, after = store:commit()
  if not first then return nil, after end
  local p = app.engine.active[id]
  if p and flag == flags.CLOSES then
    app.engine:forget(p)
    app.engine:drop_strands(p)
    if p.task and p.task ~= state[1] then tasks.drop(p.task) end
  end
  local ok, fault = store:wait(after - 1)
  if not ok then return nil, fault end
  return true
end

-- Control is no part of a unit of work: it must hold at once.
local function refuse_in_unit(what)
  local task = state[1]
  if task.in_unit or task.limit then
    error(errors.new("would_deadlock", what .. " in a handler or step would have to wait for the "
      .. "commit that it is part of; do it outside, or in a task of catga.spawn"), 0)
  end
end

--- Ends a process where it stands; nothing is undone. Its children are killed too, unless they are
--- abandoned. May yield.
---@param engine catga.Engine
---@param id string
---@param opts { reason: string? }?
---@return boolean? ok
---@return catga.Error? err
function M.kill(engine, id, opts)
  refuse_in_unit("catga.processes.kill")
  local app = engine.app
  local stream = app.store:stream(journal.PREFIX .. tostring(id))
  if not stream or app.store:count(stream) == 0 then
    return nil, errors.new("not_found", "there is no process " .. tostring(id))
  end
  if not app.store:is_unfinished(stream) then
    return nil, errors.new("ended", ("process %s has ended"):format(id))
  end
  local p = engine.active[id]
  local failure = errors.new("killed", text_of_end(id, "killed", opts))
  local list = children.unfinished(app, stream, p)
  local ok, err = append(app, stream, id, "ProcessKilled", flags.CLOSES,
    { error = errors.stored(failure) })
  if not ok then return nil, err end
  if p and not p.status then p:settle("killed", nil, failure) end
  local first = journal.read(app, stream, 0)
  local parent = first and type(first.data) == "table" and first.data.parent
  if parent then engine:tell(parent.id) end
  engine:tell_forks(id)
  for _, child in ipairs(list) do M.kill(engine, child, opts) end
  return true
end

local function hold(engine, id, type, is_paused, opts)
  refuse_in_unit("catga.processes." .. (is_paused and "pause" or "resume"))
  local stream, p = outside.find(engine, id)
  if not stream then return nil, p end
  if not p then return nil, errors.new("stopped", "process " .. id .. " does not run") end
  if (p.paused or false) == is_paused then return true end
  p.paused = is_paused or nil
  p.special = true
  local ok, err = append(engine.app, stream, id, type, 0, { reason = opts and opts.reason })
  if not ok then return nil, err end
  if not is_paused then mailbox.announce(p) end
  return true
end

--- Holds a process: attempts that run end, no operation begins until it is resumed. May yield.
---@param opts { reason: string? }?
function M.pause(engine, id, opts) return hold(engine, id, "ProcessPaused", true, opts) end

--- Lets a process that was paused go on. May yield.
function M.resume(engine, id, opts) return hold(engine, id, "ProcessResumed", false, opts) end

-- The step that failed for good, by the last record of one that still counts; of branches of one
-- group that have failed, the first.
local function last_failure(records)
  local is_dropped, found = journal.dropped(records), nil
  for i = #records, 1, -1 do
    local record = records[i]
    if record.type == "ProcessStepFailed" and record.data.final
      and record.data.error.code ~= "abandoned" and not is_dropped(i) then
      local group = tostring(record.data.op):match("^(%d+%.)")
      if found and not (group and tostring(found.data.op):sub(1, #group) == group) then break end
      found = record
    end
  end
  return found
end

-- The journal of a process that ended as one of these statuses.
local function ended_as(engine, id, statuses, what)
  local app = engine.app
  local stream = app.store:stream(journal.PREFIX .. tostring(id))
  if not stream or app.store:count(stream) == 0 then
    return nil, errors.new("not_found", "there is no process " .. tostring(id))
  end
  local records, err = journal.records(app, stream)
  if not records then return nil, err end
  local status = engine_module().STATUS_OF[records[#records].type]
  if not statuses[status or "running"] then
    return nil, errors.new("conflict", ("process %s is %s; %s"):format(id, status or "not ended",
      what))
  end
  return stream, records, status
end

local RETRYABLE = { failed = true, compensation_failed = true }

-- Opens the journal again and lets the process go on.
local function reopen(engine, stream, id, data, completed)
  local app = engine.app
  local store = app.store
  local last = store:count(stream) - 1
  local retried, err = store:encode(data, "ProcessRetried")
  local step = completed and true
  if retried and completed then step, err = store:encode(completed, "result") end
  if not retried or completed and not step then return nil, err end
  store:begin()
  local version
  version, err = store:add(stream, last, "ProcessRetried", retried, nil,
    flags.JOURNAL + flags.OPENS)
  if version and completed then
    version, err = store:add(stream, -1, "ProcessStepCompleted", step, nil, flags.JOURNAL)
  end
  if not version then
    store:rollback()
    return nil, err
  end
  local first, after = store:commit()
  if not first then return nil, after end
  local ok, fault = store:wait(after - 1)
  if not ok then return nil, fault end
  if not engine.active[id] and not app.stopping then engine:take_up(stream) end
  return true
end

--- Lets a process that failed go on from the step that failed, with new attempts; one whose undo
--- failed undoes what is left; one that diverged looks again. May yield.
---@param engine catga.Engine
---@param id string
---@param opts { reason: string? }?
---@return boolean? ok
---@return catga.Error? err  "conflict": it has not failed, or was undone
function M.retry(engine, id, opts)
  refuse_in_unit("catga.processes.retry")
  local app = engine.app
  local unfinished = app.store:stream(journal.PREFIX .. tostring(id))
  if unfinished and app.store:count(unfinished) > 0 and app.store:is_unfinished(unfinished)
    and not engine.active[id] then
    local does_wait = app:process(id).status == "waiting" -- Then nothing has failed.
    if not engine:take_up(unfinished) then
      return nil, errors.new("stopped", ("process %s cannot go on; it said why"):format(id))
    end
    if not does_wait then return true end
  end
  local stream, records, status = ended_as(engine, id, RETRYABLE,
    "only one that failed, or whose undo failed, can be tried again; one that was undone is "
    .. "started again under another id, or forked")
  if not stream then return nil, records end
  local reason = opts and opts.reason
  if status == "compensation_failed" then
    return reopen(engine, stream, id, { undo = true, reason = reason })
  end
  local failed = last_failure(records)
  return reopen(engine, stream, id, { from = failed and failed.version,
    op = failed and failed.data.op, reason = reason })
end

-- The strand of a process whose operation has this number.
local function strand_at(p, op)
  for _, s in ipairs(engine_module().strands_of(p)) do
    if tostring(strands.key_of(s, s.op)) == op then return s end
  end
end

-- A step that waits between two attempts gets its result.
local function skip_waiting(p, op, result)
  outside.await_rest(p)
  local s = strand_at(p, op)
  if not s or not s.retrying or not s.napping then
    return nil, errors.new("conflict", ("operation %s of process %s is no step that waits for "
      .. "another attempt"):format(op, p.id))
  end
  s.skipped = { result = result }
  strands.poke(s)
  return true
end

--- Gives a step that failed, or waits for another attempt, a result, and lets the process go on.
--- May yield.
---@param engine catga.Engine
---@param id string
---@param op integer|string  number of the operation, as the journal has it
---@param result any
---@return boolean? ok
---@return catga.Error? err
function M.skip(engine, id, op, result)
  refuse_in_unit("catga.processes.skip")
  local p = type(id) == "string" and engine:find(id)
  if p then return skip_waiting(p, tostring(op), result) end
  local stream, records = ended_as(engine, id, { failed = true },
    "a step can be skipped when it failed and nothing was undone")
  if not stream then return nil, records end
  local failed = last_failure(records)
  if not failed or tostring(failed.data.op) ~= tostring(op) then
    return nil, errors.new("conflict", ("operation %s of process %s is not the step that failed%s")
      :format(tostring(op), id, failed and "; that is operation " .. tostring(failed.data.op)
        or ": none did"))
  end
  local completed = { op = failed.data.op, step = failed.data.step, result = result,
    args = failed.data.args, skipped = true }
  if result == nil then completed["nil"] = true end
  return reopen(engine, stream, id, { from = failed.version, op = failed.data.op }, completed)
end

return M
