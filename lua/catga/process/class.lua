--- Process classes: what `catga.process "Name"` returns, and what is made of it when all files are
--- loaded: every method becomes a step.
local state = require "catga.state"
local duration = require "catga.duration"
local options = require "catga.process.options"
local steps = require "catga.process.steps"
local verbs = require "catga.process.verbs"
local declare = require "catga.lazy".module "catga.process.declare"

local M = {}

local RESERVED = {
  send = true, step = true, sleep = true, now = true, random = true, uuid = true, new_id = true,
  id = true, all = true, any = true, map = true, receive = true, wait_event = true,
  approval = true, promise = true, loop = true, queries = true, time = true, start = true,
  run = true, tag = true, updates = true, validators = true, options = true,
  enqueue = true,
}
local NOT_STEPS = { execute = true, process_id = true, settings = true }
local COMPENSATE = "compensate" -- The step's name in records of an undo of the whole process.
local IMPLICIT_MAX = 1000 -- Names of self:send and self:step that are remembered.

--- What the engine knows about one step.
---@class catga.Step
---@field name string
---@field fn function
---@field undo function?     compensate_<name>, or that of the whole process
---@field attempts integer
---@field timeout_ms number
---@field backoff_ms number  pause after the first failed attempt; doubles, with jitter
---@field retry table?       how a policy says that it grows, and which errors are retried
---@field guard (fun(fn: function): function)?  puts policies around what it runs
---@field policy string?     the name of the one that its settings name
---@field policies table<string, catga.PolicyKind>?
---@field at_most_once boolean?
---@field special boolean    it has an undo, or may run at most once
---@field heads table<integer, string>  JSON of operation number and name, made once

---@class catga.ProcessClass
---@field name string
---@field face table                     what the script fills in
---@field steps table<string, catga.Step>
---@field compensate function?           undoes the whole process, instead of the undo of each step
---@field compensation catga.Step?       what its attempts are counted and journaled as
---@field implicit table<string, catga.Step>  steps of self:send and self:step
---@field implicit_count integer
---@field declaration catga.Declaration? of the declarative form
---@field self table                     the `self` of bodies and steps
---@field defaults { timeout: number, attempts: integer, backoff: number }  of its steps
---@field overrides table<string, table>  what catga.lua says of single steps
---@field options table                  of the whole process: timeout, tags, ...
---@field has_options boolean
---@field serializer string?             of what JSON cannot hold; nil: that is refused
---@field registry catga.Registry        the generation that it belongs to
local Class = {}
Class.__index = Class

--- Makes the class that a script fills in.
---@param registry catga.Registry
---@param name string
---@return table face
function M.define(registry, name)
  local class = setmetatable({ name = name, steps = {}, implicit = {}, implicit_count = 0 }, Class)
  class.face = setmetatable({ queries = {}, updates = {}, validators = {} }, {
    class = class,
    __index = function(_, key) return declare.methods[key] end,
    -- The declarative form has a method of that name, so what a script assigns is kept elsewhere.
    __newindex = function(face, key, value)
      if key == COMPENSATE then
        class.compensate = value
      else
        rawset(face, key, value)
      end
    end,
  })
  registry:named("process", name, class)
  return class.face
end

--- The definition of a step, with its settings.
---@param name string
---@param fn function?
---@param own table?      what the script says of it; default: what its settings say
---@param undo function?  default: compensate_<name>
---@return catga.Step
function Class:make_step(name, fn, own, undo)
  own = own or self.face.settings and self.face.settings[name] or {}
  local file, defaults = self.overrides[name] or {}, self.defaults
  local timeout, backoff = file.timeout or own.timeout, file.backoff or own.backoff
  local step = {
    name = name, fn = fn, heads = {},
    undo = self.compensate or undo or self.face["compensate_" .. name],
    attempts = file.attempts or own.attempts or defaults.attempts,
    timeout_ms = timeout and duration.ms(timeout) or defaults.timeout,
    backoff_ms = backoff and duration.ms(backoff) or defaults.backoff,
    at_most_once = own.at_most_once,
  }
  if step.at_most_once then
    if file.attempts then
      error(("catga.lua: processes.%s.steps.%s: it may run at most once, so it has no attempts")
        :format(self.name, name), 0)
    end
    step.attempts = 1
  end
  step.special = step.undo ~= nil or step.at_most_once == true
  if own.policy ~= nil or file.policy ~= nil then
    require("catga.policy.steps").settle(self, step, own, file)
  end
  return step
end

--- The step behind self:send or self:step of that name.
---@param name string
---@return catga.Step
function Class:implicit_step(name)
  local step = self.implicit[name]
  if step then return step end
  if self.implicit_count == IMPLICIT_MAX then -- Names made of data: they do not come back.
    self.implicit, self.implicit_count = {}, 0
  end
  step = self:make_step(name)
  self.implicit[name] = step
  self.implicit_count = self.implicit_count + 1
  return step
end

--- Raises for a name that means something else.
---@param name string
function Class:check_step_name(name)
  if RESERVED[name] then
    error(("process %s: %s is a reserved name; a step cannot be called so"):format(self.name,
      name), 0)
  end
end

local function step_names(class)
  local names = {}
  for name, fn in pairs(class.face) do
    if type(fn) == "function" and not NOT_STEPS[name] and not name:find("^compensate_") then
      class:check_step_name(name)
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- Names in self:step("x") and self:send("X") are known only when they run, so an undo without a
-- method is an error unless the source of the body names it.
local function is_named_in_source(class, name)
  local source = debug.getinfo(class.face.execute, "S").source
  local text = source:sub(1, 1) == "@" and class.source_of and class.source_of(source:sub(2))
  if not text then return false end
  local function has(quoted) return text:find(quoted, 1, true) ~= nil end
  return has('"' .. name .. '"') or has("'" .. name .. "'")
end

-- One undo for the whole process takes the place of those of the steps.
local function check_compensate(class)
  local compensate = class.compensate
  if compensate == nil then return end
  local where = "process " .. class.name
  if type(compensate) ~= "function" then
    error(("%s: compensate must be a function: function %s:compensate(failed_step, completed)")
      :format(where, class.name), 0)
  end
  for name in pairs(class.face) do
    if type(name) == "string" and name:find("^compensate_.") then
      error(("%s has both compensate, which undoes the whole process, and %s; take one of them")
        :format(where, name), 0)
    end
  end
end

local function check_names(class)
  for name, value in pairs(class.face) do
    local step = type(name) == "string" and name:match("^compensate_(.+)$")
    if step then
      if type(value) ~= "function" then
        error(("process %s: %s must be a function"):format(class.name, name), 0)
      end
      if not class.steps[step] and not is_named_in_source(class, step) then
        error(("process %s: %s undoes a step %s that does not exist"):format(class.name, name,
          step), 0)
      end
    end
  end
  local function is_known(name)
    return class.steps[name] ~= nil or class.compensate and name == COMPENSATE
      or not class.declaration and is_named_in_source(class, name)
  end
  for name in pairs(class.face.settings or {}) do
    options.check_target(("process %s: settings"):format(class.name), class, name, is_known)
  end
  for name in pairs(class.overrides) do
    options.check_target(("catga.lua: processes.%s.steps"):format(class.name), class, name,
      is_known)
  end
end

-- What a process is asked and told: tables of functions.
local function check_handlers(class)
  local face = class.face
  for _, kind in ipairs { "queries", "updates", "validators" } do
    local where = ("process %s: %s"):format(class.name, kind)
    if type(face[kind]) ~= "table" then
      error(("%s must be a table of functions: function P.%s:name(value) ... end"):format(where,
        kind), 0)
    end
    for name, fn in pairs(face[kind]) do
      if type(name) ~= "string" or type(fn) ~= "function" then
        error(("%s.%s must be a function, got %s"):format(where, tostring(name), type(fn)), 0)
      end
    end
  end
  for name in pairs(face.validators) do
    if not face.updates[name] then
      error(("process %s: validators.%s is for an update that does not exist"):format(class.name,
        name), 0)
    end
  end
end

local function make_self(class)
  local face = class.face
  class.self = setmetatable({}, {
    __index = function(_, name)
      local value = verbs[name]
      if value ~= nil then return value end
      value = face[name]
      if value ~= nil then return value end
      local process = state[1] and state[1].process
      if not process then return nil end
      if name == "id" then return process.id end
      local vars = process.vars
      return vars and vars[name]
    end,
    __newindex = function(_, name, value)
      local task = state[1]
      local process = task and task.process
      if not process then error("self of a process is used outside of it", 2) end
      if not task.flow then
        error(("self.%s is set inside a step: self is read-only there; return the value from the "
          .. "step and set it in the body"):format(tostring(name)), 2)
      end
      process = process.root or process
      process.vars = process.vars or {}
      process.vars[name] = value
    end,
  })
end

local function methods_to_steps(class)
  local face = class.face
  if type(face.execute) ~= "function" then
    error(("process %s has no execute method: function %s:execute(input) ... end; nor is it "
      .. "declared: catga.process(\"%s\"):step(\"name\", fn)"):format(class.name, class.name,
      class.name), 0)
  end
  for _, name in ipairs(step_names(class)) do
    local step = class:make_step(name, face[name])
    class.steps[name] = step
    face[name] = steps.wrap(class, step)
  end
end

--- Makes steps of methods, or of a declaration. Called when all files are loaded; raises on wrong
--- names or settings.
---@param app catga.App
function Class:finish(app)
  setmetatable(self.face, nil)
  options.resolve(self, app.settings)
  check_compensate(self)
  check_handlers(self)
  self.registry, self.app = app.registry, app
  self.source_of = app.registry.source_of
  if self.declaration then declare.finish(self) else methods_to_steps(self) end
  if self.compensate then self.compensation = self:make_step(COMPENSATE) end
  check_names(self)
  if app.registry:has_policies(app) then require("catga.policy.steps").warn(self) end
  make_self(self)
end

return M
