--- HTTP for processes.
---
---   POST /processes/{name}[?wait=1&id=&timeout=1h&tag.k=v]   the body is the input
---   GET /processes[?status=&name=&parent=&tag.k=v&max=]    GET /processes/{id}
---   GET /process-history/{id}[?from=&max=]    the journal; the header Catga-Next says the `from`
---     that goes on
---   POST /process-signals/{id} {"name","value"?,"id"?}
---   POST /process-approvals/{id} {"name","approved","by"?,"values"?,"reason"?,"id"?}
---   GET /approvals[?max=]    approvals that processes wait for
---   POST /promises/{id} {"value"} or {"error":{"code","message"?}}
---   POST /process-control/{id} {"action":"cancel"|"kill"|"pause"|"resume"|"retry","reason"?}, or
---     {"action":"skip","op","result"?}
---
--- A field or an argument that is not known is refused by name.
local codec = require "catga.native.json"
local errors = require "catga.error"
local suggest = require "catga.registry".suggest
local answers = require "catga.http.answer"
local journal = require "catga.process.journal"
local outside = require "catga.process.outside"
local control = require "catga.process.control"
local describe = require "catga.process.describe"

local M = {}

local LIST_MAX = 10000 -- Processes, records or approvals in one answer.
local HISTORY_MAX = 1000 -- Records in one answer, unless it is told.
local NUMBER_MAX = 2 ^ 53

local function bad(text) return answers.problem(400, "invalid", text) end

-- What is wrong with the names of a table; nil: nothing.
local function unknown_name(what, given, known)
  for name in pairs(given) do
    if not known[name] then
      local near = suggest(tostring(name), known)
      local list = {}
      for one in pairs(known) do list[#list + 1] = one end
      table.sort(list)
      return ("%s %s is not known%s; there are %s"):format(what, tostring(name),
        near and ("; did you mean %s?"):format(near) or "", table.concat(list, ", "))
    end
  end
end

-- What is wrong with a body: its fields, and their types ("string", "boolean", "any"; with "?"
-- those that may be missing); nil: nothing.
local function wrong_body(data, known)
  if type(data) ~= "table" or getmetatable(data) == codec.array_mt then
    return "the body is an object"
  end
  local fault = unknown_name("the field", data, known)
  if fault then return fault end
  for name, kind in pairs(known) do
    local wanted, is_optional = kind:match("^(%a+)(%??)$")
    local value = data[name]
    if value == codec.null and wanted ~= "any" then
      data[name], value = nil, nil
    end
    if value == nil and is_optional == "" then return ("the body needs %s"):format(name) end
    if value ~= nil and wanted ~= "any" and type(value) ~= wanted then
      return ("%s must be a %s, got %s"):format(name, wanted, type(value))
    end
  end
end

local START = { wait = true, id = true, timeout = true, ["tag.<name>"] = true }
local FILTERS = { status = true, name = true, parent = true, max = true, ["tag.<name>"] = true }

-- The tags of a query, "tag.name=value", or nil; and what is wrong with the names of the others.
local function tags_of(query, known)
  local plain, tags = {}, nil
  for name, value in pairs(query) do
    local tag = name:match("^tag%.(.+)$")
    if tag then
      tags = tags or {}
      tags[tag] = value
    else
      plain[name] = value
    end
  end
  return tags, unknown_name("the argument", plain, known)
end

--- Starts a process; with wait=1 answers when it has ended.
function M.start(app, name, request)
  local query = request.query
  local tags, fault = tags_of(query, START)
  if fault then return bad(fault) end
  local opts = (query.id or query.timeout or tags)
    and { id = query.id, timeout = query.timeout, tags = tags } or nil
  local id, err, instance = app.engine:start(name, request.data, opts)
  if not id then return answers.refuse(err) end
  if not answers.is_set(query.wait) then
    return answers.answer(instance and 201 or 200, { id = id }, "Location",
      "/processes/" .. answers.escape(id))
  end
  local status, result, failure = answers.waiting(app, app.engine.wait, app.engine, id)
  if failure ~= nil then return answers.refuse(failure, { id = id, process_status = status }) end
  return answers.answer_shown(200, { id = id, status = status, result = result })
end

--- Processes, newest first.
function M.list(app, _, request)
  local query = request.query
  local tags, fault = tags_of(query, FILTERS)
  if fault then return bad(fault) end
  local ok, max, kind, text = answers.number_of(query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  local list, err = app:process_list { status = query.status, name = query.name,
    parent = query.parent, tags = tags, max = max }
  if not list then return answers.refuse(err) end
  return answers.answer_shown(200, codec.array(list))
end

--- One process, with what it waits for and does.
function M.show(app, id)
  local process, err = app:process(id)
  if not process then return answers.refuse(err) end
  return answers.answer_shown(200, process)
end

--- The journal of a process.
function M.history(app, id, request)
  local fault = unknown_name("the argument", request.query, { from = true, max = true })
  if fault then return bad(fault) end
  local numbers, status, kind, text = answers.numbers_of(request.query,
    { from = { 0, NUMBER_MAX }, max = { 1, LIST_MAX } })
  if not numbers then return status, kind, text end
  local stream = app.store:stream(journal.PREFIX .. id)
  local count = stream and app.store:count(stream) or 0
  if count == 0 then
    return answers.refuse(errors.new("not_found", ("there is no process %s"):format(id)))
  end
  local records, err = app.store:read(stream, numbers.from or 0, numbers.max or HISTORY_MAX)
  if not records then return answers.refuse(err) end
  local list = codec.array {}
  for i, record in ipairs(records) do
    local data = record.data
    if type(data) == "table" and (data.blob or data.packed) then -- Its value is stored beside it.
      data = (journal.read(app, stream, record.version) or record).data
    end
    list[i] = { version = record.version, time = record.time, type = record.type, data = data,
      op = type(data) == "table" and data.op or nil, what = describe.record(record) }
  end
  local last = records[#records]
  if last and last.version + 1 < count then
    return answers.answer_shown(200, list, "Catga-Next", ("%d"):format(last.version + 1))
  end
  return answers.answer_shown(200, list)
end

-- The answer to something that is done, or an error.
local function done(ok, err)
  if ok == nil then return answers.refuse(err) end
  return answers.answer(200, true)
end

local SIGNAL = { name = "string", value = "any?", id = "string?" }

--- Sends a signal.
function M.signal(app, id, request)
  local data = request.data
  local fault = wrong_body(data, SIGNAL)
  if fault then return bad(fault) end
  return done(outside.signal(app.engine, id, data.name, data.value, { id = data.id }))
end

local ANSWER = { name = "string", approved = "boolean", by = "string?", values = "table?",
  reason = "string?", id = "string?" }

--- Approves or rejects.
function M.approve(app, id, request)
  local data = request.data
  local fault = wrong_body(data, ANSWER)
  if not fault and not data.approved and data.values then
    fault = "a rejection has no values"
  end
  if fault then return bad(fault) end
  local opts = { by = data.by, reason = data.reason, id = data.id }
  if not data.approved then return done(outside.reject(app.engine, id, data.name, opts)) end
  return done(outside.approve(app.engine, id, data.name, data.values, opts))
end

--- Approvals that processes wait for.
function M.approvals(app, _, request)
  local fault = unknown_name("the argument", request.query, { max = true })
  if fault then return bad(fault) end
  local ok, max, kind, text = answers.number_of(request.query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  return answers.answer(200, describe.all_approvals(app, max or LIST_MAX))
end

local FAILURE = { code = "string", message = "string?" }

--- Gives a promise its outcome.
function M.promise(app, id, request)
  local data = request.data
  local fault = wrong_body(data, { value = "any?", error = "table?" })
    or data.error and wrong_body(data.error, FAILURE)
  if not fault and (data.value == nil) == (data.error == nil) then
    fault = "the body needs a value or an error"
  end
  if not fault and data.error and data.error.code == "" then fault = "the code is empty" end
  if fault then return bad(fault) end
  if data.error then return done(outside.refuse(app.engine, id, data.error)) end
  return done(outside.resolve(app.engine, id, data.value))
end

local ACTION = { action = "string", reason = "string?" }
local SKIP = { action = "string", op = "any", result = "any?" }

-- Calls what may take long.
local function hold(action)
  return function(app, id, data)
    return answers.waiting(app, control[action], app.engine, id, { reason = data.reason })
  end
end

-- By action: the fields of its body, and what it does.
local ACTIONS = {
  cancel = { ACTION, hold "cancel" }, kill = { ACTION, hold "kill" },
  pause = { ACTION, hold "pause" }, resume = { ACTION, hold "resume" },
  retry = { ACTION, hold "retry" },
  skip = { SKIP, function(app, id, data)
    return answers.waiting(app, control.skip, app.engine, id, data.op, data.result)
  end },
}

--- Ends, holds or mends a process; the answer says how it stands then.
function M.control(app, id, request)
  local data = request.data
  local action = type(data) == "table" and data.action
  if type(action) ~= "string" then return bad("the body needs an action") end
  local known = ACTIONS[action]
  if not known then return bad(unknown_name("the action", { [action] = true }, ACTIONS)) end
  local fault = wrong_body(data, known[1])
  if not fault and data.op and type(data.op) ~= "number" and type(data.op) ~= "string" then
    fault = "op is the number of an operation, as the journal has it"
  end
  if fault then return bad(fault) end
  local ok, err = known[2](app, id, data)
  if not ok then return answers.refuse(err) end
  local process
  process, err = app:process(id)
  if not process then return answers.refuse(err) end
  return answers.answer(200, { id = id, status = process.status })
end

return M
