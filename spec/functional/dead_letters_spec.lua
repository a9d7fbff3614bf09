--- Dead letters: listed, grouped, edited, retried, purged; those of commands, of handlers of events
--- and of subscriptions.
local testing = require "catga.testing"
local dead_letters = require "catga.dead_letters"
local catga = require "catga"

local app, seen, broken

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function define()
  catga.command("Pay", function(cmd, ctx)
    seen[#seen + 1] = "pay " .. tostring(cmd.amount)
    if cmd.amount < 0 then return nil, catga.error("negative") end
    if broken.pay then error "no gateway" end
    assert(catga.events.append("Paid", { { type = "Paid",
      data = { amount = cmd.amount, key = ctx.key } } }))
  end)
  catga.command("Ship", function() if broken.ship then error(catga.error("no_stock")) end end)
  catga.on("Made", function(event)
    seen[#seen + 1] = "first " .. event.n
    if broken.first then error("first is broken") end
    assert(catga.events.append("First", { { type = "FirstDone", data = event } }))
  end)
  catga.on("Made", function(event, ctx)
    seen[#seen + 1] = "second " .. event.n .. " " .. ctx.attempt
    if broken.second then error("second is broken") end
    if broken.refuses then error(catga.error("refused")) end
  end)
  catga.on("Made", { durable = "mailer", attempts = 1 }, function(event)
    seen[#seen + 1] = "mailer " .. event.n
    if broken.mailer then
      error(catga.error("smtp", "no answer", { cause = catga.error("dns") }))
    end
  end)
end

before_each(function()
  seen, broken = {}, {}
  app = assert(testing.app(define))
end)

local function call(name, ...) return app:call(catga.dead_letters[name], ...) end

local function letters(opts) return assert(call("list", opts)) end

local function pay(amount, opts)
  local id = assert(app:call(catga.enqueue, "Pay", { amount = amount }, opts or { attempts = 1 }))
  app:settle()
  return id
end

local function paid()
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, "Paid")) do list[i] = event.data.amount end
  return list
end

local function make(n)
  assert(app:call(catga.events.append, "M-" .. n, { { type = "Made", data = { n = n } } }))
  app:settle()
end

describe("a dead letter of a command", function()
  it("is retried, closed when that is well, and its effect is there once", function()
    broken.pay = true
    local id = pay(5)
    local letter = letters()[1]
    assert.equal("open", letter.status)
    broken.pay = nil
    assert.same({ count = 1 }, call("retry", letter.id))
    app:settle()
    assert.same({ 5 }, paid())
    assert.same({}, letters())
    local closed = call("get", letter.id)
    assert.equal("retried", closed.status)
    assert.same(closed.id, letters { status = "retried" }[1].id)
    local _, err = call("retry", letter.id)
    assert.equal("conflict", err.code)
    assert.equal(id, app:call(catga.events.read, "Paid")[1].data.key)
  end)

  it("is open again when it fails again, with the new reason", function()
    broken.pay = true
    pay(5, { attempts = 2, backoff = "1s" })
    app:advance("5s")
    local letter = letters()[1]
    assert.equal(2, letter.attempts)
    call("retry", letter.id)
    app:settle()
    assert.equal("retrying", letters()[1].status)
    assert.equal("busy", select(2, call("retry", letter.id)).code)
    assert.equal("busy", select(2, call("purge", letter.id)).code)
    app:advance("10s")
    local again = letters()[1]
    assert.same({ letter.id, "open", 4, 1 }, { again.id, again.status, again.attempts,
      again.retries })
    assert.is_true(again.last_failed > letter.last_failed)
    assert.equal(1, #letters { status = "all" })
  end)

  it("is edited and then does the new thing", function()
    pay(-5)
    local letter = letters()[1]
    assert.equal("negative", letter.reason.code)
    assert.is_true(call("edit", letter.id, { amount = 7 }))
    assert.same({ amount = 7 }, call("get", letter.id).data)
    assert.is_true(call("get", letter.id).edited)
    app = assert(app:crash())
    call("retry", letter.id)
    app:settle()
    assert.same({ 7 }, paid())
    assert.equal("conflict", select(2, call("edit", letter.id, {})).code)
    assert.equal("not_found", select(2, call("edit", "123", {})).code)
  end)

  it("survives a kill at every record of its retry", function()
    broken.pay = true
    pay(5)
    local id = letters()[1].id
    local first = app:position()
    broken.pay = nil
    call("retry", id)
    app:settle()
    local last = app:position()
    assert.is_true(last - first >= 4)
    app:stop()
    for position = first, last do
      seen, broken = {}, { pay = true }
      app = assert(testing.app(define))
      pay(5)
      broken.pay = nil
      call("retry", letters()[1].id)
      app:settle()
      app = assert(app:crash(position))
      app:settle()
      local open = letters()
      if open[1] then
        call("retry", open[1].id)
        app:settle()
      end
      assert.same({ 5 }, paid(), "killed at " .. position)
      assert.same({}, letters())
      app:stop()
    end
    app = nil
  end)

  it("goes for good when it is purged", function()
    pay(-1)
    pay(-2)
    local list = letters()
    assert.same({ count = 1 }, call("purge", list[1].id))
    assert.equal(list[2].id, letters()[1].id)
    assert.equal("purged", call("get", list[1].id).status)
    app = assert(app:crash())
    assert.equal(1, #letters())
    assert.equal("conflict", select(2, call("retry", list[1].id)).code)
  end)

  it("keeps the key of its message", function()
    broken.pay = true
    pay(5, { key = "k", attempts = 1 })
    broken.pay = nil
    call("retry", { all = true })
    app:settle()
    assert.same({ 5 }, paid())
    pay(5, { key = "k" })
    app:send("Pay", { amount = 5 }, { key = "k" })
    assert.same({ 5 }, paid())
  end)
end)

describe("the key of a dead letter", function()
  it("stands for the data that it is edited to", function()
    pay(-5, { key = "k" })
    local id = letters()[1].id
    call("edit", id, { amount = 6 })
    call("retry", id)
    app:settle()
    assert.same({}, letters())
    assert.same({ 6 }, paid())
    app:send("Pay", { amount = 6 }, { key = "k" })
    assert.same({ 6 }, paid())
    assert.equal("conflict", select(2, app:send("Pay", { amount = -5 }, { key = "k" })).code)
  end)

  it("keeps its outcome when somebody else has done it meanwhile", function()
    broken.pay = true
    pay(5, { key = "k", attempts = 1 })
    broken.pay = nil
    app:send("Pay", { amount = 5 }, { key = "k" })
    local id = letters()[1].id
    call("edit", id, { amount = 6 })
    call("retry", id)
    app:settle()
    assert.same({ 5 }, paid())
    assert.equal("conflict", letters()[1].reason.code)
  end)
end)

describe("dead letters", function()
  before_each(function()
    broken.pay, broken.ship = true, true
    for n = 1, 3 do pay(n) end
    pay(-1)
    app:call(catga.enqueue, "Ship", {})
    app:settle()
  end)

  it("are grouped by their cause", function()
    local groups = call("groups")
    assert.equal(3, #groups)
    assert.equal(3, groups[1].count)
    assert.matches("^message Pay: error at .*dead_letters_spec.lua:%d+$", groups[1].group)
    assert.same({ "message", "Pay", "error" }, { groups[1].kind, groups[1].source,
      groups[1].code })
    assert.same({ "message Pay: negative", "message Ship: no_stock" },
      { groups[2].group, groups[3].group })
    assert.equal(letters()[3].id, groups[1].id)
  end)

  it("are retried by group, the others stay", function()
    broken.pay = nil
    assert.same({ count = 3 }, call("retry_group", call("groups")[1].group))
    app:settle()
    assert.same({ 1, 2, 3 }, paid())
    assert.equal(2, #letters())
    assert.same({ count = 0 }, call("retry_group", "nothing"))
  end)

  it("are listed by what one asks for, in pages", function()
    assert.equal(4, #letters { source = "Pay" })
    assert.equal(1, #letters { code = "no_stock" })
    assert.equal(0, #letters { kind = "handler" })
    local page, after = call("list", { max = 2 })
    assert.equal(2, #page)
    page, after = call("list", { max = 2, after = after })
    assert.equal(2, #page)
    page, after = call("list", { max = 2, after = after })
    assert.equal(1, #page)
    assert.is_nil(after)
    app:advance("1h")
    pay(9)
    assert.equal(5, #letters { older_than = "30m" })
    assert.same({ count = 5 }, call("purge", { older_than = "30m" }))
    assert.equal(9, letters()[1].data.amount)
  end)

  it("are not changed all by accident", function()
    for _, which in ipairs { {}, 5, { grup = "x" }, { source = 1 }, { older_than = "x" },
      { status = "retried" } } do
      local result, err = call("purge", which)
      assert.is_nil(result)
      assert.equal("invalid", err.code)
    end
    assert.matches("did you mean group", select(2, call("purge", { grup = "x" })).message)
    assert.equal("invalid", select(2, call("list", { status = "gone" })).code)
    assert.equal("invalid", select(2, call("list", { max = 0 })).code)
    assert.equal(5, #letters())
  end)

  it("are many, and all of them are retried", function()
    for n = 1, 250 do app:call(catga.enqueue, "Pay", { amount = n }, { attempts = 1 }) end
    app:settle()
    broken.pay = nil
    assert.same({ count = 254 }, call("retry", { source = "Pay" }))
    app:settle()
    assert.equal(2, #letters())
  end)
end)

describe("a handler of an event that fails", function()
  it("is tried again alone, and then is a dead letter", function()
    broken.second = true
    make(1)
    app:advance("1m")
    assert.same({ "first 1", "mailer 1", "second 1 1", "second 1 2", "second 1 3" },
      (function() table.sort(seen); return seen end)())
    local letter = letters()[1]
    assert.same({ "handler", "Made", 3, "M-1", 0 }, { letter.kind, letter.type, letter.attempts,
      letter.stream, letter.version })
    assert.matches("dead_letters_spec.lua:%d+$", letter.source)
    assert.same({ n = 1 }, call("get", letter.id).data)
    seen, broken.second = {}, nil
    call("retry", letter.id)
    app:settle()
    assert.same({ "second 1 1" }, seen)
    assert.same({}, letters())
  end)

  it("is tried again after a restart", function()
    broken.first = true
    make(1)
    broken.first = nil
    app = assert(app:crash())
    app:advance("1m")
    assert.equal(1, #app:call(catga.events.read, "First"))
    assert.same({}, letters())
  end)

  it("has its effect once wherever the program is killed once it has failed", function()
    broken.first = true
    make(1)
    local first = app:position()
    broken.first = nil
    app:advance("1m")
    local last = app:position()
    assert.equal(1, #app:call(catga.events.read, "First"))
    app:stop()
    assert.is_true(last - first >= 2)
    for position = first, last do
      seen, broken = {}, { first = true }
      app = assert(testing.app(define))
      make(1)
      broken.first = nil
      app:advance("1m")
      app = assert(app:crash(position))
      app:advance("1m")
      assert.equal(1, #app:call(catga.events.read, "First"), "killed at " .. position)
      assert.same({}, letters())
      app:stop()
    end
    app = nil
  end)

  it("runs in the newest scripts, found by its file and its place in it", function()
    broken.second = true
    make(1)
    broken.second = nil
    local calls = {}
    app = assert(app:crash(nil, function()
      catga.on("Made", function() calls[#calls + 1] = "first" end)
      catga.on("Made", function() calls[#calls + 1] = "second" end)
      catga.on("Made", function() calls[#calls + 1] = "third" end)
    end))
    app:advance("1m")
    assert.same({ "second" }, calls)
  end)

  it("is a dead letter at once when there is no use in trying again", function()
    broken.refuses = true
    make(1)
    assert.equal("refused", letters()[1].reason.code)
    app:advance("1m")
    assert.equal(1, #letters())
    local id = letters()[1].id
    call("edit", id, { n = 77 })
    seen, broken.refuses = {}, nil
    call("retry", id)
    app:settle()
    assert.same({ "second 77 1" }, seen)
  end)

  it("of an event that is not stored is only said", function()
    broken.second = true
    app:publish("Made", { n = 1 }, { qos = 0 })
    app:advance("1m")
    assert.same({}, letters())
    assert.matches("second is broken", table.concat(app.lines, "\n"))
  end)

  it("that is gone from the scripts is open until it is purged", function()
    broken.refuses = true
    make(1)
    app = assert(app:crash(nil, function() catga.command("Pay", function() end) end))
    local id = letters()[1].id
    call("retry", id)
    app:settle()
    assert.equal("unknown_handler", letters()[1].reason.code)
    assert.same({ count = 1 }, call("purge", id))
  end)
end)

describe("a parked event of a subscription", function()
  it("is a dead letter that its subscription retries", function()
    broken.mailer = true
    make(1)
    make(2)
    local list = letters { kind = "subscription" }
    assert.equal(2, #list)
    local letter = list[1]
    assert.same({ "subscription", "mailer", "Made", "open", "smtp" }, { letter.kind,
      letter.source, letter.type, letter.status, letter.reason.code })
    assert.same({ { code = "dns", message = "dns" } }, letter.causes)
    assert.same({ n = 1 }, call("get", letter.id).data)
    assert.equal("subscription mailer: smtp", call("groups")[1].group)
    assert.equal("invalid", select(2, call("edit", letter.id, {})).code)
    assert.equal(1, #letters { after = letter.id })
    seen, broken.mailer = {}, nil
    assert.same({ count = 1 }, call("retry", letter.id))
    app:settle()
    assert.same({ "mailer 1" }, seen)
    assert.same({ count = 1 }, call("purge", { source = "mailer" }))
    assert.same({}, letters())
    assert.equal("not_found", select(2, call("get", letter.id)).code)
  end)
end)

describe("a letter of another part", function()
  it("is retried by the module of its kind, in the commit that closes it", function()
    local done
    package.loaded["spec.retrier"] = { retry = function(_, letter)
      done = letter.detail.at
      if broken.route then return nil, catga.error("still") end
      return catga.events.append("Routed", { { type = "Routed", data = letter.data } })
    end }
    dead_letters.retriers.route = "spec.retrier"
    local id = app:call(dead_letters.add, app.app, { kind = "route", source = "r",
      reason = catga.error("no"), data = { 1 }, detail = { at = 7 } })
    broken.route = true
    call("retry", id)
    app:settle()
    assert.equal("still", letters()[1].reason.code)
    broken.route = nil
    call("retry", id)
    app:settle()
    assert.equal(7, done)
    local routed = app:call(catga.events.read, "Routed")[1]
    local records = app:call(catga.events.read, "$letter-" .. id)
    assert.equal("LetterClosed", records[#records].type)
    assert.equal(routed.position + 1, records[#records].position)
    dead_letters.retriers.route, package.loaded["spec.retrier"] = nil, nil
  end)
end)
