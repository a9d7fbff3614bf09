--- Forks: a new process that has what another one has recorded up to an operation, and goes on from
--- there with the newest scripts. The records are copied in one commit with its start; they keep
--- their times (`at`), and the start keeps the seed of the random numbers.
local errors = require "catga.error"
local state = require "catga.state"
local duration = require "catga.duration"
local flags = require "catga.flags"
local pause_after = require "catga.commit".pause_after
local journal = require "catga.process.journal"
local process_id = require "catga.process.id"
local shadow = require "catga.process.shadow"

local M = {}

local NONE, ANY = -2, -1 -- Expected versions.
local PAGE = 1000

-- Records that end an operation; those that only begin one, or fail and are tried again.
local ENDS = { ProcessStepCompleted = true, ProcessTimerFired = true, ProcessBranchesJoined = true,
  ProcessWaitCompleted = true, ProcessWaitTimedOut = true, ProcessPromiseMade = true,
  ProcessChildStarted = true, ProcessTagged = true, ProcessLoopEnded = true }
local ATTEMPTS = { ProcessStepStarted = true, ProcessStepFailed = true }
local OTHERS = { ProcessTimerSet = true, ProcessWaitStarted = true, ProcessSignalled = true,
  ProcessApprovalAnswered = true, ProcessPromiseResolved = true, ProcessPromiseRejected = true,
  ProcessUpdateAccepted = true, ProcessUpdateCompleted = true, ProcessUpdateFailed = true,
  ProcessLoopRound = true }

local function invalid(text, ...) return nil, errors.new("invalid", text:format(...)) end

local function is_end(record)
  return ENDS[record.type] or record.type == "ProcessStepFailed" and record.data.final
end

-- The operation of the body that a record belongs to; nil: it is of an update, or of none.
local function root_op(record)
  local op = type(record.data) == "table" and record.data.op
  if ENDS[record.type] or ATTEMPTS[record.type] or OTHERS[record.type] then
    return tonumber(tostring(op):match("^(%d+)"))
  end
end

-- The records that count: without those that a retry has dropped.
local function counting(records)
  local is_dropped = journal.dropped(records)
  local list = {}
  for i, record in ipairs(records) do
    if not is_dropped(i) then list[#list + 1] = record end
  end
  return list
end

-- The place of the last record that is taken over: the next operation begins behind it.
local function cut_of(list, id, op)
  local most, last = 0, nil
  for i, record in ipairs(list) do
    local root = root_op(record)
    if root and root > op then return i - 1 end
    if root then most = math.max(most, root) end
    if root == op and record.data.op == op then last = record end
  end
  if op > most then
    return invalid("process %s has recorded %d operations; it cannot be forked at %d", id, most, op)
  end
  if last and ATTEMPTS[last.type] and not is_end(last) then
    return invalid("operation %d of process %s, step %s, has not ended; fork it at %d", op, id,
      tostring(last.data.step), op - 1)
  end
  return #list
end

-- Keys of the operations that have ended among the first records.
local function ended_in(list, cut)
  local ended = {}
  for i = 1, cut do
    if is_end(list[i]) then ended[tostring(list[i].data.op)] = true end
  end
  return ended
end

-- The data of a copied record.
local function copied(record, new_id, version_of)
  local data = {}
  for name, value in pairs(record.data) do data[name] = value end
  data.at = data.at or record.time
  data.carried = nil -- It is all there.
  if record.type == "ProcessPromiseMade" then
    data.id = data.id:match("^([^~]*~[^~]*~)") .. new_id
  elseif record.type == "ProcessChildStarted" then
    data.on_end = "abandon" -- It belongs to the process that has started it.
  elseif record.type == "ProcessWaitCompleted" and data.record then
    data.record = version_of[data.record]
    if not data.record then
      error(errors.new("damaged", ("the journal lacks the message that operation %s has taken")
        :format(data.op)), 0)
    end
  end
  return data
end

-- What the new journal begins with behind its start: { type, data }.
local function copies(list, cut, new_id)
  local ended, version_of, found = ended_in(list, cut), {}, {}
  for i = 1, cut do
    local record = list[i]
    local is_open_attempt = ATTEMPTS[record.type] and not ended[tostring(record.data.op)]
    if (ENDS[record.type] or ATTEMPTS[record.type] or OTHERS[record.type])
      and not is_open_attempt then
      found[#found + 1] = { type = record.type, data = copied(record, new_id, version_of) }
      version_of[record.version] = #found -- The start is version 0.
    end
  end
  return found
end

local function start_data(app, class, first, id, op, input)
  local data = {}
  for name, value in pairs(first.data) do data[name] = value end
  data.run, data.engine, data.code = 1, journal.ENGINE, app.registry.hash or ""
  data.seed, data.at = data.seed or first.id, data.at or first.time
  data.forked_from, data.parent, data.timeout_at = { id = id, op = op }, nil, nil
  if input ~= nil then
    data.input, data["nil"], data.blob, data.packed = input, nil, nil, nil
  end
  local timeout = class.options.timeout
  if timeout then data.timeout_at = app.clock:now() + duration.ms(timeout) end
  return data
end

-- Commits the records to a stream that is empty.
local function commit(app, stream, items)
  local store = app.store
  for i, item in ipairs(items) do
    local json, err = store:encode(item.data, item.type)
    if not json then return nil, err end
    items[i].json = json
  end
  while true do
    if app.is_closed then return nil, errors.new("closed", "the app was stopped") end
    store:begin()
    for i, item in ipairs(items) do
      local version, err = store:add(stream, i == 1 and NONE or ANY, item.type, item.json, nil,
        flags.JOURNAL + (i == 1 and flags.OPENS or 0))
      if not version then
        store:rollback()
        return nil, err
      end
    end
    local first, after = store:commit()
    if first then return store:wait(after - 1) end
    local pause = pause_after(after)
    if not pause then return nil, after end
    app.clock:sleep(pause)
  end
end

-- The stream of the new process, which must not be there yet.
local function new_stream(app, class, data, given)
  if given == nil then given = app:new_id() end
  local id, err = process_id.of(class, data, app, given)
  if not id then return nil, err end
  local stream = app.store:stream(journal.PREFIX .. id, true)
  if not stream then return invalid("process id %s is too long, or not UTF-8", id) end
  if app.store:count(stream) > 0 then
    return nil, errors.new("exists", ("there is a process %s already"):format(id))
  end
  return stream, id
end

-- The whole journal, with values that are stored beside it, or packed, as they are.
local function read_raw(app, id, stream)
  local records, count = {}, app.store:count(stream)
  while #records < count do
    local some, err = app.store:read(stream, #records, PAGE)
    if not some then return nil, err end
    for _, record in ipairs(some) do
      if record.version ~= #records then some = {} break end
      records[#records + 1] = record
    end
    if #some == 0 then
      return nil, errors.new("truncated", ("records of the journal of process %s were scavenged; "
        .. "it cannot be forked"):format(id))
    end
  end
  return records
end

local function read(app, id)
  local stream, err = shadow.stream_of(app, id)
  if not stream then return nil, err end
  local max = app.settings.process_replay_max
  if app.store:count(stream) > max then
    return nil, errors.new("limit", ("the journal of process %s is longer than process_replay_max, "
      .. "%d records; it cannot be forked"):format(id, max))
  end
  local records, fault = read_raw(app, id, stream)
  if not records then return nil, fault end
  local first = records[1]
  if not first or first.type ~= "ProcessStarted" or type(first.data) ~= "table" then
    return nil, errors.new("damaged", "the journal does not begin with its start")
  end
  return records
end

local function build(app, id, op, opts)
  local records, err = read(app, id)
  if not records then return nil, err end
  local first = records[1]
  local class = app.registry.processes[first.data.name]
  if not class then return nil, app.registry:unknown("process", first.data.name) end
  local list = counting(records)
  local cut, fault = cut_of(list, id, op)
  if not cut then return nil, fault end
  local stream, new_id = new_stream(app, class, first.data.input, opts.id)
  if not stream then return nil, new_id end
  local items = copies(list, cut, new_id)
  table.insert(items, 1, { type = "ProcessStarted",
    data = start_data(app, class, first, id, op, opts.input) })
  return stream, new_id, items
end

--- Forks a process, running or not: a new one that has the recorded outcomes of its operations 1 to
--- `op` and goes on behind them with the newest scripts. What had come before the next operation
--- began is taken over as well: messages, updates, timers that run with the time they are due.
--- Children stay those of the first process. May yield.
---@param engine catga.Engine
---@param id string
---@param op integer  0: only the input
---@param opts { id: string?, input: any }?  id: of the new process; input: another one
---@return string? id  of the new process
---@return catga.Error? err  "invalid": it has no such operation, or it has not ended; "exists"
function M.fork(engine, id, op, opts)
  local app, task = engine.app, state[1]
  opts = opts or {}
  if task.in_unit or task.limit then
    error(errors.new("would_deadlock", "catga.processes.fork in a handler or step would have to "
      .. "wait for the commit that it is part of; do it outside, or in a task of catga.spawn"), 0)
  end
  local number = type(op) == "string" and op:find("^%d+$") and tonumber(op) or op
  if type(number) ~= "number" or number < 0 or number % 1 ~= 0 or number > 2 ^ 53 then
    return invalid("the operation is a whole number from 0, got %s", tostring(op))
  end
  if app.stopping then return nil, errors.new("closed", "the app is stopping") end
  local ok, stream, new_id, items = pcall(build, app, id, number, opts)
  if not ok then return nil, errors.from(stream) end
  if not stream then return nil, new_id end
  local done, err = commit(app, stream, items)
  if not done then
    return nil, errors.new(err.code, ("process %s cannot be forked at %d: %s"):format(id, number,
      err.message), { retryable = err.retryable })
  end
  engine:take_up(stream)
  return new_id
end

return M
