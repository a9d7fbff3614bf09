--- Event time: how far it has come in each source, and the watermark of a whole stream.
---
--- The watermark is the least over the sources of the newest time seen, less the source's lateness:
--- nothing older is waited for. It moves with each item, not with each batch, so it does not depend
--- on how the items were read. A source that was silent for its idle timeout does not hold the
--- others back; when all are silent, event time goes on by the clock from the newest time seen.
local errors = require "catga.error"
local times = require "catga.time"

local M = {}

local INFINITY = math.huge
local floor = math.floor

---@class catga.StreamSource
---@field max number        newest time seen
---@field wm number         max less lateness
---@field lateness number   ms
---@field idle_ms number?   nil: it is never taken to be idle
---@field seen number       the clock when the last item came
---@field is_idle boolean?

---@class catga.StreamWatermark
---@field sources catga.StreamSource[]
---@field wm number
---@field move fun(wm: number)  tells the operators, set by the compiled code
local Watermark = {}
Watermark.__index = Watermark

---@return catga.StreamWatermark
function M.new() return setmetatable({ sources = {}, wm = -INFINITY }, Watermark) end

--- Adds a source.
---@param options { lateness: number, idle_timeout: number? }
---@param now number
---@return catga.StreamSource
function Watermark:add(options, now)
  local source = { max = -INFINITY, wm = -INFINITY, lateness = options.lateness,
    idle_ms = options.idle_timeout, seen = now }
  self.sources[#self.sources + 1] = source
  return source
end

--- Begins anew.
---@param now number
function Watermark:reset(now)
  self.wm = -INFINITY
  for _, source in ipairs(self.sources) do
    source.max, source.wm, source.seen, source.is_idle = -INFINITY, -INFINITY, now, nil
  end
end

local function rise(self, wm)
  if wm <= self.wm then return end
  self.wm = wm
  self.move(wm)
end

--- An item of a source is newer than all before.
---@param source catga.StreamSource
---@param t number
function Watermark:see(source, t)
  source.max = t
  local wm = t - source.lateness
  source.wm = wm
  local sources = self.sources
  if #sources > 1 then
    for i = 1, #sources do
      local other = sources[i]
      if not (other.is_idle or other.has_ended) and other.wm < wm then wm = other.wm end
    end
  end
  if wm > self.wm then
    self.wm = wm
    self.move(wm)
  end
end

--- Items of a source come now.
---@param source catga.StreamSource
---@param now number
function Watermark.arrived(_, source, now) source.seen, source.is_idle = now, nil end

-- Is a source silent for too long?
local function is_silent(source, now)
  return source.idle_ms ~= nil and now - source.seen >= source.idle_ms
end

--- Looks which sources are idle.
---@param now number
function Watermark:tick(now)
  local least, newest, all_idle = INFINITY, -INFINITY, true
  for _, source in ipairs(self.sources) do
    source.is_idle = is_silent(source, now) or nil
    if source.has_ended then
      source.is_idle = true
    elseif source.is_idle then
      newest = math.max(newest, source.wm + (now - source.seen))
    else
      all_idle = false
      least = math.min(least, source.wm)
    end
  end
  if all_idle then rise(self, newest) elseif least > -INFINITY then rise(self, least) end
end

--- When the clock would bring the watermark to a time, if nothing came until then.
---@param closes number  event time
---@return number at     of the clock; math.huge: never
function Watermark:due(closes)
  if closes == INFINITY then return INFINITY end
  local first, silent = INFINITY, -INFINITY
  local least = INFINITY
  for _, source in ipairs(self.sources) do
    if not source.idle_ms and not source.has_ended then return INFINITY end
    local from = source.seen + (source.idle_ms or 0)
    if not source.has_ended then silent = math.max(silent, from) end
    if source.is_idle then from = INFINITY end
    least = math.min(least, from) -- Then one more is left out.
    if source.wm > -INFINITY and not source.has_ended then
      first = math.min(first, source.seen + closes - source.wm)
    end
  end
  if #self.sources > 1 and least < silent then return least end
  return math.max(first, silent)
end

-- What JSON has: no infinity.
local function stored(value) return value > -INFINITY and value or false end
local function loaded(value) return value or -INFINITY end

--- What a checkpoint holds of it.
---@return table
function Watermark:stored()
  local data = { stored(self.wm) }
  for i, source in ipairs(self.sources) do data[i + 1] = stored(source.max) end
  return data
end

--- Takes what a checkpoint holds.
---@param data table
function Watermark:load(data)
  self.wm = loaded(data[1])
  for i, source in ipairs(self.sources) do
    source.max = loaded(data[i + 1])
    source.wm = source.max - source.lateness
  end
end

-- They run between batches: nothing to compile.
jit.off(Watermark.tick)
jit.off(Watermark.due)

--- A function that gives the event time of an item: of a field, or what the script's function says.
---@param spec string|fun(v: any): any
---@param at string  file:line
---@return fun(v: any): number
function M.reader(spec, at)
  local read = spec
  if type(spec) == "string" then
    read = function(v) return v[spec] end
  end
  local text, ms -- The last text that was parsed: neighbours often have the same.
  return function(v)
    local value = read(v)
    if type(value) == "number" and value == value and value > -INFINITY and value < INFINITY then
      return floor(value)
    end
    if value == text and text then return ms end
    local parsed, fault = times.parse(value, "event_time")
    if not parsed then error(errors.new("invalid", ("stream (%s): %s"):format(at, fault)), 0) end
    text, ms = value, parsed
    return parsed
  end
end

return M
