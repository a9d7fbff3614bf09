--- What others tell a running process: signals, answers to approvals, outcomes of promises.
---
--- In a unit of work the message is staged and goes out with it; otherwise it is a commit of its
--- own, durable when the call returns.
local errors = require "catga.error"
local state = require "catga.state"
local flags = require "catga.flags"
local units = require "catga.unit"
local pause_after = require "catga.commit".pause_after
local journal = require "catga.process.journal"
local mailbox = require "catga.process.mailbox"

local M = {}

local ID_BYTES_MAX = 512
local REST_MS = 5         -- Between looks whether a process that was taken up is where it was.
local REST_MS_MAX = 60000 -- How long that may take.

local function check_name(what, name)
  if type(name) == "string" and name ~= "" and #name <= ID_BYTES_MAX
    and journal.json.encode(name) then
    return true
  end
  return nil, errors.new("invalid", ("%s must be UTF-8 text of 1 to %d bytes"):format(what,
    ID_BYTES_MAX))
end
M.check_name = check_name

--- The stream of an unfinished process, and the process in memory where it is one.
---@param engine catga.Engine
---@param id string
---@return integer? stream
---@return catga.Instance|catga.Error|nil p
function M.find(engine, id)
  local app = engine.app
  local stream = type(id) == "string" and app.store:stream(journal.PREFIX .. id)
  if not stream or app.store:count(stream) == 0 then
    return nil, errors.new("not_found", "there is no process " .. tostring(id))
  end
  if not app.store:is_unfinished(stream) then
    return nil, errors.new("ended", ("process %s has ended"):format(id))
  end
  local p = engine.active[id]
  if not p and not app.stopping then p = engine:take_up(stream) end
  return stream, p
end

--- Is the body of a process not yet where it was?
---@param p catga.Instance
---@return boolean
function M.is_replaying(p)
  return (p.history or p.floor and p.floor:is_replaying()) and not p.napping and true or false
end

-- The task of one that was just taken up has not run yet: what it waits for is not known.
local function has_begun(p)
  return p.op > 0 or p.napping or p.ending or p.halt or p.cancelled
end

--- Waits until a process that was taken up has replayed. May yield.
---@param p catga.Instance
function M.await_rest(p)
  local clock = p.app.clock
  local deadline = clock:mono() + REST_MS_MAX
  while not p.status and (M.is_replaying(p) or not has_begun(p)) and clock:mono() < deadline do
    clock:sleep(REST_MS)
  end
end

-- Stages the record in the open unit of work.
local function stage(app, task, id, stream, type, json)
  local unit = units.of(task)
  unit.ops[unit.n + 1] = { stream = stream, name = journal.PREFIX .. id, expected = -1, type = type,
    data = json, flags = flags.JOURNAL, ctx = task.ctx }
  unit.n = unit.n + 1
  unit:on_commit(function()
    local p = app.engine.active[id]
    if p then mailbox.announce(p) end
  end)
  local p = app.engine.active[id]
  if p then p.has_mail = true end
  return true
end

-- Commits the record alone. It is announced at once: whoever looks from now on finds it.
local function commit(app, id, stream, type, json)
  local store = app.store
  while true do
    if not store:is_unfinished(stream) then
      return nil, errors.new("ended", ("process %s has ended"):format(id))
    end
    store:begin()
    local version, err = store:add(stream, -1, type, json, nil, flags.JOURNAL)
    if not version then
      store:rollback()
      return nil, err
    end
    local first, after = store:commit()
    if first then
      local p = app.engine.active[id]
      if p then mailbox.announce(p) end
      local ok, fault = store:wait(after - 1)
      if not ok then return nil, fault end
      return true
    end
    local pause = pause_after(after)
    if not pause then return nil, after end
    app.clock:sleep(pause)
  end
end

--- Puts a message into the journal of a process. May yield.
---@param engine catga.Engine
---@param id string      of the process
---@param type string    of the record
---@param data table     message_id in it: one that was told before is told once
---@return boolean? ok
---@return catga.Error? err  "not_found", "ended"
function M.tell(engine, id, type, data)
  local app = engine.app
  local stream, p = M.find(engine, id)
  if not stream then return nil, p end
  if data.id ~= nil then
    local ok, err = check_name("the id of a message", data.id)
    if not ok then return nil, err end
    if p then mailbox.collect(p, true) end
    if p and p.mail_ids and p.mail_ids[data.id] then return app:flushed() end
  end
  local json, err = app.store:encode(data, type)
  if not json then return nil, err end
  local task = state[1]
  if task.in_unit or task.limit then return stage(app, task, id, stream, type, json) end
  return commit(app, id, stream, type, json)
end

--- Sends a signal. May yield.
---@param engine catga.Engine
---@param id string
---@param name string
---@param value any
---@param opts { id: string? }?  an id that was there before is ignored
---@return boolean? ok
---@return catga.Error? err
function M.signal(engine, id, name, value, opts)
  local ok, err = check_name("the name of a signal", name)
  if not ok then return nil, err end
  return M.tell(engine, id, "ProcessSignalled",
    { signal = name, value = value, id = opts and opts.id })
end

local function names_of(set)
  local list = {}
  for name in pairs(set or {}) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function check_answer(p, name, approved, values, by)
  local asked = p.approvals and p.approvals[name]
  if not asked then
    local open = names_of(p.approvals)
    return errors.new("not_found", ("process %s does not wait for approval %s; %s"):format(p.id,
      name, #open == 0 and "it waits for none" or "it waits for " .. table.concat(open, ", ")))
  end
  if asked.approvers and not asked.approvers[by or ""] then
    return errors.new("forbidden", ("approval %s of process %s is for %s, not for %s"):format(name,
      p.id, table.concat(names_of(asked.approvers), ", "), tostring(by)))
  end
  return approved and asked.is_valid and asked.is_valid(values or {}) or nil
end

local function answer(engine, id, name, approved, values, opts)
  opts = opts or {}
  local ok, err = check_name("the name of an approval", name)
  if ok and opts.by ~= nil then ok, err = check_name("by", opts.by) end
  if not ok then return nil, err end
  local stream, p = M.find(engine, id)
  if not stream then return nil, p end
  if not p then return nil, errors.new("stopped", "process " .. id .. " does not run") end
  M.await_rest(p)
  local fault = check_answer(p, name, approved, values, opts.by)
  if fault then return nil, fault end
  return M.tell(engine, id, "ProcessApprovalAnswered", { approval = name, approved = approved,
    by = opts.by, values = approved and values or nil, reason = opts.reason, id = opts.id })
end

--- Approves what a process waits for. May yield.
---@param engine catga.Engine
---@param id string
---@param name string
---@param values table?  what the form asks for
---@param opts { by: string?, id: string? }?
---@return boolean? ok
---@return catga.Error? err  "not_found": nothing of that name is waited for; "forbidden", "invalid"
function M.approve(engine, id, name, values, opts)
  if values ~= nil and type(values) ~= "table" then
    return nil, errors.new("invalid", "the values of an approval are a table")
  end
  return answer(engine, id, name, true, values, opts)
end

--- Rejects it. May yield.
---@param opts { by: string?, reason: string?, id: string? }?
function M.reject(engine, id, name, opts) return answer(engine, id, name, false, nil, opts) end

-- The process and the operation of a promise.
local function promise_of(engine, promise_id)
  local op, id = tostring(promise_id):match("^(u?[%d.]+)~%x+~(.+)$")
  if not op then
    return nil, errors.new("not_found", "there is no promise " .. tostring(promise_id))
  end
  local stream, p = M.find(engine, id)
  if not stream then return nil, p end
  if not p then return nil, errors.new("stopped", "process " .. id .. " does not run") end
  if not (p.promises and p.promises[op] == promise_id) then
    return nil, errors.new("not_found", "there is no promise " .. promise_id)
  end
  mailbox.collect(p, true)
  local is_kept = mailbox.list(p, "promise " .. op)[1]
  for _, data in pairs(p.read_mail or {}) do is_kept = is_kept or data.promise == op end
  if is_kept or p.kept and p.kept[op] then
    return nil, errors.new("conflict", ("promise %s has its outcome already"):format(promise_id))
  end
  p.kept = p.kept or {}
  p.kept[op] = true
  return id, op
end

local function keep(engine, promise_id, type, data)
  local id, op = promise_of(engine, promise_id)
  if not id then return nil, op end
  data.promise = op
  return M.tell(engine, id, type, data)
end

--- Gives a promise its value. May yield.
---@param engine catga.Engine
---@param promise_id string
---@param value any
---@return boolean? ok
---@return catga.Error? err  "not_found", "conflict": it has its outcome already
function M.resolve(engine, promise_id, value)
  return keep(engine, promise_id, "ProcessPromiseResolved", { value = value })
end

--- Lets a promise fail. May yield.
---@param failure catga.Error|{ code: string, message: string? }
function M.refuse(engine, promise_id, failure)
  failure = errors.from(failure)
  return keep(engine, promise_id, "ProcessPromiseRejected", { error = errors.stored(failure) })
end

return M
