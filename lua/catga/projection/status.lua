--- How projections are doing: position, lag, rate, errors, what is being built.
local M = {}

local RATE_MS = 10000 -- The rate is that of the last so many milliseconds, about.

-- Events a second since a look that is long enough ago.
local function rate_of(runner)
  local now, count = runner.app.clock:mono(), runner.count
  local from = runner.rate_from
  if not from then
    from = { { at = now, count = count } }
    runner.rate_from = from
  end
  local last = from[#from]
  if now - last.at >= RATE_MS / 10 then from[#from + 1] = { at = now, count = count } end
  while #from > 1 and now - from[1].at > RATE_MS do table.remove(from, 1) end
  local span = now - from[1].at
  return span > 0 and (count - from[1].count) * 1000 / span or 0
end

-- How old the first event is that it has not seen, in ms.
local function lag_ms(runner, reached, last)
  if reached >= last then return 0 end
  local app = runner.app
  local events = app.store:cursor(reached, { journals = true }):next(1)
  local event = events and events[1]
  return event and math.max(0, app.clock:now() - event.time) or 0
end

--- One version of a projection.
---@param runner catga.Runner
---@return { name: string, version: integer, lifecycle: string, status: string, position: integer,
---  lag: integer, lag_ms: number, rate: number, skipped: integer, is_serving: boolean,
---  error: table?, log_position: integer }
function M.describe(runner)
  local _, durable = runner.app.store:positions()
  local reached, last = math.min(runner:read_position(), durable - 1), durable - 1
  return { name = runner.name, version = runner.version, lifecycle = runner.definition.lifecycle,
    status = runner.status, position = reached, lag = math.max(0, last - reached),
    lag_ms = lag_ms(runner, reached, last), rate = rate_of(runner), skipped = runner.skipped,
    is_serving = runner.is_serving == true, error = runner.error, log_position = last }
end

--- A projection: the version that serves, or the only one, with the one that is being built.
---@param app catga.App
---@param name string
---@return table
function M.of(app, name)
  local self = app.projections
  local list = self:runners_of(name)
  local one = M.describe(list[1])
  local building = list[2] or not list[1].is_serving and list[1]
  if building then
    local about = M.describe(building)
    one.building = { version = about.version, position = about.position, status = about.status,
      error = about.error,
      progress = about.log_position > 0 and about.position / about.log_position or 1 }
  end
  local paused = self.paused[name]
  if paused then one.paused_at, one.note = paused.time, paused.note end
  return one
end

return M
