--- Fallback: an answer for what failed in the end, also for what a breaker or limiter refused.
---
--- fallback = "a value", { value = {...} } or function(err, message, ctx). A function is called
--- outside of the failed unit of work and may fail itself. Who is not allowed gets no fallback.
local errors = require "catga.error"

local M = {}

M.fields = {
  value = { "any" },
  by = { "function" },
  on = { "codes" },     -- only for these errors
  not_on = { "codes" }, -- not for these
}

-- A function or a plain value is the short form.
M.short = "given"
M.fields.given = { "any" }

function M.check(p)
  local count = (p.value ~= nil and 1 or 0) + (p.by and 1 or 0) + (p.given ~= nil and 1 or 0)
  if count ~= 1 then
    error("fallback needs one of value and by, a function(err, message, ctx)", 0)
  end
end

local catch = errors.catch

local function is_for(p, err)
  if p.not_on and p.not_on[err.code] then return false end
  return not p.on or p.on[err.code] == true
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param _ nil
---@param scope catga.PolicyScope
function M.layer(inner, p, _, scope)
  local by, value, counters = p.by, p.value, scope.counters
  if type(p.given) == "function" then by = p.given elseif p.given ~= nil then value = p.given end
  counters.fallbacks = counters.fallbacks or 0
  return function(data, ctx)
    local result, err = inner(data, ctx)
    if result ~= nil or err == nil or not is_for(p, err) then return result, err end
    counters.fallbacks = counters.fallbacks + 1
    if not by then return value end
    local ok, instead, failure = xpcall(by, catch, err, data, ctx)
    if ok then return instead, failure end
    return nil, instead
  end
end

return M
