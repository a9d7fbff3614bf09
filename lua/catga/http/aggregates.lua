--- HTTP for aggregates.
---
---   GET /aggregates/{stream}[?version=|at=]            the state, now, at a version or at a time
---   GET /aggregate-changes/{stream}?from=&to=          what changed; without from: from the start
local codec = require "catga.native.json"
local answers = require "catga.http.answer"
local view = require "catga.aggregate.view"

local M = {}

local NUMBER_MAX = 2 ^ 53

--- The state of the aggregate that a stream is of.
function M.show(app, stream, request)
  local query = request.query
  local ok, version, kind, text = answers.number_of(query, "version", 0, NUMBER_MAX)
  if not ok then return version, kind, text end
  local at, fault = answers.time_of(query, "at")
  if fault then return answers.problem(400, "invalid", fault) end
  if version and at then
    return answers.problem(400, "invalid", "give either a version or a time")
  end
  local shown, err = view.show(app, stream,
    (version or at) and { version = version, at = at } or nil)
  if not shown then return answers.refuse(err) end
  return answers.answer(200, shown)
end

--- What changed between two versions of an aggregate.
function M.changes(app, stream, request)
  local numbers, status, kind, text = answers.numbers_of(request.query,
    { from = { 0, NUMBER_MAX }, to = { 0, NUMBER_MAX } })
  if not numbers then return status, kind, text end
  if not numbers.to then return answers.problem(400, "invalid", "to is the version to end at") end
  local list, err = view.changes(app, stream, numbers.from or -1, numbers.to)
  if not list then return answers.refuse(err) end
  return answers.answer(200, codec.array(list))
end

return M
