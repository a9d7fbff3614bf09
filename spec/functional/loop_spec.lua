--- self:loop: rounds that are journaled, a journal that does not grow, kills at every record.
local testing = require "catga.testing"
local catga = require "catga"

local app
local calls = {}

local function called(name) calls[#calls + 1] = name end

local function define_with(fill)
  return function() fill(catga.process "P") end
end

local function open(fill, opts)
  calls = {}
  app = assert(testing.app(define_with(fill), opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("self:loop", function()
  it("runs rounds until one returns nil and the result", function()
    open(function(P)
      function P:execute(input)
        local total = self:loop({ n = 0, sum = 0 }, function(state, round)
          assert(round == state.n + 1)
          if state.n == input.rounds then return nil, state.sum end
          return { n = state.n + 1, sum = state.sum + self:add(state.n) }
        end)
        return { total = total, after = self:add(-5) }
      end
      function P.add(_, n) return n + 10 end
    end)
    assert.same({ total = 46, after = 5 }, app:run("P", { id = "x", rounds = 4 }))
    local ops = {}
    for _, record in ipairs(app:journal("x")) do
      ops[#ops + 1] = record.type:gsub("Process", "") .. " " .. tostring(record.data.op)
    end
    assert.same({ "Started nil", "StepCompleted 1.1.1", "LoopRound 1", "StepCompleted 1.2.1",
      "LoopRound 1", "StepCompleted 1.3.1", "LoopRound 1", "StepCompleted 1.4.1", "LoopRound 1",
      "LoopEnded 1", "StepCompleted 2", "Completed nil" }, ops)
  end)

  local function billing(P)
    function P:execute()
      self:open_account()
      local months = self:loop({ month = 1 }, function(state)
        local extra = self:receive("extra", { timeout = "1d" })
        self:bill(state.month, extra)
        if state.month == 3 then
          local both = self:all("last", {
            function() self:sleep("1h") return self:letter("a") end,
            function() return self:letter("b") end,
          })
          return nil, { month = state.month, letters = both, random = math.random(1e6) }
        end
        return { month = state.month + 1 }
      end)
      self:close_account()
      if P.fails then error(catga.error("refused")) end
      return months
    end
    function P.open_account() return 1 end
    function P.compensate_open_account() called "undo open" end
    function P.bill(_, month, extra) called("bill " .. month) return { month, extra } end
    function P.compensate_bill(_, _, month) called("undo bill " .. month) end
    function P.letter(_, name) return name end
    function P.close_account() return 2 end
  end

  it("comes to the same end after a kill at every record", function()
    assert.is_nil((testing.chaos(define_with(billing), "P", "x", { same = false,
      drive = function(one)
        one:call(catga.processes.signal, "x", "extra", { id = 5 }, { id = "once" })
      end })))
    assert.is_nil((testing.chaos(define_with(billing), "P", "x")))
  end)

  it("does not undo what finished rounds have done", function()
    local class
    open(function(P)
      class = P
      billing(P)
    end)
    class.fails = true
    local _, err = app:run("P", "x")
    assert.equal("compensated", err.status)
    assert.same({ "bill 1", "bill 2", "bill 3", "undo open" }, calls)
  end)

  it("undoes the round that is under way", function()
    open(function(P)
      function P:execute()
        self:loop(1, function(n)
          self:mark(n)
          if n == 3 then error(catga.error("refused")) end
          return n + 1
        end)
      end
      function P.mark(_, n) called("mark " .. n) end
      function P.compensate_mark(_, _, n) called("undo " .. n) end
    end)
    assert.equal("compensated", select(2, app:run("P", "x")).status)
    assert.same({ "mark 1", "mark 2", "mark 3", "undo 3" }, calls)
  end)

  it("may be in a branch, and in a loop", function()
    assert.is_nil((testing.chaos(define_with(function(P)
      function P:execute()
        return self:all("x", {
          a = function()
            return self:loop(1, function(n)
              local inner = self:loop(0, function(m)
                self:sleep("1s")
                if m == 2 then return nil, self:give(n) end
                return m + 1
              end)
              if n == 3 then return nil, inner end
              return n + 1
            end)
          end,
          b = function() self:sleep("4s") return self:give("b") end,
        })
      end
      function P.give(_, what) return what end
    end), "P", "x")))
  end)

  describe("with many rounds", function()
    local dir, rounds
    local ROUNDS = 12500

    local function define()
      local P = catga.process "P"
      function P:execute()
        local first = self:first()
        return self:loop({ n = 0 }, function(state)
          rounds = rounds + 1
          if state.n == ROUNDS then self:receive("go") end
          if state.n > ROUNDS then return nil, { n = state.n, first = first } end
          return { n = state.n + 1, pad = ("x"):rep(200) }
        end)
      end
      function P.first() return "first" end
    end

    local function reopen()
      rounds = 0
      app = assert(testing.app(define, { data = dir, settings = { segment_size = "1MiB",
        durability = "os", scavenge_min = 0 } }))
    end

    before_each(function()
      dir = os.tmpname()
      os.remove(dir)
      reopen()
      app:start("P", "x")
      app:call(catga.processes.signal, "x", "early", 1, { id = "e" })
      app:settle()
      assert.equal(ROUNDS + 1, rounds)
      app:stop()
    end)

    after_each(function()
      app:stop()
      app = nil
      os.execute("rm -rf " .. dir)
    end)

    it("reads the end of its journal only, also after a scavenge", function()
      for _ = 1, 2 do
        reopen()
        local read = app:journal("x")
        assert.is_true(#read < 1100, #read)
        app:settle()
        assert.equal(1, rounds)
        local summary = app:call(catga.events.scavenge)
        assert.is_true(summary.removed_events >= 0)
        app:stop()
      end
      reopen()
      local stored = app:call(function()
        return #assert(catga.events.read("Process-x", { max = 100000 }))
      end)
      assert.is_true(stored < 6000, stored)
      app:call(catga.processes.signal, "x", "go", 1)
      local _, result = app:wait("x")
      assert.same({ n = ROUNDS + 1, first = "first" }, result)
    end)
  end)

  it("refuses what is no function, and names a state that cannot be stored", function()
    open(function(P)
      function P:execute(input)
        if input == "fn" then self:loop(1, 5) end
        self:loop(1, function() return { f = print } end)
      end
    end)
    assert.truthy(select(2, app:run("P", "fn")).message:find(
      "self:loop(state, fn) needs a function", 1, true))
    assert.truthy(select(2, app:run("P", "x")).message:find("state.f", 1, true))
  end)
end)
