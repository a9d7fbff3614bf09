--- The body of a process is deterministic and without effects; outside of it, and inside of steps,
--- the standard library is the plain one.
local testing = require "catga.testing"
local sandbox = require "catga.sandbox"
local catga = require "catga"

local app

local function open(define)
  app = assert(testing.app(define))
  return app
end

-- Runs fn(self) as the body of a process and returns its result, or nil and its error.
local function in_flow(fn)
  if app then app:stop() end
  open(function()
    local P = catga.process "P"
    P.execute = fn
    function P.step_one(_, what) return what() end
  end)
  return app:run("P", "x")
end

-- The same inside of a step; the result is not journaled.
local function in_step(fn)
  local result
  local _, err = in_flow(function(self)
    self:step("plain", function() result = fn() end)
  end)
  assert(not err, err)
  return result
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("pairs in the body of a process", function()
  for _, case in ipairs {
    { "an empty table", {}, "" },
    { "strings", { b = 1, a = 2, c = 3, B = 4 }, "B a b c" },
    { "a list", { "x", "y", "z" }, "1 2 3" },
    { "numbers", { [10] = 1, [-1] = 1, [2.5] = 1, [2] = 1 }, "-1 2 2.5 10" },
    { "mixed keys", { b = 1, [2] = 1, a = 1, [true] = 1, [1] = 1, [false] = 1 },
      "false true 1 2 a b" },
    { "many strings", (function()
      local t = {}
      for i = 1, 50 do t[("k%02d"):format(51 - i)] = i end
      return t
    end)(), nil },
  } do
    it("goes in sorted order over " .. case[1], function()
      local expected = case[3]
      if not expected then
        local names = {}
        for i = 1, 50 do names[i] = ("k%02d"):format(i) end
        expected = table.concat(names, " ")
      end
      for _, how in ipairs { "pairs", "next", "in next", "foreach" } do
        local seen = assert(in_flow(function()
          local keys = {}
          local function take(key, value)
            assert(value == case[2][key])
            keys[#keys + 1] = tostring(key)
          end
          if how == "pairs" then
            for key, value in pairs(case[2]) do take(key, value) end
          elseif how == "in next" then
            for key, value in next, case[2] do take(key, value) end
          elseif how == "foreach" then
            table.foreach(case[2], take)
          else
            local key, value = next(case[2])
            while key ~= nil do
              take(key, value)
              key, value = next(case[2], key)
            end
          end
          return { table.concat(keys, " ") }
        end))
        assert.equal(expected, seen[1])
      end
    end)
  end

  it("passes over keys that are removed during the walk, and sees no inherited value", function()
    local seen = in_flow(function()
      local t = setmetatable({ a = 1, b = 2, c = 3 }, { __index = { b = "inherited" } })
      local keys = {}
      for key, value in pairs(t) do
        keys[#keys + 1] = key .. value
        t.b = nil
      end
      return table.concat(keys, " ")
    end)
    assert.equal("a1 c3", seen)
  end)

  it("raises for keys that have no order", function()
    for _, key in ipairs { {}, print, coroutine.create(print), io.stdout } do
      for _, walk in ipairs { pairs, next } do
        local _, err = in_flow(function()
          return walk == pairs and pairs { [key] = 1 } or next { [key] = 1 }
        end)
        assert.truthy(err.message:find("a key of type " .. type(key)
          .. " has no order that is the same on every replay", 1, true), err.message)
      end
    end
  end)

  it("of something that is no table raises what it always raises", function()
    local _, err = in_flow(function() return pairs(nil) end)
    assert.truthy(err.message:find("table expected", 1, true), err.message)
  end)
end)

describe("time in the body of a process", function()
  local function times(self)
    return { now = self:now(), time = os.time(), clock = os.clock(), date = os.date("!%H:%M:%S"),
      table = os.date("!*t").sec }
  end

  it("is that of the last journaled operation, live and on replay", function()
    local function define()
      local P = catga.process "P"
      function P:execute()
        local list = { times(self) }
        self:sleep("90s")
        list[2] = times(self)
        self:step("take", function() catga.sleep("5s") end)
        list[3] = times(self)
        self:sleep("1h")
        return list
      end
    end
    open(define)
    app:start("P", "x")
    app:advance("10m")
    app = assert(app:crash())
    local _, result = app:wait("x")
    local start = 1767225600
    for i, seconds in ipairs { 0, 90, 95 } do
      assert.same({ now = (start + seconds) * 1000, time = start + seconds, clock = start + seconds,
        date = os.date("!%H:%M:%S", seconds), table = seconds % 60 }, result[i])
    end
  end)

  it("of a given moment is plain", function()
    local result = in_flow(function()
      return { os.date("!%Y-%m-%d", 0), os.time { year = 2000, month = 1, day = 1, hour = 12 } }
    end)
    assert.same({ "1970-01-01", os.time { year = 2000, month = 1, day = 1, hour = 12 } }, result)
  end)
end)

describe("randomness in the body of a process", function()
  local function numbers(self)
    local list = {}
    for i = 1, 20 do
      list[i] = { math.random(), math.random(6), math.random(-5, 5), self:random(), self:uuid() }
    end
    return list
  end

  local function define()
    local P = catga.process "P"
    function P:execute()
      math.randomseed(1)
      local list = numbers(self)
      self:sleep("1h")
      return { before = list, after = numbers(self) }
    end
  end

  it("is the same on replay and another for another process", function()
    open(define)
    app:start("P", "x")
    app:settle()
    local copy = assert(testing.app(define, { memory = app:snapshot() }))
    local _, first = app:wait("x")
    local _, again = copy:wait("x")
    assert.same(first, again)
    assert.not_same(first.before, first.after)
    local other = app:run("P", "y")
    assert.not_same(first.before, other.before)
    copy:stop()
  end)

  it("stays in its bounds and reaches them", function()
    local seen = in_flow(function()
      local r = { low = 9, high = -9, one = 9, six = -9 }
      for _ = 1, 500 do
        local f, die, n = math.random(), math.random(6), math.random(-2, 2)
        assert(f >= 0 and f < 1 and die % 1 == 0 and n % 1 == 0)
        r.low, r.high = math.min(r.low, n), math.max(r.high, n)
        r.one, r.six = math.min(r.one, die), math.max(r.six, die)
      end
      return r
    end)
    assert.same({ low = -2, high = 2, one = 1, six = 6 }, seen)
  end)

  it("raises for what is no interval", function()
    for _, bounds in ipairs { { "x" }, { 1, {} }, { 2, 1 } } do
      local _, err = in_flow(function() return math.random(unpack(bounds)) end)
      assert.truthy(err.message:find("bad argument to 'random'", 1, true), err.message)
    end
  end)
end)

describe("tostring and format in the body of a process", function()
  it("tell no addresses", function()
    local result = in_flow(function()
      local named = setmetatable({}, { __tostring = function() return "named" end })
      return { tostring {}, tostring(print), tostring(coroutine.create(print)),
        ("%s and %s"):format({}, "text"), string.format("%s %s %s", print, nil, named),
        tostring(named), tostring(nil), tostring(1.5), ("%5.1f|%q"):format(2, "x") }
    end)
    assert.same({ "table", "function", "thread", "table and text", "function nil named", "named",
      "nil", "1.5", "  2.0|\"x\"" }, result)
  end)
end)

describe("effects in the body of a process", function()
  local calls = {}
  for container, names in pairs {
    io = { "open", "popen", "lines", "read", "write", "tmpfile", "input", "output", "close" },
    os = { "execute", "remove", "rename", "getenv", "tmpname", "exit" },
    _G = { "dofile", "loadfile", "collectgarbage" },
  } do
    for _, name in ipairs(names) do
      calls[container .. "." .. name] = function()
        local result = _G[container][name]("/nowhere")
        return result
      end
    end
  end

  for name, call in pairs(calls) do
    it("are refused: " .. name, function()
      local _, err = in_flow(call)
      assert.truthy(err.message:find(name .. " in the body of a process would run again on every "
        .. "replay; call it in a step: self:step(\"name\", function() ... end)", 1, true),
        err.message)
      assert.truthy(err.message:find("sandbox_spec.lua:%d+"), err.message)
    end)
  end

  for name, case in pairs {
    ["catga.send"] = { function() catga.send("X", {}) end, "use self:send or a step" },
    ["catga.ask"] = { function() catga.ask("X", {}) end, "ask in a step" },
    ["catga.publish"] = { function() catga.publish("X", {}) end, "publish in a step" },
    ["catga.start"] = { function() catga.start("P", "y") end, "start it as a child: self:start" },
    ["catga.run"] = { function() catga.run("P", "y") end, "run it as a child: self:run" },
    ["catga.sleep"] = { function() catga.sleep("1s") end, "use self:sleep" },
    ["catga.now"] = { function() catga.now() end, "use self:now" },
    ["catga.new_id"] = { function() catga.new_id() end, "use self:new_id" },
    ["catga.spawn"] = { function() catga.spawn(print) end, "use a step" },
    ["catga.map"] = { function() catga.map({}, print) end, "use a step" },
    ["catga.model"] = { function() catga.model("M") end, "read it in a step" },
    ["catga.exit"] = { function() catga.exit() end, "return from execute" },
    ["catga.events.append"] = { function() catga.events.append("S", { { type = "A" } }) end,
      "append in a step" },
    ["catga.events.read"] = { function() catga.events.read("S") end, "read in a step" },
    ["catga.events.read_all"] = { function() catga.events.read_all() end, "read in a step" },
    ["catga.processes.get"] = { function() catga.processes.get("x") end, "look in a step" },
    ["catga.processes.list"] = { function() catga.processes.list() end, "look in a step" },
    ["catga.processes.wait"] = { function() catga.processes.wait("x") end, "wait in a step" },
  } do
    it("are refused: " .. name, function()
      local _, err = in_flow(case[1])
      assert.truthy(err.message:find(name .. " in the body of a process would run again on every "
        .. "replay; " .. case[2], 1, true), err.message)
      assert.truthy(err.message:find("sandbox_spec.lua:%d+"), err.message)
    end)
  end

  it("may be caught, and the flow goes on", function()
    assert.is_false(in_flow(function() return (pcall(os.getenv, "HOME")) end))
  end)
end)

describe("inside a step and outside of processes", function()
  local function everything()
    local key = {}
    for k in pairs { [key] = 1 } do assert(k == key) end
    assert(next { [key] = 1 } == key)
    return { time = os.time(), clock = os.clock(), home = os.getenv("HOME"),
      text = tostring(key):match("^table: 0x") , format = ("%s"):format(key):match("^table: 0x"),
      null = io.open("/dev/null") ~= nil }
  end

  it("all is plain", function()
    local before = os.clock()
    for _, where in ipairs { in_step, function(fn) return fn() end } do
      local got = where(everything)
      assert.is_true(math.abs(got.time - sandbox.raw.time()) <= 2)
      assert.is_true(got.clock >= before and got.clock < before + 60)
      assert.equal(sandbox.raw.time and os.getenv("HOME"), got.home)
      assert.equal("table: 0x", got.text)
      assert.equal("table: 0x", got.format)
      assert.is_true(got.null)
    end
  end)

  it("a command sent by a step is plain too, and the body after it is not", function()
    open(function()
      catga.command("Look", function() return os.time() == sandbox.raw.time() end)
      local P = catga.process "P"
      function P:execute()
        return { self:send("Look", {}), os.time(), (pcall(os.getenv, "HOME")) }
      end
    end)
    assert.same({ true, 1767225600, false }, app:run("P", "x"))
  end)
end)

describe("a coroutine of the script's own", function()
  it("passes a wait through to the scheduler", function()
    open(function()
      catga.command("Walk", function()
        local walk = coroutine.wrap(function(a)
          catga.sleep("1s")
          local b = coroutine.yield(a + 1)
          local inner = coroutine.create(function()
            catga.sleep("1s")
            coroutine.yield("inner")
          end)
          local _, value = coroutine.resume(inner)
          catga.sleep("1s")
          return value, b
        end)
        return { walk(1), { walk("b") }, catga.now() }
      end)
    end)
    assert.same({ 2, { "inner", "b" }, 1767225600000 + 3000 }, app:send("Walk", {}))
  end)

  it("behaves as it does without the scheduler", function()
    local co = coroutine.create(function(...)
      assert(select("#", ...) == 2)
      coroutine.yield()
      coroutine.yield(nil, nil)
      error("oops", 0)
    end)
    assert.equal(1, select("#", coroutine.resume(co, nil, nil)))
    assert.equal(3, select("#", coroutine.resume(co)))
    assert.same({ false, "oops" }, { coroutine.resume(co) })
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
    local ok, message = pcall(coroutine.wrap(function() error({ code = "x" }) end))
    assert.is_false(ok)
    assert.equal("x", message.code)
  end)
end)
