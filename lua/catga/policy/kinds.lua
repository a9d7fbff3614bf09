--- The kinds of policies, in the one order in which they stand around a handler, outermost first.
---
--- Each is a file of this directory with
---   fields: what may be set, { kind of value, default, bounds... } by name
---   short: the field that a bare value means, as in timeout = "5s"
---   check(p)?: raises what is wrong with fields that are right by themselves
---   new(scope, p)?: what the kind remembers, shared by all who use the policy by its name
---   layer(inner, p, instance, scope): the closure around the inner one
local M = {}

--- Outermost first. "unit" is the unit of work: what stands before it stands around all attempts
--- and commits, what comes behind it is a part of each attempt.
M.ORDER = {
  "authorize",     -- nothing is looked at, spent or given away before it
  "fallback",      -- for whatever failed below, but not for who is not allowed
  "total_timeout",
  "deduplicate",   -- a duplicate spends nothing
  "cache",         -- and so does who gets a kept answer; a fallback is not kept
  "order_by",      -- a key is kept over all attempts, or others would overtake
  "retry",
  "hedge",
  "breaker",       -- each attempt is an outcome; an open one spends no token and takes no place
  "limiter",
  "bulkhead",
  "lock",          -- held until the attempt is committed
  "batch",
  "unit",
  "timeout",       -- inside of the unit, so that it never undoes a commit
  "chaos",         -- as if the handler itself were late or failed
}

--- Short names of single fields.
M.ALIASES = {
  attempts = { "retry", "attempts" },
  backoff = { "retry", "backoff" },
}

--- The rank of each kind by name.
M.RANK = {}
for rank, name in ipairs(M.ORDER) do M.RANK[name] = rank end
M.RANK.chaos = 2000 -- Behind the app's own behaviors.

--- Is it a kind that can be set?
---@param name any
---@return boolean
function M.is_kind(name) return M.RANK[name] ~= nil and name ~= "unit" end

--- The module of a kind.
---@param name string
---@return table
function M.of(name) return require("catga.policy." .. name) end

--- All names that a policy may have, for checks and suggestions.
---@return table<string, true>
function M.names()
  local names = {}
  for _, name in ipairs(M.ORDER) do
    if name ~= "unit" then names[name] = true end
  end
  for name in pairs(M.ALIASES) do names[name] = true end
  return names
end

return M
