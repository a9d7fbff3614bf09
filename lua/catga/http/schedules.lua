--- HTTP for schedules.
---
---   GET /schedules[?prefix=&after=&max=]    GET /schedules/{name}
---   POST /schedules {"name","cron","process","input"?,...}    and the options of catga.schedule
---   POST /schedules/{name}/pause {"note"?}    .../resume {"note"?}
---   POST /schedules/{name}/trigger {"overlap"?}    .../backfill {"from","to","overlap"?}
---   DELETE /schedules/{name}
local codec = require "catga.native.json"
local errors = require "catga.error"
local answers = require "catga.http.answer"
local schedules = require "catga.schedule.verbs"

local M = {}

local LIST_MAX = 10000

local function bad(text) return answers.problem(400, "invalid", text) end

-- The answer to something that is done, or an error.
local function done(value, err)
  if value == nil then return answers.refuse(err) end
  return answers.answer(200, value)
end

--- All schedules.
function M.list(app, _, request)
  local query = request.query
  local ok, max, kind, text = answers.number_of(query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  local list, err = schedules.list(app, { prefix = query.prefix, after = query.after, max = max })
  return done(list and codec.array(list), err)
end

--- One schedule.
function M.show(app, name) return done(schedules.get(app, name)) end

local ARGUMENTS = { name = true, cron = true, process = true, input = true }

--- Makes a schedule.
function M.create(app, _, request)
  local data, options = request.data, {}
  if type(data) ~= "table" then return bad("the body is an object") end
  for field, value in pairs(data) do
    if not ARGUMENTS[field] then options[field] = value end
  end
  local made, err = schedules.create(app, data.name, data.cron, data.process, data.input, options)
  if not made then return answers.refuse(err) end
  return answers.answer(201, made, "Location", "/schedules/" .. answers.escape(data.name))
end

--- Ends a schedule that was made while the app ran.
function M.delete(app, name) return done(schedules.delete(app, name)) end

local ACTIONS = {}

function ACTIONS.pause(app, name, data) return done(schedules.pause(app, name, data.note)) end

function ACTIONS.resume(app, name, data) return done(schedules.resume(app, name, data.note)) end

function ACTIONS.trigger(app, name, data)
  local id, err = schedules.trigger(app, name, { overlap = data.overlap })
  return done(id and { id = id }, err)
end

function ACTIONS.backfill(app, name, data)
  return done(schedules.backfill(app, name, data.from, data.to, { overlap = data.overlap }))
end

--- Does something with a schedule.
function M.act(app, path, request)
  local name, what = path:match("^([^/]*)/([^/]*)$")
  local action = name and ACTIONS[what]
  if not action then
    return answers.refuse(errors.new("not_found", ("there is nothing at /schedules/%s; what can be "
      .. "done with a schedule is pause, resume, trigger and backfill"):format(path)))
  end
  if type(request.data) ~= "table" then return bad("the body is an object") end
  return action(app, name, request.data)
end

return M
