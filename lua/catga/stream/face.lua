--- The table catga.streams: list, get, pause, resume, reset.
local running = require "catga.face".running
local services = require "catga.stream.service"

local M = {}

-- Those of an app; made for one without streams, so that the answers are the same.
local function all(name)
  local app = running("catga.streams." .. name, "do it in a step", 4)
  app.streams = app.streams or services.new(app)
  return app.streams
end

--- All streams by name: { name, kind, status, position?, lag?, rate, events, watermark?, windows,
--- keys, late, dropped, skipped?, error?, last_error? }.
---@return table[]
function M.list() return all("list"):list() end

--- One of them.
---@param name string
---@return table? stream
---@return catga.Error? err
function M.get(name) return all("get"):get(name) end

--- Stops a stream until it is resumed; a durable one also over a restart. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function M.pause(name) return all("pause"):pause(name) end

--- Goes on after a pause or a failure. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function M.resume(name) return all("resume"):resume(name) end

--- Begins a durable stream again behind a position, without its state. May yield.
---@param name string
---@param position integer|"start"|"end"
---@return boolean? ok
---@return catga.Error? err
function M.reset(name, position) return all("reset"):reset(name, position) end

return M
