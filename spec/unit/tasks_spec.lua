--- Tasks of scripts: catga.spawn, catga.map, catga.sleep, and that nothing of them stays behind.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local catga = require "catga"

local app

-- Runs fn as a task of an app.
local function run(fn) return app:call(fn) end

before_each(function()
  app = assert(testing.app(function()
    catga.command("Echo", function(cmd)
      if cmd.pause then catga.sleep(cmd.pause) end
      return cmd.value
    end)
    catga.command("Ids", function(_, ctx)
      return { correlation_id = ctx.correlation_id, causation_id = ctx.causation_id }
    end)
    catga.command("Spawns", function(cmd, ctx)
      local ids
      if cmd.how == "spawn" then
        ids = catga.spawn(function() return catga.send("Ids", {}) end):wait()
      else
        ids = catga.map({ 1 }, function() return catga.send("Ids", {}) end)[1]
      end
      return { own = ctx.id, ids = ids }
    end)
  end))
end)

after_each(function() app:stop() end)

describe("catga.spawn", function()
  it("runs a function beside the caller; wait gives what it returns", function()
    assert.same({ "first", 1, "b" }, run(function()
      local order = {}
      local handle = catga.spawn(function(a, b)
        order[#order + 1] = "spawned"
        catga.sleep("1s")
        return a, b
      end, 1, "b")
      order[#order + 1] = "first"
      local a, b = handle:wait()
      return { order[1], a, b }
    end))
  end)

  it("gives nil and the error of a function that raises", function()
    run(function()
      local handle = catga.spawn(function() error("oops") end)
      local value, err = handle:wait()
      assert.is_nil(value)
      assert.truthy(err.message:find("tasks_spec.lua:%d+: oops"))
      assert.truthy(err.traceback)
    end)
    assert.same({}, app.lines)
  end)

  it("says the error that nobody waits for", function()
    run(function() catga.spawn(function() error("oops") end) end)
    app:settle()
    assert.equal(1, #app.lines)
    assert.truthy(app.lines[1]:find("a task of catga.spawn failed: .*oops.*stack traceback"))
  end)

  it("may be waited for by many, and more than once", function()
    assert.same({ 7, 7, 7 }, run(function()
      local handle = catga.spawn(function() catga.sleep("1s") return 7 end)
      local other = catga.spawn(function() return (handle:wait()) end)
      return { handle:wait(), other:wait(), (handle:wait()) }
    end))
  end)

  it("belongs to the conversation of the message that starts it", function()
    for _, how in ipairs { "spawn", "map" } do
      local result = assert(app:send("Spawns", { how = how }))
      assert.same({ correlation_id = result.own, causation_id = result.own }, result.ids)
    end
  end)

  it("needs a function", function()
    assert.is_false(pcall(run, function() catga.spawn("text") end))
  end)
end)

describe("catga.map", function()
  it("gives the results in the order of the items, whenever they come", function()
    local results = run(function()
      return catga.map({ 5, 1, 4, 2, 3 }, function(n, position)
        catga.sleep(n .. "s")
        return n * 10 + position
      end)
    end)
    assert.same({ 51, 12, 43, 24, 35 }, results)
  end)

  for _, case in ipairs { { 1, 25 }, { 7, 25 }, { 25, 25 }, { 100, 25 }, { nil, 250 }, { 3, 0 } } do
    local max, count = case[1], case[2]
    it(("runs %s of %d at the same time, never more"):format(tostring(max), count), function()
      local now, most, started, items = 0, 0, 0, {}
      for i = 1, count do items[i] = i end
      local results = run(function()
        return catga.map(items, function(item)
          now, started = now + 1, started + 1
          most = math.max(most, now)
          catga.sleep(item % 3 .. "ms")
          now = now - 1
          return item
        end, { max = max })
      end)
      assert.same(items, results)
      assert.equal(count, started)
      assert.equal(math.min(max or 100, count), most)
    end)
  end

  it("starts no more tasks than it can use", function()
    run(function()
      local before, most = native_task.counts(), 0
      catga.map({ 1, 2, 3 }, function()
        most = math.max(most, (native_task.counts()))
        catga.sleep("1s")
      end)
      assert.is_true(most - before <= 4)
    end)
  end)

  it("takes any iterator, and asks it no more after its end", function()
    assert.same({ 2, 4, 6 }, run(function()
      local walk = coroutine.wrap(function()
        for i = 1, 3 do
          catga.sleep("1s")
          coroutine.yield(i)
        end
      end)
      return catga.map(walk, function(n)
        catga.sleep("10s")
        return n * 2
      end, { max = 2 })
    end))
  end)

  it("ends with the first error: what runs ends, nothing more begins", function()
    local started, ended = 0, 0
    local ok, err = pcall(run, function()
      return catga.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, function(n)
        started = started + 1
        catga.sleep(n .. "s")
        if n >= 2 then error(catga.error("stop", "at " .. n)) end
        ended = ended + 1
      end, { max = 3 })
    end)
    assert.is_false(ok)
    assert.same({ "stop", "at 2" }, { err.code, err.message })
    assert.equal(1, ended)
    assert.equal(4, started)
  end)

  it("raises the error of its iterator", function()
    local ok, err = pcall(run, function()
      local n = 0
      return catga.map(function()
        n = n + 1
        if n == 3 then error("no more paper") end
        return n
      end, function() catga.sleep("1s") end)
    end)
    assert.is_false(ok)
    assert.truthy(err.message:find("no more paper", 1, true))
  end)

  it("called wrongly raises", function()
    for _, case in ipairs {
      { 5, print }, { {}, 5 }, { {}, print, { max = 0 } }, { {}, print, { max = "5" } },
      { {}, print, { max = 1.5 } },
    } do
      local ok, err = pcall(run, function()
        local results = catga.map(unpack(case, 1, 3))
        return results
      end)
      assert.is_false(ok)
      assert.truthy(err.message:find("tasks_spec.lua:%d+: catga.map"), err.message)
    end
  end)
end)

describe("catga.sleep", function()
  it("waits by the app's clock, in the order of due times", function()
    local order = run(function()
      local list, handles = {}, {}
      for i, pause in ipairs { "3s", "1s", "2s", "1s", "0s" } do
        handles[i] = catga.spawn(function()
          catga.sleep(pause)
          list[#list + 1] = i .. " after " .. (catga.now() - 1767225600000)
        end)
      end
      for _, handle in ipairs(handles) do handle:wait() end
      return list
    end)
    assert.same({ "5 after 0", "2 after 1000", "4 after 1000", "3 after 2000", "1 after 3000" },
      order)
  end)

  it("needs a duration", function()
    for _, text in ipairs { "soon", "5", "" } do
      local ok, err = pcall(run, function() catga.sleep(text) end)
      assert.is_false(ok)
      assert.truthy(err.message:find("catga.sleep \"" .. text .. "\" is no duration", 1, true))
    end
    assert.is_false(pcall(run, function() catga.sleep(5) end))
  end)
end)

describe("nothing stays behind", function()
  -- Live tasks, and references held by C but for those of the tasks, pooled ones included.
  local function held()
    for _ = 1, 3 do collectgarbage() end
    native_task.settle()
    local live, references, idle = native_task.counts()
    return { live, references - 2 * (live + idle) }
  end

  local function define()
    catga.command("C", function() return catga.publish("E", {}) end)
    catga.on("E", function() catga.sleep("1s") end)
    local P = catga.process "P"
    function P:execute(input)
      self:send("C", {})
      if input == "sleeps" then self:sleep("1h") end
      if input == "waits" then self:step("wait", function() catga.sleep("20s") end) end
      if input == "fails" then error(catga.error("no")) end
    end
    function P:compensate_C() return self end
    catga.main(function()
      catga.spawn(function() while true do catga.sleep("1s") end end)
      catga.spawn(function() catga.sleep("1000h") end)
    end)
  end

  for _, how in ipairs { "stop", "kill", "crash" } do
    it("of an app that ends by " .. how, function()
      local before = held()
      local other = assert(testing.app(define, { main = true }))
      other:send("C", {}, { key = "k" })
      other:run("P", "fails")
      other:start("P", "sleeps")
      other:start("P", "waits")
      other:advance("10s")
      if how == "crash" then
        other = assert(other:crash())
        other:advance("10s")
      end
      if how == "kill" then other:kill() else assert(other:stop()) end
      assert.same(before, held())
    end)
  end

  it("of an app that could not be opened", function()
    local before = held()
    assert.is_nil((testing.app(function() catga.command("X") end)))
    assert.is_nil((testing.app("/nowhere")))
    assert.is_nil((testing.app(function() end, { settings = { node = 5000 } })))
    assert.same(before, held())
  end)

  it("of a map or a spawn that failed", function()
    local before = held()
    for _ = 1, 20 do
      pcall(run, function()
        catga.map({ 1, 2, 3 }, function(n) catga.sleep(n .. "s") error("x") end)
      end)
      run(function() return catga.spawn(function() error("y") end):wait() end)
    end
    assert.same(before, held())
  end)
end)

it("a task of an app that was killed never runs again", function()
  local seen = 0
  local other = assert(testing.app(function()
    catga.main(function()
      while true do
        catga.sleep("1s")
        seen = seen + 1
      end
    end)
  end, { main = true }))
  other:advance("3500ms")
  assert.equal(3, seen)
  local again = assert(other:crash(nil, function() end))
  again:advance("10s")
  assert.equal(3, seen)
  again:stop()
end)
