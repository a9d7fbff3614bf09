--- Reading journals: their records, and what they say of the operations of each strand.
local errors = require "catga.error"
local messages = require "catga.process.messages"
local blobs = require "catga.lazy".module "catga.process.blobs"
local serializers = require "catga.lazy".module "catga.process.serializer"

local M = {}

local LOOK_BACK = 64 -- Records at the end of a journal in which a loop is looked for.

-- One record into the history of its strand: history[op] is what became of the operation; `last`
-- the last one that was begun and is not under way, `most` the last one of which there is a record.
local READ = {}

local function strand_of(h, key)
  if type(key) == "number" then return h, key end
  local prefix, op = tostring(key):match("^(u?[%d.]*%.)(%d+)$")
  if not prefix then return nil end
  local branch = h.branches[prefix]
  if not branch then
    branch = { last = 0, most = 0 }
    h.branches[prefix] = branch
    local group = prefix:match("^(.*)%.%d+%.$")
    h.groups = h.groups or {}
    if group then h.groups[tonumber(group) or group] = true end -- Else it is an update's own.
  end
  return branch, tonumber(op)
end

local function done(h, strand, op, entry)
  entry.done = true
  strand.last, strand.is_asleep = op, nil
  h.order[#h.order + 1] = entry
end

function READ.ProcessStepStarted(_, strand, op, data)
  strand[op] = { kind = "step", name = data.step, started = true }
end
function READ.ProcessStepCompleted(h, strand, op, data, time)
  strand[op] = { kind = "step", name = data.step, op = data.op, time = time, result = data.result,
    args = data.args }
  done(h, strand, op, strand[op])
end
function READ.ProcessStepFailed(h, strand, op, data, time)
  local entry = { kind = "step", name = data.step, op = data.op, failures = data.attempt,
    retry_at = data.retry_at, time = time }
  strand[op] = entry
  if data.final then
    entry.error = data.error
    done(h, strand, op, entry)
  end
end
function READ.ProcessTimerSet(_, strand, op, data)
  strand[op] = { kind = "timer", name = "sleep", started = true, due = data.due }
  strand.last, strand.is_asleep = op, true
end
function READ.ProcessTimerFired(h, strand, op, data, time)
  strand[op] = { kind = "timer", name = "sleep", op = data.op, time = time }
  done(h, strand, op, strand[op])
end
function READ.ProcessBranchesJoined(h, strand, op, data, time)
  if data.kind == "any" then
    messages.give_back(h, data.op, data.branch and ("%s.%d."):format(data.op, data.branch))
  end
  strand[op] = { kind = data.kind, name = data.name, op = data.op, time = time }
  done(h, strand, op, strand[op])
end

function READ.ProcessWaitStarted(h, strand, op, data)
  strand[op] = { kind = data.kind, name = data.name, started = true, due = data.due,
    after = data.after }
  strand.last, strand.is_asleep = op, true
  messages.apply(h, data)
end
function READ.ProcessWaitCompleted(h, strand, op, data, time)
  strand[op] = { kind = data.kind, name = data.name, op = data.op, time = time,
    record = data.record, result = data.value, error = data.error }
  done(h, strand, op, strand[op])
  messages.apply(h, data)
  if data.kind == "child_end" and h.children then h.children[data.name] = nil end
end
function READ.ProcessWaitTimedOut(h, strand, op, data, time)
  strand[op] = { kind = data.kind, name = data.name, op = data.op, time = time, timed_out = true }
  done(h, strand, op, strand[op])
  messages.apply(h, data)
end
function READ.ProcessPromiseMade(h, strand, op, data, time)
  strand[op] = { kind = "promise", name = "promise", op = data.op, time = time, result = data.id }
  done(h, strand, op, strand[op])
  h.promises = h.promises or {}
  h.promises[tostring(data.op)] = data.id
end

function READ.ProcessChildStarted(h, strand, op, data, time)
  strand[op] = { kind = "child", name = data.name, op = data.op, time = time, result = data.child }
  done(h, strand, op, strand[op])
  h.children = h.children or {}
  h.children[data.child] = data.on_end
end
function READ.ProcessTagged(h, strand, op, data, time)
  strand[op] = { kind = "tag", name = "tags", op = data.op, time = time, error = data.error }
  done(h, strand, op, strand[op])
  h.tags = data.tags or h.tags
end

-- Records that are no operations.
local BESIDE = {}
function BESIDE.ProcessUpdateAccepted(h, data, record)
  local entry = { kind = "update", name = data.name, op = "u" .. data.update, update = data.update,
    value = data.value, id = data.id, time = data.at or record.time }
  h.updates = h.updates or {}
  h.updates[data.update] = entry
  h.order[#h.order + 1] = entry
end
function BESIDE.ProcessUpdateCompleted(h, data) h.updates[data.update].is_done = true end
BESIDE.ProcessUpdateFailed = BESIDE.ProcessUpdateCompleted
function BESIDE.ProcessPaused(h) h.paused = true end
function BESIDE.ProcessResumed(h) h.paused = nil end
function BESIDE.ProcessCarried(h, data)
  h.tags, h.paused, h.children = data.tags, data.paused, data.children
  h.mail_ids = h.mail_ids or {}
  for _, id in ipairs(data.ids) do h.mail_ids[id] = true end
end
function BESIDE.ProcessRetried(h, data)
  local strand, op = strand_of(h, data.op)
  if strand and strand[op] and not strand[op].done then strand[op] = nil end -- New attempts.
end

-- A round that was journaled is not gone through again, and nothing of it is undone.
function READ.ProcessLoopRound(h, strand, op, data, time)
  M.drop_rounds(h, data.op)
  strand[op] = { kind = "loop", name = "loop", op = data.op, time = time, started = true,
    round = data.round, state = data.state }
  strand.last, strand.is_asleep = math.max(op - 1, 0), nil
  h.order[#h.order + 1] = strand[op]
end
function READ.ProcessLoopEnded(h, strand, op, data, time)
  M.drop_rounds(h, data.op)
  strand[op] = { kind = "loop", name = "loop", op = data.op, time = time, result = data.result,
    error = data.error }
  done(h, strand, op, strand[op])
end

--- Takes the rounds of a loop, and the record of the last one, out of a history.
---@param h table
---@param key integer|string  number of the loop
function M.drop_rounds(h, key)
  local own = tostring(key) .. "."
  for prefix in pairs(h.branches) do
    if prefix:sub(1, #own) == own then h.branches[prefix] = nil end
  end
  local kept = {}
  for _, entry in ipairs(h.order) do
    if entry.op ~= key and tostring(entry.op):sub(1, #own) ~= own then kept[#kept + 1] = entry end
  end
  h.order = kept
end

-- Puts what the record of a round carries in the place of the records before it.
local function expand(first, carrier, records)
  local list = { first }
  for _, record in ipairs(carrier.data.carried.records) do list[#list + 1] = record end
  list[#list + 1] = { type = "ProcessCarried", data = carrier.data.carried,
    version = carrier.version, time = carrier.time }
  for _, record in ipairs(records) do list[#list + 1] = record end
  return list
end

-- The values that are not in the record as they are, in place.
local function resolve(app, record)
  local data = record.data
  if type(data) ~= "table" then return end
  if data.blob then blobs.resolve(app, record) end
  if data.packed then serializers.resolve(data) end
end

local function read_from(app, stream, records, from, count)
  while from < count do
    local some, err = app.store:read(stream, from, 1000)
    if not some then return nil, err end
    for _, record in ipairs(some) do
      resolve(app, record)
      records[#records + 1] = record
    end
    from = some[1] and some[#some].version + 1 or count
  end
  return records
end

-- The last record that carries what was before it, looking back from the end as long as the journal
-- is one of a loop.
local function find_carrier(app, stream, count)
  local from, is_loop = count - 1, false
  while from > 0 do
    local some, err = app.store:read(stream, from, LOOK_BACK, true)
    if not some then return nil, err end
    for _, record in ipairs(some) do
      if record.type == "ProcessLoopRound" then
        is_loop = true
        if type(record.data) == "table" and record.data.carried then return record end
      end
    end
    if not is_loop or #some == 0 then return nil end
    from = some[#some].version - 1
  end
end
M.find_carrier = find_carrier

--- One record of a journal, with its value when that is stored beside it.
---@param app catga.App
---@param stream integer
---@param version integer
---@return table? record
---@return catga.Error? err
function M.read(app, stream, version)
  local list, err = app.store:read(stream, version, 1)
  if not list then return nil, err end
  local record = list[1]
  if record and type(record.data) == "table" and (record.data.blob or record.data.packed) then
    local ok, fault = pcall(resolve, app, record)
    if not ok then return nil, errors.from(fault) end
  end
  return record
end

--- Reads the whole journal of a process, or what counts of it: what the record of a round carries
--- stands in the place of what was before.
---@param app catga.App
---@param stream integer
---@return table[]? records
---@return catga.Error? err
function M.records(app, stream)
  local count = app.store:count(stream)
  if count > LOOK_BACK then
    local carrier, err = find_carrier(app, stream, count)
    if err then return nil, err end
    if carrier then
      local first
      first, err = M.read(app, stream, 0)
      if not first then return nil, err end
      local records = read_from(app, stream, {}, carrier.version, count)
      return records and expand(first, carrier, records)
    end
  end
  return read_from(app, stream, {}, 0, count)
end

--- Is a record one of an update? A retry does not drop them: who sent it has its outcome.
---@param record table
---@return boolean
function M.is_of_update(record)
  local op = type(record.data) == "table" and record.data.op
  return type(op) == "string" and op:sub(1, 1) == "u"
end

-- Is an operation one of another branch than the one that failed, of a group that this one is in?
local function is_beside(failed, op)
  if type(failed) ~= "string" or type(op) ~= "string" then return false end
  for at in failed:gmatch("()%.") do
    local group, branch = failed:sub(1, at), failed:match("^%d+%.", at + 1)
    -- Numbers of operations and of branches take turns: 2.1.4 is in branch 1 of operation 2.
    local depth = select(2, group:gsub("%.", ""))
    if branch and depth % 2 == 1 and op:sub(1, #group) == group
      and op:sub(1, #group + #branch) ~= group .. branch then
      return true
    end
  end
  return false
end

-- Does a retry of what failed drop this record, which is behind the failure?
local function drops(failed, record)
  local data = record.data
  local op = type(data) == "table" and data.op
  if not op or M.is_of_update(record) then return false end
  if not is_beside(failed, op) then return true end
  return record.type == "ProcessStepFailed" and data.final == true -- What is done there stays.
end

--- What of a journal later retries have dropped: they begin again at a failure, and what came
--- behind it no longer counts, but for what other branches have done meanwhile.
---@param records table[]
---@return fun(place: integer): boolean is_dropped  by the place in the list
function M.dropped(records)
  local dropped, places
  for i, record in ipairs(records) do
    local from = record.type == "ProcessRetried" and record.data.from
    if from then
      if not places then
        places, dropped = {}, {}
        for k, one in ipairs(records) do places[one.version] = k end
      end
      for k = places[from] or i, i - 1 do
        if drops(record.data.op, records[k]) then dropped[k] = true end
      end
    end
  end
  return function(place) return dropped ~= nil and dropped[place] == true end
end

--- The history of operations out of a journal's records.
---@param records table[]
---@return table history  of the body's own strand, by operation number; last: the last one that is
---  not under way; most: the last one of which there is a record; branches: the same of the
---  branches, by the prefix of their operations; groups: of which operations, nil: there are none;
---  order: the entries that are done, in order
function M.of(records)
  local h = { last = 0, most = 0, branches = {}, order = {} }
  local is_dropped = M.dropped(records)
  for i, record in ipairs(records) do
    local read, data = READ[record.type], record.data
    if read and not is_dropped(i) then
      local strand, op
      if type(data) == "table" then strand, op = strand_of(h, data.op) end
      if not strand then
        error(errors.new("damaged", ("record %d of the journal (%s) has no operation number")
          :format(i, record.type)), 0)
      end
      read(h, strand, op, data, data.at or record.time)
      strand.most = math.max(strand.most, op)
    elseif BESIDE[record.type] then
      BESIDE[record.type](h, data, record)
    elseif not read then
      messages.take_in(h, record)
    end
  end
  return h
end

return M
