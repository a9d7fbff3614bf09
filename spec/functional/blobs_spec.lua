--- Large inputs, results and arguments of processes: stored once, by content, beside the journal.
local testing = require "catga.testing"
local catga = require "catga"

local app
local LARGE = ("grüße "):rep(50000) -- 350,000 bytes, with characters that must not be cut.

local function define()
  local P = catga.process "P"
  function P:execute(input)
    local a = self:echo(input.text)
    local b = self:echo(input.text)
    self:step("check", function()
      assert(a.text == b.text and #a.text == #input.text)
      return true
    end)
    if input.fails then error(catga.error("refused")) end
    return { result = a.text, n = #input.text }
  end
  function P.echo(_, text) return { text = text } end
  function P.compensate_echo(_, result, text)
    assert(result.text == text)
    return #text
  end
  local Parent = catga.process "Parent"
  function Parent:execute(input) return self:run("P", input) end
  catga.command("Start", function(cmd) return assert(catga.start("P", cmd)) end)
end


after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("large values of a process", function()
  it("come to the same end after a kill at every record", function()
    local opts = { settings = { blob_size = "1KiB" } }
    local text = LARGE:sub(1, 2000)
    assert.is_nil((testing.chaos(define, "P", { id = "x", text = text }, opts)))
    assert.is_nil((testing.chaos(define, "P", { id = "x", text = text, fails = true }, opts)))
    assert.is_nil((testing.chaos(define, "Parent", { id = "x", text = text }, opts)))
  end)

  it("are stored once, whoever has them", function()
    app = assert(testing.app(define))
    for i = 1, 3 do
      local result = app:run("P", { text = LARGE })
      assert.equal(#LARGE, result.n)
      assert.equal(LARGE, result.result)
      assert.is_true(i > 0)
    end
    app:run("Parent", { id = "p", text = LARGE })
    -- The input of P, that of P as a child, results of the steps, arguments, and of the processes.
    local count = #app:call(function()
      return app.app.store:streams("$blob-", "", 1000)
    end)
    assert.is_true(count <= 5, count)
  end)

  it("may be started in a unit of work, and again with the same id", function()
    app = assert(testing.app(define))
    assert.equal("x", app:send("Start", { id = "x", text = LARGE }))
    assert.equal("completed", (app:wait("x")))
    assert.equal("x", app:start("P", { id = "x", text = LARGE }))
    assert.equal("conflict", select(2, app:start("P", { id = "x", text = LARGE .. "x" })).code)
  end)

  it("are stored in parts that a message may have", function()
    app = assert(testing.app(define, { settings = { message_size_max = "16KiB" } }))
    local text = ("\1\"x"):rep(20000)
    assert.equal(text, app:run("P", { id = "x", text = text }).result)
  end)

  it("over blob_size_max are refused, with their path or size", function()
    app = assert(testing.app(define, { settings = { blob_size_max = "200KiB" } }))
    local _, err = app:start("P", { id = "x", text = LARGE })
    assert.equal("limit", err.code)
    assert.truthy(err.message:find("blob_size_max", 1, true), err.message)
  end)
end)
