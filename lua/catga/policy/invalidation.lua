--- Which caches an event makes stale. Looked at when the unit of work that holds it has committed,
--- before its sender gets the answer.
local errors = require "catga.error"
local keys = require "catga.policy.keys"

local M = {}

--- A cache hears of events of a type.
---@param registry catga.Registry
---@param kind string
---@param cache catga.AnswerCache
---@param key_fn (fun(data: any): any)?  nil: it is emptied
---@param what string  for errors
function M.add(registry, kind, cache, key_fn, what)
  registry.invalidations = registry.invalidations or {}
  local list = registry.invalidations[kind] or {}
  registry.invalidations[kind] = list
  list[#list + 1] = { cache = cache, key_fn = key_fn, what = what }
end

--- An event of a type was committed, or published.
---@param app catga.App
---@param list table[]   of its type
---@param json string    its data
function M.event(app, list, json)
  local data
  for i = 1, #list do
    local one, key = list[i], nil
    if one.key_fn then
      data = data or app.json.decode(json)
      local err
      key, err = keys.of(one.key_fn, data, {}, one.what)
      -- What is not known to be right goes.
      if err then app:say("error", tostring(errors.from(err).message)) end
    end
    one.cache:invalidate(key)
  end
end

return M
