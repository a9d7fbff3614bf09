--- Dead letters of streams, tried again: the item goes once more through the operator that it
--- failed in, and on from there.
local errors = require "catga.error"
local tasks = require "catga.task"

local M = {}

--- Gives an item back to its stream. In a durable stream it is part of the next commit. May yield.
---@param app catga.App
---@param letter { source: string, data: any, metadata: { node: integer, shape: string, key: any,
---  window: table?, time: number?, is_item: boolean? } }
---@return boolean? ok
---@return catga.Error? err
function M.retry(app, letter)
  local runner = app.streams and app.streams.runners[letter.source]
  if not runner then
    return nil, errors.new("not_found", ("no stream is called %s"):format(tostring(letter.source)))
  end
  local place = letter.metadata or {}
  if place.shape ~= runner.graph.shape or not place.node then
    return nil, errors.new("conflict", ("the operators of stream %s have changed since: there is "
      .. "no place for this item"):format(letter.source))
  end
  if not place.is_item then
    return nil, errors.new("invalid", "what failed here was made of several items that are gone; "
      .. "handle it by hand, then purge the letter")
  end
  if runner.status ~= "running" then
    return nil, errors.new("closed", ("stream %s is %s"):format(letter.source, runner.status),
      { retryable = true })
  end
  local outcome = tasks.future()
  runner:inject({ node = place.node, v = letter.data, k = place.key, w = place.window,
    t = place.time, outcome = outcome })
  return outcome:wait()
end

return M
