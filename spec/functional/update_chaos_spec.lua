--- Updates of a process that is killed at every record, also with branches: the same end, the same
--- outcomes, and what is replayed is what was live.
local testing = require "catga.testing"
local tasks = require "catga.task"
local catga = require "catga"

local app

local function define_with(fill)
  return function()
    local P = catga.process "P"
    fill(P)
  end
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- Sends an update in a task beside the spec: a table that gets its outcome.
local function sent(one, ...)
  local out = {}
  local function take(value, err)
    out.is_done, out.value, out.code = true, value, err and err.code
  end
  tasks.spawn(one.app, function(...) take(catga.processes.update(...)) end, ...)
  return out
end

local function order(P)
  function P:execute()
    self.address, self.changes = "old", {}
    self:step("pack", function() return 1 end)
    self:receive("go", { timeout = "10h" })
    self:step("ship", function() return 1 end)
    return { address = self.address, changes = self.changes }
  end
  function P.updates:change_address(value)
    local fee = self:fee(value)
    self.address = value
    self.changes[#self.changes + 1] = fee
    return { fee = fee, address = self.address }
  end
  function P.fee(_, value)
    if value == "moon" then error(catga.error("too_far")) end
    return #value
  end
  function P.updates:slow(value)
    self:sleep(value)
    self.changes[#self.changes + 1] = value
    return value
  end
end

describe("updates after a kill at every record", function()
  -- Sends updates one by one, or all at once, and looks at what they gave.
  local function chaos(fill, list, more)
    local outcomes = {}
    local opts = { drive = function(one)
      local outs = {}
      for i, item in ipairs(list) do
        if item[1] then outs[i] = sent(one, "x", item[1], item[2], { id = "u" .. i }) end
        if item.signal then
          one:call(catga.processes.signal, "x", item.signal, i, { id = "s" .. i })
        end
        if not (more and more.at_once) then one:settle() end
      end
      one:settle()
      for i, out in pairs(outs) do
        if out.is_done and out.code ~= "ended" then
          local text = catga.json.encode { out.value, out.code }
          assert(not outcomes[i] or outcomes[i] == text,
            ("update %d gave %s, then %s"):format(i, tostring(outcomes[i]), text))
          outcomes[i] = text
        end
      end
    end }
    for key, value in pairs(more or {}) do
      if key ~= "at_once" then opts[key] = value end
    end
    local fault, kills = testing.chaos(define_with(fill), "P", "x", opts)
    assert.is_nil(fault)
    return kills
  end

  it("come to the same end and outcomes", function()
    assert.is_true(chaos(order, { { "change_address", "a" }, { "change_address", "moon" },
      { "slow", "1h" }, { "change_address", "b", signal = "go" } }, { same = false }) > 12)
    assert.is_true(chaos(order, { { "change_address", "a" }, { "change_address", "moon" },
      { "change_address", "b" }, { signal = "go" } }) > 9)
  end)

  local function busy(P)
    function P:execute()
      self.log = {}
      local function add(what) self.log[#self.log + 1] = what end
      self:all("both", {
        function()
          for i = 1, 3 do self:step("a", function() return i end) add("a" .. i) end
        end,
        function()
          add(self:receive("go", { timeout = "1h" }) and "went" or "late")
          self:any("inner", {
            function() self:sleep("1s") return 1 end,
            function() self:step("loses", function() return 1 end) self:sleep("1h") end,
          })
          add "b"
        end,
      })
      self:step("last", function() return 1 end)
      return self.log
    end
    function P.updates:add(value)
      self.log[#self.log + 1] = "begin " .. value
      local parts = self:all("parts", {
        function() return self:step("one", function() return value .. 1 end) end,
        function() self:sleep("2s") return value .. 2 end,
      })
      self.log[#self.log + 1] = "end " .. value
      return { parts, random = math.random(1000) }
    end
  end

  it("also with branches, in the body and in the updates", function()
    local list = { { "add", "x" }, { "add", "y", signal = "go" }, { "add", "z" } }
    assert.is_true(chaos(busy, list, { same = false }) > 15)
    assert.is_true(chaos(busy, list, { same = false, at_once = true }) > 15)
  end)

  it("replay what was live", function()
    app = assert(testing.app(define_with(busy)))
    app:start("P", "x")
    for _, name in ipairs { "x", "y", "z" } do sent(app, "x", "add", name) end
    app:settle()
    app:call(catga.processes.signal, "x", "go", 1)
    local _, result = app:wait("x")
    for position = 3, app:position() - 1 do
      local again = assert(testing.app(define_with(busy), { memory = app:snapshot(position) }))
      assert.equal("same", again:call(catga.processes.replay, "x").verdict)
      if position == app:position() - 1 then
        assert.same(result, (select(2, again:wait("x"))))
      end
      again:stop()
    end
  end)
end)

describe("updates with large values, and of a process that loops", function()
  it("give large outcomes, and those that JSON cannot hold, once more", function()
    app = assert(testing.app(define_with(function(P)
      P.options = { serializer = "binary" }
      function P:execute() self:receive("go") end
      function P.updates.big(_, value) return ("x"):rep(3e5) .. value end
      function P.updates.odd(_, value) return { [3] = value } end
    end)))
    app:start("P", "x")
    app:settle()
    for _ = 1, 3 do
      assert.equal(300001, #app:call(catga.processes.update, "x", "big", "y", { id = "1" }))
      assert.equal("z", app:call(catga.processes.update, "x", "odd", "z", { id = "2" })[3])
      app = assert(app:crash())
    end
  end)

  local function update(...) return app:call(catga.processes.update, ...) end
  local function ask(...) return app:call(catga.processes.query, ...) end

  local function rounds(P)
    function P:execute()
      self.notes = {}
      self:step("before", function() return 1 end)
      local total = self:loop({ n = 0 }, function(at, round)
        if round % 50 == 0 then self:step("s", function() return 1 end) end
        if round == 2300 then self:receive("end") end
        if round == 2400 then return nil, at.n end
        return { n = at.n + 1 }
      end)
      return { total, self.notes }
    end
    function P.updates:note(value)
      self.notes[#self.notes + 1] = self:step("u", function() return value end)
      return #self.notes
    end
    function P.queries:notes() return self.notes end
  end

  it("comes to a loop, and is carried over its rounds", function()
    app = assert(testing.app(define_with(rounds)))
    app:start("P", "x")
    local outs = {}
    for i = 1, 8 do
      for _ = 1, 7 do require("catga.native.task").yield() end
      outs[i] = sent(app, "x", "note", "n" .. i, { id = "i" .. i })
    end
    app:settle()
    for i = 1, 8 do assert.equal(i, outs[i].value) end
    local notes = ask("x", "notes")
    assert.equal(8, #notes)
    app:call(catga.processes.kill, "x")
    assert.same(notes, ask("x", "notes"))
    app:start("P", "y")
    app:settle()
    assert.equal(1, (update("y", "note", "a", { id = "1" })))
    app = assert(app:crash())
    assert.equal(1, (update("y", "note", "a", { id = "1" })))
    assert.equal(2, (update("y", "note", "b", { id = "2" })))
    app:call(catga.processes.signal, "y", "end", 1)
    assert.same({ 2399, { "a", "b" } }, (select(2, app:wait("y"))))
    assert.equal("same", app:call(catga.processes.replay, "y").verdict)
  end)
end)
