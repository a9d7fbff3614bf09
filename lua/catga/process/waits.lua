--- Durable waiting in the body of a process: for a time, a signal, an approval, a promise, an
--- event.
---
--- A wait that is not over at once is journaled when it begins (with the time it is due) and when
--- it is over; on replay the record tells what it came to. A message that has come in time wins
--- over the time that has passed, however late the process looks.
local state = require "catga.state"
local errors = require "catga.error"
local duration = require "catga.duration"
local schema = require "catga.schema"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local steps = require "catga.process.steps"
local mailbox = require "catga.process.mailbox"
local messages = require "catga.process.messages"
local dormant = require "catga.process.dormant"
local plain_random = require "catga.sandbox".raw.random

local M = {}

local NAME_BYTES_MAX = 512
local APPROVERS_MAX = 1000
local TIMER = { name = "sleep", heads = {}, quoted = '"sleep"' }

local function sleep(p, op, ms)
  local key = strands.key_of(p, op)
  local recorded = p.history and journal.recorded(p, op, "timer", "sleep")
  if recorded and recorded.done then return strands.take_turn(p, recorded, "timer sleep") end
  strands.go_live(p, "timer sleep", key)
  local due = recorded and recorded.due or p.app.clock:now() + ms
  if not recorded then
    journal.must_write(p, "ProcessTimerSet", 0, journal.head_of(TIMER, key), "due", due,
      dormant.tail(p, due))
  end
  strands.nap(p, due, nil, due)
  journal.must_write(p, "ProcessTimerFired", 0, journal.head_of(TIMER, key), "fired", true)
  steps.done_with_doubt(p)
  if p.halt then strands.checkpoint(p) end
end

--- The durable timer of self:sleep. May yield.
---@param p catga.Instance
---@param ms number
function M.sleep(p, ms)
  local op = strands.begin(p, "self:sleep")
  return strands.operate(p, sleep, p, op, ms)
end

--- What is waited for.
---@class catga.Wait
---@field kind string           "signal", "approval", "promise", "event", "child"
---@field name string
---@field timeout_ms number?
---@field due number?           Unix ms, while it is waited for
---@field note string?          further JSON members of the record of its beginning, with a comma
---@field starts boolean?       its beginning is journaled also when it is over at once
---@field began (fun(s: catga.Instance, recorded: table?))?  before it looks first
---@field look fun(s: catga.Instance, is_sure: boolean?): table?  what has come: { field, value }
---@field raises boolean?       an error of `began` or `look` is raised, live and on replay
---@field answer fun(s: catga.Instance, recorded: table): any, any  the results, from the record

local function head_of(wait, key)
  return ('"op":%s,"kind":"%s","name":%s,'):format(
    type(key) == "string" and '"' .. key .. '"' or key, wait.kind, journal.json.encode(wait.name))
end

-- What has gone wrong when a wait began or looked: it is what it comes to.
local function guarded(s, fn, ...)
  local ok, found = pcall(fn, ...)
  if ok then return found end
  return { field = "error", value = journal.storable(s, errors.from(found)) }
end

-- What a wait came to, as READ makes it of the record.
local function finish(s, wait, key, found)
  local head = head_of(wait, key)
  local entry = { found = found }
  if found then
    local value = journal.must_write(s, "ProcessWaitCompleted", 0, head, found.field, found.value)
    entry.record = found.field == "record" and found.value or nil
    if s.group and wait.kind == "signal" then
      messages.took(s.root, key, "signal " .. wait.name, { version = found.value,
        type = "ProcessSignalled", data = found.data })
    end
    entry.result = found.field == "value" and value or nil
    entry.error = found.field == "error" and value or nil
  else
    journal.must_write(s, "ProcessWaitTimedOut", 0, head, "timed_out", true)
    entry.timed_out = true
  end
  if s.halt then strands.checkpoint(s) end
  return entry
end

local function run(s, op, wait)
  local key, asked = strands.key_of(s, op), wait.kind .. " " .. wait.name
  local recorded = s.history and journal.recorded(s, op, wait.kind, wait.name)
  if recorded and recorded.done then
    strands.take_turn(s, recorded, asked)
    return recorded
  end
  strands.go_live(s, asked, key)
  local due = recorded and recorded.due
    or wait.timeout_ms and s.app.clock:now() + wait.timeout_ms or nil
  local found = wait.began and guarded(s, wait.began, s, recorded or nil)
    or not wait.starts and wait.look(s)
  if not found and not recorded then
    journal.must_write(s, "ProcessWaitStarted", 0, head_of(wait, key)
      .. (due and ('"due":%.0f,'):format(due) or "") .. (wait.note and wait.note(s) or ""),
      "since", s.app.clock:now(), dormant.tail(s, due))
    if s.halt then strands.checkpoint(s) end
  end
  wait.due = due
  found = found or strands.nap(s, due, function() return guarded(s, wait.look, s) end, wait)
    or guarded(s, wait.look, s, true)
  steps.done_with_doubt(s)
  return finish(s, wait, key, found)
end

local function timed_out(wait)
  return errors.new("timeout", ("nothing came within %g seconds: %s %s"):format(
    wait.timeout_ms / 1000, wait.kind, wait.name))
end

--- Waits as an operation of the body: what has come; or nil and an error with the code "timeout".
--- May yield.
---@param s catga.Instance
---@param what string  the method, for errors
---@param wait catga.Wait
---@return any value
---@return any err
function M.wait(s, what, wait)
  local op = strands.begin(s, what)
  local entry = strands.operate(s, run, s, op, wait)
  if entry.timed_out then return nil, timed_out(wait) end
  if entry.error and wait.raises then error(errors.from(entry.error), 0) end
  return wait.answer(s, entry)
end

-- The strand that runs, in the body.
local function current(what)
  local task = state[1]
  local s = task and task.process
  if not s then error("self:" .. what .. " is called outside of a process", 3) end
  if not task.flow then
    error(("self:%s is called inside a step; a step must end by itself: wait in the body")
      :format(what), 3)
  end
  return s
end
M.current = current

--- Checks the name of what is waited for and the options: the timeout in ms, if there is one.
---@param what string
---@param name any
---@param opts table?
---@param known table<string, true>
---@return number? timeout_ms
function M.check(what, name, opts, known)
  if type(name) ~= "string" or name == "" or #name > NAME_BYTES_MAX
    or not journal.json.encode(name) then
    error(("self:%s needs a name: UTF-8 text of 1 to %d bytes"):format(what, NAME_BYTES_MAX), 3)
  end
  for option in pairs(opts or {}) do
    if not known[option] then
      error(("self:%s: unknown option %s"):format(what, tostring(option)), 3)
    end
  end
  if not opts or opts.timeout == nil then return nil end
  local ms, fault = duration.parse(opts.timeout, "self:" .. what .. ": timeout")
  if not ms then error(fault, 3) end
  return ms
end

local TIMEOUT = { timeout = true }

-- Takes the oldest message of a key: what the record of the wait says of it.
local function take_message(key)
  return function(s, is_sure)
    mailbox.collect(s, is_sure)
    local list = mailbox.list(s, key)
    local message = list[1]
    if not message then return nil end
    table.remove(list, 1)
    return { field = "record", value = message.version, data = message.data }
  end
end

-- The data of the message that a record of a wait names.
local function message_of(s, key, entry)
  if entry.found then return entry.found.data end
  local p = s.root or s
  local data = p.read_mail and p.read_mail[entry.record]
  if not data then
    error(errors.new("damaged", ("the journal has no record %s, of %s"):format(
      tostring(entry.record), key)), 0)
  end
  return data
end

--- Waits for a signal: its value; or nil and an error with the code "timeout". May yield.
function M.receive(_, name, opts)
  local s = current("receive")
  local timeout_ms = M.check("receive", name, opts, TIMEOUT)
  local key = "signal " .. name
  return M.wait(s, "self:receive", { kind = "signal", name = name, timeout_ms = timeout_ms,
    look = take_message(key),
    answer = function(_, entry) return message_of(s, key, entry).value end })
end

--- A promise that somebody outside keeps: { id, wait = function(self, { timeout }) }.
function M.promise(_)
  local s = current("promise")
  local p = s.root or s
  local op = strands.begin(s, "self:promise")
  local key, id = strands.operate(s, function()
    local key = strands.key_of(s, op)
    local recorded = s.history and journal.recorded(s, op, "promise", "promise")
    if recorded then
      strands.take_turn(s, recorded, "promise promise")
      return key, recorded.result
    end
    strands.go_live(s, "promise promise", key)
    local made = ("%s~%08x%08x~%s"):format(key, plain_random(0, 2 ^ 31 - 1),
      plain_random(0, 2 ^ 31 - 1), s.id)
    local id = journal.must_write(s, "ProcessPromiseMade", 0,
      ('"op":%s,'):format(type(key) == "string" and '"' .. key .. '"' or key), "id", made)
    steps.done_with_doubt(s)
    if s.halt then strands.checkpoint(s) end
    return key, id
  end)
  p.promises = p.promises or {}
  p.promises[tostring(key)] = id
  return { id = id, wait = function(_, opts) return M.await(key, opts) end }
end

--- Waits for the outcome of a promise of this process.
---@param promise integer|string  number of the operation that made it
---@param opts { timeout: string? }?
function M.await(promise, opts)
  local s = current("promise():wait")
  local name = tostring(promise)
  local timeout_ms = M.check("promise():wait", name, opts, TIMEOUT)
  local key = "promise " .. name
  return M.wait(s, "promise:wait", { kind = "await", name = name, timeout_ms = timeout_ms,
    look = take_message(key),
    answer = function(_, entry)
      local data = message_of(s, key, entry)
      if data.error then return nil, errors.from(data.error) end
      return data.value
    end })
end

local APPROVAL = { timeout = true, approvers = true, quorum = true, form = true }

local function check_approvers(opts)
  local approvers, quorum = opts.approvers, opts.quorum or 1
  if type(quorum) ~= "number" or quorum < 1 or quorum % 1 ~= 0 then
    error("self:approval: quorum is a whole number from 1, got " .. tostring(quorum), 3)
  end
  if approvers == nil then return quorum end
  if type(approvers) ~= "table" or #approvers == 0 or #approvers > APPROVERS_MAX then
    error(("self:approval: approvers is a list of 1 to %d names"):format(APPROVERS_MAX), 3)
  end
  local names = {}
  for _, name in ipairs(approvers) do
    if type(name) ~= "string" then error("self:approval: approvers are names", 3) end
    names[name] = true
  end
  if quorum > #approvers then
    error(("self:approval: %d must approve, but there are %d approvers"):format(quorum,
      #approvers), 3)
  end
  return quorum, names
end

-- What the answers so far come to: nil while more are needed.
local function judge(answers, quorum)
  local by, values, seen = {}, {}, {}
  for _, message in ipairs(answers) do
    local data = message.data
    local who = data.by or ""
    if not data.approved then
      return { approved = false, by = data.by and { data.by } or journal.json.array {},
        values = data.values or {}, reason = data.reason }
    end
    if who == "" or not seen[who] then
      seen[who] = true
      by[#by + 1] = data.by
      for field, value in pairs(data.values or {}) do values[field] = value end
      quorum = quorum - 1
    end
    if quorum == 0 then
      return { approved = true, by = journal.json.array(by), values = values }
    end
  end
end

--- Waits until so many have approved, or one has rejected.
function M.approval(_, name, opts)
  opts = opts or {}
  local s = current("approval")
  local p = s.root or s
  local timeout_ms = M.check("approval", name, opts, APPROVAL)
  local quorum, names = check_approvers(opts)
  local is_valid = opts.form and schema.compile("approval " .. name, opts.form)
  local key = "approval " .. name
  local asked = { approvers = names, quorum = quorum, is_valid = is_valid, strand = s }
  local value, err = M.wait(s, "self:approval", { kind = "approval", name = name,
    timeout_ms = timeout_ms, starts = true, raises = true,
    note = function()
      return ('"quorum":%d,'):format(quorum) .. (opts.approvers
        and '"approvers":' .. journal.json.encode(opts.approvers) .. "," or "")
    end,
    began = function(_, recorded)
      p.approvals = p.approvals or {}
      local other = p.approvals[name] and p.approvals[name].strand
      if other and (other == p or p.branches and p.branches[other]) then
        error(errors.new("invalid", ("approval %s is asked for by another branch already")
          :format(name)), 0)
      end
      p.approvals[name] = asked
      if not recorded then mailbox.collect(s, true) end
      if not recorded and p.mail then p.mail[key] = nil end -- Of an approval before, of that name.
    end,
    look = function(_, is_sure)
      mailbox.collect(s, is_sure)
      local outcome = judge(mailbox.list(s, key), quorum)
      if not outcome then return nil end
      p.mail[key] = nil
      return { field = "value", value = outcome }
    end,
    answer = function(_, entry) return entry.result end })
  if p.approvals and p.approvals[name] == asked then p.approvals[name] = nil end
  return value, err
end

--- Waits until an event of a type is in the log, behind the moment when the wait began.
function M.wait_event(_, name, match, opts)
  local s = current("wait_event")
  local timeout_ms = M.check("wait_event", name, opts, TIMEOUT)
  if match ~= nil and type(match) ~= "table" and type(match) ~= "function" then
    error("self:wait_event(type, match, opts): match is a table of fields or a function, got "
      .. type(match), 2)
  end
  local events = require "catga.process.events"
  local waiter
  local root = s.root or s
  root.stays = (root.stays or 0) + 1 -- The match is a function of its body.
  local value, err = M.wait(s, "self:wait_event", { kind = "event", name = name,
    timeout_ms = timeout_ms, starts = true, raises = true,
    note = function()
      return ('"after":%.0f,'):format(waiter.after)
    end,
    began = function(_, recorded)
      waiter = events.add(s, name, match, recorded and recorded.after)
      s.waiter_for_event = waiter
    end,
    look = function()
      if waiter.failure then error(waiter.failure, 0) end
      return waiter.event and { field = "value", value = waiter.event }
    end,
    answer = function(_, entry) return entry.result end })
  root.stays = root.stays > 1 and root.stays - 1 or nil
  strands.release(s)
  return value, err
end

return M
