--- Children: processes that a process starts, and may wait for. The child's start and the record
--- that tells of it are one commit. When the parent ends, those it has not waited for are
--- cancelled, unless it said "abandon".
local errors = require "catga.error"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local steps = require "catga.process.steps"
local waits = require "catga.process.waits"
local starting = require "catga.process.start"
local pause_after = require "catga.commit".pause_after
local raw = require "catga.sandbox".raw

local M = {}

local ON_END = { cancel = true, abandon = true }
local OPTIONS = { id = true, on_end = true, timeout = true, tags = true }

local function head_of(key)
  return ('"op":%s,'):format(type(key) == "string" and '"' .. key .. '"' or key)
end

-- Commits the child's start together with the parent's record: its id; or nil and why not.
local function commit_start(s, key, name, input, opts)
  local app = s.app
  while true do
    if app.is_closed then return nil, errors.new("closed", "the app was stopped") end
    local plan, err = starting.plan(app.engine, s, name, input, opts)
    if not plan then return nil, err end
    app.store:begin()
    local version
    version, err = plan.add()
    if not version then
      app.store:rollback()
      return nil, err
    end
    local tail = (',"name":%s,"on_end":"%s"'):format(journal.json.encode(name), opts.parent.on_end)
    local ok, value, time = app.store:journal(s.stream, "ProcessChildStarted", 0, head_of(key),
      "child", plan.id, tail, true)
    if ok then
      s.now = time
      plan.launch()
      return plan.id
    end
    local pause = pause_after(value)
    if not pause then return nil, value end
    app.clock:sleep(pause)
  end
end

local function start(s, op, name, input, opts)
  local key = strands.key_of(s, op)
  local recorded = s.history and journal.recorded(s, op, "child", name)
  if recorded then
    strands.take_turn(s, recorded, "child " .. name)
    if recorded.error then error(errors.from(recorded.error), 0) end
    return recorded.result
  end
  strands.go_live(s, "child " .. name, key)
  local root = s.root or s
  local id, err = commit_start(s, key, name, input, { id = opts.id
    or ("%s/%s"):format(s.id, key), timeout = opts.timeout, tags = opts.tags,
    parent = { id = s.id, op = key, on_end = opts.on_end or "cancel" } })
  steps.done_with_doubt(s)
  if not id then
    journal.stop_at(s, err)
    journal.must_write(s, "ProcessWaitCompleted", 0, ('%s"kind":"child","name":%s,'):format(
      head_of(key), journal.json.encode(name)), "error", journal.storable(s, err))
    error(err, 0)
  end
  root.children = root.children or {}
  root.children[id] = opts.on_end or "cancel"
  if s.halt then strands.checkpoint(s) end
  return id
end

local function check(what, name, opts)
  if type(name) ~= "string" then error(("self:%s needs the name of a process"):format(what), 3) end
  for option in pairs(opts) do
    if not OPTIONS[option] then
      error(("self:%s: unknown option %s; there are id, on_end, tags, timeout"):format(what,
        tostring(option)), 3)
    end
  end
  if opts.on_end ~= nil and not ON_END[opts.on_end] then
    error(("self:%s: on_end is \"cancel\" or \"abandon\", not %s"):format(what,
      tostring(opts.on_end)), 3)
  end
end

-- How a child has ended, or nil.
local function outcome(s, id)
  local app = s.app
  local stream = app.store:stream(journal.PREFIX .. id)
  if not stream or app.store:is_unfinished(stream) then return nil end
  local status, result, failure = app.engine:outcome(id, stream)
  if failure then
    local stored = journal.storable(s, failure)
    stored.status = status
    return { field = "error", value = stored }
  end
  return { field = "value", value = result }
end

-- A fork is not the parent of the children that its process had begun: it is told of their end.
local function listen(p, id)
  local waiting = p.app.engine.forks_waiting or {}
  p.app.engine.forks_waiting = waiting
  waiting[id] = waiting[id] or {}
  waiting[id][p.id] = true
end

--- Waits for the end of a child: its result; or nil and its error, whose status tells how it ended.
--- May yield.
---@param id string
---@param opts { timeout: string? }?
local function wait_for(id, opts)
  local s = waits.current("start(...):wait")
  local timeout_ms = waits.check("start(...):wait", id, opts, { timeout = true })
  local root = s.root or s
  local value, err = waits.wait(s, "child:wait", { kind = "child_end", name = id,
    timeout_ms = timeout_ms, look = function() return outcome(s, id) end,
    began = root.is_fork and function() listen(root, id) end or nil,
    answer = function(_, entry)
      if root.children then root.children[id] = nil end
      if entry.error then
        local failure = errors.from(entry.error)
        failure.status = entry.error.status
        return nil, failure
      end
      return entry.result
    end })
  return value, err
end

--- Starts a child: { id, wait = function(self, { timeout }) }.
function M.start(_, name, input, opts)
  opts = opts or {}
  local s = waits.current("start")
  check("start", name, opts)
  local op = strands.begin(s, "self:start")
  local id = strands.operate(s, start, s, op, name, input, opts)
  return { id = id, wait = function(_, more) return wait_for(id, more) end }
end

--- Starts a child and waits for its result; raises its error.
function M.run(_, name, input, opts)
  opts = opts or {}
  local s = waits.current("run")
  check("run", name, opts)
  local op = strands.begin(s, "self:run")
  local id = strands.operate(s, start, s, op, name, input, opts)
  local value, err = wait_for(id)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

--- Children that have not ended and are not to be abandoned, by the journal or the instance.
---@param app catga.App
---@param stream integer
---@param p catga.Instance?
---@return string[] ids
function M.unfinished(app, stream, p)
  local known = p and p.children
  if not p then
    local records = journal.records(app, stream)
    local ok, history = pcall(journal.history, records or {})
    known = ok and history.children
  end
  local list = {}
  for id, on_end in raw.pairs(known or {}) do
    local child = app.store:stream(journal.PREFIX .. id)
    if on_end == "cancel" and child and app.store:is_unfinished(child) then list[#list + 1] = id end
  end
  table.sort(list)
  return list
end

-- Cancels children and waits until they have ended.
local function cancel_all(p, list)
  for _, id in ipairs(list) do
    local ok, err = p.app.engine:cancel(id)
    if not ok and err.code ~= "ended" then
      p.app:say("warn", ("child %s of process %s goes on: %s"):format(id, p.id, tostring(err)))
    end
  end
end

--- Cancels the children that some operations have started, unless they are to be abandoned. May
--- yield.
---@param p catga.Instance
---@param records table[]  of its journal
---@param takes fun(op: integer|string): boolean
function M.end_some(p, records, takes)
  local list = {}
  for _, id in ipairs(M.unfinished(p.app, p.stream, p)) do
    for _, record in ipairs(records) do
      if record.type == "ProcessChildStarted" and record.data.child == id
        and takes(record.data.op) then
        list[#list + 1] = id
      end
    end
  end
  cancel_all(p, list)
  for _, id in ipairs(list) do p.children[id] = nil end
end

--- Cancels the children of a process that ends, and waits until they have ended. May yield.
---@param p catga.Instance
function M.end_all(p)
  cancel_all(p, M.unfinished(p.app, p.stream, p))
  p.children = nil
end

return M
