--- What becomes of items that fail in a stream: left out, or a dead letter, by its `on_error`.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local commits = require "catga.commit"
local pause_ms = require "catga.process.steps".pause_ms
local storable_text = require "catga.process.journal".storable_text

local M = {}

local CODE_BYTES_MAX, MESSAGE_BYTES_MAX = 1000, 4000
-- Errors of the app's, not of an item's: nobody decides about the item.
local GENERAL = { closed = true, failed = true, fenced = true, conflict = true, disk_full = true,
  no_memory = true }

--- What is kept of an error.
---@param err catga.Error
---@param event table?
---@return table
function M.storable(err, event)
  return { code = storable_text(tostring(err.code), CODE_BYTES_MAX),
    message = storable_text(tostring(err.message), MESSAGE_BYTES_MAX),
    position = event and event.position, type = event and event.type, sink = err.sink }
end

--- Remembers the last failure.
---@param runner table
---@param err catga.Error
---@param event table?
function M.note(runner, err, event)
  local last = M.storable(err, event)
  last.time = runner.app.clock:now()
  runner.last_error = last
end

-- Whether it was one item that failed, and not what several had come to; the item, with its key,
-- window and time. `a` to `e` are the arguments of the call.
local function item_of(node, op, a, b, c, d, e)
  if a == op and op ~= nil then
    if node.is_window and type(b) == "table" and b.k ~= nil and (b.times or b.list) then
      return false, b.list or b.items -- A session or sliding window that is folded at its end.
    end
    return true, b, c, d, e
  end
  if node.kind == "events" or node.kind == "iterator" then return false, a end
  if node.kind == "join" then return false, { left = a, right = b }, c end
  if node.kind == "scan" or node.kind == "reduce" then return true, b, c, d end
  return true, a, b, c
end

-- Adds a dead letter: staged in the open unit of work, or stored.
local function add_letter(runner, node, err, attempts, is_item, item, k, w, t)
  local letters = require "catga.dead_letters"
  local id, fault = letters.add(runner.app, { kind = "stream", source = runner.name,
    type = node.kind .. " " .. node.at, data = json.encode(item) and item or json.null,
    detail = { node = node.id, shape = runner.graph.shape, key = k, window = w, time = t,
      is_item = is_item }, reason = err, attempts = attempts, position = runner.handled })
  if not id then error(fault, 0) end
end

-- Leaves an item out as `on_error` says, or raises.
local function give_up(runner, node, err, attempts, ...)
  local policy = runner.graph.options.on_error
  if policy == "stop" or runner.is_injecting or GENERAL[err.code] then error(err, 0) end
  if policy == "dead_letter" then
    add_letter(runner, node, err, attempts, item_of(node, runner.instance.ops[node.id], ...))
  else
    runner.app:say("warn", ("stream %s: an item is left out, %s (%s): %s"):format(runner.name,
      node.kind, node.at, tostring(err.message)))
  end
  runner.skipped = (runner.skipped or 0) + 1
end

--- What the guarded form of a chain calls functions with. In a durable stream the attempts were
--- made before; in another one they are made here.
---@param runner table  { app, graph, instance, is_durable }
---@return fun(node: table, fn: function, ...): boolean, any
function M.guard(runner)
  local function call(unit, n, after, fn, ...)
    local ok, result = xpcall(fn, errors.catch, ...)
    if ok then return true, result end
    local now = state[1].unit
    if now then now:take_back(unit == now and n or 0, unit == now and after or 0) end
    return false, result
  end
  return function(node, fn, ...)
    local o = runner.graph.options
    local most = runner.is_durable and 1 or o.attempts or 3
    local attempts = 0
    while true do
      local unit, n, after = state[1].unit, 0, 0
      if unit then n, after = unit:mark() end
      local ok, result = call(unit, n, after, fn, ...)
      if ok then return true, result end
      attempts = attempts + 1
      M.note(runner, result)
      if attempts >= most or not result.retryable then
        give_up(runner, node, result, runner.is_durable and (o.attempts or 3) or attempts, ...)
        return false
      end
      runner.app.clock:sleep(pause_ms({ backoff_ms = o.backoff }, attempts))
    end
  end
end

--- An event cannot be shown to the chain: its personal fields, or an upcaster, say no.
---@param processor catga.StreamProcessor
---@param failure catga.Error
---@return boolean? goes_on  nil: the stream has stopped
function M.unreadable(processor, failure)
  M.note(processor, failure, failure)
  local policy = processor.graph.options.on_error
  if policy == "stop" then
    processor:fail(failure, failure.position and failure)
    return nil
  end
  if policy == "dead_letter" then
    local id, err = require("catga.dead_letters").add(processor.app, { kind = "stream",
      source = processor.name, type = failure.type, data = json.null, reason = failure,
      position = failure.position, key = tostring(failure.position) })
    if not id then error(err, 0) end
  else
    processor.app:say("warn", ("stream %s: the event at position %d is left out: %s"):format(
      processor.name, failure.position, tostring(failure.message)))
  end
  processor.skipped = (processor.skipped or 0) + 1
  processor.handled = failure.position
  processor.reader:skip(failure.position)
  return true
end

M.pause_after = commits.pause_after

return M
