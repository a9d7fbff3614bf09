--- Messages that a route has given up, and routing one of them again.
local errors = require "catga.error"
local state = require "catga.state"
local units = require "catga.unit"
local INTERNAL = require "catga.flags".INTERNAL

local M = {}

M.PREFIX = "$route-letters-"

--- Stages the letter of a message in the open unit of work. Raises when it cannot be stored.
---@param app catga.App
---@param set string
---@param rule catga.Rule
---@param event table
---@param err catga.Error
---@param attempts integer
function M.add(app, set, rule, event, err, attempts)
  local letter = { kind = "route", source = set .. "/" .. rule.name, type = event.type,
    -- Personal fields stay where they are encrypted.
    data = not event.personal and event.data or nil, stream = event.stream,
    version = event.version, position = event.position,
    reason = { code = tostring(err.code), message = tostring(err.message) }, attempts = attempts,
    traceback = err.traceback }
  local ok, dead_letters = pcall(require, "catga.dead_letters")
  if ok then
    local id, fault = dead_letters.add(app, letter)
    if not id then error(fault, 0) end
    return
  end
  local version, fault = units.of(state[1]):append(M.PREFIX .. set, { { type = "RouteGivenUp",
    data = letter } }, "any", INTERNAL)
  if not version then error(errors.from(fault), 0) end
end

return M
