--- Commits beside units of work: the runtime's own records; and whether a refused commit is worth
--- another attempt.
local errors = require "catga.error"
local INTERNAL = require "catga.flags".INTERNAL

local M = {}

local ANY = -1            -- No expected version.
local BEHIND_MS = 1       -- Pause while the log has much to write.
local FULL_PAUSE_MS = 100 -- Between looks whether a full disk has space again.

--- Was the append refused only because the log's writer is behind (backpressure)?
---@param err catga.Error
---@return boolean
function M.is_behind(err)
  return err.code == "limit" and err.message:find("pending", 1, true) ~= nil
end

--- How long to wait before a refused append is tried again; nil: it will not be taken.
---@param err catga.Error
---@return number? ms
function M.pause_after(err)
  if M.is_behind(err) then return BEHIND_MS end
  if err.code == "disk_full" then return FULL_PAUSE_MS end
end

local function is_table(value) return type(value) == "table" end

-- Adds one record to the commit that is built: its version, or nil and an error.
local function add(store, stream_name, type, data, flags)
  local json, fault = data, nil
  if is_table(data) then json, fault = store:encode(data, type) end
  if not json then return nil, fault end
  return store:add(store:stream(stream_name, true), ANY, type, json, nil, flags or INTERNAL)
end

--- Commits bookkeeping records, whatever unit of work is open, and parks until they are durable.
--- May yield.
---@param app catga.App
---@param fill fun(add: fun(stream: string, type: string, data: table|string, flags: integer?):
---  integer?)  adds the records, whose data is a table or JSON, INTERNAL unless flags say more; may
---  be called again; a record that cannot be added is the error, and nothing is committed
---@return boolean ok
---@return catga.Error? err
function M.records(app, fill)
  local store = app.store
  local fault
  local function record(stream_name, type, data, flags)
    local version, err = add(store, stream_name, type, data, flags)
    if not version then fault = fault or err end
    return version
  end
  while true do
    if app.is_closed then return false, errors.new("closed", "the app was stopped") end
    fault = nil
    store:begin()
    fill(record)
    if fault then
      store:rollback()
      return false, fault
    end
    local first, after = store:commit()
    if first then return store:wait(after - 1) end
    if not M.is_behind(after) then return false, after end
    app.clock:sleep(BEHIND_MS)
  end
end

return M
