--- Retention, deleting, scavenging and restarts against a simple model: random work on real files.
---
--- What is hidden when a scavenge begins may be gone afterwards or not (its file may not be sealed,
--- or not be worth it); all else that may be shown is shown, with its version, time and data.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local SEEDS = math.floor((tonumber(os.getenv("CATGA_SEEDS") or "") or 400) / 200) + 1
local STEPS = 150
local STREAMS = { "A-1", "A-2", "A-3", "B-1", "B-2", "C" }
local FILLER = ("x"):rep(700)

local function category(stream) return stream:match("^(.-)%-") or stream end

local function kept(model, stream, field)
  local own, shared = model.own[stream] or {}, model.shared[category(stream)] or {}
  return own[field] or shared[field]
end

local function is_hidden(model, stream, event, now)
  local all = model.events[stream]
  local count, age = kept(model, stream, "max_count"), kept(model, stream, "max_age")
  return (model.own[stream] or {}).deleted
    or event.version < (kept(model, stream, "truncate_before") or 0)
    or count and event.version < #all - count or age and now - event.time > age
end

local function open(model)
  local app = assert(testing.app(function() end, { data = model.dir .. "/data", start = model.now,
    settings = { segment_size = "64KiB", durability = "os",
      scavenge_min = math.random(0, 1) * 10 } }))
  return app
end

local function restart(app, model)
  model.now = app.clock:now()
  if math.random(2) == 1 then app:stop() else app:kill() end
  if math.random(4) == 1 then os.execute(("rm -rf '%s/data/index'"):format(model.dir)) end
  return open(model)
end

local function check_stream(app, model, stream)
  local list, err = app:call(catga.events.read, stream, { max = 100000 })
  if model.own[stream] and model.own[stream].deleted then
    return assert.equal("deleted", err.code)
  end
  local shown, now = {}, app.clock:now()
  for _, event in ipairs(assert(list, err)) do shown[event.version] = event end
  for _, event in ipairs(model.events[stream] or {}) do
    local there = shown[event.version]
    shown[event.version] = nil
    if is_hidden(model, stream, event, now) then
      assert.is_nil(there)
    elseif there or not event.may_be_gone then
      assert.equal(event.n, there.data.n)
      assert.equal(event.time, there.time)
    end
  end
  assert.is_nil(next(shown))
end

local function append(app, model, stream, count)
  local all = model.events[stream] or {}
  local list = {}
  for i = 1, count do
    model.n = model.n + 1
    list[i] = { type = "E", data = { n = model.n, filler = FILLER:sub(1, math.random(700)) } }
  end
  local result, err = app:call(catga.events.append, stream, list,
    { expect = #all > 0 and #all - 1 or "none" })
  if model.own[stream] and model.own[stream].deleted then
    return assert.equal("deleted", err.code)
  end
  assert.equal(#all + count - 1, assert(result, err).version)
  model.events[stream] = all
  for i = 1, count do
    all[#all + 1] = { version = #all, n = list[i].data.n, time = app.clock:now() }
  end
end

local function random_fields()
  local hours = math.random(3) == 1 and math.random(1, 30)
  local count = math.random(2) == 1 and math.random(1, 20) or nil
  return { max_count = count, max_age = hours and hours .. "h" or nil },
    { max_count = count, max_age = hours and hours * 3600000 or nil }
end

local function scavenge(app, model)
  local now = app.clock:now()
  for _, stream in ipairs(STREAMS) do
    for _, event in ipairs(model.events[stream] or {}) do
      event.may_be_gone = event.may_be_gone or is_hidden(model, stream, event, now)
    end
  end
  local summary = assert(app:call(catga.events.scavenge))
  model.removed = model.removed + summary.removed_events
  for _, stream in ipairs(STREAMS) do check_stream(app, model, stream) end
end

local function step(app, model)
  local stream, chance = STREAMS[math.random(#STREAMS)], math.random(100)
  if chance <= 55 then
    append(app, model, stream, math.random(12))
  elseif chance <= 65 then
    app:advance(math.random(300) .. "m")
  elseif chance <= 75 then
    local fields, own = random_fields()
    if (model.own[stream] or {}).deleted then return app end
    assert(app:call(catga.events.set_metadata, stream, fields))
    own.truncate_before = (model.own[stream] or {}).truncate_before
    model.own[stream] = own
  elseif chance <= 80 then
    local fields, shared = random_fields()
    assert(app:call(catga.events.set_metadata, { category = category(stream) }, fields))
    model.shared[category(stream)] = shared
  elseif chance <= 84 and model.events[stream] and not (model.own[stream] or {}).deleted then
    local is_hard = math.random(8) == 1 or nil
    assert(app:call(catga.events.delete, stream, { hard = is_hard }))
    model.own[stream] = model.own[stream] or {}
    model.own[stream].truncate_before, model.own[stream].deleted = #model.events[stream], is_hard
  elseif chance <= 90 then
    scavenge(app, model)
  elseif chance <= 92 then
    assert(app:call(catga.events.compress))
  elseif chance <= 95 then
    return restart(app, model)
  end
  check_stream(app, model, stream)
  return app
end

describe("a log that is scavenged", function()
  it(("shows what the model shows, in %d random runs"):format(SEEDS), function()
    local removed = 0
    for seed = 1, SEEDS do
      math.randomseed(seed)
      local model = { events = {}, own = {}, shared = {}, n = 0, removed = 0,
        dir = app_dir.new {} }
      local app = open(model)
      local ok, fault = pcall(function()
        for _ = 1, STEPS do app = step(app, model) end
        scavenge(app, model)
        app = restart(app, model)
        for _, stream in ipairs(STREAMS) do check_stream(app, model, stream) end
      end)
      app:stop()
      app_dir.remove_all()
      removed = removed + model.removed
      assert(ok, ("seed %d: %s"):format(seed, tostring(fault and fault.message or fault)))
    end
    assert.is_true(removed > 100 * SEEDS)
  end)
end)
