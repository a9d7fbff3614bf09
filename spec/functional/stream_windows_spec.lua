--- Windows, joins and the operators that go by the clock against naive models, over random inputs
--- with random lateness, and over kills. CATGA_SEEDS sets how many seeds, CATGA_SEED the only one.
local support = dofile "spec/support/stream.lua"
local testing = require "catga.testing"
local catga = require "catga"

local SEEDS = math.min(tonumber(os.getenv("CATGA_SEEDS") or 60), 5000)
local ONLY = tonumber(os.getenv("CATGA_SEED") or "")
local KEYS = 3

local function each_seed(fn)
  for seed = ONLY or 1, ONLY or SEEDS do
    local ok, failure = pcall(fn, seed)
    if not ok then
      error(("CATGA_SEED=%d: %s"):format(seed, type(failure) == "table" and failure.message
        or tostring(failure)), 0)
    end
  end
end

-- Items with times that go up and down.
local function items_of(die, count)
  local list, t = {}, 1000
  for i = 1, count do
    t = t + die(20) - 5
    list[i] = { n = i, t = math.max(1, t - (die(4) == 1 and die(60) or 0)), k = "k" .. die(KEYS) }
  end
  return list
end

local function numbers(list)
  local result = {}
  for i, item in ipairs(list) do result[i] = item.n end
  return table.concat(result, ",")
end

local function by_time(list)
  table.sort(list, function(a, b) return a.t < b.t or a.t == b.t and a.n < b.n end)
  return list
end

-- The naive model of windows with fixed places: all items in memory, every window by itself.
local function model_fixed(list, size, hop, lateness)
  local wm, late, windows = -math.huge, {}, {}
  for _, item in ipairs(list) do
    wm = math.max(wm, item.t - lateness)
    local taken = false
    for start = math.floor(item.t / hop) * hop, item.t - size + 1, -hop do
      if start + size > wm then
        local key = ("%s %d"):format(item.k, start)
        windows[key] = windows[key] or {}
        table.insert(windows[key], item)
        taken = true
      end
    end
    if not taken then late[#late + 1] = item.n end
  end
  for key, window in pairs(windows) do windows[key] = numbers(by_time(window)) end
  return windows, late
end

local function model_sessions(list, gap, lateness)
  local wm, late, open, closed = -math.huge, {}, {}, {}
  local function close(all)
    local left = {}
    for _, session in ipairs(open) do
      by_time(session)
      if all or session[#session].t + gap < wm then
        closed[("%s %d"):format(session[1].k, session[1].n)] = numbers(session)
      else
        left[#left + 1] = session
      end
    end
    open = left
  end
  for _, item in ipairs(list) do
    wm = math.max(wm, item.t - lateness)
    close()
    local joined, left = { item }, {}
    for _, session in ipairs(open) do
      local first, last = session[1].t, session[#session].t
      if session[1].k == item.k and item.t >= first - gap and item.t <= last + gap then
        for _, one in ipairs(session) do joined[#joined + 1] = one end
      else
        left[#left + 1] = session
      end
    end
    if #joined == 1 and item.t + gap < wm then
      late[#late + 1] = item.n
    else
      left[#left + 1] = by_time(joined)
      open = left
    end
  end
  close(true)
  return closed, late
end

local function model_sliding(list, size, lateness)
  local wm, late, kept, result = -math.huge, {}, {}, {}
  for _, item in ipairs(list) do
    wm = math.max(wm, item.t - lateness)
    if item.t < wm then late[#late + 1] = item.n else kept[#kept + 1] = item end
  end
  by_time(kept)
  for i, item in ipairs(kept) do
    local window = {}
    for k = 1, i do
      local other = kept[k]
      if other.k == item.k and other.t > item.t - size then window[#window + 1] = other end
    end
    result[tostring(item.n)] = numbers(window)
  end
  return result, late
end

local WINDOWS = {
  tumbling = function(s, p) return s:tumbling(p.size .. "ms") end,
  hopping = function(s, p) return s:hopping(p.size .. "ms", p.hop .. "ms") end,
  session = function(s, p) return s:session(p.size .. "ms") end,
  sliding = function(s, p) return s:sliding(p.size .. "ms") end,
}

local function expected(kind, list, p)
  if kind == "tumbling" then return model_fixed(list, p.size, p.size, p.lateness) end
  if kind == "hopping" then return model_fixed(list, p.size, p.hop, p.lateness) end
  if kind == "session" then return model_sessions(list, p.size, p.lateness) end
  return model_sliding(list, p.size, p.lateness)
end

-- The name under which a result is compared.
local function place_of(kind, window, items, key)
  if kind == "sliding" then return tostring(items[#items].n) end
  if kind == "session" then return ("%s %d"):format(key, items[1].n) end
  return ("%s %d"):format(key, window.start)
end

local function parameters(die)
  local hop = die(30)
  return { size = hop * die(4), hop = hop, lateness = die(3) == 1 and 0 or die(80) }
end

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function run_in_memory(kind, list, p)
  local found, late = {}, {}
  app:call(function()
    local place = 0
    local stream = catga.stream.of(function()
      place = place + 1
      return list[place]
    end, { event_time = "t", lateness = p.lateness .. "ms" }):group_by("k")
    WINDOWS[kind](stream, p):late(function(item) late[#late + 1] = item.n end)
      :each(function(items, key, window)
        local name = place_of(kind, window, items, key)
        assert(not found[name], "twice: " .. name)
        found[name] = numbers(items)
      end)
  end)
  return found, late
end

describe("windows over an iterator", function()
  setup(function() jit.off() end)
  teardown(function() jit.on() end)

  for kind in pairs(WINDOWS) do
    it(("are those of a naive model: %s"):format(kind), function()
      app = assert(testing.app(function() end))
      each_seed(function(seed)
        local die = support.die(seed)
        local p = parameters(die)
        local list = items_of(die, die(60))
        local windows, late = expected(kind, list, p)
        local found, found_late = run_in_memory(kind, list, p)
        assert.same(windows, found)
        assert.same(late, found_late)
      end)
    end)
  end
end)

-- The same in a durable stream that is killed again and again.
local function define(kind, p)
  return function()
    local stream = catga.stream("Item", { durable = "windows", event_time = "t", batch = p.batch,
      checkpoint_events = p.batch, lateness = p.lateness .. "ms" }):group_by("k")
    WINDOWS[kind](stream, p)
      :late { append = "Late", type = "Late" }
      :select(function(items, key, window)
        return { name = place_of(kind, window, items, key), numbers = numbers(items) }
      end)
      :to { append = "Windows", type = "Window" }
  end
end

local function collect()
  local found, late = {}, {}
  for _, event in ipairs(app:call(catga.events.read, "Windows", { max = 10000 })) do
    assert(not found[event.data.name], "twice: " .. event.data.name)
    found[event.data.name] = event.data.numbers
  end
  for i, event in ipairs(app:call(catga.events.read, "Late", { max = 10000 })) do
    late[i] = event.data.n
  end
  return found, late
end

local function run_killed(kind, seed)
  local die = support.die(seed + 1000)
  local p = parameters(die)
  p.batch = die(5)
  local list = items_of(die, 20 + die(60))
  local windows, late = expected(kind, list, p)
  app = assert(testing.app(define(kind, p)))
  local place = 0
  while place < #list do
    local events = {}
    for _ = 1, die(10) do
      place = place + 1
      if list[place] then events[#events + 1] = { type = "Item", data = list[place] } end
    end
    if #events > 0 then app:call(function() assert(catga.events.append("Items", events)) end) end
    if die(2) == 1 then
      app:settle()
      local before = app:call(catga.events.read, "Items", { max = 10000 })
      local last = before[#before].position -- What was appended stays; what came of it may not.
      app = assert(app:crash(last + die(math.max(1, app:position() - last))))
    end
  end
  app:advance("10m")
  local found, found_late = collect()
  assert.same(windows, found)
  assert.same(late, found_late)
  assert.equal(#late, app:call(catga.streams.get, "windows").late)
  app:stop()
  app = nil
end

describe("windows of a durable stream that is killed", function()
  setup(function() jit.off() end)
  teardown(function() jit.on() end)

  for kind in pairs(WINDOWS) do
    it(("are those of a naive model: %s"):format(kind), function()
      each_seed(function(seed) run_killed(kind, seed) end)
    end)
  end
end)
