--- What stands around a handler, and what policies remember: for people and programs.
local registries = require "catga.registry"
local errors = require "catga.error"
local kinds = require "catga.policy.kinds"

local M = {}

local suggest, sorted_names = registries.suggest, registries.sorted_names

--- One part of a pipeline.
---@class catga.PipelinePart
---@field name string     of a behavior or kind of policy; "unit of work", "handler"
---@field inside string   "message": once; "attempt": of each attempt, a part of its unit of work
---@field at string?      file:line of a behavior of the app, or of the handler
---@field options table?  { name, value, from } of a policy: from where each value is

local function text_of(value)
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  if value[1] ~= nil then
    for i, one in ipairs(value) do parts[i] = tostring(one) end
  else
    for _, name in ipairs(sorted_names(value)) do
      parts[#parts + 1] = name .. "=" .. text_of(value[name])
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function describe_kind(name, one, inside)
  local part = { name = name, inside = inside, options = {} }
  for _, field in ipairs(sorted_names(one.shown)) do
    part.options[#part.options + 1] = { name = field, value = text_of(one.shown[field]),
      from = one.from[field] }
  end
  return part
end

-- Is a behavior of the app, or a shipped one, around this handler?
local function is_around(behavior, entry)
  if behavior.only and behavior.only ~= entry.kind then return false end
  if behavior.name == "validation" then return entry.input ~= nil end
  if behavior.name == "idempotency" then return entry.kind == "command" end
  return true
end

local function describe_behavior(behavior, inside)
  return { name = behavior.name, inside = inside,
    at = behavior.fn and behavior.at or nil }
end

-- A batch has the behaviors that would stand behind it around itself.
local function move_members(parts)
  local before, members, behind = {}, {}, {}
  local is_behind = false
  for _, part in ipairs(parts) do
    if part.name == "batch" then is_behind = true end
    local is_member = is_behind and part.inside == "attempt" and not part.options
      and part.name ~= "idempotency" and part.name ~= "handler"
    local list = is_member and members or is_behind and behind or before
    if is_member then part.inside = "message" end
    list[#list + 1] = part
  end
  for _, list in ipairs { members, behind } do
    for _, part in ipairs(list) do before[#before + 1] = part end
  end
  return before
end

--- The pipeline of a handler, outermost first.
---@param registry catga.Registry
---@param entry catga.Entry
---@return catga.PipelinePart[]
function M.pipeline(registry, entry)
  local parts, effective = {}, entry.policies or {}
  local has_unit, inside = false, "message"
  for _, behavior in ipairs(registry.ordered) do
    has_unit = has_unit or behavior.is_place and behavior.name == "unit"
  end
  local function begin_unit()
    parts[#parts + 1] = { name = "unit of work", inside = "attempt" }
    inside = "attempt"
  end
  if not has_unit then begin_unit() end
  for _, behavior in ipairs(registry.ordered) do
    local name = behavior.name
    if behavior.is_place and name == "unit" then
      begin_unit()
    elseif behavior.is_place then
      if effective[name] then
        parts[#parts + 1] = describe_kind(name, effective[name], inside)
      end
    elseif is_around(behavior, entry) then
      parts[#parts + 1] = describe_behavior(behavior, inside)
    end
  end
  parts[#parts + 1] = { name = "handler", inside = "attempt", at = entry.at }
  return effective.batch and move_members(parts) or parts
end

-- All handlers: { name, entry }, by name.
local function all_handlers(registry)
  local list = {}
  for _, name in ipairs(sorted_names(registry.handlers)) do
    list[#list + 1] = { name, registry.handlers[name] }
  end
  for _, name in ipairs(sorted_names(registry.events)) do
    for _, entry in ipairs(registry.events[name]) do list[#list + 1] = { name, entry } end
  end
  for _, name in ipairs(sorted_names(registry.subscriptions)) do
    list[#list + 1] = { name, registry.subscriptions[name].entry, "subscription" }
  end
  return list
end

local function describe(registry, name, entry, kind)
  local parts = M.pipeline(registry, entry)
  local names = {}
  for i, part in ipairs(parts) do names[i] = part.name end
  return { name = name, kind = kind or entry.kind, at = entry.at, policy = entry.policy,
    idempotent = entry.idempotent or nil, calls = entry.counter.calls,
    failures = entry.counter.failures, pipeline = parts,
    order = table.concat(names, " > ") }
end

-- One row an option, for a table.
local function rows_of(list)
  local rows = {}
  for _, one in ipairs(list) do
    for _, part in ipairs(one.pipeline) do
      local options = part.options and part.options[1] and part.options or { { from = part.at } }
      for i, option in ipairs(options) do
        local is_first = i == 1
        rows[#rows + 1] = { part = is_first and part.name or "",
          inside = is_first and part.inside or "", option = option.name, value = option.value,
          from = option.from }
      end
    end
  end
  return rows
end

--- All handlers with their pipelines.
---@param app catga.App
---@return table[]
function M.handlers(app)
  local list = {}
  for i, one in ipairs(all_handlers(app.registry)) do
    list[i] = describe(app.registry, unpack(one, 1, 3))
  end
  return list
end

--- The handlers of a message, or of a subscription.
---@param app catga.App
---@param name string
---@return { name: string, handlers: table[], rows: table[] }? told  several handlers of an event
---@return catga.Error? err  "not_found"
function M.handler(app, name)
  local list, names = {}, {}
  for _, one in ipairs(all_handlers(app.registry)) do
    names[one[1]] = true
    if one[1] == name then list[#list + 1] = describe(app.registry, unpack(one, 1, 3)) end
  end
  if list[1] then return { name = name, handlers = list, rows = rows_of(list) } end
  local near = suggest(tostring(name), names)
  return nil, errors.new("not_found", ("there is no handler of %s%s"):format(tostring(name),
    near and ("; did you mean %s?"):format(near) or ""))
end

local function describe_status(status)
  local parts = {}
  for _, name in ipairs(sorted_names(status)) do
    if name ~= "state" then parts[#parts + 1] = ("%s %s"):format(name, tostring(status[name])) end
  end
  return table.concat(parts, ", ")
end

-- Who uses the policy of a name.
local function users_of(registry, name)
  local list = {}
  for _, one in ipairs(all_handlers(registry)) do
    if one[2].policy == name then list[#list + 1] = one[2].kind .. " " .. one[1] end
  end
  return list
end

-- What every owner remembers, by owner: kinds in their order, and counters.
local function memory_by_owner(registry)
  local owners = {}
  local function owner_of(name)
    owners[name] = owners[name] or { name = name, kinds = {}, counters = {} }
    return owners[name]
  end
  for name in pairs(registry.policies or {}) do owner_of("policy " .. name) end
  for _, one in pairs(registry.policy_memory or {}) do
    local owner = owner_of(one.owner)
    if one.counters then owner.counters = one.counters end
    if one.instance and one.instance.status then
      local status = one.instance:status()
      owner.kinds[#owner.kinds + 1] = { kind = one.kind, state = status.state, status = status,
        detail = describe_status(status) }
    end
  end
  for _, owner in pairs(owners) do
    table.sort(owner.kinds, function(a, b) return kinds.RANK[a.kind] < kinds.RANK[b.kind] end)
  end
  return owners
end

-- What a policy of a name says, kind by kind.
local function rules_of(app, registry, name)
  local effective = require("catga.policy").effective(app, registry, "policy " .. name,
    { policy = name })
  local list = {}
  for _, kind in ipairs(kinds.ORDER) do
    if effective and effective[kind] then
      for _, option in ipairs(describe_kind(kind, effective[kind]).options) do
        list[#list + 1] = { kind = kind, option = option.name, value = option.value,
          from = option.from }
      end
    end
  end
  return list
end

-- What it remembers, in one line.
local function summary_of(owner)
  local parts = {}
  for i, one in ipairs(owner.kinds) do
    parts[i] = one.kind .. ": " .. (one.state and one.state .. ", " or "") .. one.detail
  end
  return table.concat(parts, "; ")
end

--- All policies with a name, and what those of single messages, steps and calls remember.
---@param app catga.App
---@return table[]
function M.policies(app)
  local registry = app.registry
  local owners, list = memory_by_owner(registry), {}
  for _, name in ipairs(sorted_names(owners)) do
    local owner = owners[name]
    local plain = name:match("^policy (.*)$")
    local defined = plain and registry.policies and registry.policies[plain]
    if defined then
      owner.at, owner.used_by = defined.at, users_of(registry, plain)
      owner.rules = rules_of(app, registry, plain)
    end
    owner.summary = summary_of(owner)
    list[#list + 1] = owner
  end
  return list
end

--- What one owner remembers: "payments", "policy payments", "command Pay", or the name of a
--- message alone.
---@param app catga.App
---@param name string
---@return table? owner
---@return catga.Error? err  "not_found"
function M.policy(app, name)
  local names = {}
  for _, owner in ipairs(M.policies(app)) do
    local plain = owner.name:match("^%a+ (.*)$")
    if owner.name == name or plain == name then return owner end
    names[owner.name] = true
    if plain then names[plain] = true end
  end
  local near = suggest(tostring(name), names)
  return nil, errors.new("not_found", ("no policy is called %s, and no message with policies%s")
    :format(tostring(name), near and ("; did you mean %s?"):format(near) or ""))
end

return M
