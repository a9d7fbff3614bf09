--- Starting processes: alone, in a unit of work, or together with a record of their parent.
local state = require "catga.state"
local errors = require "catga.error"
local duration = require "catga.duration"
local flags = require "catga.flags"
local is_behind = require "catga.commit".is_behind
local unit_of = require "catga.unit".of
local journal = require "catga.process.journal"
local process_id = require "catga.process.id"
local blobs = require "catga.lazy".module "catga.process.blobs"
local serializers = require "catga.lazy".module "catga.process.serializer"
local tags_of = require "catga.lazy".call("catga.process.tags", "of")

local M = {}

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
  local record, err = journal.read(app, stream, 0)
  if not record then return nil, err end
  local first = record.data
  if record.type ~= "ProcessStarted" or type(first) ~= "table" then
    return nil, errors.new("damaged", ("the journal of process %s does not begin with its start")
      :format(id))
  end
  local now, fault = journal.json.encode(input)
  if not now and not class.serializer then return nil, fault end
  local is_same = now and journal.json.encode(first.input) == now
    or not now and serializers.is_same(first.input, input)
  if first.name ~= class.name or not is_same then
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

-- The further members of a start record: text, or nil and an error.
local function start_tail(class, input, opts, task, clock)
  local ctx, parts = task.ctx, {}
  local function add(name, value)
    if value ~= nil then parts[#parts + 1] = (',"%s":%s'):format(name, value) end
  end
  add("correlation_id", ctx and journal.json.encode(ctx.correlation_id))
  local timeout = opts and opts.timeout or class.options.timeout
  local timeout_at
  if timeout then
    local ms, fault = duration.parse(timeout, "the timeout of process " .. class.name)
    if not ms then return nil, errors.new("invalid", fault) end
    timeout_at = clock:now() + ms
    add("timeout_at", ("%.0f"):format(timeout_at))
  end
  local tags, err = tags_of(class, input, opts)
  if err then return nil, err end
  if tags then add("tags", journal.json.encode(tags)) end
  if opts and opts.parent then add("parent", journal.json.encode(opts.parent)) end
  return table.concat(parts), nil, timeout_at, tags
end

local function prepare(engine, name, input, opts)
  local app = engine.app
  local class = app.registry.processes[name]
  if not class then return nil, nil, nil, app.registry:unknown("process", name) end
  if app.stopping then
    return nil, nil, nil, errors.new("closed", "the app is stopping; start it again later",
      { retryable = true })
  end
  local id, err = process_id.of(class, input, app, opts and opts.id)
  if not id then return nil, nil, nil, err end
  local stream = app.store:stream(journal.PREFIX .. id, true)
  if not stream then
    return nil, nil, nil, errors.new("invalid", "process id " .. id
      .. " is too long, or not UTF-8")
  end
  return class, id, stream
end

-- What the unit has staged for a stream, or nil.
function M.staged_for(unit, stream)
  for i = 1, unit and unit.n or 0 do
    if unit.ops[i].stream == stream then return unit.ops[i] end
  end
end

-- A process whose start a unit of work has committed, as its journal tells.
local function launch_committed(engine, class, id)
  local stream = engine.app.store:stream(journal.PREFIX .. id)
  local first, err = journal.read(engine.app, stream, 0)
  if not first then return engine.app:say("error", tostring(err)) end
  if engine.active[id] then return end
  local p = engine:new_instance(class, id, stream)
  p.input, p.now, p.correlation_id = first.data.input, first.time, first.data.correlation_id
  p.timeout_at, p.tags = first.data.timeout_at, first.data.tags
  p.parent_id = first.data.parent and first.data.parent.id
  engine:launch(p)
end

-- Starts with an input that is stored beside the journal.
local function journal_large(app, stream, head, input, tail)
  local reference, text = blobs.put(app, input, "input")
  if not reference then return false, text end
  head = ('%s"blob":{%s,"field":"input"},'):format(head, reference)
  local ok, failure, time = app.store:journal(stream, "ProcessStarted", flags.OPENS, head, "input",
    nil, tail)
  if not ok then return false, failure end
  return true, (journal.json.decode(text)), time
end

-- Journals the start, alone: true, the input as the journal has it, and the time.
local function journal_start(app, class, stream, head, input, tail)
  local ok, value, time = app.store:journal(stream, "ProcessStarted", flags.OPENS, head, "input",
    input, tail)
  if ok then return ok, value, time end
  if class.serializer and serializers.is_needed(value, input) then
    local text, as = serializers.pack(class.serializer, input, "input")
    if not text then return false, as end
    ok, value, time = journal_start(app, class, stream, head .. serializers.member(as, "input"),
      text, tail)
    return ok, ok and serializers.unpack(as, text) or value, time
  end
  if not blobs.is_too_large(app, value) then return false, value end
  return journal_large(app, stream, head, input, tail)
end

-- The members of a start record that hold the input, stored beside the journal when it is large.
local function input_members(engine, class, input)
  if input == nil then return '"nil":true' end
  local json, err = engine.app.store:encode(input, "input")
  if not json and class.serializer and serializers.is_needed(err, input) then
    local text, as = serializers.pack(class.serializer, input, "input")
    if not text then return nil, as end
    local members, fault = input_members(engine, class, text)
    return members and serializers.member(as, "input") .. members, fault
  end
  if json and #json <= engine.app.settings.blob_size then return '"input":' .. json end
  if not json and not blobs.is_too_large(engine.app, err) then return nil, err end
  local reference, fault = blobs.put(engine.app, input, "input")
  if not reference then return nil, fault end
  return ('"blob":{%s,"field":"input"},"nil":true'):format(reference)
end

-- Inside a unit of work the start is one more staged record.
local function stage_start(engine, task, class, id, stream, input, tail)
  local members, err = input_members(engine, class, input)
  if not members then return nil, err end
  local unit = unit_of(task)
  local data = ("{%s%s%s}"):format(start_head(engine, class), members, tail)
  local staged = M.staged_for(unit, stream)
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

--- What the start of a process may say beside its input.
---@class catga.StartOptions
---@field id string?       its id, instead of the one out of its input
---@field timeout string?  duration, after which it is ended and undone
---@field tags table<string, string|number|boolean>?  what lists of processes can be filtered by
---@field parent { id: string, op: integer|string, on_end: string }?  the runtime's own

--- Starts a process; durable when it returns (or staged in the open unit). May yield.
---@param engine catga.Engine
---@param name string
---@param input any
---@param opts catga.StartOptions?
---@return string? id
---@return catga.Error? err
---@return catga.Instance? instance  when it was started here
function M.start(engine, name, input, opts)
  local class, id, stream, err = prepare(engine, name, input, opts)
  if not class then return nil, err end
  local app = engine.app
  local task = state[1]
  if app.store:count(stream) > 0 then return started_before(engine, class, id, stream, input) end
  local tail, timeout_at, tags
  if opts or class.has_options or task.ctx then
    tail, err, timeout_at, tags = start_tail(class, input, opts, task, app.clock)
    if err then return nil, err end
  end
  if task.in_unit or task.limit then
    return stage_start(engine, task, class, id, stream, input, tail or "")
  end

  local p = engine:new_instance(class, id, stream)
  local ok, value, time = journal_start(app, class, stream, start_head(engine, class), input, tail)
  if not ok then
    engine:forget(p)
    p:settle("failed", nil, value)
    if not is_behind(value) then return nil, value end
    app.clock:sleep(1)
    return M.start(engine, name, input, opts) -- Another one may have started it meanwhile.
  end
  if task.ctx then p.correlation_id = task.ctx.correlation_id end
  p.input, p.now = value, time
  if timeout_at then p.timeout_at = timeout_at end
  if tags then p.tags = tags end
  engine:launch(p)
  return id, nil, p
end

--- The start of a child, to be added to a commit: everything is looked up before it begins.
---@param engine catga.Engine
---@param parent catga.Instance
---@param name string
---@param input any
---@param opts catga.StartOptions
---@return { id: string, add: fun(): integer?, catga.Error?, launch: fun() }? plan  add: puts its
---  record into the commit that is being built; launch: once that is durable
---@return catga.Error? err
function M.plan(engine, parent, name, input, opts)
  local class, id, stream, err = prepare(engine, name, input, opts)
  if not class then return nil, err end
  local store = engine.app.store
  if store:count(stream) > 0 then
    return nil, errors.new("conflict", ("there is a process %s already; give the child another id")
      :format(id))
  end
  local members, fault = input_members(engine, class, input)
  if not members then return nil, fault end
  local tail
  tail, fault = start_tail(class, input, opts, { ctx = parent.correlation_id
    and { correlation_id = parent.correlation_id } }, engine.app.clock)
  if not tail then return nil, fault end
  local data = ("{%s%s%s}"):format(start_head(engine, class), members, tail)
  return {
    id = id,
    add = function()
      return store:add(stream, -2, "ProcessStarted", data, nil, flags.JOURNAL + flags.OPENS)
    end,
    launch = function() launch_committed(engine, class, id) end,
  }
end

return M
