--- Appends that race: with the same id, with a deletion for good, with a condition that stops to
--- hold. What is stored is what some order of them, one after another, would have stored.
local testing = require "catga.testing"
local catga = require "catga"
local random = require "catga.process.random"

local SEEDS = math.min(tonumber(os.getenv("CATGA_SEEDS") or 40), 2000)
local ONLY = tonumber(os.getenv("CATGA_SEED") or "")
local TASKS = 12

-- A die of a seed: die(n) is 1 to n.
local function die_of(seed)
  local next_random = random.new(seed)
  for _ = 1, 10 do next_random() end
  return function(n) return math.floor(next_random() * n) + 1 end
end

local function define()
  catga.command("Act", function(c)
    catga.sleep(c.before .. "ms")
    local result, err
    if c.what == "append" then
      result, err = catga.events.append("S", { { type = "E", id = c.id } }, { expect = c.expect })
    elseif c.what == "both" then
      result, err = catga.events.append_all({
        { stream = "Open", events = { { type = "E", id = c.id } } },
        { stream = "Copy", events = { { type = "E", id = c.id } } },
      }, { conditions = { Gate = "none" } })
    elseif c.what == "close" then
      result, err = catga.events.append("Gate", { { type = "Closed" } })
    else
      result, err = catga.events.delete("S", { hard = true })
    end
    if not result then return nil, err end
    catga.sleep(c.behind .. "ms") -- What is staged is committed later: others come between.
    return result
  end)
end

local WHAT = { "append", "append", "append", "both", "both", "both", "close", "delete" }

local function act(die, results)
  local what = WHAT[die(#WHAT)]
  local c = { what = what, id = "id" .. die(3), before = die(20) - 1, behind = die(20) - 1,
    expect = die(4) == 1 and "exists" or "any" }
  local one = { c = c }
  results[#results + 1] = one
  catga.spawn(function()
    local value, err = catga.send("Act", c)
    one.value, one.err = value, err
  end)
end

-- Ids and positions of a stream, below the tombstone.
local function stored(app)
  local by_stream, closed, deleted = { S = {}, Open = {}, Copy = {} }, math.huge, math.huge
  for _, event in ipairs(app:call(catga.events.read_all, { max = 1000 })) do
    local list = by_stream[event.stream]
    if list then list[#list + 1] = { id = event.metadata.event_id, position = event.position } end
    if event.stream == "Gate" then closed = math.min(closed, event.position) end
  end
  local stream = app.app.store:stream("$metadata-S")
  if stream then deleted = app.app.store:read(stream, 0, 1)[1].position end
  return by_stream, closed, deleted
end

local function check_once(list, before, what)
  local seen = {}
  for _, one in ipairs(list) do
    assert(not seen[one.id], ("%s is stored twice in %s"):format(one.id, what))
    assert(one.position < before, ("%s is stored in %s behind its end"):format(one.id, what))
    seen[one.id] = true
  end
  return seen
end

local function check(app, results)
  local by_stream, closed, deleted = stored(app)
  local in_s = check_once(by_stream.S, deleted, "S")
  local in_open = check_once(by_stream.Open, closed, "Open")
  assert.same(in_open, check_once(by_stream.Copy, closed, "Copy"))
  for _, one in ipairs(results) do
    if one.c.what == "append" and one.value then assert.is_true(in_s[one.c.id]) end
    if one.c.what == "both" and one.value then assert.is_true(in_open[one.c.id]) end
    assert(one.value or one.err.code == "conflict" or one.err.code == "deleted"
      or one.err.code == "not_found", tostring(one.err))
  end
end

local function run(seed)
  local die, results = die_of(seed), {}
  local app = assert(testing.app(define))
  app:call(function()
    assert(catga.events.append("S", { { type = "First", id = "first" } }))
    for _ = 1, TASKS do act(die, results) end
  end)
  app:advance("10s")
  check(app, results)
  app = app:crash()
  check(app, results)
  app:stop()
end

describe("appends that race", function()
  it("store each event once, and nothing behind a deletion or a condition", function()
    for seed = ONLY or 1, ONLY or SEEDS do
      local ok, failure = pcall(run, seed)
      if not ok then error(("CATGA_SEED=%d: %s"):format(seed, tostring(failure)), 0) end
    end
  end)
end)
