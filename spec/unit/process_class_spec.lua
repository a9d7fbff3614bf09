--- What a script makes of catga.process: which definitions are taken, which are load errors.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, opts)
  app = assert(testing.app(define, opts))
  return app
end

-- The message of the load error of a process that fill(P) defines.
local function fault_of(fill)
  local opened, err = testing.app(function()
    local P = catga.process "P"
    function P.execute() return 1 end
    fill(P)
  end)
  if opened then opened:stop() end
  assert.is_nil(opened)
  assert.equal("script_error", err.code)
  assert.truthy(err.message:find("process_class_spec.lua:%d+"), err.message)
  return err.message
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("a process", function()
  it("without execute is a load error", function()
    for _, execute in ipairs { false, "text", 5 } do
      local message = fault_of(function(P) P.execute = execute or nil end)
      assert.truthy(message:find("process P has no execute method: function P:execute(input)", 1,
        true), message)
    end
  end)

  it("has one definition a name", function()
    local message = fault_of(function() catga.process "P" end)
    assert.truthy(message:find("process P is defined already, at .*process_class_spec.lua:%d+"))
  end)

  it("needs a name", function()
    for _, name in ipairs { "", 5, {} } do
      local message = fault_of(function() catga.process(name) end)
      assert.truthy(message:find("a process needs a name", 1, true), message)
    end
  end)

  it("that nobody defined is an error with a suggestion", function()
    open(function()
      local P = catga.process "OrderProcess"
      function P.execute() return 1 end
    end)
    for _, verb in ipairs { "start", "run" } do
      local value, err = app[verb](app, "OderProcess", "x")
      assert.is_nil(value)
      assert.equal("unknown_process", err.code)
      assert.truthy(err.message:find("did you mean OrderProcess?", 1, true), err.message)
    end
  end)
end)

describe("a step", function()
  for _, name in ipairs { "send", "step", "sleep", "now", "random", "uuid", "new_id", "id", "all",
    "any", "map", "receive", "wait_event", "approval", "promise", "loop" } do
    it("cannot be called " .. name, function()
      local message = fault_of(function(P) P[name] = function() end end)
      assert.truthy(message:find("process P: " .. name .. " is a reserved name", 1, true), message)
    end)
  end

  it("may have any other name", function()
    open(function()
      local P = catga.process "P"
      P["预留库存"] = function() return "stock" end
      P["with blank"] = function() return "blank" end
      P["compensate_预留库存"] = function() end
      P.data = { "no step" }
      function P:execute() return { self["预留库存"](self), self["with blank"](self), self.data[1] } end
    end)
    assert.same({ "stock", "blank", "no step" }, app:run("P", "x"))
    assert.equal("预留库存", app:journal("x")[2].data.step)
  end)
end)

describe("an undo", function()
  it("without its step is a load error", function()
    local message = fault_of(function(P)
      function P.pay() end
      function P.compensate_pai() end
    end)
    assert.truthy(message:find("process P: compensate_pai undoes a step pai that does not exist", 1,
      true), message)
  end)

  it("that is no function is a load error", function()
    local message = fault_of(function(P)
      function P.pay() end
      P.compensate_pay = "refund"
    end)
    assert.truthy(message:find("process P: compensate_pay must be a function", 1, true), message)
  end)

  it("may be for a step that the body names", function()
    local undone = {}
    open(function()
      catga.command("Charge", function() return { charge = 1 } end)
      local P = catga.process "P"
      function P:execute()
        self:send("Charge", {})
        self:step("stamp", function() return "stamped" end)
        error(catga.error("stop"))
      end
      function P.compensate_Charge(_, result) undone[#undone + 1] = result.charge end
      function P.compensate_stamp(_, result) undone[#undone + 1] = result end
    end)
    local _, err = app:run("P", "x")
    assert.equal("compensated", err.status)
    assert.same({ "stamped", 1 }, undone)
  end)
end)

describe("settings of steps", function()
  for _, case in ipairs {
    { "for a step that is not there", { pai = {} },
      "settings.pai is for a step that does not exist" },
    { "that are no table", { pay = 5 }, "settings.pay must be a table" },
    { "of an unknown name", { pay = { timout = "5s" } },
      "settings.pay: unknown setting \"timout\"" },
    { "with a bare number", { pay = { timeout = 5 } }, "settings.pay.timeout must be a string" },
    { "with no duration", { pay = { backoff = "soon" } },
      "settings.pay.backoff \"soon\" is no duration" },
    { "with no attempts", { pay = { attempts = 0 } },
      "settings.pay: attempts is a whole number from 1" },
    { "with half an attempt", { pay = { attempts = 1.5 } }, "attempts is a whole number from 1" },
    { "with attempts as text", { pay = { attempts = "3" } }, "attempts is a whole number from 1" },
    { "with a doubtful truth", { pay = { at_most_once = "yes" } },
      "at_most_once is true or false" },
  } do
    it(case[1] .. " are a load error", function()
      local message = fault_of(function(P)
        function P.pay() end
        P.settings = case[2]
      end)
      assert.truthy(message:find("process P: ", 1, true), message)
      assert.truthy(message:find(case[3], 1, true), message)
    end)
  end

  it("must be in a table", function()
    local message = fault_of(function(P) P.settings = "fast" end)
    assert.truthy(message:find("process P: settings must be a table of steps", 1, true), message)
  end)

  -- How often a step that always fails is tried, and how long that takes.
  local function tries_of(fill, settings)
    local tries = 0
    if app then app:stop() end
    open(function()
      local P = catga.process "P"
      function P:execute() return self:pay() end
      function P.pay()
        tries = tries + 1
        error("wire")
      end
      if fill then fill(P) end
    end, { settings = settings })
    local start = app.clock:now()
    app:run("P", "x")
    return tries, app.clock:now() - start
  end

  it("have defaults: 3 attempts, a pause that doubles from 1 s, half of it jitter", function()
    local tries, ms = tries_of()
    assert.equal(3, tries)
    assert.is_true(ms >= 1500 and ms <= 3000)
  end)

  it("are those of the step, else those of the app", function()
    assert.equal(5, (tries_of(function(P) P.settings = { pay = { attempts = 5 } } end)))
    assert.equal(2, (tries_of(nil, { step_attempts = 2 })))
    assert.equal(4, (tries_of(function(P) P.settings = { pay = { attempts = 4 } } end,
      { step_attempts = 2 })))
    local _, ms = tries_of(nil, { step_backoff = "100s" })
    assert.is_true(ms >= 150000 and ms <= 300000)
    assert.equal(1, (tries_of(function(P) P.settings = { pay = { at_most_once = true } } end)))
  end)

  it("may be for a step that the body names", function()
    local tries = 0
    open(function()
      local P = catga.process "P"
      P.settings = { once = { attempts = 1 } }
      function P:execute()
        return self:step("once", function()
          tries = tries + 1
          error("wire")
        end)
      end
    end)
    app:run("P", "x")
    assert.equal(1, tries)
  end)
end)

describe("the id of a process", function()
  local function id_of(fill, input)
    if app then app:stop() end
    open(function()
      local P = catga.process "P"
      function P.execute() return 1 end
      if fill then fill(P) end
    end)
    return app:start("P", input)
  end

  it("is what process_id says, the input, its id, or new", function()
    local function by_key(P) function P.process_id(input) return "key-" .. input.key end end
    assert.equal("key-7", id_of(by_key, { key = 7, id = "other" }))
    assert.equal("text", id_of(nil, "text"))
    assert.equal("a", id_of(nil, { id = "a" }))
    assert.equal("42", id_of(nil, { id = 42 }))
    local first = id_of(nil, { n = 1 })
    assert.truthy(first:find("^%d+$"))
    assert.not_equal(first, app:start("P", { n = 1 }))
  end)

  it("that is no text of a sensible size is an error", function()
    for _, id in ipairs { "", ("x"):rep(513), true, {} } do
      local started, err = id_of(nil, { id = id })
      assert.is_nil(started)
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find("process id", 1, true), err.message)
    end
  end)
end)
