--- Settings of processes and steps: in catga.lua, in the script's options, and which goes first.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local app

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local tries

-- How often a step that always fails is tried, and how long all of it takes.
local function tries_of(fill, settings)
  tries = 0
  if app then app:stop() end
  app = assert(testing.app(function()
    local P = catga.process "P"
    function P:execute() return self:pay() end
    function P.pay()
      tries = tries + 1
      error("wire")
    end
    if fill then fill(P) end
  end, { settings = settings }))
  local start = app.clock:now()
  app:run("P", "x")
  return tries, app.clock:now() - start
end

local function in_file(flow) return { step_attempts = 2, processes = { P = flow } } end

describe("attempts of a step", function()
  it("are those of the step in catga.lua, of the step here, of the flow there, of the flow "
    .. "here, of all", function()
    local function with(P) P.settings = { pay = { attempts = 5 } } end
    local function options(P) P.options = { attempts = 4 } end
    local function both(P) with(P) options(P) end
    assert.equal(2, (tries_of(nil, in_file(nil))))
    assert.equal(4, (tries_of(options, in_file(nil))))
    assert.equal(6, (tries_of(options, in_file { attempts = 6 })))
    assert.equal(5, (tries_of(both, in_file { attempts = 6 })))
    assert.equal(7, (tries_of(both, in_file { attempts = 6, steps = { pay = { attempts = 7 } } })))
    assert.equal(6, (tries_of(options, in_file { attempts = 6, steps = { pay = {} } })))
  end)
end)

describe("backoff and timeout of a step", function()
  it("have the same order", function()
    local function options(P) P.options = { backoff = "10s", attempts = 2 } end
    local _, ms = tries_of(options, {})
    assert.is_true(ms >= 5000 and ms <= 10000)
    _, ms = tries_of(options, in_file { backoff = "100s" })
    assert.is_true(ms >= 50000 and ms <= 100000)
    _, ms = tries_of(options, in_file { backoff = "100s", steps = { pay = { backoff = "1000s" } } })
    assert.is_true(ms >= 500000 and ms <= 1000000)
  end)

  it("end an attempt that takes longer", function()
    local function slow(P)
      P.options = { step_timeout = "10s", attempts = 1 }
      function P:pay() self:sleep("1h") end
    end
    local function ms_of(flow)
      local _, ms = tries_of(slow, in_file(flow))
      return ms
    end
    assert.equal(10000, ms_of(nil))
    assert.equal(20000, ms_of { step_timeout = "20s" })
    assert.equal(30000, ms_of { step_timeout = "20s", steps = { pay = { timeout = "30s" } } })
  end)
end)

describe("the timeout of a process", function()
  local function waits(P)
    P.options = { timeout = "3h" }
    function P:execute() self:sleep("10h") end
  end

  it("is that of catga.lua, else of the script; one that its start gives goes first", function()
    local HOUR = 3600000
    local _, ms = tries_of(waits, {})
    assert.equal(3 * HOUR, ms)
    _, ms = tries_of(waits, in_file { timeout = "2h" })
    assert.equal(2 * HOUR, ms)
    local start = app.clock:now()
    app:call(catga.run, "P", "y", { timeout = "1h" })
    assert.equal(HOUR, app.clock:now() - start)
  end)
end)

describe("catga.lua", function()
  local SCRIPT = [[
    local catga = require "catga"
    local P = catga.process "OrderProcess"
    function P:execute() self:step("stamp", function() end) return self:charge() end
    function P:charge() end
    P.settings = { stamp = { at_most_once = true } }
  ]]

  local function open(flow)
    local opened, err = testing.app(app_dir.new { ["main.lua"] = SCRIPT,
      ["catga.lua"] = "return { processes = " .. flow .. " }" })
    if opened then opened:stop() end
    return err and err.message
  end

  it("sets what single processes and steps have", function()
    assert.is_nil(open [[{ OrderProcess = { timeout = "1h", attempts = 2,
      steps = { charge = { attempts = 5, timeout = "9s" }, stamp = { backoff = "1s" } } } }]])
  end)

  for _, case in ipairs {
    { "is no table", "5", "catga.lua: processes must be a table of processes" },
    { "has a process that is no table", "{ OrderProcess = 5 }",
      "catga.lua: processes.OrderProcess must be a table" },
    { "has an unknown process", "{ OderProcess = {} }",
      "catga.lua: processes.OderProcess: no process is called so; did you mean OrderProcess?" },
    { "has an unknown setting", "{ OrderProcess = { timeot = '1h' } }",
      "processes.OrderProcess: unknown setting \"timeot\"; did you mean timeout?" },
    { "has a bare number", "{ OrderProcess = { timeout = 5 } }",
      "catga.lua: processes.OrderProcess.timeout must be a string" },
    { "has half an attempt", "{ OrderProcess = { attempts = 0.5 } }",
      "processes.OrderProcess: attempts is a whole number from 1" },
    { "has steps that are no table", "{ OrderProcess = { steps = 'all' } }",
      "processes.OrderProcess.steps must be a table of steps" },
    { "has a step that is no table", "{ OrderProcess = { steps = { charge = 5 } } }",
      "processes.OrderProcess.steps.charge must be a table" },
    { "has an unknown step", "{ OrderProcess = { steps = { chrge = {} } } }",
      "catga.lua: processes.OrderProcess.steps.chrge is for a step that does not exist; did you "
        .. "mean charge?" },
    { "has an unknown setting of a step",
      "{ OrderProcess = { steps = { charge = { at_most_once = true } } } }",
      "processes.OrderProcess.steps.charge: unknown setting \"at_most_once\"; there are attempts, "
        .. "backoff, policy, timeout" },
    { "has a wrong duration of a step",
      "{ OrderProcess = { steps = { charge = { backoff = 'soon' } } } }",
      "processes.OrderProcess.steps.charge.backoff \"soon\" is no duration" },
  } do
    it("that " .. case[1] .. " is an error that names it", function()
      local message = open(case[2])
      assert.truthy(message and message:find(case[3], 1, true), message)
    end)
  end

  it("cannot give attempts to a step that may run at most once", function()
    local _, err = testing.app(function()
      local P = catga.process "P"
      function P.execute() end
      function P.pay() end
      P.settings = { pay = { at_most_once = true } }
    end, { settings = { processes = { P = { steps = { pay = { attempts = 2 } } } } } })
    assert.truthy(err.message:find("P.steps.pay: it may run at most once", 1, true), err.message)
  end)
end)

describe("options of a process", function()
  for _, case in ipairs {
    { "with an unknown name", { timeot = "1h" },
      "process P: options: unknown option \"timeot\"; did you mean timeout?" },
    { "that are no table", "1h", "process P: options must be a table" },
    { "with a bare number", { step_timeout = 5 }, "options.step_timeout must be a string" },
    { "with no attempts", { attempts = 0 }, "options: attempts is a whole number from 1" },
    { "with tags that are text", { tags = "a" }, "options.tags is a table, or a function" },
  } do
    it(case[1] .. " are a load error", function()
      local _, err = testing.app(function()
        local P = catga.process "P"
        function P.execute() end
        P.options = case[2]
      end)
      assert.truthy(err.message:find("process_settings_spec.lua:%d+"), err.message)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
    end)
  end
end)
