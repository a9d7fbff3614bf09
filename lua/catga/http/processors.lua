--- HTTP for streams at work (processors; the path `/streams` is the event store's).
---
---   GET /processors    GET /processors/{name}
---   POST /processors/{name}/pause    .../resume    .../reset {"position":0|"start"|"end"}
local codec = require "catga.native.json"
local errors = require "catga.error"
local answers = require "catga.http.answer"
local services = require "catga.stream.service"

local M = {}

local function streams_of(app) return app.streams or services.new(app) end

-- The answer to something that is done, or an error.
local function done(value, err)
  if value == nil then return answers.refuse(err) end
  return answers.answer(200, value)
end

--- All streams.
function M.list(app) return answers.answer(200, codec.array(streams_of(app):list())) end

--- One stream. A name without one is file:line, so the whole path is the name.
function M.show(app, name) return done(streams_of(app):get(name)) end

local ACTIONS = {}

function ACTIONS.pause(streams, name) return done(streams:pause(name)) end

function ACTIONS.resume(streams, name) return done(streams:resume(name)) end

function ACTIONS.reset(streams, name, data) return done(streams:reset(name, data.position)) end

--- Does something with a stream.
function M.act(app, path, request)
  local name, what = path:match("^(.*)/([^/]*)$")
  local action = name and ACTIONS[what]
  if not action then
    return answers.refuse(errors.new("not_found", ("there is nothing at /processors/%s; what can "
      .. "be done with a stream is pause, resume and reset"):format(path)))
  end
  if type(request.data) ~= "table" then
    return answers.problem(400, "invalid", "the body is an object")
  end
  return action(streams_of(app), name, request.data)
end

return M
