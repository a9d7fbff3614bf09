--- HTTP for export and import of events as CloudEvents, one JSON document a line.
---
---   GET /export[?after=&to=&until_time=&max=&stream=&category=&types=A,B&type_prefix=&source=]
---     a page of lines; the header Catga-Next says the `after` that goes on; without it the end is
---     reached
---   GET /export/end      {"position":N}: of the last durable event
---   POST /import[?stream=&field=subject|type|source&skip_bad=1]    lines, one commit
local codec = require "catga.native.json"
local cloud = require "catga.events.cloud"
local import = require "catga.events.import"
local check = require "catga.events.options"
local answers = require "catga.http.answer"

local M = {}

local LINES = "application/x-ndjson"
local MAX_DEFAULT = 500
local MAX = 10000
local PAGE_BYTES_MAX = 4 * 2 ^ 20 -- A page ends with the line that reaches it.
local IMPORT_LINES_MAX = 10000    -- Of one batch.
local READ_MAX = 100              -- Events read at once.

local FIELDS = { subject = true, type = true, source = true }

local function text_of(value) return value ~= "" and value or nil end

local function last_position(app)
  local _, durable = app.store:positions()
  return durable - 1
end

-- Adds lines to a page until it is full; gives the position up to which it has looked.
local function fill(cursor, query, after, source, lines)
  local size, position = 0, after
  while #lines < query.max and size < PAGE_BYTES_MAX and position < query.to do
    local list, upto = cursor:next(math.min(READ_MAX, query.max - #lines))
    if not list then return nil, upto end
    for _, event in ipairs(list) do
      if event.position > query.to or event.time > query.until_time then return query.to end
      local line, err = codec.encode(cloud.document(event, source))
      if not line then return nil, err end
      lines[#lines + 1] = line
      size = size + #line
    end
    if upto == position then return query.to end
    position = upto
  end
  return position
end

local function export_page(app, request)
  local query = request.query
  local numbers, status, kind, text = answers.numbers_of(query, { after = { 0, check.NUMBER_MAX },
    to = { 0, check.NUMBER_MAX }, max = { 1, MAX } })
  if not numbers then return status, kind, text end
  local until_time, fault = answers.time_of(query, "until_time")
  if fault then return answers.problem(400, "invalid", fault) end
  local after, last = numbers.after or 0, last_position(app)
  local bounds = { max = numbers.max or MAX_DEFAULT, until_time = until_time or math.huge,
    to = math.min(numbers.to or last, last) }
  local cursor = app.store:cursor(after, { types = answers.types_of(query.types),
    type_prefix = text_of(query.type_prefix), category = text_of(query.category),
    stream = text_of(query.stream) })
  local lines = {}
  local position, err = fill(cursor, bounds, after,
    text_of(query.source) or "urn:catga:log:" .. app.store:log_id(), lines)
  cursor:close()
  if not position then return answers.refuse(err) end
  local body = lines[1] and table.concat(lines, "\n") .. "\n" or ""
  if position >= bounds.to then return 200, LINES, body end
  return 200, LINES, body, "Catga-Next", ("%d"):format(position)
end

--- A page of events as lines, or where they end.
function M.export(app, name, request)
  if name == "end" then return answers.answer(200, { position = last_position(app) }) end
  if name ~= nil and name ~= "" then
    return answers.problem(404, "not_found", "there is /export and /export/end")
  end
  return export_page(app, request)
end

local function split(body)
  local lines, count = {}, 0
  for line in body:gmatch("([^\n]*)\n?") do
    count = count + 1
    lines[count] = line
  end
  if lines[count] == "" then lines[count] = nil end -- gmatch ends with nothing.
  return lines
end

--- Imports lines.
function M.import(app, _, request)
  local query = request.query
  local field = text_of(query.field) or "subject"
  if not FIELDS[field] then
    return answers.problem(400, "invalid", "field is subject, type or source, not " .. field)
  end
  local lines = split(request.body)
  if #lines > IMPORT_LINES_MAX then
    return answers.problem(413, "limit", ("%d lines at once, more than %d"):format(#lines,
      IMPORT_LINES_MAX))
  end
  local result, err = import.batch(app, lines, { stream = text_of(query.stream), field = field,
    skip_bad = answers.is_set(query.skip_bad) })
  if not result then return answers.refuse(err, { line = err.line }) end
  return answers.answer(200, result)
end

return M
