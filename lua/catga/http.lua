--- The HTTP API: routes, statuses, problem documents (RFC 9457).
---
--- C parses the requests and sends the answers; each request is handled here, in a task of its own.
---
---   POST /commands/{name}    POST /queries/{name}    POST /events/{type}
---   POST /processes/{name}[?wait=1]    GET /processes[?status=&name=&max=]    GET /processes/{id}
---   GET /streams/{name}[?from=&max=&backward=1&wait=5s]    GET /livez
local state = require "catga.state"
local errors = require "catga.error"
local codec = require "catga.native.json"
local duration = require "catga.duration"
local events = require "catga.events"

local M = {}

local JSON = "application/json"
local PROBLEM = "application/problem+json"
local KEY_BYTES_MAX = 255     -- Of an Idempotency-Key.
local LIST_MAX = 10000        -- Processes or events in one answer.
local WAIT_MS_MAX = 60000     -- How long a read of a stream may wait for events.
local POLL_MS = 20            -- How often it looks.

local STATUS_OF = {
  not_found = 404, validation = 422, invalid = 422, conflict = 409, exists = 409,
  timeout = 504, closed = 503, failed = 503, fenced = 503, disk_full = 507, no_memory = 503,
  error = 500, script_error = 500, io_error = 500, corrupt = 500, would_deadlock = 500,
  permission = 500,
}

local TITLES = {
  [400] = "bad request", [404] = "not found", [405] = "method not allowed", [409] = "conflict",
  [413] = "too large", [422] = "refused", [500] = "failed", [503] = "unavailable",
  [504] = "not done in time", [507] = "no space left",
}

local function status_of(err)
  if err.code:find("^unknown_") then return 404 end
  if err.code == "limit" then return err.retryable and 503 or 422 end
  return STATUS_OF[err.code] or 422
end

local function problem(status, code, message, more)
  local document = { type = "about:blank", title = TITLES[status] or "failed", status = status,
    code = code, detail = message }
  for name, value in pairs(more or {}) do document[name] = value end
  return status, PROBLEM, assert(codec.encode(document))
end

local function refuse(err, more)
  err = errors.from(err)
  more = more or {}
  more.retryable = err.retryable == true
  return problem(status_of(err), err.code, tostring(err.message), more)
end

local function answer(status, value, ...)
  local text, err = codec.encode(value)
  if not text then return refuse(errors.new("error", "the answer: " .. err.message)) end
  return status, JSON, text, ...
end

-- The data of a message, or nothing and what to answer. No body is an empty object.
local function read_body(body)
  if body == "" then return true, {} end
  local data, err = codec.decode(body)
  if err then return false, problem(400, err.code, "the body: " .. err.message) end
  return true, data
end

local function message_options(headers)
  local key = headers["idempotency-key"]
  if not key then return true, nil end
  if key == "" or #key > KEY_BYTES_MAX then
    return false, problem(400, "invalid",
      ("Idempotency-Key must have 1 to %d bytes"):format(KEY_BYTES_MAX))
  end
  return true, { key = key }
end

local function send(kind)
  return function(app, name, request)
    local keyed, opts, kind_of_fault, fault = message_options(request.headers)
    if not keyed then return opts, kind_of_fault, fault end
    local value, err = app.mediator:send(kind, name, request.data,
      opts and app.mediator.outside(opts))
    if value == nil and err ~= nil then return refuse(err) end
    return answer(200, value)
  end
end

local function publish(app, name, request)
  local ok, err = app.mediator:publish(name, request.data)
  if not ok then return refuse(err) end
  return answer(200, true)
end

local function is_set(value)
  return value ~= nil and value ~= "0" and value ~= "false"
end

local function escape(text)
  return (text:gsub("[^%w%-%._~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
end

-- Calls fn, which may wait for long: a graceful stop does not wait for that.
local function waiting(app, fn, ...)
  app.handling = app.handling - 1
  local function finish(ok, ...)
    app.handling = app.handling + 1
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn, ...))
end

local function start_process(app, name, request)
  local id, err, instance = app.engine:start(name, request.data)
  if not id then return refuse(err) end
  if not is_set(request.query.wait) then
    return answer(instance and 201 or 200, { id = id }, "Location", "/processes/" .. escape(id))
  end
  local status, result, failure = waiting(app, app.engine.wait, app.engine, id)
  if failure ~= nil then return refuse(failure, { id = id, process_status = status }) end
  return answer(200, { id = id, status = status, result = result })
end

-- A whole number of the query, or nothing and what to answer.
local function number_of(query, name, least, most)
  local text = query[name]
  if text == nil then return true, nil end
  local number = text:find("^%d+$") and tonumber(text)
  if not number or number < least or number > most then
    return false, problem(400, "invalid",
      ("%s must be a whole number from %d to %.0f, got \"%s\""):format(name, least, most, text))
  end
  return true, number
end

local function list_processes(app, _, request)
  local ok, max, kind, text = number_of(request.query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  local list, err = app:process_list { status = request.query.status, name = request.query.name,
    max = max }
  if not list then return refuse(err) end
  return answer(200, codec.array(list))
end

local function show_process(app, id)
  local process, err = app:process(id)
  if not process then return refuse(err) end
  return answer(200, process)
end

-- Waits until the stream has a record of version `from`, or the time is over.
local function wait_for(app, name, from, ms)
  local deadline = app.clock:mono() + ms
  while app.clock:mono() < deadline and not app.is_draining do
    local stream = app.store:stream(name)
    if stream and app.store:count(stream) > from then return end
    app.clock:sleep(POLL_MS)
  end
end

local function read_stream(app, name, request)
  local query = request.query
  local ok, from, kind, text = number_of(query, "from", 0, 2 ^ 53)
  if not ok then return from, kind, text end
  local max
  ok, max, kind, text = number_of(query, "max", 1, LIST_MAX)
  if not ok then return max, kind, text end
  if query.wait then
    local known, ms = pcall(duration.ms, query.wait, "wait")
    if not known or ms > WAIT_MS_MAX then
      return problem(400, "invalid", "wait must be a duration of at most 60s, such as \"5s\"")
    end
    waiting(app, wait_for, app, name, from or 0, ms)
  end
  if not app.store:stream(name) and not query.wait then
    return problem(404, "not_found", ("there is no stream %s"):format(name))
  end
  local list, err = events.read(name,
    { from = from, max = max or 100, backward = is_set(query.backward) })
  if not list then return refuse(err) end
  return answer(200, codec.array(list))
end

local function live(app)
  if app.is_failed then return problem(503, "failed", "the event log stopped") end
  return answer(200, { status = app.is_draining and "stopping" or "ok" })
end

-- Folder of the path to what its methods do: [with a name behind it, without].
local ROUTES = {
  commands = { POST = { send "command" } },
  queries = { POST = { send "query" } },
  events = { POST = { publish } },
  processes = { POST = { start_process }, GET = { show_process, list_processes } },
  streams = { GET = { read_stream } },
  livez = { GET = { nil, live } },
}

local function methods_of(route, place)
  local list = {}
  for method, handlers in pairs(route) do
    if handlers[place] then list[#list + 1] = method end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

local function find_route(method, path)
  local folder, name = path:match("^/([^/]+)/?(.*)$")
  local route = folder and ROUTES[folder]
  if not route then
    return nil, problem(404, "not_found", ("there is nothing at %s"):format(path))
  end
  local place = name ~= "" and 1 or 2
  local handlers = route[method == "HEAD" and "GET" or method]
  local handler = handlers and handlers[place]
  if handler then return handler, name end
  local allowed = methods_of(route, place)
  if allowed == "" then
    return nil, problem(404, "not_found", ("there is nothing at %s"):format(path))
  end
  local status, kind, text = problem(405, "invalid", ("%s allows %s"):format(path, allowed))
  return nil, status, kind, text, "Allow", allowed
end

-- What leaves the machine rests only on what is durable.
local function answer_flushed(app, ...)
  local ok, err = app:flushed()
  if not ok then return refuse(err) end
  return ...
end

--- Handles one request; must run in a task. May yield.
---@param app catga.App
---@param method string
---@param path string                    unescaped
---@param query table<string, string>    unescaped
---@param headers table<string, string>  names in lower case
---@param body string
---@return integer status
---@return string content_type
---@return string body
---@return string? header_name           one more header
---@return string? header_value
function M.handle(app, method, path, query, headers, body)
  local handler, name, kind, text, header, value = find_route(method, path)
  if not handler then return name, kind, text, header, value end
  if (app.stopping or app.is_draining) and handler ~= live then
    return problem(503, "closed", "the app is stopping; try again later", { retryable = true })
  end
  local request = { query = query, headers = headers }
  if method == "POST" then
    local ok, data, fault_kind, fault = read_body(body)
    if not ok then return data, fault_kind, fault end
    request.data = data
  end
  if handler == live then return live(app) end
  return answer_flushed(app, handler(app, name, request))
end

--- What C calls for each request of an app.
---@param app catga.App
---@return function  called with method, path, query, headers, body and give, which gets the answer
function M.handler(app)
  return function(method, path, query, headers, body, give)
    state[1].app = app
    app.handling = app.handling + 1
    local function finish(ok, status, ...)
      app.handling = app.handling - 1
      if ok then return give(status, ...) end
      local err = status
      app:say("error", ("%s %s: %s%s"):format(method, path, tostring(err.message),
        err.traceback or ""))
      give(refuse(err))
    end
    finish(xpcall(M.handle, errors.catch, app, method, path, query, headers, body))
  end
end

return M
