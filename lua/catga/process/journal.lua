--- The journal of a process: the stream Process-<id>, its records written and read back.
---
---   ProcessStarted              name, run, code, engine, input, correlation_id?, forked_from?,
--- seed?, at? (opens)
---   ProcessStepStarted          op, step, args?                             (at_most_once only)
---   ProcessStepCompleted        op, step, result, args?
---   ProcessStepFailed           op, step, attempt, retry_at | final, in_doubt?, error, args?
---   ProcessTimerSet, ...Fired   op, due
---   ProcessWaitStarted          op, kind, name, due?, after?, since
---   ProcessWaitCompleted        op, kind, name, record | value | error; record: version of the
--- message
---   ProcessWaitTimedOut         op, kind, name
---   ProcessPromiseMade          op, id
---   ProcessSignalled            signal, value, id?
---   ProcessApprovalAnswered     approval, approved, by?, values?, reason?, id?
---   ProcessPromiseResolved, ...Rejected   promise, value | error
---   ProcessLoopRound            op, round, state, carried?; carried: what counts of the records
--- before
---   ProcessLoopEnded            op, round, result | error
---   ProcessChildStarted         op, child, name, on_end
---   ProcessTagged               op, tags
---   ProcessPaused, ...Resumed   reason?
---   ProcessRetried              from?, op?, undo?, reason?; from: version of the first record that
--- no longer counts
---   ProcessTimedOut             in_doubt?, error
---   ProcessKilled               error                                       (closes)
---   ProcessBranchesJoined       op, kind, name, winner?, branch?: its number
---   ProcessUpdateAccepted       update, name, value, id?
---   ProcessUpdateCompleted, ...Failed   update, result | error
---   ProcessCancelRequested      in_doubt?, error; in_doubt: list of { op, step, args? }
---   ProcessCompensationStarted  error, failed_step?                         (for P:compensate)
---   ProcessStepCompensated      op, step, result, ops?; ops: what P:compensate has undone as one
---   ProcessCompensationAttemptFailed  op, step, attempt, error
---   ProcessDiverged             op, recorded, asked, at
---   ProcessCompleted            result                                      (closes)
---   ProcessCompensated, ProcessFailed, ProcessCompensationFailed, ProcessCancelled  error (close)
---
--- `at` in a record is when it was recorded first: it was copied by a fork (fork.lua).
--- op is a number, in a branch text such as "3.2.1": the first operation of branch 2 of operation
--- 3. A value that is nil is written as "nil": true, so that JSON null stays catga.null.
--- What JSON cannot hold is base64 in its field, with "packed" beside it: see serializer.lua.
--- Whatever the body goes on with is decoded from the bytes written here, also live.
local errors = require "catga.error"
local pause_after = require "catga.commit".pause_after
local native_task = require "catga.native.task"
local state = require "catga.state"
local history = require "catga.process.history"
local blobs = require "catga.lazy".module "catga.process.blobs"
local serializers = require "catga.lazy".module "catga.process.serializer"
local inline = require "catga.lazy".module "catga.projection.inline"

local M = {}

M.PREFIX = "Process-"
M.ENGINE = 1 -- Version of the engine's own behaviour; in every start record.

local ERROR_BYTES_MAX = 8192 -- Of the message of an error in a journal; the rest is cut off.
local HEADS_MAX = 64         -- Operation numbers whose text a step keeps.

local CLOSED = errors.new("closed", "the app was stopped", { retryable = true })

local function write_once(p, kind, flags, head, field, value, tail, unit)
  assert(not p.shadow, "a replay that only looks does not write")
  local store = p.app.store
  if unit and unit.keys then
    local ok, err = unit:await_keys()
    if not ok then return false, err end
  end
  local token, fault
  if unit and unit.n > 0 and p.app.inline then
    token, fault = inline.prepare(p.app, unit)
    if not token then return false, fault end
  end
  if p.app.is_closed then return false, CLOSED end
  if unit then
    local ok, err = unit:verify()
    if ok then
      store:begin()
      ok, err = unit:write(state[1])
      if not ok then store:rollback() end
    end
    if not ok then
      if token then inline.revoke(token) end
      return false, err
    end
  end
  local undo = token and inline.place(token, (store:positions()) + unit.n - 1)
  local ok, result, time = store:journal(p.stream, kind, flags, head, field, value, tail,
    unit ~= nil)
  if ok then
    p.now = time
  elseif undo then
    inline.unplace(undo)
  end
  return ok, result
end

-- Stores a large value beside the journal, and journals where it is.
local function write_large(p, kind, flags, head, field, value, tail, unit)
  local reference, text = blobs.put(p.app, value, field)
  if not reference then return false, text end
  head = ('%s"blob":{%s,"field":"%s"},'):format(head, reference, field)
  local ok, result = write_once(p, kind, flags, head, field, nil, tail, unit)
  if not ok then return false, result end
  return true, (M.json.decode(text))
end

local write

-- Stores a value that JSON cannot hold.
local function write_packed(p, kind, flags, head, field, value, tail, unit)
  local text, as = serializers.pack(p.class.serializer, value, field)
  if not text then return false, as end
  local ok, result = write(p, kind, flags, head .. serializers.member(as, field), field, text, tail,
    unit)
  if not ok then return false, result end
  return true, serializers.unpack(as, text)
end

-- Appends one record and parks until it is durable; adds the staged records of a unit before it.
function write(p, ...)
  local ok, result = write_once(p, ...)
  if ok then return true, result end
  if p.class.serializer and serializers.is_needed(result, (select(5, ...))) then
    return write_packed(p, ...)
  end
  if blobs.is_too_large(p.app, result) then
    ok, result = write_large(p, ...)
    if ok then return true, result end
  end
  local pause = pause_after(result)
  if not pause then return false, result end
  p.app.clock:sleep(pause)
  return write(p, ...)
end

-- A log that cannot take a record stops this process where it stands: nothing after it may happen.
-- The process goes on when it is taken up again: after a restart, or when somebody waits for it.
local STOPS = { failed = true, fenced = true, closed = true, io_error = true }

local function stop_at(p, failure)
  if not STOPS[failure.code] then return end
  p.app.engine:let_go(p.root or p, failure)
  native_task.abandon()
end

M.stop_at = stop_at

-- For records without which the process cannot go on.
local function must_write(p, ...)
  local ok, result = write(p, ...)
  if ok then return result end
  stop_at(p, result)
  error(result, 0)
end
M.must_write = must_write

local function head_of(step, op)
  local head = step.heads[op]
  if not head then
    local quoted = step.quoted or M.quote(step)
    if type(op) == "string" then return ('"op":"%s","step":%s,'):format(op, quoted) end
    head = ('"op":%d,"step":%s,'):format(op, quoted)
    if op <= HEADS_MAX then step.heads[op] = head end
  end
  return head
end
M.head_of = head_of

--- The JSON string of a step's name.
function M.quote(step)
  step.quoted = M.json.encode(step.name)
  return step.quoted
end

--- Text as a record can hold it: not too long, and UTF-8.
---@param text string
---@param bytes_max integer
---@return string
function M.storable_text(text, bytes_max)
  if #text > bytes_max then
    text = text:sub(1, bytes_max):gsub("[\192-\255]?[\128-\191]*$", "") .. "..."
  end
  if not M.json.encode(text) then text = text:gsub("[\128-\255]", "?") end
  return text
end

--- What of an error is stored in a journal.
---@param p catga.Instance
---@param e catga.Error
---@return { code: string, message: string, retryable: boolean }
function M.storable(p, e)
  local stored = errors.stored(e)
  local bytes_max = math.min(ERROR_BYTES_MAX, math.floor(p.app.settings.message_size_max / 8))
  stored.code = M.storable_text(stored.code, bytes_max)
  stored.message = M.storable_text(stored.message, bytes_max)
  return stored
end

-- Arguments as a list without gaps, and the places of nil in it.
local function places_of(...)
  local count, values, nils = select("#", ...), { ... }, {}
  for i = 1, count do
    if values[i] == nil then values[i], nils[#nils + 1] = M.json.null, i end
  end
  return { args = M.json.array(values), nils = M.json.array(nils) }
end

--- JSON of the arguments that an undo will need.
---@param p catga.Instance
---@return string tail
function M.arguments(p, _, ...)
  local json, err = p.app.store:encode_args(...)
  if json and #json <= p.app.settings.blob_size then return ',"args":' .. json end
  local all = places_of(...)
  if not json and p.class.serializer and serializers.is_needed(err, all) then
    all, err = serializers.pack_arguments(p.class.serializer, all)
    if not all then error(err, 0) end
    json = M.json.encode(all)
    if #json <= p.app.settings.blob_size then return ',"args":' .. json end
  elseif not json and not blobs.is_too_large(p.app, err) then
    error(err, 0)
  end
  local reference, fault = blobs.put(p.app, all, "the arguments")
  if not reference then error(fault, 0) end
  return ',"args":{"blob":{' .. reference .. "}}"
end

--- Journals a step as done, with what it staged; returns the result as the journal has it.
---@param p catga.Instance
---@param step catga.Step
---@param op integer
---@param value any
---@param args string?
---@param unit catga.Unit?
---@return boolean ok
---@return any result_or_error  an error is "conflict", or the path of what cannot be stored
function M.completed(p, step, op, value, args, unit)
  local ok, result = write(p, "ProcessStepCompleted", 0, head_of(step, op), "result", value, args,
    unit)
  if not ok then stop_at(p, result) end
  return ok, result
end

--- Journals a failed attempt.
---@param due number?   when the next attempt is due; nil: it was the last
---@return catga.Error  as the journal has it
function M.failed(p, step, op, attempt, failure, due, in_doubt, args)
  local head = head_of(step, op) .. ('"attempt":%d,'):format(attempt)
    .. (due and ('"retry_at":%.0f,'):format(due) or '"final":true,')
    .. (in_doubt and '"in_doubt":true,' or "")
  local stored = must_write(p, "ProcessStepFailed", 0, head, "error", M.storable(p, failure), args)
  return M.failure_of(step.name, stored)
end

--- The error that a step has failed with, which knows the step.
---@param name string
---@param stored table
---@return catga.Error
function M.failure_of(name, stored)
  local failure = errors.from(stored)
  failure.failed_step = name
  return failure
end

--- Journals an undo as done, with what it staged; tail: ops, when it is one of several operations.
---@return boolean ok
---@return any result_or_error
function M.compensated(p, step, op, value, unit, tail)
  local ok, result = write(p, "ProcessStepCompensated", 0, head_of(step, op), "result", value, tail,
    unit)
  if not ok then stop_at(p, result) end
  return ok, result
end

--- Journals a failed attempt of an undo.
function M.undo_failed(p, step, op, attempt, failure)
  must_write(p, "ProcessCompensationAttemptFailed", 0,
    head_of(step, op) .. ('"attempt":%d,'):format(attempt), "error",
    M.storable(p, failure))
end

--- Journals that a step that may run at most once begins.
function M.started(p, step, op, args)
  must_write(p, "ProcessStepStarted", 0, head_of(step, op), "attempt", 1, args)
end

--- JSON of the steps that may have had an effect, for the record of a cancel.
---@param list { step: catga.Step, op: integer|string, args: string? }[]
---@return string?
function M.in_doubt(list)
  if #list == 0 then return nil end
  local parts = {}
  for i, one in ipairs(list) do
    parts[i] = ("{%s%s}"):format(head_of(one.step, one.op):sub(1, -2), one.args or "")
  end
  return ',"in_doubt":[' .. table.concat(parts, ",") .. "]"
end

local ABANDONED = errors.new("abandoned", "another branch ended the group of this one")

--- Journals that a step which may have had an effect is not attempted again: it will be undone.
---@param s catga.Instance
---@param one { step: catga.Step, op: integer|string, args: string?, failures: integer }
function M.abandoned(s, one)
  M.failed(s, one.step, one.op, one.failures, ABANDONED, nil, true, one.args)
end

M.read, M.records, M.find_carrier = history.read, history.records, history.find_carrier
M.history, M.dropped, M.is_of_update = history.of, history.dropped, history.is_of_update

--- The function that a strand runs: execute, that of a branch, the handler of an update.
---@param s catga.Instance
---@return function
function M.function_of(s)
  local group, face = s.group, s.class.face
  if not group then return face.execute end
  if s.update then return face.updates[s.update.name] or face.execute end
  return (group.make(s.index))
end

--- file:line of the innermost function that is not the runtime's own; of a strand that has come to
--- its end, or is left by a tail call, that of its beginning; of a declared process, that of the
--- link.
---@param s catga.Instance
---@return string
function M.body_place(s)
  for level = 3, 60 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.what ~= "C" and not info.source:find("^@lua/catga/") then
      return info.short_src .. ":" .. info.currentline
    end
  end
  if s.place then return s.place end
  local info = debug.getinfo(M.function_of(s), "S")
  if info.source:find("^@lua/catga/") then return "?" end
  return info.short_src .. ":" .. info.linedefined
end

--- Stops a process whose script asks for something else than its journal holds. Does not return.
---@param p catga.Instance
---@param op integer
---@param recorded string
---@param asked string
function M.diverge(p, op, recorded, asked)
  local at = M.body_place(p)
  local failure = errors.new("diverged", ("process %s (%s) diverged at %s: operation %s is "
    .. "recorded as %s, the script asks for %s; bring back the script that the process began with, "
    .. "or change the script so that it does what is recorded first"):format(p.id, p.class.name, at,
    op, recorded, asked))
  local root = p.root or p
  root.diverged = { op = op, recorded = recorded, asked = asked, at = at }
  root.app.engine:stop_diverged(root, failure)
  native_task.abandon()
end

-- The number of an operation of a strand, as the journal has it.
local function key_of(p, op) return p.prefix and p.prefix .. op or op end

local function described(entry) return entry and entry.kind .. " " .. entry.name or "nothing" end

--- What the journal holds for an operation: its entry when it is done, a wait that has begun, or a
--- step that may run at most once and has begun; nil when it is to run now. Stops the process when
--- kind or name differ.
---@param p catga.Instance
---@param op integer
---@param kind string
---@param name string
---@return table?
function M.recorded(p, op, kind, name)
  local entry, most = p.history[op], p.history.most
  if op < most and not entry then M.diverge(p, key_of(p, op), "nothing", kind .. " " .. name) end
  if op >= most then p.history = false end
  if not entry then return nil end
  if entry.kind ~= kind or entry.name ~= name then
    M.diverge(p, key_of(p, op), described(entry), kind .. " " .. name)
  end
  if entry.time then p.now = entry.time end
  if entry.done then return entry end
  p.failures, p.due = entry.failures or false, entry.retry_at or false
  return entry.started and entry or nil
end

-- Are packed arguments the same? Their bytes may differ in the order of keys.
local function are_same_packed(p, recorded, json)
  if not p.class.serializer then return false end
  local function unpacked(stored)
    if stored.blob then stored = blobs.get(p.app, stored.blob.hash) end
    return stored.packed and serializers.unpack(stored.packed, stored.data)
  end
  local before, now = unpacked(recorded), unpacked((M.json.decode(json)))
  return before and now and serializers.is_same(before, now)
end

--- Stops the process when a step is called with other arguments than are recorded.
---@param p catga.Instance
---@param op integer
---@param step catga.Step
---@param recorded any  what the journal has of them
---@param ... any       the arguments
function M.check_arguments(p, op, step, recorded, _, ...)
  local json = M.arguments(p, nil, ...):sub(#',"args":' + 1)
  local was = M.json.encode(recorded)
  if json == was or are_same_packed(p, recorded, json) then return end
  M.diverge(p, key_of(p, op), ("step %s with the arguments %s"):format(step.name,
    M.storable_text(was or "?", 200)), ("it with %s"):format(M.storable_text(json or "?", 200)))
end

--- Stops the process when an operation that has not ended yet is recorded as another one.
---@param p catga.Instance
---@param op integer
---@param kind string
---@param name string
function M.expect(p, op, kind, name)
  local entry = p.history[op]
  if entry and entry.kind == kind and entry.name == name then return end
  if entry or op < p.history.most then
    M.diverge(p, key_of(p, op), described(entry), kind .. " " .. name)
  end
end

--- Stops the process when a strand has ended before all that the journal holds was asked for.
---@param p catga.Instance
---@param what string  "the end of execute"
function M.check_end(p, what)
  local h = p.history
  if not h or h.most <= p.op then return end
  M.diverge(p, key_of(p, p.op + 1), described(h[p.op + 1]), what)
end

M.json = require "catga.native.json"
return M
