--- Dead letters of streams, tried again: the item goes once more through the operator that it
--- failed in, and on from there.
local errors = require "catga.error"
local tasks = require "catga.task"

local M = {}

M.PREFIX = "$retried-"

--- Gives an item back to its stream. In a durable stream what it leads to is one commit with a
--- record that the letter was retried, so one that was killed behind it does nothing. May
--- yield.
---@param app catga.App
---@param letter { id: string, source: string, data: any, detail: { node: integer, shape: string,
---  key: any, window: table?, time: number?, is_item: boolean? } }
---@return boolean? ok
---@return catga.Error? err
function M.retry(app, letter)
  local runner = app.streams and app.streams.runners[letter.source]
  if not runner then
    return nil, errors.new("not_found", ("no stream is called %s"):format(tostring(letter.source)))
  end
  local done = app.store:stream(M.PREFIX .. letter.id)
  if done and app.store:count(done) > 0 then return true end
  local place = letter.detail or {}
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
    t = place.time, outcome = outcome,
    letter = letter.id })
  return outcome:wait()
end

return M
