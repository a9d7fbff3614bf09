--- Looking at aggregates from outside the scripts: state and differences by the name of the stream.
local errors = require "catga.error"
local aggregates = require "catga.aggregate"
local difference = require "catga.aggregate.difference"
local history = require "catga.aggregate.history"

local M = {}

-- When the event of a version was stored; nil when it is not there (any more).
local function time_of(app, stream, version)
  local number = app.store:stream(stream)
  if not number or version < 0 then return nil end
  local events = app.store:read(number, version, 1)
  return events and events[1] and events[1].version == version and events[1].time or nil
end

-- Reads the aggregate that a stream is of.
local function read(app, stream, upto)
  local class, id = aggregates.of_stream(app, stream)
  if not class then return nil, id end
  local number = app.store:stream(stream)
  if not number or app.store:count(number) == 0 then
    return nil, errors.new("not_found", "there is no stream " .. stream)
  end
  return history.read(app, class, id, upto)
end

--- The state of the aggregate that a stream is of. May yield.
---@param app catga.App
---@param stream string  "<Name>-<id>"
---@param upto catga.Until?  default: the newest
---@return { stream: string, aggregate: string, id: string, version: integer, time: number?,
---  state: table }? view
---@return catga.Error? err  "not_found", "unknown_aggregate", ...
function M.show(app, stream, upto)
  local walk, err = read(app, stream, upto)
  if not walk then return nil, err end
  return { stream = stream, aggregate = walk.class.name, id = walk.id, version = walk.version,
    time = time_of(app, stream, walk.version), state = walk.state }
end

--- What changed between two versions. May yield.
---@param app catga.App
---@param stream string
---@param from integer  -1: before the first event
---@param to integer
---@return { path: string, before: any, after: any }[]? changes
---@return catga.Error? err
function M.changes(app, stream, from, to)
  local before, err = read(app, stream, { version = from })
  if not before then return nil, err end
  local after
  after, err = read(app, stream, { version = to })
  if not after then return nil, err end
  return difference.between(before.state, after.state)
end

return M
