--- Messages that end the program, or are under way when it is stopped.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local catga = require "catga"

local app, begun, deadly, live

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- A handler that ends the program is one that never comes back: the spec kills the app then.
local function define()
  catga.command("Do", function(cmd, ctx)
    begun[#begun + 1] = { n = cmd.n, attempt = ctx.attempt }
    live = live + 1
    if deadly[cmd.n] then native_task.park() end
    if cmd.slow then catga.sleep("1s") end
    live = live - 1
    assert(catga.events.append("Done", { { type = "Done", data = { n = cmd.n } } }))
  end)
end

local function open(settings)
  begun, deadly, live = {}, {}, 0
  app = assert(testing.app(define, { settings = settings }))
end

local function crash()
  live = 0
  app = assert(app:crash())
  app:settle()
end

local function enqueue(n, opts) return app:call(catga.enqueue, "Do", { n = n, slow = opts and
  opts.slow }, { timeout = "90d", group = opts and opts.group }) end

local function done()
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, "Done", { max = 1000 })) do
    list[i] = event.data.n
  end
  table.sort(list)
  return list
end

local function begun_count(n)
  local count = 0
  for _, one in ipairs(begun) do count = count + (one.n == n and 1 or 0) end
  return count
end

describe("a message that ends the program", function()
  it("is a dead letter after some lives, and the others are done", function()
    open()
    deadly[2] = true
    for n = 1, 4 do enqueue(n, { slow = true }) end
    app:settle()
    assert.equal(4, #begun)
    local lives = 0
    for _ = 1, 10 do
      crash()
      lives = lives + 1
      app:advance("30s")
      if app:call(catga.dead_letters.list)[1] then break end
    end
    assert.equal(4, lives)
    assert.same({ 1, 3, 4 }, done())
    local letter = app:call(catga.dead_letters.list)[1]
    assert.same({ n = 2, slow = true }, letter.data)
    assert.equal("crashed", letter.reason.code)
    assert.matches("ended 3 times", letter.reason.message)
    assert.equal(4, begun_count(2))
    assert.same({}, app:call(catga.outbox.list))
  end)

  it("runs alone once it may have ended the program, so others are not blamed", function()
    open { outbox_concurrency = 10 }
    deadly[5] = true
    for n = 1, 10 do enqueue(n, { slow = true }) end
    app:settle()
    crash() -- All ten had begun; now each start is recorded.
    assert.equal(20, #begun)
    for _ = 1, 3 do -- It ends the program as soon as it begins.
      begun = {}
      crash()
      for _ = 1, 20 do
        if begun_count(5) == 0 then app:advance("1s") end
      end
    end
    app:advance("1m")
    local letters = app:call(catga.dead_letters.list)
    assert.equal(1, #letters)
    assert.equal(5, letters[1].data.n)
    assert.same({ 1, 2, 3, 4, 6, 7, 8, 9, 10 }, done())
  end)

  it("keeps its place in its group", function()
    open()
    deadly[1] = true
    enqueue(1, { group = "g" })
    enqueue(2, { group = "g" })
    app:settle()
    crash()
    crash()
    assert.same({}, done())
    assert.equal(0, begun_count(2))
    deadly[1] = nil
    crash()
    app:advance("1m")
    assert.same({ 1, 2 }, done())
    assert.equal(1, begun_count(2))
  end)

  it("has no record of its start when it was enqueued in this life", function()
    open()
    local id = enqueue(1)
    app:settle()
    local records = app:call(catga.events.read, "$message-" .. id)
    assert.equal(2, #records)
  end)
end)

describe("a graceful stop", function()
  it("does not count as a crash of what is under way", function()
    open()
    deadly[1] = true
    local id = enqueue(1)
    app:settle()
    for _ = 1, 6 do
      crash()
      app:call(function()
        app.app.outbox:halt()
        app.app.outbox:stop()
      end)
    end
    deadly[1] = nil
    crash()
    app:advance("1m")
    assert.same({ 1 }, done())
    assert.equal("handled", app:call(catga.outbox.get, id).status)
  end)

  it("lets what runs end, and begins nothing", function()
    open { outbox_concurrency = 1 }
    enqueue(1, { slow = true })
    enqueue(2)
    app:settle()
    app:call(function() app.app.outbox:halt() end)
    app:advance("2s")
    assert.same({ 1 }, done())
    assert.equal(1, #begun)
    crash()
    app:advance("1s")
    assert.same({ 1, 2 }, done())
  end)
end)
