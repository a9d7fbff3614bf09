--- Definitions of processes, for people and programs: form, steps, settings, where they stand.
local errors = require "catga.error"
local duration = require "catga.duration"
local sorted_names = require "catga.registry".sorted_names

local M = {}

--- One line of a definition: a step, or what stands between steps in a declaration.
---@class catga.DefinedStep
---@field name string
---@field kind string           "step", "send", "sleep", "wait", "parallel", "on_failure"; or
---  "named": it is named in the body of methods, by self:step or self:send
---@field branch string?        group that it is in: "goods and notice/goods"
---@field timeout_ms number?    of an attempt; of a wait
---@field attempts integer?
---@field backoff_ms number?
---@field policy string?       the policy that its settings name
---@field at_most_once boolean?
---@field compensation boolean? it has an undo of its own
---@field condition boolean?    it has a :when(fn)
---@field duration_ms number?   of a sleep, where it is known
---@field optional boolean?     of a wait
---@field at string?            file:line

---@class catga.Definition
---@field name string
---@field form "methods"|"declaration"
---@field at string             file:line
---@field code string           hash of all scripts
---@field ordered boolean       are the steps in the order in which they run?
---@field compensation "process"|"steps"|nil  what undoes it
---@field options table         timeout_ms, tags, serializer; and the defaults of its steps:
---  step_timeout_ms, attempts, backoff_ms
---@field steps catga.DefinedStep[]

local function place_of(fn)
  if type(fn) ~= "function" then return nil end
  local info = debug.getinfo(fn, "S")
  return ("%s:%d"):format(info.short_src, info.linedefined)
end

local function describe(step, kind, at, has_undo)
  return { name = step.name, kind = kind, at = at, timeout_ms = step.timeout_ms,
    attempts = step.attempts, backoff_ms = step.backoff_ms, policy = step.policy,
    at_most_once = step.at_most_once or nil, compensation = has_undo or nil }
end

local function describe_item(item)
  if item.step then
    return describe(item.step, item.kind, item.at, item.undo ~= nil)
  end
  local one = { name = item.name, kind = item.kind, at = item.at }
  if item.kind == "sleep" and type(item.fn) == "string" then
    one.duration_ms = duration.ms(item.fn)
  elseif item.kind == "wait" then
    one.timeout_ms = item.fn.timeout and duration.ms(item.fn.timeout)
    one.optional = item.fn.optional
  end
  return one
end

local function add_items(list, items, branch)
  for _, item in ipairs(items) do
    local one = describe_item(item)
    one.branch, one.condition = branch, item.when and true or nil
    list[#list + 1] = one
    for _, key in ipairs(item.keys or {}) do
      add_items(list, item.groups[key].items, ("%s%s/%s"):format(branch and branch .. "/" or "",
        item.name, tostring(key)))
    end
  end
end

local function declared_steps(class)
  local list, d = {}, class.declaration
  add_items(list, d.items)
  if d.on_failure then list[#list + 1] = describe_item(d.on_failure) end
  return list
end

-- Names of steps that have no method: the script has an undo or settings for them.
local function names_in_body(class)
  local names = {}
  for key in pairs(class.face) do
    local name = type(key) == "string" and key:match("^compensate_(.+)$")
    if name then names[name] = true end
  end
  for _, settings in ipairs { class.face.settings or {}, class.overrides } do
    for name in pairs(settings) do names[name] = true end
  end
  for name in pairs(class.steps) do names[name] = nil end
  if class.compensation then names[class.compensation.name] = nil end
  return names
end

local function method_steps(class)
  local list = {}
  local function add(step, kind)
    list[#list + 1] = describe(step, kind, place_of(step.fn),
      class.face["compensate_" .. step.name] ~= nil)
  end
  for _, name in ipairs(sorted_names(class.steps)) do add(class.steps[name], "step") end
  for _, name in ipairs(sorted_names(names_in_body(class))) do
    add(class:implicit_step(name), "named")
  end
  return list
end

local function options_of(class)
  local options, defaults = class.options, class.defaults
  return { timeout_ms = options.timeout and duration.ms(options.timeout),
    tags = options.tags ~= nil or nil, serializer = class.serializer,
    step_timeout_ms = defaults.timeout, attempts = defaults.attempts,
    backoff_ms = defaults.backoff }
end

local function define(registry, class)
  local steps = class.declaration and declared_steps(class) or method_steps(class)
  local compensation = class.compensate and "process" or nil
  for _, step in ipairs(steps) do
    if step.compensation then compensation = "steps" end
  end
  return { name = class.name, form = class.declaration and "declaration" or "methods",
    at = registry.places["process " .. class.name], code = registry.hash,
    ordered = class.declaration ~= nil, compensation = compensation, options = options_of(class),
    steps = steps }
end

--- The definition of a process; or nil and an error.
---@param registry catga.Registry
---@param name string
---@return catga.Definition?
---@return catga.Error? err  "unknown_process", "invalid"
function M.of(registry, name)
  if type(name) ~= "string" then
    return nil, errors.new("invalid", "the name of a process is text, got " .. type(name))
  end
  local class = registry.processes[name]
  if not class then return nil, registry:unknown("process", name) end
  return define(registry, class)
end

--- The definitions of all processes, by name.
---@param registry catga.Registry
---@return catga.Definition[]
function M.list(registry)
  local list = {}
  for i, name in ipairs(sorted_names(registry.processes)) do
    list[i] = define(registry, registry.processes[name])
    list[i].step_count = #list[i].steps
  end
  return list
end

return M
