--- Making the state of an aggregate out of its events: initial(), then apply.<Type> for each.
local errors = require "catga.error"
local pure = require "catga.pure"
local suggest = require "catga.registry".suggest

local M = {}

--- What apply gets beside state and data: the same for an event that was just raised and for one
--- that is read, so nothing that is known only once the event is stored.
---@class catga.ApplyCtx
---@field id string        of the aggregate
---@field stream string
---@field type string      of the event
---@field version integer  of the event
local CTX = {
  __index = function(_, field)
    error(("ctx of an apply function has id, stream, type and version, no %s: what else it needs "
      .. "must be in the event's data"):format(tostring(field)), 2)
  end,
}

--- The ctx for one walk over events.
---@param id string
---@param stream string
---@return catga.ApplyCtx
function M.ctx(id, stream)
  return setmetatable({ id = id, stream = stream, type = "", version = -1 }, CTX)
end

--- The state before the first event. Raises when initial fails.
---@param class catga.AggregateClass
---@param id string
---@return table state
function M.initial(class, id)
  local ok, value = pure.call("initial of an aggregate", class.settings.initial, id)
  if not ok then
    error(errors.new("apply_failed", ("aggregate %s: initial failed: %s"):format(class.name,
      value.message), { traceback = value.traceback }), 0)
  end
  if type(value) ~= "table" then
    error(errors.new("apply_failed", ("aggregate %s: initial returns the state, a table, not %s")
      :format(class.name, type(value))), 0)
  end
  return value
end

--- What is wrong with a type that has no apply function; nil: it is passed over.
---@param class catga.AggregateClass
---@param kind string
---@return string?
function M.unknown(class, kind)
  if class.settings.ignore_unknown then return nil end
  local near = suggest(kind, class.appliers)
  return ("there is no %s.apply.%s%s; add it, or set %s.ignore_unknown = true"):format(class.name,
    kind, near and (" (did you mean %s?)"):format(near) or "", class.name)
end

local function apply_one(class, aggregate_state, ctx, event)
  local applier = class.appliers[event.type]
  if not applier then
    local fault = M.unknown(class, event.type)
    if fault then error(fault, 0) end
    return
  end
  local result = applier(aggregate_state, event.data, ctx)
  if result ~= nil and result ~= aggregate_state then
    error("it returned a value: apply changes the state that it is given, and returns nothing", 0)
  end
end

local function apply_list(class, aggregate_state, ctx, events)
  for i = 1, #events do
    local event = events[i]
    ctx.type, ctx.version = event.type, event.version
    apply_one(class, aggregate_state, ctx, event)
  end
end

--- Applies events in order. Raises an error value with the code "apply_failed" that names the
--- event; the state is of no use then.
---@param class catga.AggregateClass
---@param aggregate_state table
---@param ctx catga.ApplyCtx
---@param events { type: string, data: any, version: integer }[]
function M.apply(class, aggregate_state, ctx, events)
  local ok, failure = pure.call("an apply function", apply_list, class, aggregate_state, ctx,
    events)
  if ok then return end
  error(errors.new("apply_failed", ("aggregate %s: event %s, version %d of stream %s cannot be "
    .. "applied: %s"):format(class.name, ctx.type, ctx.version, ctx.stream, failure.message),
    { type = ctx.type, version = ctx.version, traceback = failure.traceback }), 0)
end

return M
