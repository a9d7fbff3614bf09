--- A dead letter as it is stored: reason, traceback, chain of causes, group; once for a key.
local testing = require "catga.testing"
local catga = require "catga"
local dead_letters = require "catga.dead_letters"
local cause = require "catga.dead_letters.cause"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function records(id)
  return app:call(catga.events.read, dead_letters.PREFIX .. id)
end

describe("what is kept of a failure", function()
  it("is the chain of causes, however it ends", function()
    local first = catga.error("first", "one")
    local second = catga.error("second", "two", { cause = first })
    first.cause = second
    assert.same({ { code = "second", message = "two" }, { code = "first", message = "one" } },
      cause.causes(catga.error("third", "three", { cause = second })))
    assert.same({ { code = "error", message = "a text" } },
      cause.causes(catga.error("third", "three", { cause = "a text" })))
    assert.is_nil(cause.causes(catga.error("third")))
    assert.is_nil(cause.causes("a text"))
    local deep = catga.error("deep")
    for _ = 1, 20 do deep = catga.error("deep", nil, { cause = deep }) end
    assert.equal(10, #cause.causes(deep))
  end)

  it("is a text that can be stored", function()
    local reason = cause.reason(catga.error("c\255", ("x"):rep(5000)))
    assert.equal("c?", reason.code)
    assert.is_true(#reason.message < 4100)
  end)

  it("is a group by kind, source, code and place", function()
    local function group(message, traceback)
      return cause.group { kind = "message", source = "Pay", traceback = traceback,
        reason = { code = "error", message = message } }
    end
    assert.equal("message Pay: error at pay.lua:12", group "pay.lua:12: no gateway")
    assert.equal("message Pay: error at pay.lua:7", group("no gateway",
      "stack traceback:\n\t[C]: in error\n\tlua/catga/unit.lua:3: in x\n\tpay.lua:7: in y"))
    assert.equal("message Pay: error", group "no gateway")
  end)
end)

describe("adding a dead letter", function()
  before_each(function() app = assert(testing.app(function()
    catga.command("Add", function(cmd)
      assert(dead_letters.add(app.app, { kind = "route", source = "r", reason = "no", data = cmd }))
      if cmd.fails then return nil, catga.error("no") end
    end)
  end)) end)

  local function add(letter)
    letter.kind, letter.source = letter.kind or "stream", letter.source or "s"
    return app:call(dead_letters.add, app.app, letter)
  end

  it("stores what failed, and why", function()
    local err = catga.error("gateway", "pay.lua:3: no answer", { cause = catga.error("dns") })
    err.traceback = "\npay.lua:3: in pay"
    local id = assert(add { reason = err, data = { 1 }, attempts = 3, position = 9,
      type = "T", detail = { at = 1 } })
    local list = records(id)
    assert.equal("LetterAdded", list[1].type)
    assert.same({ kind = "stream", source = "s", type = "T", attempts = 3, position = 9,
      reason = { code = "gateway", message = "pay.lua:3: no answer" },
      traceback = "pay.lua:3: in pay", causes = { { code = "dns", message = "dns" } },
      group = "stream s: gateway at pay.lua:3", detail = { at = 1 },
      first_failed = list[1].time, last_failed = list[1].time }, list[1].data)
    assert.same({ "LetterData", { data = { 1 } } }, { list[2].type, list[2].data })
    assert.is_true(app.app.store:is_unfinished(app.app.store:stream("$letter-" .. id)))
  end)

  it("is part of the open unit of work", function()
    local before = app:position()
    assert.is_nil((app:send("Add", { fails = true })))
    assert.equal(before, app:position())
    app:send("Add", { n = 1 })
    assert.equal(before + 2, app:position())
  end)

  it("is done once for a key", function()
    local id = assert(add { reason = "no", key = "k" })
    assert.equal(id, add { reason = "no", key = "k" })
    assert.are_not.equal(id, add { reason = "no", key = "other" })
    assert.are_not.equal(id, add { reason = "no", key = "k", source = "other" })
    app = assert(app:crash())
    assert.equal(id, add { reason = "no", key = "k" })
  end)

  it("leaves out what cannot be stored, and says so", function()
    local id = assert(add { reason = "no", data = print, metadata = { print } })
    local list = records(id)
    assert.equal(1, #list)
    assert.is_true(list[1].data.data_left_out)
    assert.is_nil(list[1].data.metadata)
  end)

  it("refuses what is no letter", function()
    assert.has_error(function() add { reason = nil } end)
    assert.has_error(function() add { kind = "", reason = "no" } end)
  end)
end)
