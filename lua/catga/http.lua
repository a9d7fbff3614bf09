--- The HTTP API: routes, statuses, problem documents (RFC 9457).
---
--- C parses the requests and sends the answers; each request is handled here, in a task of its own.
---
---   POST /commands/{name}    POST /queries/{name}    POST /events/{type}
---   GET /log    GET /livez
---   and those of lua/catga/http/processes.lua, process_queries.lua, definitions.lua, streams.lua,
---   aggregates.lua, transfer.lua, subscriptions.lua, schedules.lua, routes.lua, messages.lua,
---   policies.lua, processors.lua, projections.lua and personal.lua
local state = require "catga.state"
local errors = require "catga.error"
local codec = require "catga.native.json"
local answers = require "catga.http.answer"
local lazy = require "catga.lazy"
local duration = require "catga.duration"

local M = {}

local problem, refuse, answer = answers.problem, answers.refuse, answers.answer

local KEY_BYTES_MAX = 255     -- Of an Idempotency-Key.

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

-- What the answer to something that was done carries: a query with this `after` sees it.
local function position_of(app) return ("%.0f"):format(app:position()) end

-- What the query of a request says of the models: `after` and `timeout`.
local function query_options(request, opts)
  local ok, after, kind, fault = answers.number_of(request.query, "after", 0, 2 ^ 53)
  if not ok then return false, after, kind, fault end
  local ms, wrong
  if request.query.timeout then
    ms, wrong = duration.parse(request.query.timeout, "timeout")
    if wrong then return false, problem(400, "invalid", wrong) end
  end
  if not after then return true, opts end
  opts = opts or {}
  opts.after, opts.after_timeout_ms = after, ms
  return true, opts
end

local function send(kind)
  return function(app, name, request)
    local keyed, opts, kind_of_fault, fault = message_options(request.headers)
    if not keyed then return opts, kind_of_fault, fault end
    opts = opts and app.mediator.outside(opts)
    if kind == "query" and request.query.after then
      keyed, opts, kind_of_fault, fault = query_options(request, opts)
      if not keyed then return opts, kind_of_fault, fault end
    end
    local value, err = app.mediator:send(kind, name, request.data, opts)
    if value == nil and err ~= nil then return refuse(err) end
    if kind == "command" then return answer(200, value, "Catga-Position", position_of(app)) end
    return answer(200, value)
  end
end

local function publish(app, name, request)
  local ok, err = app.mediator:publish(name, request.data)
  if not ok then return refuse(err) end
  return answer(200, true, "Catga-Position", position_of(app))
end

-- Where the log stands, with everything durable that was committed before. What lies below
-- readable_position is durable, and in the files.
local function show_log(app)
  local ok, err = app:flushed()
  if not ok then return refuse(err) end
  local next_position, durable = app.store:positions()
  local stats = app.store:stats()
  return answer(200, {
    next_position = next_position, durable_position = durable,
    readable_position = math.min(durable, stats.written_position),
    durability = app.settings.durability, segments = stats.segment_count,
    commits = stats.commit_count, syncs = stats.sync_count, bytes_written = stats.write_bytes,
    bytes_cut = stats.cut_bytes,
  })
end

local function live(app)
  if app.is_failed then return problem(503, "failed", "the event log stopped") end
  return answer(200, { status = app.is_draining and "stopping" or "ok" })
end

-- Handlers of lua/catga/http/*.lua, which are loaded when they are asked for.
local function aggregate(name) return lazy.call("catga.http.aggregates", name) end
local function stream(name) return lazy.call("catga.http.streams", name) end
local function subscription(name) return lazy.call("catga.http.subscriptions", name) end
local function routing(name) return lazy.call("catga.http.routes", name) end
local function processor(name) return lazy.call("catga.http.processors", name) end
local function projection(name) return lazy.call("catga.http.projections", name) end
local function schedule(name) return lazy.call("catga.http.schedules", name) end
local function message(name) return lazy.call("catga.http.messages", name) end
local function process(name) return lazy.call("catga.http.processes", name) end
local function person(name) return lazy.call("catga.http.personal", name) end
local function definition(name) return lazy.call("catga.http.definitions", name) end
local function asking(name) return lazy.call("catga.http.process_queries", name) end
local function policies(name) return lazy.call("catga.http.policies", name) end
local export, import = lazy.call("catga.http.transfer", "export"),
  lazy.call("catga.http.transfer", "import")

-- Folder of the path to what its methods do: [with a name behind it, without].
local ROUTES = {
  commands = { POST = { send "command" } },
  queries = { POST = { send "query" } },
  events = { POST = { publish } },
  processes = { POST = { process "start" }, GET = { process "show", process "list" } },
  ["process-history"] = { GET = { process "history" } },
  ["process-signals"] = { POST = { process "signal" } },
  ["process-approvals"] = { POST = { process "approve" } },
  ["process-control"] = { POST = { process "control" } },
  approvals = { GET = { nil, process "approvals" } },
  promises = { POST = { process "promise" } },
  ["process-definitions"] = { GET = { definition "show", definition "list" } },
  streams = { GET = { stream "read", stream "list" }, POST = { stream "append" },
    DELETE = { stream "delete" } },
  ["stream-info"] = { GET = { stream "info" } },
  metadata = { GET = { stream "metadata" }, PUT = { stream "set_metadata" } },
  ["category-metadata"] = { GET = { stream "category_metadata" },
    PUT = { stream "set_category_metadata" } },
  aggregates = { GET = { aggregate "show" } },
  ["aggregate-changes"] = { GET = { aggregate "changes" } },
  scavenge = { GET = { nil, stream "scavenging" }, POST = { nil, stream "scavenge" } },
  compress = { POST = { nil, stream "compress" } },
  export = { GET = { export, export } },
  import = { POST = { nil, import } },
  subscriptions = { GET = { subscription "show", subscription "list" },
    POST = { subscription "act" } },
  processors = { GET = { processor "show", processor "list" }, POST = { processor "act" } },
  projections = { GET = { projection "show", projection "list" }, POST = { projection "act" } },
  sql = { POST = { nil, projection "sql" } },
  schedules = { GET = { schedule "show", schedule "list" },
    POST = { schedule "act", schedule "create" }, DELETE = { schedule "delete" } },
  outbox = { GET = { message "show", message "list" },
    POST = { message "act", message "enqueue" } },
  ["outbox-status"] = { GET = { nil, message "status" } },
  inbox = { GET = { nil, message "inbox" } },
  ["dead-letters"] = { GET = { message "letter", message "letters" }, PUT = { message "edit" },
    POST = { message "act_on_letters" } },
  ["dead-letter-groups"] = { GET = { nil, message "groups" } },
  routes = { GET = { nil, routing "list" } },
  ["route-sets"] = { GET = { nil, routing "sets" } },
  ["route-explanations"] = { POST = { nil, routing "explain" } },
  log = { GET = { nil, show_log } },
  subjects = { GET = { person "events", person "list" } },
  forget = { POST = { person "forget" } },
  ["process-queries"] = { POST = { asking "query" } },
  ["process-updates"] = { POST = { asking "update" } },
  ["process-forks"] = { POST = { asking "fork" } },
  handlers = { GET = { policies "handler", policies "handlers" } },
  policies = { GET = { policies "policy", policies "policies" } },
  ["process-locals"] = { GET = { asking "locals" } },
  ["process-replays"] = { GET = { asking "replay" } },
  livez = { GET = { nil, live } },
}

-- Their body is no JSON document.
local RAW = { [import] = true }

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
  local request = { query = query, headers = headers, body = body }
  if (method == "POST" or method == "PUT") and not RAW[handler] then
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
