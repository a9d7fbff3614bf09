--- What would make a replay differ from the first run: each kind is prevented, so that both see the
--- same, or caught with a code, the script's file and line, and what was recorded and asked.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function define_with(execute, fill)
  return function()
    local P = catga.process "P"
    function P.give(_, value) return value end
    function P.undoable(_, value) return value end
    function P.compensate_undoable() end
    if fill then fill(P) end
    P.execute = execute
  end
end

-- Runs to the sleep, restarts with a later clock and the scripts of `second`, and ends.
local function across_restart(first, second, fill)
  local before = assert(testing.app(define_with(first, fill)))
  before:start("P", "x")
  before:settle()
  local memory = before:snapshot()
  before:kill()
  app = assert(testing.app(define_with(second or first, fill), { memory = memory,
    start = START + 7 * 3600000 }))
  local status, result, err = app:wait("x")
  return status, result, err
end

-- The body computes something before the sleep; it must be the same when it computes it again.
local function check_same(compute)
  local seen = {}
  local status, result, err = across_restart(function(self, input)
    local value = compute(self, input)
    seen[#seen + 1] = value
    self:give(1)
    self:sleep("1h")
    return { value = value }
  end)
  assert.equal("completed", status, tostring(err))
  assert.equal(2, #seen)
  assert.same(seen[1], seen[2])
  assert.same(seen[1], result.value)
end

describe("in the body of a process", function()
  local t = {}
  for i = 1, 50 do t["key" .. i * 7919 % 101] = i end

  local prevented = {
    ["1 the order of pairs"] = function()
      local keys = {}
      for key in pairs(t) do keys[#keys + 1] = key end
      return keys
    end,
    ["1 the order of next"] = function() return { next(t) } end,
    ["2 os.time"] = function() return os.time() end,
    ["3 os.clock"] = function() return os.clock() end,
    ["3 os.date"] = function() return os.date("!%c") end,
    ["4 math.random"] = function() return { math.random(), math.random(5), math.random(7, 9) } end,
    ["4 math.randomseed"] = function()
      math.randomseed(os.time())
      return math.random()
    end,
    ["5 tostring of a table"] = function()
      return { tostring({}), ("%s"):format(function() end) }
    end,
    ["17 iteration while the table changes"] = function()
      local copy, seen = {}, {}
      for i = 1, 20 do copy["k" .. i] = i end
      for key in pairs(copy) do
        seen[#seen + 1] = key
        copy["k" .. #seen] = nil
        copy["new" .. #seen] = true
      end
      return seen
    end,
    ["18 an id, a uuid, the time"] = function(self)
      return { self:new_id(), self:uuid(), self:now(), self:random() }
    end,
    ["19 a coroutine of its own"] = function(self)
      local out = {}
      local co = coroutine.wrap(function()
        for i = 1, 3 do coroutine.yield(self:give(i) + math.random()) end
      end)
      for i = 1, 3 do out[i] = co() end
      return out
    end,
    ["20 a result that is changed later"] = function(self)
      local kept = { n = 1 }
      local result = self:give(kept)
      kept.n = 2
      return result
    end,
  }
  for name, compute in pairs(prevented) do
    it(name .. " is the same on replay", function() check_same(compute) end)
  end

  local refused = {
    ["6 collectgarbage"] = { function() collectgarbage("count") end, "collectgarbage" },
    ["7 os.getenv"] = { function() os.getenv("HOME") end, "os.getenv" },
    ["8 io.open"] = { function() io.open("/etc/passwd") end, "io.open" },
    ["8 io.lines"] = { function() io.lines("/etc/passwd") end, "io.lines" },
    ["8 a file that is open"] = { function() io.stdout:write("") end, "file.write" },
    ["8 os.execute"] = { function() os.execute("true") end, "os.execute" },
    ["5 %p"] = { function() return ("%p"):format({}) end, "%p" },
    ["1 pairs over tables as keys"] = { function()
      local first = pairs { [{}] = 1 }
      return first()
    end, "key of type table" },
    ["9 a command outside of a step"] = { function() catga.send("X", {}) end, "catga.send" },
    ["9 an event outside of a step"] = { function() catga.publish("X", {}) end, "catga.publish" },
  }
  for name, case in pairs(refused) do
    it(name .. " is refused, with file and line", function()
      app = assert(testing.app(define_with(function() case[1]() return 1 end)))
      local _, err = app:run("P", "x")
      assert.equal("failed", err.status)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
      assert.truthy(err.message:find("determinism_spec.lua:%d+:"), err.message)
    end)
  end
end)

describe("a script that has changed", function()
  local function steps(...)
    local names = { ... }
    return function(self)
      for _, name in ipairs(names) do
        if name == "sleep" then self:sleep("1h") else self:step(name, function() return 1 end) end
      end
      return "end"
    end
  end

  local function check_diverged(first, second, operation, recorded, asked, fill)
    local status, _, err = across_restart(first, second, fill)
    assert.equal("diverged", status)
    assert.equal("diverged", err.code)
    local detail
    for _, record in ipairs(app:journal("x")) do
      if record.type == "ProcessDiverged" then detail = record.data.detail end
    end
    assert.equal(operation, detail.op)
    assert.truthy(detail.recorded:find(recorded, 1, true), detail.recorded)
    assert.truthy(detail.asked:find(asked, 1, true), detail.asked)
    assert.truthy(detail.at:find("determinism_spec.lua:%d+") or asked:find("end"), detail.at)
    -- It is not failed: with the script as it was it goes on.
    app = assert(app:crash(nil, define_with(first, fill)))
    assert.equal("completed", (app:wait("x")))
  end

  it("10 by a step that was added", function()
    check_diverged(steps("a", "b", "sleep"), steps("a", "new", "b", "sleep"), 2, "step b",
      "step new")
  end)
  it("11 by a step that was removed", function()
    check_diverged(steps("a", "b", "sleep"), steps("b", "sleep"), 1, "step a", "step b")
  end)
  it("11 by a step that was removed at the end", function()
    check_diverged(steps("a", "b", "sleep"), steps("a"), 2, "step b", "the end of execute")
  end)
  it("12 by steps in another order", function()
    check_diverged(steps("a", "b", "sleep"), steps("b", "a", "sleep"), 1, "step a", "step b")
  end)
  it("13 by a step with another name", function()
    check_diverged(steps("a", "b", "sleep"), steps("a", "c", "sleep"), 2, "step b", "step c")
  end)
  it("13 by an operation of another kind", function()
    check_diverged(steps("a", "b", "sleep"), steps("a", "sleep"), 2, "step b", "timer sleep")
  end)
  it("14 by other arguments of a step with an undo", function()
    check_diverged(function(self)
      self:undoable("one")
      self:sleep("1h")
    end, function(self)
      self:undoable("two")
      self:sleep("1h")
    end, 1, 'step undoable with the arguments ["one"]', '["two"]')
  end)
  it("15 by a branch on what is not journaled", function()
    local outside = true
    local function body(self)
      if outside then self:step("yes", function() return 1 end)
      else self:step("no", function() return 1 end) end
      self:sleep("1h")
    end
    local before = assert(testing.app(define_with(body)))
    before:start("P", "x")
    before:settle()
    local memory = before:snapshot()
    before:kill()
    outside = false
    app = assert(testing.app(define_with(body), { memory = memory }))
    local status, _, err = app:wait("x")
    assert.equal("diverged", status)
    assert.truthy(err.message:find("determinism_spec.lua:%d+"), err.message)
  end)
  it("16 whatever the body catches", function()
    check_diverged(steps("a", "b", "sleep"), function(self)
      pcall(function() self:step("new", function() return 1 end) end)
      xpcall(function() self:sleep("1s") end, function(e) return e end)
      return "swallowed"
    end, 1, "step a", "step new")
  end)
  it("10 by a branch that was added, or is gone", function()
    local function two(self)
      self:all("x", { a = function() self:give(1) self:sleep("1h") end,
        b = function() self:give(2) self:sleep("1h") end })
    end
    check_diverged(two, function(self)
      self:all("x", { a = function() self:give(1) self:sleep("1h") end })
    end, "1.2.1", "step give", "nothing")
    app:stop()
    check_diverged(two, function(self) self:give(1) end, 1, "branches", "step give")
  end)
end)

describe("a step", function()
  local function run_in_script(text)
    local dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir -p " .. dir)
    local file = assert(io.open(dir .. "/main.lua", "w"))
    file:write(text)
    file:close()
    app = assert(testing.app(dir))
    local result, err = app:run("P", "x")
    os.execute("rm -rf " .. dir)
    return result, err
  end

  local function check_refused(code, what, text)
    local result, err = run_in_script(text)
    assert.is_nil(result)
    assert.equal(code, err.code)
    assert.truthy(err.message:find(what, 1, true), err.message)
    assert.truthy(err.message:find("main.lua:%d+"), err.message)
  end

  it("that changes a local variable of the body is caught", function()
    check_refused("step_changes_body", "the local variable total", [[
      local catga = require "catga"
      local P = catga.process "P"
      function P:execute()
        local total = 0
        self:step("add", function() total = total + 1 end)
        return total
      end
    ]])
  end)

  it("that changes a table of the body is caught", function()
    check_refused("step_changes_body", "found.x", [[
      local catga = require "catga"
      local P = catga.process "P"
      function P:execute()
        local found = {}
        self:step("find", function() found.x = 1 end)
        return found
      end
    ]])
  end)

  it("that sets a global is caught, and so is the body that does", function()
    check_refused("global_changed", "sets the global counter in a step", [[
      local catga = require "catga"
      local P = catga.process "P"
      function P:execute() self:count() end
      function P:count() counter = 1 end
    ]])
    app:stop()
    check_refused("global_changed", "sets the global seen in the body", [[
      local catga = require "catga"
      local P = catga.process "P"
      function P:execute() seen = true return 1 end
    ]])
  end)

  it("is not taken for one that does when it changes what is of the script", function()
    assert.same({ 2, 3 }, (run_in_script [[
      local catga = require "catga"
      local calls = 0
      local function count(self, n)
        local step = "count" .. n
        return self:step(step, function()
          calls = calls + 1
          return n + 1
        end)
      end
      local P = catga.process "P"
      function P:execute() return { count(self, 1), count(self, 2) } end
    ]]))
  end)

  it("of a function beside the body is caught as well", function()
    check_refused("step_changes_body", "the local variable sum", [[
      local catga = require "catga"
      local P = catga.process "P"
      local function add(self)
        local sum = 0
        for i = 1, 2 do self:step("add", function() sum = sum + i end) end
        return sum
      end
      function P:execute() return add(self) end
    ]])
  end)

  it("may change what is of the script, and handlers may set globals", function()
    assert.same({ n = 1, calls = 1, was = 5 }, (run_in_script [[
      local catga = require "catga"
      local calls = 0
      total = 5
      catga.command("Count", function() counted = (counted or 0) + 1 return counted end)
      local P = catga.process "P"
      function P:execute()
        local n = self:send("Count", {})
        self:step("note", function() calls = calls + 1 return true end)
        return { n = n, calls = self:step("look", function() return calls end), was = total }
      end
    ]]))
  end)
end)
