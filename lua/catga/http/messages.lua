--- HTTP for messages: outbox, inbox, dead letters.
---
---   GET /outbox[?name=&group=&after=&max=]    GET /outbox/{id}    GET /outbox-status    GET /inbox
---   POST /outbox {"name","data"?,"delay"?,...}    and the options of catga.enqueue
---   POST /outbox/{id}/cancel    .../retry
---   GET /dead-letters[?kind=&source=&group=&type=&code=&status=&older_than=&after=&max=]
---   GET /dead-letters/{id}    PUT /dead-letters/{id}: its new data
---   GET /dead-letter-groups[?kind=...]
---   POST /dead-letters/{id}/retry    .../purge    and for several:
---   POST /dead-letters/retry {"all"|"group"|"source"|"kind"|...}    .../purge
---
--- A list that has more behind it has the header Catga-After: what `after` is then.
local codec = require "catga.native.json"
local errors = require "catga.error"
local answers = require "catga.http.answer"
local lazy = require "catga.lazy"

local enqueue = lazy.module "catga.outbox.enqueue"
local outbox = lazy.module "catga.outbox.verbs"
local letters = lazy.module "catga.dead_letters.verbs"
local inbox = lazy.module "catga.inbox"

local M = {}

local LIST_MAX = 10000

local function bad(text) return answers.problem(400, "invalid", text) end

-- The answer to something that is done, or an error.
local function done(value, err)
  if value == nil then return answers.refuse(err) end
  return answers.answer(200, value)
end

-- The answer that is a page of a list.
local function page(list, after)
  if not list then return answers.refuse(after) end
  if not after then return answers.answer(200, codec.array(list)) end
  return answers.answer(200, codec.array(list), "Catga-After", after)
end

-- What a query asks for, or nothing and what to answer.
local function asked(query)
  local opts = {}
  for name, value in pairs(query) do opts[name] = value end
  local ok, max, kind, text = answers.number_of(query, "max", 1, LIST_MAX)
  if not ok then return nil, max, kind, text end
  opts.max = max
  return opts
end

--- Messages that wait.
function M.list(app, _, request)
  local opts, status, kind, text = asked(request.query)
  if not opts then return status, kind, text end
  return page(outbox.list(app, opts))
end

--- One message.
function M.show(app, id) return done(outbox.get(app, id)) end

--- How the outbox stands.
function M.status(app) return answers.answer(200, outbox.status(app)) end

--- How many keys are known.
function M.inbox(app) return answers.answer(200, inbox.status(app)) end

--- Enqueues a command.
function M.enqueue(app, _, request)
  local data, options = request.data, {}
  if type(data) ~= "table" or type(data.name) ~= "string" then
    return bad("the body is an object with the name of a command")
  end
  for field, value in pairs(data) do
    if field ~= "name" and field ~= "data" then options[field] = value end
  end
  options.key = options.key or request.headers["idempotency-key"]
  local ok, fault = pcall(enqueue.fields, app, options)
  if not ok then return bad(tostring(errors.from(fault).message)) end
  local id, err = enqueue.enqueue(app, data.name, data.data, options)
  if not id then return answers.refuse(err) end
  return answers.answer(202, { id = id }, "Location", "/outbox/" .. answers.escape(id))
end

local function nothing_at(path, what)
  return answers.refuse(errors.new("not_found", ("there is nothing at %s; what can be done is %s")
    :format(path, what)))
end

--- Does something with a message.
function M.act(app, path)
  local id, what = path:match("^(.*)/([^/]*)$")
  if what ~= "cancel" and what ~= "retry" then
    return nothing_at("/outbox/" .. path, "cancel and retry")
  end
  return done(outbox[what](app, id))
end

--- Dead letters.
function M.letters(app, _, request)
  local opts, status, kind, text = asked(request.query)
  if not opts then return status, kind, text end
  local list, after = letters.list(app, opts)
  for i, letter in ipairs(list or {}) do list[i] = letters.shown(letter) end
  return page(list, after)
end

--- One dead letter.
function M.letter(app, id)
  local letter, err = letters.get(app, id)
  return done(letter and letters.shown(letter), err)
end

--- Groups of dead letters that are alike.
function M.groups(app, _, request)
  local opts, status, kind, text = asked(request.query)
  if not opts then return status, kind, text end
  local list, err = letters.groups(app, opts)
  return done(list and codec.array(list), err)
end

--- Changes the data of a dead letter.
function M.edit(app, id, request) return done(letters.edit(app, id, request.data)) end

--- Retries or purges dead letters.
function M.act_on_letters(app, path, request)
  local id, what = path:match("^(.*)/([^/]*)$")
  if not id then what = path end
  if what ~= "retry" and what ~= "purge" then
    return nothing_at("/dead-letters/" .. path, "retry and purge")
  end
  if not id and type(request.data) ~= "table" then return bad("the body is an object") end
  return done(letters[what](app, id or request.data))
end

return M
