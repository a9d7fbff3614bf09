--- Authorisation: asked before anything of a message is looked at, spent or given away.
---
--- authorize = function(message, ctx) returns true when it may; false or nil, and a reason, when it
--- may not: the answer is the error `forbidden` (HTTP 403). What it raises is an error of its own.
local errors = require "catga.error"
local protected = require "catga.protected".call

local M = {}

M.fields = { by = { "function" } }
M.short = "by"

function M.check(p)
  if not p.by then error("authorize needs a function(message, ctx)", 0) end
end

local catch = errors.catch

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param _ nil
---@param scope catga.PolicyScope
function M.layer(inner, p, _, scope)
  local by, counters, name = p.by, scope.counters, scope.name
  counters.forbidden = counters.forbidden or 0
  return function(data, ctx)
    local ok, may, reason = xpcall(protected, catch, by, data, ctx)
    if not ok then return nil, may end
    if may == true then return inner(data, ctx) end
    counters.forbidden = counters.forbidden + 1
    if errors.is(reason) then return nil, errors.from(reason) end
    return nil, errors.new("forbidden", ("%s: %s"):format(name, type(reason) == "string" and reason
      or "not allowed"))
  end
end

return M
