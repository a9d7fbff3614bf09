--- HTTP for projections.
---
---   GET /projections    GET /projections/{name}    GET /projections/{name}/skipped[?max=]
---   POST /projections/{name}/pause {"note"?}    .../resume    .../stop    .../start
---   POST /projections/{name}/rebuild {"wait"?}
---   POST /sql {"query","params"?,"on"?,"max"?,"timeout"?}: {"columns": [{"name"}],
---     "rows","more"}
local codec = require "catga.native.json"
local errors = require "catga.error"
local duration = require "catga.duration"
local answers = require "catga.http.answer"
local control = require "catga.projection.control"
local query = require "catga.projection.query"

local M = {}

local LIST_MAX = 10000

local function bad(text) return answers.problem(400, "invalid", text) end

local function done(value, err)
  if value == nil then return answers.refuse(err) end
  return answers.answer(200, value)
end

--- All projections.
function M.list(app) return answers.answer(200, codec.array(control.list(app))) end

--- One projection, or what it has passed over.
function M.show(app, name, request)
  local of = name:match("^(.*)/skipped$")
  if not of then return done(control.get(app, name)) end
  local ok, max, kind, text = answers.number_of(request.query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  local list, err = control.skipped(app, of, { max = max })
  return done(list and codec.array(list), err)
end

local ACTIONS = {}

function ACTIONS.pause(app, name, data)
  if data.note ~= nil and type(data.note) ~= "string" then return bad("note must be a string") end
  return done(control.pause(app, name, { note = data.note }))
end

function ACTIONS.resume(app, name) return done(control.resume(app, name)) end

function ACTIONS.stop(app, name) return done(control.stop(app, name)) end

function ACTIONS.start(app, name) return done(control.start(app, name)) end

function ACTIONS.rebuild(app, name, data)
  return done(answers.waiting(app, control.rebuild, app, name, { wait = data.wait == true }))
end

--- Does something with a projection.
function M.act(app, path, request)
  local name, what = path:match("^(.*)/([^/]*)$")
  local action = name and ACTIONS[what]
  if not action then
    return answers.refuse(errors.new("not_found", ("there is nothing at /projections/%s; what can "
      .. "be done with a projection is pause, resume, stop, start and rebuild"):format(path)))
  end
  if type(request.data) ~= "table" then return bad("the body is an object") end
  return action(app, name, request.data)
end

local FIELDS = { query = "string", on = "string", max = "number", timeout = "string",
  params = "table" }

-- What is wrong with the body of a query; nil: nothing.
local function wrong_query(data)
  if type(data) ~= "table" or type(data.query) ~= "string" then
    return "the body needs query: a SELECT"
  end
  for field, value in pairs(data) do
    if FIELDS[field] ~= type(value) then
      return FIELDS[field] and ("%s must be a %s"):format(field, FIELDS[field])
        or ("there is no field %s; there are max, on, params, query, timeout"):format(field)
    end
  end
  if data.max and (data.max < 1 or data.max % 1 ~= 0) then
    return "max must be a whole number from 1"
  end
  if data.timeout then
    local _, fault = duration.parse(data.timeout, "timeout")
    return fault
  end
end

--- Ad-hoc SQL.
function M.sql(app, _, request)
  local data = request.data
  local fault = wrong_query(data)
  if fault then return bad(fault) end
  local rows, columns, is_cut = query.run(app, data.query, { on = data.on, params = data.params,
    max = data.max, timeout = data.timeout })
  if not rows then return answers.refuse(columns) end
  local list = {}
  for i, column in ipairs(columns) do list[i] = { name = column } end
  return answers.answer(200, { columns = codec.array(list),
    rows = query.documents(rows, columns), more = is_cut })
end

return M
