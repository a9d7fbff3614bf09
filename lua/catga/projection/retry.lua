--- Dead letters of projections: an event that was passed over is handled once more, now, behind all
--- that came after it. Its changes are committed beside the checkpoint, which stays where it is.
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local presenter = require "catga.event"
local sandbox = require "catga.sandbox"
local state = require "catga.state"

local M = {}

-- The event at a position, as handlers get it, or nil and an error. May raise.
local function read(app, position)
  local cursor = app.store:cursor(position - 1, { journals = true })
  local events, err = cursor:next(1)
  cursor:close()
  local event = events and events[1]
  if event and event.position == position then return presenter.present(app, event) end
  if not events then return nil, err end
  return nil, errors.new("not_found", ("there is no event at position %d any more"):format(
    position))
end

-- Handles an event once more. May yield, may raise.
local function handle(runner, position)
  runner:commit()
  local event, err = read(runner.app, position)
  if not event then return nil, err end
  local handler = runner.definition.handlers[event.type]
  if not handler then
    return nil, errors.new("not_found", ("projection %s does not handle %s"):format(runner.name,
      event.type))
  end
  local docs, task = runner.documents, state[1]
  docs:begin(event)
  task.pure = sandbox.PROJECTING
  local ok, failure = xpcall(handler, errors.catch, event.data, docs, runner.envelope(event))
  task.pure = nil
  if ok and not docs.broken then
    ok, failure = runner:commit_beside()
  else
    failure = docs.broken and docs.broken.error or failure
  end
  if not ok then runner:drop_changes() end
  return ok or nil, failure
end

--- Handles what waits; called by the runner's task between two batches. May yield.
---@param runner catga.Runner
function M.run(runner)
  local list = runner.retries
  runner.retries = nil
  for _, one in ipairs(list) do
    local ok, done, err = xpcall(handle, errors.catch, runner, one.position)
    if ok then one.future:set(done, err) else one.future:set(nil, done) end
  end
end

--- Retries a dead letter of a projection. May yield.
---@param app catga.App
---@param letter { source: string, position: integer }
---@return boolean? ok
---@return catga.Error? err  that of the handler, or why it cannot be tried
function M.retry(app, letter)
  local runner = app.projections.runners[letter.source]
  if not runner or runner.status ~= "running" then
    return nil, errors.new("not_found", ("projection %s does not run"):format(letter.source))
  end
  if runner.is_inline or runner.definition.partitions then
    return nil, errors.new("invalid", ("projection %s is inline or has partitions: mend the "
      .. "handler and rebuild it"):format(runner.name))
  end
  local one = { position = letter.position, future = tasks.future() }
  runner.retries = runner.retries or {}
  table.insert(runner.retries, one)
  native_task.interrupt(runner.task)
  return one.future:wait()
end

return M
