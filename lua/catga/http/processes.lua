--- HTTP for processes. An id in a path is percent-encoded whole, a "/" in it too.
---
---   POST /processes/{name}[?wait=1&id=&timeout=5m&tag.customer=ann]      input as the body
---   GET /processes[?status=&name=&parent=&tag.customer=ann&max=]    GET /processes/{id}
---   GET /process-history/{id}                                             records of the journal
---   POST /process-signals/{id}    {"name","value"?,"id"?}
---   POST /process-approvals/{id}  {"name","approved","by"?,"values"?,"reason"?,"id"?}
---   GET /approvals                                                        those that are waited
--- for
---   POST /promises/{id}           {"value"} or {"error":{"code","message"?}}
---   POST /process-control/{id}    {"action":"cancel|kill|pause|resume|retry|skip","reason"?,"op"?,
---                                  "result"?}
local codec = require "catga.native.json"
local errors = require "catga.error"
local answers = require "catga.http.answer"
local journal = require "catga.process.journal"
local outside = require "catga.process.outside"
local control = require "catga.process.control"
local describe = require "catga.process.describe"

local M = {}

local LIST_MAX = 10000 -- Processes in one answer.

local function bad(text) return answers.problem(400, "invalid", text) end

local function done(value, err)
  if value == nil then return answers.refuse(err) end
  return answers.answer(200, value)
end

-- Tags of the query: tag.name=value. Text that is a number or a truth is one.
local function tags_of(query)
  local tags
  for name, value in pairs(query) do
    local tag = name:match("^tag%.(.+)$")
    if tag then
      tags = tags or {}
      if value == "true" or value == "false" then value = value == "true" end
      tags[tag] = tonumber(value) or value
    end
  end
  return tags
end

-- The body as a table with these fields only, or nothing and what to answer.
local function fields_of(request, known)
  local data = request.data
  if type(data) ~= "table" then return nil, bad("the body must be an object") end
  for field in pairs(data) do
    if not known[field] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      table.sort(names)
      return nil, bad(("the body has an unknown field %s; there are %s"):format(tostring(field),
        table.concat(names, ", ")))
    end
  end
  return data
end

--- Starts a process; with wait, answers with its result.
function M.start(app, name, request)
  local query = request.query
  local opts = { id = query.id, timeout = query.timeout, tags = tags_of(query) }
  local id, err, instance = app.engine:start(name, request.data, next(opts) and opts or nil)
  if not id then return answers.refuse(err) end
  if not answers.is_set(query.wait) then
    return answers.answer(instance and 201 or 200, { id = id }, "Location",
      "/processes/" .. answers.escape(id))
  end
  local status, result, failure = answers.waiting(app, app.engine.wait, app.engine, id)
  if failure ~= nil then return answers.refuse(failure, { id = id, process_status = status }) end
  return answers.answer_shown(200, { id = id, status = status, result = result })
end

--- Lists processes.
function M.list(app, _, request)
  local query = request.query
  local ok, max, kind, text = answers.number_of(query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  local list, err = app:process_list { status = query.status, name = query.name, max = max,
    parent = query.parent, tags = tags_of(query) }
  if not list then return answers.refuse(err) end
  return answers.answer_shown(200, codec.array(list))
end

--- One process, with what it waits for.
function M.show(app, id)
  local process, err = app:process(id)
  if not process then return answers.refuse(err) end
  return answers.answer_shown(200, describe.add(app, process))
end

--- The records of a journal.
function M.history(app, id)
  local process, err = app:process(id)
  if not process then return answers.refuse(err) end
  local records
  records, err = journal.records(app, app.store:stream(journal.PREFIX .. id))
  if not records then return answers.refuse(err) end
  local list = {}
  for i, record in ipairs(records) do
    local data = type(record.data) == "table" and record.data or {}
    list[i] = { version = record.version, time = record.time, type = record.type, op = data.op,
      what = data.step or data.name or data.signal or data.approval or data.child
        or data.error and data.error.code, data = record.data }
  end
  return answers.answer_shown(200, codec.array(list))
end

local SIGNAL = { name = true, value = true, id = true }

--- Sends a signal.
function M.signal(app, id, request)
  local data, status, kind, text = fields_of(request, SIGNAL)
  if not data then return status, kind, text end
  return done(outside.signal(app.engine, id, data.name, data.value, { id = data.id }))
end

local APPROVAL = { name = true, approved = true, by = true, values = true, reason = true,
  id = true }

--- Answers an approval.
function M.approve(app, id, request)
  local data, status, kind, text = fields_of(request, APPROVAL)
  if not data then return status, kind, text end
  if type(data.approved) ~= "boolean" then return bad("approved is true or false") end
  local opts = { by = data.by, reason = data.reason, id = data.id }
  if data.approved then
    return done(outside.approve(app.engine, id, data.name, data.values, opts))
  end
  return done(outside.reject(app.engine, id, data.name, opts))
end

--- Approvals that processes in memory wait for.
function M.approvals(app) return answers.answer(200, codec.array(describe.approvals(app))) end

local PROMISE = { value = true, error = true }

--- Keeps a promise, or lets it fail.
function M.promise(app, id, request)
  local data, status, kind, text = fields_of(request, PROMISE)
  if not data then return status, kind, text end
  if data.error == nil then return done(outside.resolve(app.engine, id, data.value)) end
  if type(data.error) ~= "table" or not errors.is(data.error) then
    return bad("error is an object with a code and a message")
  end
  return done(outside.refuse(app.engine, id, data.error))
end

local CONTROL = { action = true, reason = true, op = true, result = true }
local ACTIONS = { cancel = true, kill = true, pause = true, resume = true, retry = true }

--- Cancels, kills, pauses, resumes, retries a process, or skips a step of it.
function M.control(app, id, request)
  local data, status, kind, text = fields_of(request, CONTROL)
  if not data then return status, kind, text end
  if data.action == "skip" then
    if data.op == nil then return bad("skip needs op, the number of the operation") end
    return done(control.skip(app.engine, id, tostring(data.op), data.result))
  end
  if not ACTIONS[data.action] then
    return bad(("action is cancel, kill, pause, resume, retry or skip, not %s"):format(
      tostring(data.action)))
  end
  return done(answers.waiting(app, control[data.action], app.engine, id, { reason = data.reason }))
end

return M
