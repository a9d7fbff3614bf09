--- The declarative form: a process as a chain of steps, compiled to the `execute` that one would
--- write by hand, so that both forms run on the same engine and write the same journal.
---
---   catga.process("OrderProcess")
---     :step("reserve", function(order) return reserve(order.items) end)
---       :compensate(function(result) release(result.id) end)
---     :send("ChargeCard", function(order, results) return { hold = results.reserve.id } end)
---       :attempts(5):timeout("10s"):backoff("200ms")
---     :parallel("goods and notice", {
---       goods = catga.steps():step("pick", pick):step("pack", pack),
---       notice = function(order) return notify(order.customer) end,     -- the one step "notice"
---     })
---     :result(function(order, results) return { id = order.id, parcel = results.pack } end)
---
--- Every function gets (input, results, self): the input of the process, the results of the steps
--- that are done by their names, and what methods of a process have as `self`. Input and results
--- are shared: functions read them only. Those of steps run once, as steps do; those that decide
--- (when, what a send sends, how long a sleep lasts, result) are part of the body and run again on
--- every replay.
local state = require "catga.state"
local errors = require "catga.error"
local duration = require "catga.duration"
local caller = require "catga.registry".caller
local options = require "catga.process.options"
local journal = require "catga.process.journal"
local run = require "catga.process.steps".run
local verbs = require "catga.process.verbs"
local sorted_keys = require "catga.sandbox".sorted_keys

local M = {}

--- One link of the chain.
---@class catga.Item
---@field kind "step"|"send"|"sleep"|"wait"|"parallel"|"on_failure"
---@field name string
---@field at string                file:line of it
---@field fn any                   what it was given
---@field settings table           attempts, timeout, backoff, at_most_once
---@field undo function?
---@field when function?
---@field groups table<any, catga.Declaration>?  of a parallel
---@field step catga.Step?         once it is compiled
---@field call function?           what the step runs

--- A chain, of a process or of a group.
---@class catga.Declaration
---@field label string             for errors
---@field at string                file:line of its first link
---@field is_group boolean
---@field is_closed boolean?       compiled: nothing can be added
---@field items catga.Item[]
---@field last catga.Item|false    what a modifier is for
---@field on_failure catga.Item?
---@field result function?

local methods = {}
M.methods = methods

-- Raises for wrong use, at the script's own line.
local function refuse(d, text, ...)
  error(("%s: %s: " .. text):format(caller(), d.label, ...), 0)
end

local function declaration_of(self, what)
  local meta = getmetatable(self)
  local d = type(meta) == "table" and meta.declaration
  if not d and type(meta) == "table" and meta.class then
    d = { label = "process " .. meta.class.name, at = caller(), items = {}, last = false,
      is_group = false }
    meta.declaration, meta.class.declaration = d, d
  end
  if not d then
    error(("%s: %s is called with a colon on what catga.process or catga.steps returns"):format(
      caller(), what), 0)
  end
  if d.is_closed then refuse(d, "%s belongs at the top level of a script", what) end
  return d
end

local function add(self, d, kind, name, fn, more)
  local item = { kind = kind, name = name, at = caller(), fn = fn, settings = {} }
  for field, value in pairs(more or {}) do item[field] = value end
  if kind == "on_failure" then d.on_failure = item else d.items[#d.items + 1] = item end
  d.last = item
  return self
end

local function check_name(d, what, name)
  if type(name) ~= "string" or name == "" then
    refuse(d, "%s needs a name: a string that is not empty", what)
  end
end

--- Adds a step; its function returns the result, or nil and an error.
---@param name string
---@param fn fun(input: any, results: table<string, any>, self: table): any, any
function methods:step(name, fn)
  local d = declaration_of(self, "step")
  check_name(d, "step", name)
  if type(fn) ~= "function" then refuse(d, "step %s needs a function, got %s", name, type(fn)) end
  return add(self, d, "step", name, fn)
end

--- Adds a step that sends a command and is named after it.
---@param name string
---@param data table|fun(input: any, results: table, self: table): any|nil  default: the input
function methods:send(name, data)
  local d = declaration_of(self, "send")
  check_name(d, "send", name)
  if data ~= nil and type(data) ~= "function" and type(data) ~= "table" then
    refuse(d, "send %s needs its data: a table, or a function that returns it; got %s", name,
      type(data))
  end
  return add(self, d, "send", name, data)
end

--- Adds a durable timer.
---@param length string|fun(input: any, results: table, self: table): string
function methods:sleep(length)
  local d = declaration_of(self, "sleep")
  if type(length) ~= "function" then
    local ms, fault = duration.parse(length, "sleep")
    if not ms then refuse(d, "%s", fault) end
  end
  return add(self, d, "sleep", "sleep", length)
end

local WAIT = { timeout = true, optional = true }

--- Adds a wait for a signal; its value is the result of that name. When none comes in time the
--- process fails with the code "timeout", unless the wait is optional: then there is no result.
---@param name string
---@param opts { timeout: string?, optional: boolean? }?
function methods:wait(name, opts)
  local d = declaration_of(self, "wait")
  check_name(d, "wait", name)
  if opts ~= nil and type(opts) ~= "table" then refuse(d, "wait %s: options are a table", name) end
  opts = opts or {}
  for option in pairs(opts) do
    if not WAIT[option] then
      refuse(d, "wait %s: unknown option %s; there are optional and timeout", name,
        tostring(option))
    end
  end
  if opts.timeout ~= nil then
    local ms, fault = duration.parse(opts.timeout, ("wait %s: timeout"):format(name))
    if not ms then refuse(d, "%s", fault) end
  elseif opts.optional then
    refuse(d, "wait %s: an optional wait needs a timeout", name)
  end
  return add(self, d, "wait", name, opts)
end

local function new_group(label)
  return { label = label, at = caller(), items = {}, last = false, is_group = true }
end

local function group_of(d, name, key, value)
  if type(value) == "function" then
    if type(key) ~= "string" then
      refuse(d, "parallel %s: a function is a step, whose name must be text, not %s", name,
        tostring(key))
    end
    local group = new_group(d.label)
    group.items[1] = { kind = "step", name = key, at = group.at, fn = value, settings = {} }
    return group
  end
  local meta = getmetatable(value)
  local group = type(meta) == "table" and meta.declaration
  if not group or not group.is_group then
    refuse(d, "parallel %s: %s must be a function, or catga.steps():step(...)", name,
      tostring(key))
  end
  if #group.items == 0 then refuse(d, "parallel %s: %s has no steps", name, tostring(key)) end
  return group
end

--- Adds groups of steps that run at the same time, as branches of self:all.
---@param name string
---@param groups table<any, function|table>  a function is one step of that name; more steps, or
---  their modifiers, are catga.steps():step(...):step(...)
function methods:parallel(name, groups)
  local d = declaration_of(self, "parallel")
  check_name(d, "parallel", name)
  if type(groups) ~= "table" or next(groups) == nil then
    refuse(d, "parallel %s needs a table of groups of steps", name)
  end
  local compiled = {}
  for key, value in pairs(groups) do
    if type(key) ~= "string" and type(key) ~= "number" then
      refuse(d, "parallel %s: a group is named by text or number, not by a %s", name, type(key))
    end
    compiled[key] = group_of(d, name, key, value)
  end
  return add(self, d, "parallel", name, nil, { groups = compiled })
end

--- Sets the step that runs when the process fails, before what was done is undone; it is named
--- on_failure. The process stays failed.
---@param fn fun(failure: catga.Error, input: any, results: table, self: table)
function methods:on_failure(fn)
  local d = declaration_of(self, "on_failure")
  if type(fn) ~= "function" then refuse(d, "on_failure needs a function, got %s", type(fn)) end
  if d.is_group then refuse(d, "on_failure is for a whole process, not for a group") end
  if d.on_failure then refuse(d, "on_failure is given already, at %s", d.on_failure.at) end
  return add(self, d, "on_failure", "on_failure", fn)
end

--- Sets what the result of the process is; without it, the results of its steps by name.
---@param fn fun(input: any, results: table, self: table): any, any
function methods:result(fn)
  local d = declaration_of(self, "result")
  if type(fn) ~= "function" then refuse(d, "result needs a function, got %s", type(fn)) end
  if d.is_group then refuse(d, "result is for a whole process, not for a group") end
  if d.result then refuse(d, "result is given already") end
  d.result, d.last = fn, false
  return self
end

local STEPS = { step = true, send = true, on_failure = true }
local CONDITIONAL = { step = true, send = true, sleep = true, wait = true, parallel = true }
local UNDOABLE = { step = true, send = true }

-- What a modifier is for: the link before it, which must be of one of these kinds.
local function last_of(self, what, kinds)
  local d = declaration_of(self, what)
  local item = d.last
  if not item then refuse(d, "%s is for the step before it, and there is none", what) end
  if not kinds[item.kind] then refuse(d, "%s has no %s", item.kind, what) end
  return d, item
end

local function modify(self, what, value)
  local d, item = last_of(self, what, STEPS)
  if item.settings[what] ~= nil then
    refuse(d, "step %s has its %s already", item.name, what)
  end
  if value == nil then refuse(d, "step %s: %s needs a value", item.name, what) end
  local ok, fault = pcall(options.check_step, "step " .. item.name, { [what] = value })
  if not ok then refuse(d, "%s", fault) end
  item.settings[what] = value
  return self
end

--- How often the step before it is tried.
---@param count integer
function methods:attempts(count) return modify(self, "attempts", count) end

--- How long an attempt of it may take.
---@param text string  duration
function methods:timeout(text) return modify(self, "timeout", text) end

--- The pause after its first failed attempt; doubles with each.
---@param text string  duration
function methods:backoff(text) return modify(self, "backoff", text) end

--- The policy of the step before it: the name of one, or its kinds.
---@param given string|table
function methods:policy(given) return modify(self, "policy", given) end

--- The step before it is attempted once; after a crash in it, it is in doubt.
function methods:at_most_once() return modify(self, "at_most_once", true) end

--- How the step before it is undone. result: nil when it is in doubt whether it was done.
---@param fn fun(result: any, input: any, results: table, self: table)
function methods:compensate(fn)
  local d, item = last_of(self, "compensate", UNDOABLE)
  if type(fn) ~= "function" then
    refuse(d, "step %s: compensate needs a function, got %s", item.name, type(fn))
  end
  if item.undo then refuse(d, "step %s has its compensate already", item.name) end
  item.undo = fn
  return self
end

--- On what condition there is what stands before it.
---@param fn fun(input: any, results: table, self: table): any
function methods:when(fn)
  local d, item = last_of(self, "when", CONDITIONAL)
  if type(fn) ~= "function" then
    refuse(d, "%s %s: when needs a function, got %s", item.kind, item.name, type(fn))
  end
  if item.when then refuse(d, "%s %s has its when already", item.kind, item.name) end
  item.when = fn
  return self
end

--- A chain of steps, for a group of `parallel`.
---@return table
function M.steps()
  return setmetatable({}, { __index = methods, declaration = new_group "catga.steps" })
end

-- Results of a process out of its journal, as its undos need them.
local function results_of(p)
  p = p.root or p
  local results = p.results
  if results then return results end
  local records, err = journal.records(p.app, p.stream)
  if not records then error(err, 0) end
  results = {}
  local h = journal.history(records)
  for _, entry in ipairs(h.order) do
    if entry.kind == "step" then
      results[entry.name] = entry.result
    elseif entry.kind == "signal" and entry.record then
      results[entry.name] = h.read_mail[entry.record].value
    end
  end
  p.results = results
  return results
end

local function undo_of(undo)
  return undo and function(self, result)
    local p = state[1].process
    return undo(result, p.input, results_of(p), self)
  end
end

-- Links run here: each gets its item, `self`, the input and the results so far.
local RUN = {}

function RUN.step(item, _, input, results)
  local task = state[1]
  rawset(results, item.name, run(task, task.process, item.step, item.call, results, input))
end

function RUN.send(item, self, input, results)
  local data = item.fn
  if data == nil then data = input elseif type(data) == "function" then
    data = data(input, results, self)
  end
  local task = state[1]
  rawset(results, item.name, run(task, task.process, item.step, item.call, self, data))
end

function RUN.sleep(item, self, input, results)
  local length = item.fn
  if type(length) == "function" then length = length(input, results, self) end
  verbs.sleep(self, length)
end

function RUN.wait(item, self, _, results)
  local opts = item.fn
  local value, err = verbs.receive(self, item.name, { timeout = opts.timeout })
  if err ~= nil and not opts.optional then
    err.failed_step = item.name
    error(err, 0)
  end
  rawset(results, item.name, value)
end

local function run_items(items, self, input, results)
  local s = state[1].process
  for i = 1, #items do
    local item = items[i]
    s.place = item.at -- For a divergence.
    if not item.when or item.when(input, results, self) then
      RUN[item.kind](item, self, input, results)
    end
  end
end

function RUN.parallel(item, self, input, results)
  local branches = {}
  for _, key in ipairs(item.keys) do
    local items = item.groups[key].items
    branches[key] = function() run_items(items, self, input, results) end
  end
  verbs.all(self, item.name, branches)
end

-- Results are what steps return: whoever sets another one would miss it on replay.
local RESULTS = { __newindex = function(_, name)
  error(("results.%s is set, but results are what steps return: add a step of that name"):format(
    tostring(name)), 2)
end }

-- The body of the process.
local function body_of(d)
  local function body(self, input, results)
    run_items(d.items, self, input, results)
    state[1].process.place = d.at
    if d.result then return d.result(input, results, self) end
    return results
  end
  if not d.on_failure then
    return function(self, input) return body(self, input, setmetatable({}, RESULTS)) end
  end
  return function(self, input)
    local results = setmetatable({}, RESULTS)
    local ok, value, err = xpcall(body, errors.catch, self, input, results)
    if ok and (value ~= nil or err == nil) then return value end
    local failure = ok and errors.from(err) or value
    local task, item = state[1], d.on_failure
    task.process.place = item.at
    -- That it fails is in the journal; the process fails with its own error.
    pcall(run, task, task.process, item.step, item.call, results, failure)
    error(failure, 0)
  end
end

local function call_of(class, item)
  local fn = item.fn
  if item.kind == "send" then
    local name = item.name
    return function(_, data) return verbs.send(class.self, name, data) end
  end
  if item.kind == "on_failure" then
    return function(results, failure)
      return fn(failure, state[1].process.input, results, class.self)
    end
  end
  return function(results, input) return fn(input, results, class.self) end
end

local function compile_step(class, item)
  if item.undo and class.compensate then
    error(("process %s has both compensate, which undoes the whole process, and a compensate of "
      .. "step %s, at %s; take one of them"):format(class.name, item.name, item.at), 0)
  end
  if item.kind ~= "send" then class:check_step_name(item.name) end
  item.call = call_of(class, item)
  item.step = class:make_step(item.name, item.call, item.settings, undo_of(item.undo))
  class.steps[item.name] = item.step
end

-- Makes steps of a chain; `seen` has the names so far.
local function compile(class, d, seen)
  d.is_closed = true
  for _, item in ipairs(d.items) do
    if item.kind == "parallel" then
      item.keys = sorted_keys(item.groups)
      for _, key in ipairs(item.keys) do compile(class, item.groups[key], seen) end
    elseif item.kind ~= "sleep" then
      if seen[item.name] then
        error(("process %s: %s, at %s, has its name already, at %s; results are by name")
          :format(class.name, item.name, item.at, seen[item.name]), 0)
      end
      seen[item.name] = item.at
      if item.kind ~= "wait" then compile_step(class, item) end
    end
  end
end

local MAY_HAVE = { process_id = true }

local function check_face(class, d)
  local where = ("process %s is declared, at %s,"):format(class.name, d.at)
  if class.face.execute ~= nil then
    error(where .. " and has an execute method as well; take one of the two forms", 0)
  end
  if class.face.settings ~= nil then
    error(where .. " so its steps have no settings table; put :attempts(n), :timeout(\"5s\") "
      .. "behind the step, or settings in catga.lua", 0)
  end
  for name, value in pairs(class.face) do
    if type(value) == "function" and not MAY_HAVE[name] then
      error(("%s and has a method %s as well; take one of the two forms"):format(where, name), 0)
    end
  end
end

--- Compiles the declaration of a class; raises for what is wrong with it.
---@param class catga.ProcessClass
function M.finish(class)
  local d = class.declaration
  check_face(class, d)
  if #d.items == 0 then
    error(("process %s is declared, at %s, without any step"):format(class.name, d.at), 0)
  end
  local seen = {}
  compile(class, d, seen)
  if d.on_failure then
    if seen.on_failure then
      error(("process %s: a step cannot be called on_failure beside :on_failure(fn), at %s")
        :format(class.name, seen.on_failure), 0)
    end
    compile_step(class, d.on_failure)
  end
  class.face.execute = body_of(d)
end

return M
