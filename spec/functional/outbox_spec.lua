--- The outbox: commands that are committed with what their sender does, and handled afterwards.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local tasks = require "catga.task"
local catga = require "catga"

local app, seen, mood

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function define()
  catga.command("Note", function(cmd, ctx)
    seen[#seen + 1] = cmd.n
    local what = mood[cmd.n]
    if type(what) == "function" then what = what(cmd, ctx) end
    if what then error(what, 0) end
    assert(catga.events.append("Notes", { { type = "Noted", data = { n = cmd.n,
      attempt = ctx.attempt, key = ctx.key, correlation = ctx.correlation_id } } }))
    return "noted " .. cmd.n
  end)
  catga.command("Send", function(cmd)
    assert(catga.events.append("Sent", { { type = "Sent", data = { n = cmd.n } } }))
    local id = assert(catga.enqueue("Note", { n = cmd.n }, cmd.opts))
    if cmd.fail then return nil, catga.error("refused") end
    return id
  end)
  local P = catga.process "Flow"
  function P:execute(input)
    local id = self:enqueue("Note", { n = input.n })
    self:inner(input)
    return id
  end
  function P.inner(self, input)
    self:enqueue("Note", { n = input.n + 1 })
    catga.enqueue("Note", { n = input.n + 2 })
  end
end

local function open(settings)
  seen, mood = {}, {}
  app = assert(testing.app(define, { settings = settings }))
end

local function enqueue(n, opts) return app:call(catga.enqueue, "Note", { n = n }, opts) end

local function notes()
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, "Notes", { max = 1000 })) do
    list[i] = event.data.n
  end
  return list
end

local function get(id) return app:call(catga.outbox.get, id) end

describe("an enqueued command", function()
  before_each(function() open() end)

  it("is committed with what its sender does, and handled after that", function()
    local id = assert(app:send("Send", { n = 1 }))
    app:settle()
    assert.same({ 1 }, notes())
    local message = get(id)
    assert.equal("handled", message.status)
    assert.equal("noted 1", message.value)
    local sent = app:call(catga.events.read, "Sent")[1]
    local enqueued = app:call(catga.events.read, "$message-" .. id)[1]
    assert.equal(sent.position + 1, enqueued.position)
    local note = app:call(catga.events.read, "Notes")[1]
    assert.equal(sent.metadata.correlation_id, note.data.correlation)
    assert.equal(id, note.data.key)
    assert.equal(note.position + 1,
      app:call(catga.events.read, "$message-" .. id)[2].position)
  end)

  it("is nowhere when its sender fails", function()
    assert.is_nil((app:send("Send", { n = 1, fail = true })))
    app:advance("1h")
    assert.same({}, seen)
    assert.same({}, app:call(catga.outbox.list))
  end)

  it("is durable when nobody's unit of work is open", function()
    enqueue(1)
    app = assert(app:crash())
    app:settle()
    assert.same({ 1 }, notes())
  end)

  it("is found when the task that committed it is gone before it could tell", function()
    app:stop()
    seen, mood = {}, {}
    app = assert(testing.app(define, { manual = true }))
    local task, is_dropped
    tasks.spawn(app.app, function() -- Woken before the other, by the same write.
      catga.events.append("Other", { { type = "Other" } })
      is_dropped = native_task.drop(task)
    end)
    task = tasks.spawn(app.app, function() catga.enqueue("Note", { n = 1 }) end)
    local function write()
      for _ = 1, 20 do
        native_task.yield()
        app.app.store:turn()
      end
    end
    write()
    assert.is_true(is_dropped)
    assert.same({}, seen)
    for _ = 1, 4 do
      app.clock:advance(5000)
      app.clock:fire()
      write()
    end
    assert.same({ 1 }, seen)
    app:kill()
    app = nil
  end)

  it("is sent by processes, in the body and in steps", function()
    app:run("Flow", { id = "f", n = 10 })
    app:settle()
    table.sort(seen)
    assert.same({ 10, 11, 12 }, seen)
  end)

  it("must be a command that there is, with options that there are", function()
    local id, err = app:call(catga.enqueue, "Nota", {})
    assert.is_nil(id)
    assert.matches("did you mean Note", err.message)
    for _, case in ipairs {
      { { delai = "1s" }, "did you mean delay" }, { { delay = 5 }, "with a unit" },
      { { at = "x" }, "Unix ms" }, { { at = 1, delay = "1s" }, "not both" },
      { { key = "" }, "512 bytes" }, { { group = 1 }, "512 bytes" },
      { { priority = "urgent" }, "high, normal or low" }, { { attempts = 0 }, "whole number" },
      { { backoff = "x" }, "no duration" }, { { timeout = "0s" }, "at least 1ms" },
      { { group = "g", priority = "low" }, "go in order" },
      { { delay = "2s", expires = "1s" }, "before it is due" },
    } do
      local ok, failure = pcall(enqueue, 1, case[1])
      assert.is_false(ok)
      assert.matches(case[2], tostring(failure.message or failure), 1, true)
    end
  end)

  it("is refused while too many wait", function()
    app:stop()
    open { outbox_max = 2 }
    enqueue(1, { delay = "1h" })
    enqueue(2, { delay = "1h" })
    local id, err = enqueue(3)
    assert.is_nil(id)
    assert.equal("limit", err.code)
    assert.is_true(err.retryable)
  end)
end)

describe("a delayed message", function()
  before_each(function() open() end)

  it("waits, over a restart too, and those that are overdue come in order", function()
    enqueue(3, { delay = "30m" })
    enqueue(1, { delay = "10m" })
    enqueue(2, { at = app.clock:now() + 20 * 60000 })
    enqueue(0)
    app:advance("9m")
    assert.same({ 0 }, notes())
    app:advance("2m")
    assert.same({ 0, 1 }, notes())
    app = assert(app:crash())
    app:advance("1m")
    assert.same({ 0, 1 }, notes())
    app.clock:advance(3600000)
    app = assert(app:crash())
    app:settle()
    app:advance("1s")
    assert.same({ 0, 1, 2, 3 }, notes())
  end)

  it("is cancelled by its id, for good", function()
    local id = enqueue(1, { delay = "1h" })
    assert.equal("delayed", get(id).status)
    assert.is_true(app:call(catga.outbox.cancel, id))
    assert.equal("cancelled", get(id).status)
    local _, err = app:call(catga.outbox.cancel, id)
    assert.equal("conflict", err.code)
    app = assert(app:crash())
    app:advance("2h")
    assert.same({}, seen)
    _, err = app:call(catga.outbox.cancel, "1")
    assert.equal("not_found", err.code)
  end)

  it("comes at once when somebody says so", function()
    local id = enqueue(1, { delay = "1h" })
    assert.is_true(app:call(catga.outbox.retry, id))
    app:advance("1s")
    assert.same({ 1 }, notes())
    assert.equal("handled", get(id).status)
    app:advance("2h")
    assert.same({ 1 }, notes())
  end)

  it("that has expired is a dead letter", function()
    app:stop()
    open { outbox_concurrency = 1 }
    mood[1] = function() catga.sleep("10s") end
    enqueue(1)
    enqueue(2, { expires = "5s" })
    app:advance("1m")
    assert.same({ 1 }, seen)
    local letter = app:call(catga.dead_letters.list)[1]
    assert.equal("expired", letter.reason.code)
    assert.same({ n = 2 }, letter.data)
  end)
end)

describe("messages of one group", function()
  it("go one at a time and in order, others beside them", function()
    open()
    local running = {}
    local function slow(cmd)
      assert(not running[cmd.g], "two at once")
      running[cmd.g] = true
      catga.sleep(cmd.n % 3 .. "s")
      running[cmd.g] = nil
    end
    app:call(function()
      for n = 1, 20 do
        mood[n] = slow
        assert(catga.enqueue("Note", { n = n, g = n % 2 }, { group = "g" .. n % 2 }))
      end
      assert(catga.enqueue("Note", { n = 99 }))
    end)
    app:settle()
    assert.same({ 99 }, notes())
    app:advance("1m")
    local last = { 0, 0 }
    for _, n in ipairs(notes()) do
      if n ~= 99 then
        assert.is_true(n > last[n % 2 + 1])
        last[n % 2 + 1] = n
      end
    end
    assert.equal(21, #notes())
  end)

  it("wait for one that is tried again, over a restart", function()
    open()
    local fails = 2
    mood[1] = function()
      fails = fails - 1
      return fails >= 0 and "not yet"
    end
    enqueue(1, { group = "g", backoff = "10s" })
    enqueue(2, { group = "g" })
    enqueue(3)
    app:settle()
    assert.same({ 3 }, notes())
    assert.equal("held", app:call(catga.outbox.list)[2].status)
    app = assert(app:crash())
    app:settle()
    assert.same({ 3 }, notes())
    app:advance("1m")
    assert.same({ 3, 1, 2 }, notes())
  end)

  it("go on when the first of them is cancelled, or is a dead letter", function()
    open()
    mood[1] = function() return "no" end
    local id = enqueue(1, { group = "g", backoff = "1h" })
    enqueue(2, { group = "g" })
    app:settle()
    assert.is_true(app:call(catga.outbox.cancel, id))
    app:settle()
    assert.same({ 2 }, notes())
    mood[3] = function() return catga.error("no") end
    enqueue(3, { group = "g" })
    enqueue(4, { group = "g" })
    app:settle()
    assert.same({ 2, 4 }, notes())
  end)

  it("keep their order over a restart, also those of one moment; new ones come behind", function()
    open()
    mood[1] = function() catga.sleep("1h") end
    app:call(function()
      for n = 1, 2500 do
        local delay = n % 2 == 0 and "1s" or nil
        assert(catga.enqueue("Note", { n = n }, { group = "g", delay = delay }))
      end
    end)
    app:settle()
    seen, mood = {}, {}
    app.clock:advance(5000)
    app.opts.main = true
    app = assert(app:crash(nil, function()
      define()
      catga.main(function() assert(catga.enqueue("Note", { n = 2501 }, { group = "g" })) end)
    end))
    app:advance("1s")
    local wanted = {}
    for n = 1, 2499, 2 do wanted[#wanted + 1] = n end
    for n = 2, 2500, 2 do wanted[#wanted + 1] = n end
    wanted[#wanted + 1] = 2501
    assert.same(wanted, seen)
  end)

  it("come by their priority when many wait", function()
    open { outbox_concurrency = 1 }
    mood[1] = function() catga.sleep("1s") end
    enqueue(1)
    enqueue(2, { priority = "low" })
    enqueue(3)
    enqueue(4, { priority = "high" })
    app:advance("5s")
    assert.same({ 1, 4, 3, 2 }, notes())
  end)
end)

describe("the status of the outbox", function()
  local function status() return app:call(catga.outbox.status) end

  it("tells what waits, and for how long the oldest of what is due", function()
    open { outbox_concurrency = 1 }
    assert.same({ waiting = 0, due = 0, delayed = 0, working = 0, handled = 0, failed = 0 },
      status())
    local began = app.clock:now()
    mood[1] = function() catga.sleep("50s") end
    enqueue(1)
    app:advance("5s")
    enqueue(2, { priority = "low" })
    app:advance("5s")
    enqueue(3, { delay = "1h" })
    assert.same({ waiting = 3, due = 2, delayed = 1, working = 1, handled = 0, failed = 0,
      oldest = began, oldest_age = 10000 }, status())
    mood[4] = function() catga.sleep("30s") end
    enqueue(4)
    app:advance("45s") -- The fourth goes before the second.
    local now = status()
    assert.same({ 3, 2, 1, 1, began + 5000, 50000 }, { now.waiting, now.due, now.delayed,
      now.handled, now.oldest, now.oldest_age })
    app:advance("1m")
    now = status()
    assert.same({ 1, 0, 1, 3 }, { now.waiting, now.due, now.delayed, now.handled })
    assert.is_nil(now.oldest)
  end)

  it("tells of those that a message between two attempts keeps waiting", function()
    open()
    mood[1] = function() return "no" end
    enqueue(1, { group = "g", backoff = "1h" })
    app:advance("1s")
    local began = app.clock:now()
    local id = enqueue(2, { group = "g" })
    enqueue(3, { delay = "1h" })
    app:advance("9s")
    local now = status()
    assert.same({ 3, 1, 2, 1, began, 9000 }, { now.waiting, now.due, now.delayed, now.failed,
      now.oldest, now.oldest_age })
    app:call(catga.outbox.cancel, id)
    for _, one in ipairs(app:call(catga.outbox.list)) do app:call(catga.outbox.cancel, one.id) end
    now = status()
    assert.same({ 0, 0, 0 }, { now.waiting, now.due, now.delayed })
  end)

  it("is right when a message was made due and failed", function()
    open()
    mood[1] = function() return "no" end
    local id = enqueue(1, { delay = "1m", backoff = "1h" })
    app:call(catga.outbox.retry, id)
    app:settle()
    assert.same({ 1 }, seen)
    assert.equal(1, status().delayed)
    app:advance("2m") -- The first time has no meaning any more.
    assert.same({ 1 }, seen)
    app:advance("1h")
    assert.same({ 1, 1 }, seen)
  end)
end)

describe("a message that fails", function()
  before_each(function() open() end)

  it("is tried again, and then is a dead letter with all that is known", function()
    mood[1] = function()
      error(catga.error("gateway", "no answer", { retryable = true,
        cause = catga.error("dns", "no such host") }))
    end
    local id = app:send("Send", { n = 1, opts = { attempts = 3, backoff = "1s" } })
    app:settle()
    assert.equal("failed", get(id).status)
    assert.equal("gateway", get(id).reason.code)
    local began = app.clock:now()
    app:advance("1m")
    assert.same({ 1, 1, 1 }, seen)
    assert.equal("dead", get(id).status)
    local letter = app:call(catga.dead_letters.get, get(id).letter)
    assert.equal("message", letter.kind)
    assert.equal("Note", letter.source)
    assert.equal(3, letter.attempts)
    assert.same({ code = "gateway", message = "no answer" }, letter.reason)
    assert.same({ { code = "dns", message = "no such host" } }, letter.causes)
    assert.same({ n = 1 }, letter.data)
    assert.equal(began, letter.first_failed)
    assert.is_true(letter.last_failed > began)
    local sent = app:call(catga.events.read, "Sent")[1]
    assert.equal(sent.metadata.correlation_id, letter.correlation_id)
  end)

  it("has its traceback in the letter", function()
    mood[1] = function() local nothing = nil; return nothing.field end
    enqueue(1, { attempts = 1 })
    app:settle()
    local letter = app:call(catga.dead_letters.list)[1]
    assert.matches("outbox_spec.lua:%d+: attempt to index", letter.reason.message)
    assert.matches("outbox_spec.lua:%d+: in function", letter.traceback)
    assert.matches("^message Note: error at .*outbox_spec.lua:%d+$", letter.group)
  end)

  it("is not tried again when that is of no use", function()
    mood[1] = function() return catga.error("invalid", "no such thing") end
    enqueue(1)
    app:advance("1m")
    assert.same({ 1 }, seen)
    assert.equal("invalid", app:call(catga.dead_letters.list)[1].reason.code)
  end)

  it("counts its attempts over restarts", function()
    mood[1] = function() return "no" end
    enqueue(1, { attempts = 4, backoff = "10s" })
    app:settle()
    app = assert(app:crash())
    app:advance("15s")
    app = assert(app:crash())
    app:advance("5m")
    assert.same({ 1, 1, 1, 1 }, seen)
    assert.equal(4, app:call(catga.dead_letters.list)[1].attempts)
  end)

  it("is ended when it takes longer than its timeout", function()
    mood[1] = function() catga.sleep("1h") end
    enqueue(1, { attempts = 2, timeout = "5s", backoff = "1s" })
    app:advance("5s")
    assert.equal("timeout", app:call(catga.outbox.list)[1].reason.code)
    app:advance("1m")
    assert.same({ 1, 1 }, seen)
    local letter = app:call(catga.dead_letters.list)[1]
    assert.equal("timeout", letter.reason.code)
    assert.same({}, notes())
  end)

  it("of which the command is gone is a dead letter", function()
    enqueue(1, { delay = "1m" })
    app = assert(app:crash(nil, function() catga.command("Other", function() end) end))
    app:advance("2m")
    assert.equal("unknown_command", app:call(catga.dead_letters.list)[1].reason.code)
  end)
end)

describe("policies of a command", function()
  local runs

  local function with(source)
    runs = {}
    app = assert(testing.app(source))
  end

  local function send(name, data, opts)
    local id = assert(app:call(catga.enqueue, name, data, opts))
    app:advance("10s")
    return get(id)
  end

  local function done_count() return #app:call(catga.events.read, "Done") end

  it("stand around its delivery", function()
    with(function()
      catga.command { name = "Do", attempts = 3, backoff = "100ms", handle = function(_, ctx)
        runs[#runs + 1] = ctx.attempt
        assert(catga.events.append("Done", { { type = "Done" } }))
        if #runs < 3 then error("not yet") end
      end }
    end)
    local message = send("Do", {}, { attempts = 1 })
    assert.equal("handled", message.status)
    assert.equal(3, #runs)
    assert.equal(1, done_count())
  end)

  it("may answer without the handler, and then it is done", function()
    with(function()
      catga.command { name = "Fallback", fallback = { value = "old" }, handle = function()
        runs[#runs + 1] = 1
        error("broken")
      end }
      catga.command { name = "Once", deduplicate = { key = "id", window = "1m" },
        handle = function(cmd)
          runs[#runs + 1] = 2
          return { id = cmd.id }
        end }
    end)
    local message = send("Fallback", {})
    assert.same({ "handled", "old" }, { message.status, message.value })
    assert.equal("handled", send("Once", { id = 7 }).status)
    assert.same({ id = 7 }, app:send("Once", { id = 7 }))
    message = send("Once", { id = 7 })
    assert.same({ "handled", 7 }, { message.status, message.value.id })
    assert.same({ 1, 2 }, runs)
    app = assert(app:crash())
    app:advance("1h")
    assert.same({ 1, 2 }, runs)
  end)

  it("that make a batch leave a message out of it, whose end is one commit with its effect",
    function()
      with(function()
        catga.command { name = "Many", batch = { max = 10, wait = "1s" }, handle = function(list)
          runs[#runs + 1] = #list
          assert(catga.events.append("Done", { { type = "Done" } }))
          local values = {}
          for i = 1, #list do values[i] = i end
          return values
        end }
      end)
      assert.equal("handled", send("Many", {}).status)
      assert.same({ 1 }, runs)
      local done = app:call(catga.events.read, "Done")[1]
      local id = app:call(catga.events.streams, { prefix = "$message-" })[1]
      assert.equal(done.position + 1, app:call(catga.events.read, id)[2].position)
    end)
end)
