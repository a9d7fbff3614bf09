--- Questions to a process: functions of P.queries that look at what its body has set on self. They
--- change nothing and do not wait. A process whose body is not in memory, because it has ended or
--- for another reason, is replayed as a shadow first.
local errors = require "catga.error"
local pure = require "catga.pure"
local native_task = require "catga.native.task"
local codec = require "catga.native.json"
local suggest = require "catga.registry".suggest
local shadow = require "catga.process.shadow"
local outside = require "catga.process.outside"
local verbs = require "catga.process.verbs"
local raw = require "catga.sandbox".raw

local M = {}

-- A table and those in it, so that nothing is shared.
local function copy(value, seen)
  if type(value) ~= "table" then return value end
  if seen[value] then return seen[value] end
  local is = setmetatable({}, getmetatable(value))
  seen[value] = is
  for key, one in raw.next, value do rawset(is, copy(key, seen), copy(one, seen)) end
  return is
end

--- What a function that only looks sees as self: what the body has set, id and tags; copies.
---@param p catga.Instance
---@param what string  the function, for errors: "a query"
---@return table
function M.view(p, what)
  p = p.root or p
  local seen, face = {}, p.class.face
  return setmetatable({}, {
    __index = function(_, name)
      if name == "id" then return p.id end
      if name == "tags" then return copy(p.tags or {}, seen) end
      if verbs[name] ~= nil or type(face[name]) == "function" then
        error(("self:%s in %s: it only looks at what the body has set on self; it cannot wait, "
          .. "send or run steps"):format(tostring(name), what), 2)
      end
      if face[name] ~= nil then return copy(face[name], seen) end
      return copy(p.vars and p.vars[name], seen)
    end,
    __newindex = function(_, name)
      error(("self.%s is set in %s: self is read-only there; an update, P.updates, may change it")
        :format(tostring(name), what), 2)
    end,
  })
end

--- A value as it comes out of JSON, sharing nothing with the one given; nil stays nil.
---@param app catga.App
---@param value any
---@param name string  what it is, for errors
---@return boolean ok
---@return any copy_or_error
function M.copy(app, value, name)
  if value == nil then return true, nil end
  local json, err = app.store:encode(value, name)
  if not json then return false, err end
  return true, (assert(codec.decode(json)))
end

--- Calls a function that only looks, with copies; like pcall with its results.
---@param p catga.Instance
---@param what string  the function, for errors
---@param fn function
---@param value any
---@return boolean ok
---@return any value_or_error
---@return any err
function M.call(p, what, fn, value)
  local ok, given = M.copy(p.app, value, "argument")
  if not ok then return false, given end
  local before = native_task.forbid_parks(true)
  local function finish(...)
    native_task.forbid_parks(before)
    return ...
  end
  return finish(pure.call(what, fn, M.view(p, what), given))
end

--- The error for a function that a process does not have.
---@param p catga.Instance
---@param kind "query"|"update"
---@param name any
---@return catga.Error
function M.unknown(p, kind, name)
  local known = kind == "query" and p.class.face.queries or p.class.face.updates
  local near = type(name) == "string" and suggest(name, known)
  return errors.new("unknown_" .. kind, ("process %s has no %s called %s%s"):format(p.class.name,
    kind, tostring(name), near and ("; did you mean %s?"):format(near) or ""))
end

local function ask(p, name, args)
  local fn = p.class.face.queries[name]
  if not fn then return nil, M.unknown(p, "query", name) end
  local ok, value, err = M.call(p, ("query %s of process %s"):format(name, p.class.name), fn, args)
  if not ok then return nil, errors.from(value) end
  if value == nil and err ~= nil then return nil, errors.from(err) end
  local is_value, result = M.copy(p.app, value, "result")
  if not is_value then return nil, result end
  return result
end

--- The process in memory, its body where it was; nil: what the body has set is not there.
---@param app catga.App
---@param id string
---@return catga.Instance?
function M.in_memory(app, id)
  local p = app.engine.active[id]
  if not p then return nil end
  if p.op == 0 and not p.history and not p.ending then native_task.yield() end -- It has just begun.
  outside.await_rest(p)
  if p.status or p.ending or app.engine.active[id] ~= p or outside.is_replaying(p) then
    return nil
  end
  return p
end

--- Asks a process. May yield.
---@param engine catga.Engine
---@param id string
---@param name string  of the query
---@param args any
---@return any value
---@return catga.Error? err  "not_found", "unknown_query", what the query returned or raised; of a
---  process that is replayed for it also "diverged", "limit"
function M.query(engine, id, name, args)
  local app = engine.app
  local stream, err = shadow.stream_of(app, id)
  if not stream then return nil, err end
  local p = M.in_memory(app, id)
  if p then return ask(p, name, args) end
  return shadow.with(app, id, stream, function(s, status, failure)
    if status ~= "replayed" then return nil, failure end
    return ask(s, name, args)
  end)
end

return M
