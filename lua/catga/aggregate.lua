--- Aggregates: what `catga.aggregate "Name"` returns, and what is made of it when all files are
--- loaded.
---
---   local Order = catga.aggregate "Order"
---   function Order.initial() return { status = "none" } end
---   function Order.apply.OrderCreated(state, event, ctx) state.status = "created" end
---   function Order:create(cmd)
---     if self.state.status ~= "none" then return nil, catga.error("exists") end
---     self:raise("OrderCreated", { order_id = cmd.order_id })
---   end
---   Order.snapshot = { every = 100 }     -- also after = "10m", bytes = "256KiB", store = ...
---   Order.shape = 3                      -- default: a hash of the files that state depends on
---   Order.ignore_unknown = true          -- events without an apply function are passed over
---
--- The events of an aggregate are those of the stream `<Name>-<id>`.
local errors = require "catga.error"
local host = require "catga.native.host"
local registries = require "catga.registry"
local verbs = require "catga.aggregate.verbs"
local instances = require "catga.aggregate.instance"
local snapshots = require "catga.aggregate.snapshot"

local M = {}

local NAME_BYTES_MAX = 200
local FORMAT = "1" -- Of snapshots; part of every shape.

local SETTINGS = { initial = "function", snapshot = "table", shape = "number or string",
  ignore_unknown = "boolean" }

---@class catga.AggregateClass
---@field name string
---@field settings { initial: function, snapshot: table, shape: number|string?,
---  ignore_unknown: boolean? }
---@field appliers table<string, fun(state: table, event: any, ctx: catga.ApplyCtx)>
---@field members table<string, any>  commands, and what else the script has set
---@field face table                  what the script holds
---@field metatable table             of its aggregates
---@field snapshots catga.SnapshotRules?
---@field shape string                what snapshots must have to be used
local Class = {}
Class.__index = Class

local function refuse(class, level, text, ...)
  error(("aggregate %s: " .. text):format(class.name, ...), level + 1)
end

-- The table `apply`: assigning a function registers it, once for each type.
local function apply_table(class)
  return setmetatable({}, {
    __index = class.appliers,
    __newindex = function(_, kind, fn)
      if type(kind) ~= "string" or kind == "" then
        refuse(class, 2, "apply: an event type is a string that is not empty")
      end
      if type(fn) ~= "function" then
        refuse(class, 2, "apply.%s is a function(state, event, ctx), got %s", kind, type(fn))
      end
      if class.appliers[kind] then refuse(class, 2, "apply.%s is there already", kind) end
      class.appliers[kind] = fn
    end,
  })
end

local function set_setting(class, name, value)
  if not SETTINGS[name]:find(type(value), 1, true) then
    refuse(class, 3, "%s is a %s, got %s", name, SETTINGS[name], type(value))
  end
  class.settings[name] = value
end

local function set_member(class, name, value)
  if SETTINGS[name] then return set_setting(class, name, value) end
  if name == "apply" and type(value) == "table" then
    for kind, fn in pairs(value) do class.apply[kind] = fn end
    return
  end
  if name == "name" or name == "apply" or verbs[name] or instances.verbs[name]
    or instances.FIELDS[name] then
    refuse(class, 3, "%s is a reserved name", tostring(name))
  end
  if type(name) ~= "string" then refuse(class, 3, "a command has a name, got %s", type(name)) end
  local near = type(value) ~= "function" and registries.suggest(name, SETTINGS)
  if near then refuse(class, 3, "there is no setting %s; did you mean %s?", name, near) end
  if class.members[name] ~= nil then refuse(class, 3, "%s is defined already", name) end
  class.members[name] = value
end

-- What every class has: its name, apply, and the verbs.
local function fixed_of(class)
  local fixed = { name = class.name, apply = class.apply }
  for name, verb in pairs(verbs) do
    fixed[name] = function(...) return verb(class, ...) end
  end
  return fixed
end

--- Defines an aggregate; the script fills in initial, apply.<Type> and commands.
---@param registry catga.Registry
---@param name string  letters, digits, "_" and "."
---@return table face
function M.define(registry, name)
  if type(name) == "string" and (#name > NAME_BYTES_MAX or name:find("[^%w_%.\128-\255]")
    or name == "Process") then
    error(("%s: \"%s\" cannot be the name of an aggregate: it has up to %d letters, digits, _ and "
      .. "., and is not Process"):format(registries.caller(), name, NAME_BYTES_MAX), 0)
  end
  local class = setmetatable({ name = name, settings = { snapshot = {} }, appliers = {},
    members = {} }, Class)
  registry:named("aggregate", name, class)
  class.apply = apply_table(class)
  local fixed = fixed_of(class)
  class.face = setmetatable({}, {
    __index = function(_, key)
      local value = fixed[key]
      if value == nil then value = class.settings[key] end
      if value == nil then value = class.members[key] end
      return value
    end,
    __newindex = function(_, key, value) set_member(class, key, value) end,
  })
  return class.face
end

-- Texts of the files that hold these functions; nil when one is not known.
local function texts_of(registry, functions)
  local texts, seen = {}, {}
  for _, fn in ipairs(functions) do
    local source = debug.getinfo(fn, "S").source
    if not seen[source] then
      seen[source] = true
      local text = source:sub(1, 1) == "@" and registry.source_of(source:sub(2))
      if not text then return nil end
      texts[#texts + 1] = text
    end
  end
  table.sort(texts)
  return table.concat(texts, "\0")
end

-- What a state depends on beside the events: the files of initial, of the apply functions and of
-- the upcasters, and all modules, which those may use. Scripts cannot use each other.
local function hash_of(class, registry)
  local functions = { class.settings.initial }
  for _, fn in pairs(class.appliers) do functions[#functions + 1] = fn end
  for _, chain in pairs(registry.upcasts and registry.upcasts.chains or {}) do
    for _, upcaster in pairs(chain) do functions[#functions + 1] = upcaster.fn end
  end
  local texts = texts_of(registry, functions)
  return host.sha256(texts and texts .. "\0" .. (registry.lib_hash or "") or registry.hash)
end

--- Checks what the script has filled in. Called when all files are loaded; raises what is wrong.
---@param registry catga.Registry
function Class:finish(registry)
  local settings = self.settings
  if not settings.initial then
    error(("aggregate %s has no initial function: function %s.initial() return { ... } end")
      :format(self.name, self.name), 0)
  end
  local ok, rules = pcall(snapshots.rules, settings.snapshot)
  if not ok then error(("aggregate %s: %s"):format(self.name, tostring(rules)), 0) end
  self.snapshots = rules
  self.metatable = instances.metatable(self)
  if rules then
    self.shape = FORMAT .. ":" .. (settings.shape ~= nil and "=" .. tostring(settings.shape)
      or hash_of(self, registry))
  end
end

--- The aggregate whose stream it is; raises nothing.
---@param app catga.App
---@param stream string  "<Name>-<id>"
---@return catga.AggregateClass? class
---@return string|catga.Error id
function M.of_stream(app, stream)
  local name, id = stream:match("^([^%-]*)%-(.+)$")
  local all = app.registry.aggregates
  if name and all[name] then return all[name], id end
  local names = registries.sorted_names(all)
  return nil, errors.new("unknown_aggregate", ("the stream %s is of no aggregate: %s"):format(
    stream, #names == 0 and "the scripts define none" or "there are " .. table.concat(names, ", ")))
end

return M
