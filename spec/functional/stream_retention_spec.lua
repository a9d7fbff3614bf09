--- Retention and deleting against a simple model: random work, with crashes in between.
local testing = require "catga.testing"
local catga = require "catga"

local SEEDS = tonumber(os.getenv("CATGA_SEEDS") or "") or 60
local STEPS = 120
local STREAMS = { "A-1", "A-2", "B-1", "B" }

local function category(stream) return stream:match("^(.-)%-") or stream end

-- The model: every event that was ever appended, and the metadata as it was set.
local function new_model() return { events = {}, own = {}, shared = {} } end

local function kept(model, stream, field)
  local own, shared = model.own[stream] or {}, model.shared[category(stream)] or {}
  return own[field] or shared[field]
end

-- The versions that may be shown: those of the model, one by one.
local function visible(model, stream, now)
  local all = model.events[stream] or {}
  local list = {}
  for i, event in ipairs(all) do
    local version = i - 1
    local count, age = kept(model, stream, "max_count"), kept(model, stream, "max_age")
    local hidden = version < (kept(model, stream, "truncate_before") or 0)
      or count and version < #all - count
      or age and now - event.time > age
    if not hidden then list[#list + 1] = { version = version, time = event.time } end
  end
  return list
end

local function expected(model, stream, now, opts)
  local list, low, high = {}, opts.from, opts.to
  if opts.backward then low, high = high, low end
  for _, event in ipairs(visible(model, stream, now)) do
    if event.version >= (low or 0) and event.version <= (high or math.huge)
      and event.time <= (opts.until_time or math.huge) then
      table.insert(list, opts.backward and 1 or #list + 1, event.version)
    end
  end
  for i = #list, (opts.max or 100) + 1, -1 do list[i] = nil end
  return list
end

local function one_of(list) return list[math.random(#list)] end

local function maybe(low, high) return math.random(2) == 1 and math.random(low, high) or nil end

local function random_fields()
  local hours = maybe(1, 20)
  return { max_count = maybe(1, 8), max_age = hours and hours .. "h" },
    { max_count = nil, max_age = hours and hours * 3600000 }
end

local function check_reads(app, model)
  local now = app.clock:now()
  for _, stream in ipairs(STREAMS) do
    local own = model.own[stream]
    local opts = { from = maybe(0, 12), to = maybe(0, 12), max = maybe(1, 5),
      backward = math.random(2) == 1, until_time = math.random(4) == 1 and now - math.random(1e7)
        or nil }
    local list, err = app:call(catga.events.read, stream, opts)
    if own and own.deleted then
      assert.equal("deleted", err.code)
    else
      local versions = {}
      for i, event in ipairs(list) do versions[i] = event.version end
      assert.same(expected(model, stream, now, opts), versions)
      local info = app:call(catga.events.stream_info, stream)
      local all = visible(model, stream, now)
      assert.equal(#all, info and info.count or 0)
      assert.equal(info and #model.events[stream] - 1, info and info.version)
    end
  end
end

local ACTIONS = {
  function(app, model, stream) -- Append, expecting the right version or a wrong one.
    local all = model.events[stream] or {}
    local version = #all - 1
    local expect = one_of { "any", version >= 0 and version or "none", version + 1 }
    local list = {}
    for i = 1, math.random(3) do list[i] = { type = "E" } end
    local result, err = app:call(catga.events.append, stream, list, { expect = expect })
    local is_deleted = model.own[stream] and model.own[stream].deleted
    if is_deleted then return assert.equal("deleted", err.code) end
    if expect == version + 1 then return assert.equal("conflict", err.code) end
    assert.equal(version + #list, result.version)
    model.events[stream] = all
    for _ = 1, #list do all[#all + 1] = { time = app.clock:now() } end
  end,
  function(app) app:advance(math.random(300) .. "m") end,
  function(app, model, stream)
    local fields, own = random_fields()
    fields.truncate_before = maybe(0, 10)
    local ok = app:call(catga.events.set_metadata, stream, fields)
    local before = model.own[stream] or {}
    if before.deleted then return assert.is_nil(ok) end
    own.max_count = fields.max_count
    own.truncate_before = fields.truncate_before or before.truncate_before
    model.own[stream] = own
  end,
  function(app, model, stream)
    local fields, shared = random_fields()
    shared.max_count = fields.max_count
    assert(app:call(catga.events.set_metadata, { category = category(stream) }, fields))
    model.shared[category(stream)] = shared
  end,
  function(app, model, stream)
    local is_hard = math.random(6) == 1
    local ok, err = app:call(catga.events.delete, stream, { hard = is_hard })
    local own = model.own[stream] or {}
    if not model.events[stream] then return assert.equal("not_found", err.code) end
    if own.deleted then return assert.equal(is_hard, ok ~= nil) end
    model.own[stream] = own
    own.truncate_before, own.deleted = #model.events[stream], is_hard
  end,
}

describe("streams with metadata", function()
  it(("show what the model shows, in %d random runs"):format(SEEDS), function()
    for seed = 1, SEEDS do
      math.randomseed(seed)
      local app, model = assert(testing.app(function() end)), new_model()
      local ok, fault = pcall(function()
        for _ = 1, STEPS do
          local action = math.random(10)
          ACTIONS[action <= 5 and 1 or action <= 7 and 2 or action - 5](app, model,
            one_of(STREAMS))
          check_reads(app, model)
          if math.random(30) == 1 then app = assert(app:crash()) end
        end
      end)
      app:stop()
      assert(ok, ("seed %d: %s"):format(seed, tostring(fault and fault.message or fault)))
    end
  end)
end)
