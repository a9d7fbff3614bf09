--- HTTP for asking a process, and changing one that runs.
---
---   POST /process-queries/{id}    {"name","args"?}
---   POST /process-updates/{id}    {"name","value"?,"id"?}    waits for what comes of it
---   POST /process-forks/{id}    {"op","id"?,"input"?}
---   GET /process-replays/{id}    GET /process-locals/{id}[?text=1]
local errors = require "catga.error"
local answers = require "catga.http.answer"
local lazy = require "catga.lazy"
local codec = require "catga.native.json"

local queries = lazy.module "catga.process.queries"
local updates = lazy.module "catga.process.updates"
local locals = lazy.module "catga.process.locals"
local fork = lazy.module "catga.process.fork"
local inspect = lazy.module "catga.process.inspect"

local M = {}

local function given(value)
  if value == codec.null then return nil end
  return value
end

-- The fields of a body, or nothing and what to answer.
local function fields_of(request, name)
  local data = request.data
  if type(data) == "table" and type(data[name]) == "string" then return data end
  return nil, answers.problem(400, "invalid", ("the body needs \"%s\", a text"):format(name))
end

--- Asks a process: the answer is the value that its query returns.
function M.query(app, id, request)
  local data, status, kind, text = fields_of(request, "name")
  if not data then return status, kind, text end
  local value, err = answers.waiting(app, queries.query, app.engine, id, data.name,
    given(data.args))
  if value == nil and err ~= nil then return answers.refuse(errors.from(err)) end
  return answers.answer(200, value)
end

--- Sends a process an update: the answer is the value that its handler returns.
function M.update(app, id, request)
  local data, status, kind, text = fields_of(request, "name")
  if not data then return status, kind, text end
  local value, err = answers.waiting(app, updates.update, app.engine, id, data.name,
    given(data.value), { id = given(data.id) })
  if value == nil and err ~= nil then return answers.refuse(errors.from(err)) end
  return answers.answer_shown(200, value)
end

--- Forks a process: the answer names the new one.
function M.fork(app, id, request)
  local data = request.data
  if type(data) ~= "table" or data.op == nil then
    return answers.problem(400, "invalid", "the body needs \"op\", the number of an operation")
  end
  local new_id, err = answers.waiting(app, fork.fork, app.engine, id, data.op,
    { id = given(data.id), input = given(data.input) })
  if not new_id then return answers.refuse(err) end
  return answers.answer(201, { id = new_id }, "Location", "/processes/" .. answers.escape(new_id))
end

--- Where a process stands in its script, with local variables; or as text for people.
function M.locals(app, id, request)
  local found, err = answers.waiting(app, locals.locals, app.engine, id)
  if not found then return answers.refuse(err) end
  if answers.is_set(request.query.text) then return 200, "text/plain; charset=utf-8", found.text end
  found.text = nil
  return answers.answer(200, found)
end

--- Does the script still do what the journal of a process holds?
function M.replay(app, id)
  local found, err = answers.waiting(app, inspect.replay, app.engine, id)
  if not found then return answers.refuse(err) end
  return answers.answer(200, found)
end

return M
