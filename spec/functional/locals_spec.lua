--- Where a process stands: file, line, function and local variables of its strands, live and out of
--- a replay that only looks.
local testing = require "catga.testing"
local catga = require "catga"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(fill)
  app = assert(testing.app(function()
    local P = catga.process "P"
    fill(P)
  end))
end

local function look(id) return app:call(catga.processes.locals, id) end

local function order(P)
  local function ask_for(self, what)
    local asked = "please: " .. what
    return self:receive(what), asked
  end
  function P:execute(input)
    local total, list = 5, { 1, "two", { deep = { deeper = { deepest = {} } } } }
    self.stage = "asking"
    for i = 1, 3 do
      local part = self:step("part", function() return i * 2 end)
      total = total + part
    end
    self:all("both", {
      function() local mine = input.id .. "!" return ask_for(self, "go"), mine end,
      function()
        local other = coroutine.wrap(function(n) local inner = n self:sleep("1h") return inner end)
        local got = other(7)
        return got
      end,
    })
    return total, list
  end
  function P.updates:slow(value)
    local own = value
    self:sleep("2h")
    return own
  end
end

describe("the locals of a process", function()
  local function check(found)
    assert.same({ "x", "P", 3 }, { found.id, found.name, found.count })
    local body, one, two = found.strands[1], found.strands[2], found.strands[3]
    assert.same({ "body", "branch 4.1", "branch 4.2" }, { body.strand, one.strand, two.strand })
    assert.same({ 4, "4.1.1", "4.2.1" }, { body.op, one.op, two.op })
    local frame = body.frames[1]
    assert.equal("execute", frame.name)
    assert.truthy(frame.at:find("^spec/functional/locals_spec.lua:%d+$"))
    assert.equal("17", frame.locals.total)
    assert.equal('{ 1, "two", { deep = { deeper = {...} } } }', frame.locals.list)
    assert.equal('self { stage = "asking" }', frame.locals.self)
    assert.equal('{ id = "x" }', frame.locals.input)
    assert.is_nil(frame.locals.part) -- Out of its block.
    assert.equal("ask_for", one.frames[1].name)
    assert.equal('"please: go"', one.frames[1].locals.asked)
    assert.equal('"x!"', one.frames[2].locals.mine)
    assert.equal("7", two.frames[1].locals.inner) -- In a coroutine of its own.
    assert.truthy(two.frames[2].locals.other:find("^function"))
    assert.truthy(found.text:find('asked = "please: go"', 1, true))
  end

  it("are those of each strand, live, of one that ended, and after a restart", function()
    open(order)
    app:start("P", { id = "x" })
    app:settle()
    local live = look("x")
    check(live)
    assert.is_true(live.strands[2].is_waiting)
    app:call(catga.processes.kill, "x")
    local before = app:position()
    local ended = look("x")
    check(ended)
    assert.same({ "signal go", "timer sleep" },
      { ended.strands[2].waits_for, ended.strands[3].waits_for })
    assert.equal(before, app:position())
    app = assert(app:crash())
    check(look("x"))
  end)

  it("tell of updates, and of a step that runs", function()
    open(function(P)
      order(P)
      function P:execute() return self:work("now") end
      function P.work(_, what)
        local heard = what
        catga.sleep("1h")
        return heard
      end
    end)
    app:start("P", { id = "x" })
    app:settle()
    require("catga.task").spawn(app.app, function() catga.processes.update("x", "slow", { 1 }) end)
    app:settle()
    local found = look("x")
    assert.same({ "body", "update 1" }, { found.strands[1].strand, found.strands[2].strand })
    assert.same({ "work", '"now"', false }, { found.strands[1].step,
      found.strands[1].frames[1].locals.heard, found.strands[1].is_waiting })
    assert.equal("work", found.strands[1].frames[1].name)
    assert.same({ "updates.slow", "{ 1 }" }, { found.strands[2].frames[1].name,
      found.strands[2].frames[1].locals.own })
  end)

  it("tell where a strand has begun that has left its frame by a tail call", function()
    open(function(P)
      function P:execute()
        return self:all("both", {
          function() return self:receive("go") end,
        })
      end
    end)
    app:start("P", "x")
    app:settle()
    local frame = look("x").strands[2].frames[1]
    local line = debug.getinfo(1, "l").currentline
    assert.truthy(line - frame.line < 20 and frame.locals)
    assert.equal(frame.at, app:call(catga.processes.replay, "x").strands[1].at)
  end)

  it("are bounded, whatever the body holds, and survive any value", function()
    open(function(P)
      function P:execute()
        local big, wide, bad, loop = ("x"):rep(1e6), {}, "\255\0\1", {}
        for i = 1, 1e5 do wide["k" .. i] = big end
        loop.loop = loop
        local trap = setmetatable({}, { __index = error, __tostring = error, __len = error })
        local fn, co, null, nan = math.sin, coroutine.create(print), catga.null, 0 / 0
        self:sleep("1h")
        return big, wide, bad, loop, trap, fn, co, null, nan
      end
    end)
    app:start("P", "x")
    app:settle()
    local found = look("x")
    local locals = found.strands[1].frames[1].locals
    assert.truthy(#found.text < 20000)
    assert.truthy(#locals.big < 300 and #locals.wide < 3000 and locals.wide:find("%.%.%."))
    assert.same({ "{}", "function", "thread", "null" },
      { locals.trap, locals.fn, locals.co, locals.null })
    assert.truthy(locals.loop:find("{...}", 1, true))
    assert.truthy(catga.json.encode(found))
    app:wait("x")
    assert.same({}, look("x").strands)
    assert.equal("not_found", select(2, look("y")).code)
  end)
end)
