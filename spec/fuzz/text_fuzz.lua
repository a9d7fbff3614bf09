--- Any text as a duration, a time, a size, and a path of a personal field: each is read, or refused
--- with a message. What is read is in its bounds, and a time is the same after it was written.
local duration = require "catga.duration"
local times = require "catga.time"
local size_of = require "catga.settings".size
local paths = require "catga.personal_path"
local json = require "catga.native.json"

local MS_MAX = 253402300799999 -- The last millisecond of the year 9999.

local function check_number(value, fault, max)
  if value == nil then
    assert(type(fault) == "string" and fault ~= "")
    return
  end
  assert(value == value and value >= 0 and value <= max, value)
end

local function try_time(text)
  local ms, fault = times.parse(text, "it")
  check_number(ms, fault, MS_MAX)
  if not ms then return end
  assert(ms % 1 == 0, "a part of a millisecond")
  assert(times.parse(times.format(ms)) == ms, "written and read it is another time")
end

local function try_size(text)
  local ok, value = pcall(size_of, text, "it")
  if ok then check_number(value, nil, math.huge) else assert(type(value) == "string") end
end

-- A path finds its way, or tells that there is none, whatever stands there.
local function try_path(text)
  local path, fault = paths.compile(text)
  if not path then return assert(type(fault) == "string" and fault ~= "") end
  assert(paths.overlap(path, path))
  local data = json.decode '{"a":{"b":[1,2,{"c":"x"}]},"list":["x",[],{}],"n":1,"e":[]}'
  local before = json.encode(data)
  local places, values = {}, {}
  paths.get(data, path)
  if paths.take(data, path, places, values) then return end
  for i, place in ipairs(places) do assert(paths.put(data, place, values[i]), place) end
  assert(json.encode(data) == before, "what was taken is not what was put back")
end

return function(text)
  check_number(duration.parse(text, "it"), select(2, duration.parse(text, "it")), 100 * 366 * 864e5)
  try_time(text)
  try_size(text)
  try_path(text)
  paths.put(json.decode '{"a":[null,{"b":null}]}', text, 1) -- A place of a damaged event.
end
