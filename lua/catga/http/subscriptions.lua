--- HTTP for subscriptions with a name.
---
---   GET /subscriptions    GET /subscriptions/{name}
---   GET /subscriptions/{name}/parked[?after=&max=]
---   POST /subscriptions/{name}/pause    .../resume    .../reset {"position":0|"start"|"end"}
---   POST /subscriptions/{name}/replay {"position":7|"all"}    .../drop {"position":7|"all"}
---   POST /subscriptions/{name}/take[?max=10&wait=5s]          events, each with its token
---   POST /subscriptions/{name}/ack {"token"}    .../retry {"token","delay"?}
---     .../park {"token","reason"?}
local codec = require "catga.native.json"
local duration = require "catga.duration"
local errors = require "catga.error"
local answers = require "catga.http.answer"

local M = {}

local LIST_MAX = 10000    -- Parked events, or events taken, in one answer.
local NUMBER_MAX = 2 ^ 53
local WAIT_MS_MAX = 60000 -- How long a take may wait for events.
local POLL_MS = 20        -- How often it looks.

local function bad(text) return answers.problem(400, "invalid", text) end

-- The answer to something that is done, or an error.
local function done(value, err)
  if value == nil then return answers.refuse(err) end
  return answers.answer(200, value)
end

--- All subscriptions.
function M.list(app) return answers.answer(200, codec.array(app.subscriptions:list())) end

--- One subscription, or its parked events.
function M.show(app, path, request)
  local name, what = path:match("^([^/]*)/?(.*)$")
  if what == "" then return done(app.subscriptions:get(name)) end
  if what ~= "parked" then
    return answers.problem(404, "not_found", ("there is nothing at /subscriptions/%s"):format(path))
  end
  local numbers, status, kind, text = answers.numbers_of(request.query,
    { after = { 0, NUMBER_MAX }, max = { 1, LIST_MAX } })
  if not numbers then return status, kind, text end
  local list, err = app.subscriptions:parked(name, numbers)
  return done(list and codec.array(list), err)
end

-- Takes events; with a wait, as soon as there are any.
local function take(app, name, max, wait_ms)
  local deadline = app.clock:mono() + wait_ms
  while true do
    local list, err = app.subscriptions:take(name, max)
    if not list or #list > 0 or app.clock:mono() >= deadline or app.is_draining then
      return list, err
    end
    app.clock:sleep(POLL_MS)
  end
end

local ACTIONS = {}

function ACTIONS.pause(app, name) return done(app.subscriptions:pause(name)) end

function ACTIONS.resume(app, name) return done(app.subscriptions:resume(name)) end

function ACTIONS.reset(app, name, data)
  return done(app.subscriptions:reset(name, data.position))
end

-- Does something with one parked event, or all.
local function with_parked(method)
  return function(app, name, data)
    local which = data.position
    if which ~= "all" and type(which) ~= "number" then
      return bad("the body needs a position: that of a parked event, or \"all\"")
    end
    local count, err = app.subscriptions[method](app.subscriptions, name, which)
    return done(count and { count = count }, err)
  end
end

ACTIONS.replay = with_parked "replay"
ACTIONS.drop = with_parked "drop"

function ACTIONS.take(app, name, _, query)
  local ok, max, kind, text = answers.number_of(query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  local known, ms = pcall(duration.ms, query.wait or "0s", "wait")
  if not known or ms > WAIT_MS_MAX then
    return bad("wait must be a duration of at most 60s, such as \"5s\"")
  end
  local list, err = answers.waiting(app, take, app, name, max, ms)
  return done(list and codec.array(list), err)
end

-- Answers a delivery by its token.
local function with_token(kind)
  return function(app, name, data)
    if type(data.token) ~= "string" then return bad("the body needs the token of a delivery") end
    local more
    if kind == "park" and data.reason ~= nil then more = tostring(data.reason) end
    if kind == "retry" and data.delay ~= nil then
      local ms, fault = duration.parse(data.delay, "delay")
      if not ms then return bad(fault) end
      more = ms
    end
    return done(app.subscriptions:answer(name, kind, data.token, more))
  end
end

ACTIONS.ack = with_token "ack"
ACTIONS.retry = with_token "retry"
ACTIONS.park = with_token "park"

--- Does something with a subscription.
function M.act(app, path, request)
  local name, what = path:match("^([^/]*)/([^/]*)$")
  local action = name and ACTIONS[what]
  if not action then
    return answers.refuse(errors.new("not_found", ("there is nothing at /subscriptions/%s; what "
      .. "can be done with a subscription is pause, resume, reset, replay, drop, take, ack, retry "
      .. "and park"):format(path)))
  end
  if type(request.data) ~= "table" then return bad("the body is an object") end
  return action(app, name, request.data, request.query)
end

return M
