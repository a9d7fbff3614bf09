--- Scavenging: what goes, what stays, and that nothing else changes.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local SETTINGS = { segment_size = "64KiB", durability = "os" }
local FILLER = ("x"):rep(400)

local app, dir

local function define()
  catga.command { name = "C", idempotent = true, handle = function(c) return c end }
  catga.command("Say", function(c) return catga.publish("Said", c) end)
  local P = catga.process "P"
  function P:execute(n)
    for _ = 1, 3 do self:step_of(n) end
    return n
  end
  function P.step_of(_, n) return { n = n, filler = FILLER } end
end

local now = nil -- Where the clock of the next app starts.

local function open(settings)
  local all = {}
  for name, value in pairs(SETTINGS) do all[name] = value end
  for name, value in pairs(settings or {}) do all[name] = value end
  app = assert(testing.app(define, { data = dir .. "/data", settings = all,
    start = now }))
end

local function stop()
  now = app.clock:now()
  app:stop()
end

local function reopen(settings)
  stop()
  open(settings)
end

before_each(function()
  dir, now = app_dir.new {}, nil
  open()
end)

after_each(function()
  app:stop()
  app_dir.remove_all()
end)

local function run(fn, ...) return app:call(fn, ...) end

local function append(stream, count, text)
  for n = 1, count do
    assert(run(catga.events.append, stream, { { type = "E", data = { n = n, filler = FILLER,
      text = text } } }))
  end
end

-- Fills segments until all before are sealed.
local function fill(count)
  local seals = #app.app.store:seals()
  local n = 0
  repeat
    n = n + 1
    append("Filler-" .. n % 50, 1)
  until #app.app.store:seals() >= seals + (count or 1)
end

local function set(target, fields) assert(run(catga.events.set_metadata, target, fields)) end

local function scavenge() return assert(run(catga.events.scavenge)) end

local function versions(stream)
  local list = {}
  for i, event in ipairs(assert(run(catga.events.read, stream, { max = 10000 }))) do
    list[i] = event.version
  end
  return list
end

-- Positions of all events, journals too.
local function positions()
  local list, after = {}, 0
  while true do
    local events, position = assert(run(catga.events.read_all,
      { after = after, max = 1000, journals = true }))
    for _, event in ipairs(events) do list[#list + 1] = event.position .. event.stream end
    if position == after then return list end
    after = position
  end
end

local function has_bytes(text)
  local pipe = io.popen(("grep -c -a -r -F %s %s/data/log | grep -v ':0' | wc -l"):format(text,
    dir))
  local count = tonumber(pipe:read("*a"))
  pipe:close()
  return count > 0
end

describe("a scavenge", function()
  it("of nothing changes nothing", function()
    assert.same({ segments = 0, rewritten = 0, removed_events = 0, removed_bytes = 0,
      left_events = 0 }, scavenge())
    append("S", 5)
    fill(2)
    local before = positions()
    assert.equal(0, scavenge().rewritten)
    assert.same(before, positions())
  end)

  it("removes what metadata hides, and leaves positions and versions", function()
    append("S", 40)
    append("T", 40)
    set("S", { max_count = 3 })
    fill(2)
    local before = positions()
    local summary = scavenge()
    assert.is_true(summary.rewritten >= 1)
    assert.equal(37, summary.removed_events)
    local wanted = {}
    for _, one in ipairs(before) do
      local position = tonumber(one:match("^%d+"))
      if not (one:match("^%d+S$") and position <= 37) then wanted[#wanted + 1] = one end
    end
    for _ = 1, 2 do
      assert.same(wanted, positions())
      assert.same({ 37, 38, 39 }, versions("S"))
      assert.equal(40, #versions("T"))
      set("S", { max_count = 100 })
      assert.same({ 37, 38, 39 }, versions("S"))
      local info = run(catga.events.stream_info, "S")
      assert.equal(39, info.version)
      assert.equal(37, info.first_version)
      reopen()
    end
    assert.same({ version = 40 },
      run(catga.events.append, "S", { { type = "E" } }, { expect = 39 }))
    assert.same({ 37, 38, 39, 40 }, versions("S"))
    assert.equal(0, scavenge().rewritten)
  end)

  it("leaves the last event of what is too old or deleted, and none when for good", function()
    append("Old", 30, "oldtext")
    append("Soft", 30, "softtext")
    append("Hard", 30, "hardtext")
    set("Old", { max_age = "1h" })
    assert(run(catga.events.delete, "Soft"))
    assert(run(catga.events.delete, "Hard", { hard = true }))
    app:advance("2h")
    fill(2)
    assert.is_true(has_bytes("hardtext"))
    assert.equal(29 + 29 + 30, scavenge().removed_events)
    assert.is_false(has_bytes("hardtext"))
    for round = 1, 3 do
      assert.same({}, versions("Old"))
      assert.same({}, versions("Soft"))
      local _, err = run(catga.events.append, "Hard", { { type = "E" } })
      assert.equal("deleted", err.code)
      for _, name in ipairs { "read", "delete", "set_metadata" } do
        _, err = run(catga.events[name], "Hard", {})
        assert.equal("deleted", err.code)
      end
      local info, fault = run(catga.events.stream_info, "Hard")
      assert.equal("deleted", info and info.deleted == "hard" and "deleted" or fault.code)
      if round == 1 then
        reopen()
      elseif round == 2 then
        stop()
        os.execute(("rm -r '%s/data/index'"):format(dir))
        open()
      end
    end
    assert.same({ version = 30 }, run(catga.events.append, "Old", { { type = "E" } }))
    assert.same({ version = 30 }, run(catga.events.append, "Soft", { { type = "E" } }))
  end)

  it("lets outcomes and journals go after their time", function()
    reopen { inbox_window = "1h", process_retain = "1h" }
    for n = 1, 40 do assert(app:send("C", { n = n, filler = FILLER }, { key = "k" .. n })) end
    for n = 1, 20 do assert(app:run("P", "p" .. n)) end
    fill(1)
    assert.equal(0, scavenge().removed_events)
    app:advance("2h")
    fill(1)
    assert.equal(40 + 20 * 3, scavenge().removed_events)
    for _ = 1, 2 do
      assert.equal("p7", app:run("P", "p7"))
      assert.equal("completed", app.app:process("p9").status)
      assert.equal("p9", app.app:process("p9").result)
      -- A repeated key is a new message now, and its outcome is known again.
      assert.same({ n = 8 }, app:send("C", { n = 8 }, { key = "k1" }))
      assert.same({ n = 8 }, app:send("C", { n = 8 }, { key = "k1" }))
      reopen()
    end
    stop()
    os.execute(("rm -r '%s/data/index'"):format(dir))
    open()
    assert.same({ n = 8 }, app:send("C", { n = 8 }, { key = "k1" }))
    assert.same({ n = 3 }, app:send("C", { n = 3 }, { key = "k2" }))
    assert.same({ n = 3 }, app:send("C", { n = 3 }, { key = "k2" }))
  end)

  it("leaves files alone of which little would go", function()
    append("S", 10)
    set("S", { max_count = 9 })
    fill(2)
    local summary = scavenge()
    assert.equal(0, summary.rewritten)
    assert.equal(1, summary.left_events)
    reopen { scavenge_min = 0 }
    assert.equal(1, scavenge().removed_events)
  end)

  it("goes on beside appends and reads, and only one at a time", function()
    append("S", 200)
    set("S", { max_count = 1 })
    fill(2)
    local other, appended = nil, 0
    local summary = run(function()
      local task = require "catga.task"
      task.spawn(app.app, function()
        catga.sleep("1ms")
        other = select(2, catga.events.scavenge())
        for _ = 1, 50 do
          assert(catga.events.append("T", { { type = "E" } }))
          assert.equal(1, #catga.events.read("S"))
          appended = appended + 1
          catga.sleep("1ms")
        end
      end)
      return catga.events.scavenge()
    end)
    assert.equal(199, summary.removed_events)
    app:advance("1s")
    assert.equal(50, appended)
    assert.equal("busy", other.code)
    assert.equal(50, #versions("T"))
  end)

  it("takes nothing that reads show, also where the clock was set back", function()
    reopen { scavenge_min = 0 }
    set("S", { max_age = "2h" })
    for round = 1, 5 do
      append("S", 10)
      fill(1)
      stop()
      now = now + (round % 2 == 0 and 1 or -1) * 24 * 3600 * 1000
      open { scavenge_min = 0 }
      local before = versions("S")
      scavenge()
      assert.same(before, versions("S"))
    end
  end)

  it("makes the index again that somebody has removed meanwhile", function()
    append("S", 200)
    set("S", { max_count = 10 })
    fill(6)
    for round = 1, 2 do
      os.execute(("rm -r '%s/data/index'"):format(dir))
      if round == 1 then
        assert.equal(190, scavenge().removed_events)
      else
        assert.is_true(assert(run(catga.events.compress)).compressed >= 6)
      end
      assert.equal(10, #versions("S"))
    end
    reopen()
    assert.equal(10, #versions("S"))
    assert.same({ 198, 199 }, { versions("S")[9], versions("S")[10] })
  end)

  it("gives up in the end when the index cannot be written", function()
    append("S", 100)
    set("S", { max_count = 1 })
    stop()
    os.execute(("rm -rf '%s/data/index' && touch '%s/data/index'"):format(dir, dir))
    open()
    fill(2)
    local summary, err = run(catga.events.scavenge)
    assert.is_nil(summary)
    assert.equal("busy", err.code)
    assert.same({ 99 }, versions("S"))
    assert.is_nil(app.app.scavenging)
  end)

  it("is ended by a stop in the middle, and can be done again", function()
    append("S", 300)
    set("S", { max_count = 2 })
    fill(2)
    require("catga.task").spawn(app.app, function() catga.events.scavenge() end)
    require("catga.native.task").yield()
    reopen()
    assert.same({ 298, 299 }, versions("S"))
    scavenge()
    assert.same({ 298, 299 }, versions("S"))
  end)

  it("of a stream whose first events are gone lets a read begin where they end", function()
    append("S", 100)
    set("S", { truncate_before = 90 })
    fill(2)
    scavenge()
    assert.equal(90, run(catga.events.read, "S", { max = 1 })[1].version)
    set("S", { truncate_before = 0 })
    assert.equal(90, run(catga.events.read, "S", { max = 1 })[1].version)
    assert.equal(95, run(catga.events.read, "S", { max = 1, from = 95 })[1].version)
    assert.equal(91, run(catga.events.read, "S", { from = 91, backward = true })[1].version)
    assert.same({}, (run(catga.events.read, "S", { from = 50, backward = true })))
    assert.same({}, (run(catga.events.read, "S", { to = 50 })))
  end)
end)

describe("a compressed log", function()
  it("reads the same, is smaller, and is scavenged compressed", function()
    append("S", 200)
    set("S", { max_count = 150 })
    fill(3)
    local before = positions()
    local summary = assert(run(catga.events.compress))
    assert.equal(summary.segments, summary.compressed)
    assert.is_true(summary.bytes_after < summary.bytes_before / 3)
    assert.same(before, positions())
    assert.equal(0, assert(run(catga.events.compress)).compressed)
    assert.equal(50, scavenge().removed_events)
    for _ = 1, 2 do
      for _, seal in ipairs(app.app.store:seals()) do
        if seal.end_position < 200 then assert.is_true(seal.compressed) end
      end
      assert.equal(150, #versions("S"))
      reopen()
    end
  end)

  it("may keep young files as they are", function()
    fill(1)
    app:advance("2h")
    fill(2)
    local summary = assert(run(catga.events.compress, { older = "1h" }))
    assert.is_true(summary.compressed >= 1 and summary.compressed < summary.segments)
  end)
end)
