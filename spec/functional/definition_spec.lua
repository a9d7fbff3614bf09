--- Definitions of processes: what `catga process definition`, HTTP and Lua tell of them.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local json = require "catga.native.json"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local HERE = "^.*definition_spec.lua:%d+$"

local function nothing() end

local function define()
  local Order = catga.process "Order"
  Order.options = { timeout = "1h", tags = { kind = "order" }, attempts = 4 }
  Order.settings = { charge = { timeout = "5s", backoff = "2s" }, stamp = { at_most_once = true } }
  function Order:execute() self:step("stamp", nothing) end
  function Order.reserve() end
  function Order.charge() end
  function Order.compensate_charge() end
  function Order.compensate_stamp() end

  catga.process("Declared")
    :step("first", nothing):compensate(nothing):attempts(2)
    :sleep("2s"):when(nothing)
    :sleep(nothing)
    :wait("answer", { timeout = "1h", optional = true })
    :parallel("both", {
      b = catga.steps():send("Tell"):timeout("1s"):parallel("inner", { c = nothing }),
      a = nothing,
    })
    :step("last", nothing):at_most_once():when(nothing)
    :on_failure(nothing):backoff("3s")

  local Whole = catga.process "Whole"
  Whole:step("only", nothing)
  function Whole.compensate() end

  catga.process("Plain"):step("only", nothing)
end

local function open()
  app = assert(testing.app(define, { settings = { step_timeout = "20s",
    processes = { Order = { steps = { reserve = { attempts = 9 } } } } } }))
end

local function definition(name)
  return app:call(catga.processes.definition, name)
end

-- Fields of steps, as lines.
local function lines_of(steps, ...)
  local lines = {}
  for i, step in ipairs(steps) do
    local cells = {}
    for k = 1, select("#", ...) do cells[k] = tostring(step[select(k, ...)]) end
    lines[i] = table.concat(cells, " ")
  end
  return lines
end

describe("the definition of a process", function()
  before_each(open)

  it("of methods has its steps by name, with the settings that hold", function()
    local one = definition "Order"
    assert.same({ "Order", "methods", false, "steps" },
      { one.name, one.form, one.ordered, one.compensation })
    assert.truthy(one.at:find(HERE))
    assert.equal(app.app.registry.hash, one.code)
    assert.same({ timeout_ms = 3600000, tags = true, step_timeout_ms = 20000, attempts = 4,
      backoff_ms = 1000 }, one.options)
    assert.same({ "charge step 4 5000 2000 nil true", "reserve step 9 20000 1000 nil nil",
      "stamp named 1 20000 1000 true true" }, lines_of(one.steps, "name", "kind", "attempts",
      "timeout_ms", "backoff_ms", "at_most_once", "compensation"))
    assert.truthy(one.steps[1].at:find(HERE))
  end)

  it("of a declaration has them in order, with what stands between them", function()
    local one = definition "Declared"
    assert.same({ "declaration", true, "steps" }, { one.form, one.ordered, one.compensation })
    assert.same({ "first step nil", "sleep sleep nil", "sleep sleep nil", "answer wait nil",
      "both parallel nil", "a step both/a", "Tell send both/b", "inner parallel both/b",
      "c step both/b/inner/c", "last step nil", "on_failure on_failure nil" },
      lines_of(one.steps, "name", "kind", "branch"))
    local steps = one.steps
    assert.same({ 2, true }, { steps[1].attempts, steps[1].compensation })
    assert.same({ 2000, true }, { steps[2].duration_ms, steps[2].condition })
    assert.is_nil(steps[3].duration_ms)
    assert.same({ 3600000, true }, { steps[4].timeout_ms, steps[4].optional })
    assert.equal(1000, steps[7].timeout_ms)
    assert.same({ true, 1, true }, { steps[10].at_most_once, steps[10].attempts,
      steps[10].condition })
    assert.equal(3000, steps[11].backoff_ms)
    for _, step in ipairs(steps) do assert.truthy(step.at:find(HERE)) end
  end)

  it("tells what undoes it", function()
    assert.equal("process", definition "Whole".compensation)
    assert.is_nil(definition "Whole".steps[1].compensation)
    assert.is_nil(definition "Plain".compensation)
  end)

  it("of an unknown process is an error with a suggestion", function()
    local one, err = definition "Oder"
    assert.is_nil(one)
    assert.equal("unknown_process", err.code)
    assert.truthy(err.message:find("did you mean Order?", 1, true))
    assert.equal("invalid", select(2, definition()).code)
  end)

  it("is in a list of all", function()
    local list = app:call(catga.processes.definitions)
    assert.same({ "Declared 11", "Order 3", "Plain 1", "Whole 1" },
      lines_of(list, "name", "step_count"))
  end)

  it("is there over HTTP", function()
    local function get(path)
      return app:call(function()
        local status, _, text = http.handle(app.app, "GET", path, {}, {}, "")
        return status, json.decode(text)
      end)
    end
    local status, one = get "/process-definitions/Order"
    assert.equal(200, status)
    assert.same(definition "Order", one)
    assert.same({ 404, "unknown_process" }, { (get "/process-definitions/Oder"),
      select(2, get "/process-definitions/Oder").code })
    local list
    status, list = get "/process-definitions"
    assert.equal(200, status)
    assert.equal(4, #list)
  end)
end)
