--- HTTP for streams.
---
---   GET /streams[?prefix=&category=&after=&max=]    what is known of each
---   GET /streams/{name}[?from=&to=&until_time=&max=&backward=1&types=A,B&type_prefix=&wait=5s]
---     events; the header Catga-Next says the `from` that goes on
---   POST /streams/{name}[?expect=]      one event or a list of them
---   GET, POST /scavenge    POST /compress[?older=7d]    how far one is; runs it: its summary
---   DELETE /streams/{name}[?expect=&hard=1]    GET /stream-info/{name}
---   GET, PUT /metadata/{name}[?expect=]        GET, PUT /category-metadata/{category}[?expect=]
local codec = require "catga.native.json"
local duration = require "catga.duration"
local events = require "catga.events"
local answers = require "catga.http.answer"

local M = {}

local LIST_MAX = 10000    -- Events in one answer.
local STREAMS_MAX = 1000  -- Streams in one answer.
local NUMBER_MAX = 2 ^ 53
local WAIT_MS_MAX = 60000 -- How long a read of a stream may wait for events.
local POLL_MS = 20        -- How often it looks.

-- Waits until the stream has a record of version `from`, or the time is over.
local function wait_for(app, name, from, ms)
  local deadline = app.clock:mono() + ms
  while app.clock:mono() < deadline and not app.is_draining do
    local stream = app.store:stream(name)
    if stream and app.store:count(stream) > from then return end
    app.clock:sleep(POLL_MS)
  end
end

local function bad(text) return answers.problem(400, "invalid", text) end

--- Reads events of a stream.
function M.read(app, name, request)
  local query = request.query
  local numbers, status, kind, text = answers.numbers_of(query, { from = { 0, NUMBER_MAX },
    to = { 0, NUMBER_MAX }, max = { 1, LIST_MAX } })
  if not numbers then return status, kind, text end
  local until_time, fault = answers.time_of(query, "until_time")
  if fault then return bad(fault) end
  if query.wait then
    local known, ms = pcall(duration.ms, query.wait, "wait")
    if not known or ms > WAIT_MS_MAX then
      return bad("wait must be a duration of at most 60s, such as \"5s\"")
    end
    answers.waiting(app, wait_for, app, name, numbers.from or 0, ms)
  end
  local list, more = events.read(name, { from = numbers.from, to = numbers.to,
    max = numbers.max or 100, backward = answers.is_set(query.backward), until_time = until_time,
    types = answers.types_of(query.types),
    type_prefix = query.type_prefix ~= "" and query.type_prefix or nil })
  if not list then return answers.refuse(more) end
  if #list == 0 and not query.wait and not app.store:stream(name) then
    return answers.problem(404, "not_found", ("there is no stream %s"):format(name))
  end
  if more then return answers.answer(200, codec.array(list), "Catga-Next", ("%d"):format(more)) end
  return answers.answer(200, codec.array(list))
end

--- Lists streams.
function M.list(_, _, request)
  local query = request.query
  local ok, max, kind, text = answers.number_of(query, "max", 1, STREAMS_MAX)
  if not ok then return max, kind, text end
  local opts = { max = max }
  for _, name in ipairs { "prefix", "category", "after" } do
    opts[name] = query[name] ~= "" and query[name] or nil
  end
  local list = {}
  for i, name in ipairs(events.streams(opts)) do
    local info, err = events.stream_info(name)
    if not info then return answers.refuse(err) end
    list[i] = info
  end
  return answers.answer(200, codec.array(list))
end

--- Appends one event, or a list of them.
function M.append(_, name, request)
  local list = request.data
  if type(list) ~= "table" or #list == 0 and list.type == nil then
    return bad("the body is an event, {\"type\": ..., \"data\": ...}, or a list of them")
  end
  if #list == 0 then list = { list } end
  local result, err = events.append(name, list,
    { expect = answers.expect_of(request.query.expect) })
  if not result then return answers.refuse(err) end
  return answers.answer(result.repeated and 200 or 201, result)
end

--- Deletes a stream.
function M.delete(_, name, request)
  local result, err = events.delete(name, { hard = answers.is_set(request.query.hard),
    expect = answers.expect_of(request.query.expect) })
  if not result then return answers.refuse(err) end
  return answers.answer(200, result)
end

--- Tells how far a scavenge is, or that none is under way.
function M.scavenging(app)
  return answers.answer(200, app.scavenging or codec.null)
end

--- Scavenges.
function M.scavenge(app)
  local summary, err = answers.waiting(app, events.scavenge)
  if not summary then return answers.refuse(err) end
  return answers.answer(200, summary)
end

--- Compresses.
function M.compress(app, _, request)
  local older = request.query.older
  if older then
    local known, fault = duration.parse(older, "older")
    if not known then return bad(fault) end
  end
  local summary, err = answers.waiting(app, events.compress, { older = older })
  if not summary then return answers.refuse(err) end
  return answers.answer(200, summary)
end

--- Tells what is known of a stream.
function M.info(_, name)
  local info, err = events.stream_info(name)
  if not info then return answers.refuse(err) end
  return answers.answer(200, info)
end

local function show_metadata(target)
  local fields, version = events.metadata(target)
  if not fields then return answers.refuse(version) end
  return answers.answer(200, { metadata = fields, version = version })
end

local function put_metadata(target, request)
  if type(request.data) ~= "table" then
    return bad("the body is an object such as {\"max_count\": 100}")
  end
  local result, err = events.set_metadata(target, request.data,
    { expect = answers.expect_of(request.query.expect) })
  if not result then return answers.refuse(err) end
  return answers.answer(200, result)
end

--- Tells the metadata of a stream.
function M.metadata(_, name) return show_metadata(name) end

--- Sets the metadata of a stream.
function M.set_metadata(_, name, request) return put_metadata(name, request) end

--- Tells the metadata of a category.
function M.category_metadata(_, name) return show_metadata { category = name } end

--- Sets the metadata of a category.
function M.set_category_metadata(_, name, request)
  return put_metadata({ category = name }, request)
end

return M
