--- What a step must not do: change local variables, or tables, of the body that its function has
--- captured, or globals. On replay the step does not run, so the body would see something else.
local errors = require "catga.error"
local state = require "catga.state"
local raw = require "catga.sandbox".raw

local M = {}

local UPVALUES_MAX = 60 -- LuaJIT's own bound.
local FRAMES_MAX = 60   -- Calls that are looked at.
local KEYS_MAX = 64     -- Of a captured table that are compared; of larger ones these.

-- The outermost function under way in whose text the function stands, or nil.
local function enclosing(fn)
  local inner, found = debug.getinfo(fn, "S"), nil
  for level = 4, FRAMES_MAX do
    local info = debug.getinfo(level, "Sf")
    if not info then break end
    if info.what ~= "C" and info.source == inner.source and info.linedefined > 0
      and info.linedefined <= inner.linedefined
      and info.lastlinedefined >= inner.lastlinedefined then
      found = info.func
    end
  end
  return found
end

-- What the outermost function has not made itself, but captured, is of the script.
local function of_script(fn)
  local ids = {}
  for i = 1, UPVALUES_MAX do
    if not debug.getupvalue(fn, i) then break end
    ids[debug.upvalueid(fn, i)] = true
  end
  return ids
end

local function fields_of(value)
  if type(value) ~= "table" then return nil end
  local fields, n = {}, 0
  for key, field in raw.next, value do
    n = n + 1
    if n > KEYS_MAX then break end
    fields[key] = field
  end
  return fields
end

-- The first key whose value is not what it was.
local function changed_key(value, before)
  local n = 0
  for key, field in raw.next, value do
    n = n + 1
    if n > KEYS_MAX then return nil end
    if not rawequal(field, before[key]) then return key end
  end
  for key in raw.next, before do
    if value[key] == nil then return key end
  end
end

--- Watches what a function has captured of the functions that are under way; nil: nothing.
---@param fn function
---@return table? watched
function M.of(fn)
  if not debug.getupvalue(fn, 1) then return nil end
  local outer = enclosing(fn)
  if not outer then return nil end
  local shared, watched = nil, nil
  for i = 1, UPVALUES_MAX do
    local name, value = debug.getupvalue(fn, i)
    if not name then break end
    shared = shared or of_script(outer)
    if not shared[debug.upvalueid(fn, i)] then
      watched = watched or {}
      watched[#watched + 1] = { index = i, name = name, value = value, fields = fields_of(value) }
    end
  end
  return watched
end

--- What the function has changed of it, or nil.
---@param fn function
---@param watched table
---@return catga.Error?
function M.changed(fn, watched)
  for _, one in ipairs(watched) do
    local _, value = debug.getupvalue(fn, one.index)
    local what
    if not rawequal(value, one.value) then
      what = "the local variable " .. one.name
    elseif one.fields then
      local key = changed_key(value, one.fields)
      if key ~= nil then what = ("%s.%s"):format(one.name, raw.tostring(key)) end
    end
    if what then
      local info = debug.getinfo(fn, "S")
      return errors.new("step_changes_body", ("the step at %s:%d changes %s of the body; on replay "
        .. "the step does not run, so return what the body needs from the step"):format(
        info.short_src, info.linedefined, what))
    end
  end
end

--- Refuses that a global is set in the body of a process, or in a step.
---@param name any
function M.check_global(name)
  local task = state[1]
  local process = task and task.process
  if not process or task.ctx or not (task.flow or task.limit) then return end
  local info = debug.getinfo(3, "Sl")
  error(errors.new("global_changed", ("%s:%d sets the global %s in %s; processes share it and a "
    .. "replay does not bring it back: use a local variable, self.%s, or the result of the step")
    :format(info.short_src, info.currentline, raw.tostring(name),
      task.flow and "the body of a process" or "a step", raw.tostring(name))), 0)
end

return M
