--- Streams that leave memory while somebody waits: units of work, processes and lists go on as if
--- they had not.
local testing = require "catga.testing"
local catga = require "catga"

local CHURN_MAX = 400 -- Rounds of appends within which a stream has left memory.

local app, dir

local function temporary_directory()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir " .. path) == 0)
  return path
end

local function define()
  catga.command("Hold", function(cmd)
    local before, err = catga.events.append("Held", { { type = "First", id = "first" } },
      { expect = cmd.expect })
    if not before then return nil, err end
    assert(catga.start("Noop", { id = "held" }))
    catga.sleep("1h")
    local after = assert(catga.events.append("Held", { { type = "Second" } }))
    return { before = before.version, after = after.version, seen = #catga.events.read("Held") }
  end)
  catga.on("Second", function(_, ctx) catga.events.append("Seen", { { type = ctx.stream } }) end)
  local Noop = catga.process "Noop"
  function Noop:execute() return self:work() end
  function Noop:work() return self and "done" end
end

local function store() return app.app.store end

local function open()
  app = assert(testing.app(define, { data = dir, settings = { segment_size = "64KiB",
    streams_cached_max = 1000, durability = "os", handler_timeout = "30s" } }))
end

before_each(function()
  dir = temporary_directory()
  open()
end)

after_each(function()
  app:stop()
  os.execute("rm -rf " .. dir)
end)

-- Appends to streams that are new each time, until the stream has left memory.
local function churn(name)
  local number = assert(store():stream(name))
  for round = 1, CHURN_MAX do
    app:call(function()
      for i = 1, 50 do
        assert(catga.events.append(("Other-%d-%d"):format(round, i), { { type = "Churned" },
          { type = "Churned", data = ("x"):rep(200) } }))
      end
    end)
    if store():is_stale(number) then return end
  end
  error(name .. " stays in memory")
end

-- Starts the command and lets its unit wait; its results come into the table.
local function hold(expect)
  local results = {}
  app:call(function()
    catga.spawn(function()
      results.value, results.err = catga.send("Hold", { expect = expect })
    end)
  end)
  return results
end

describe("a stream that left memory", function()
  it("is the same to a unit of work that has staged events for it", function()
    app:call(function() assert(catga.events.append("Held", { { type = "A" }, { type = "B" } })) end)
    local results = hold(1)
    churn("Held")
    app:advance("2h")
    assert.same({ before = 2, after = 3, seen = 4 }, results.value)
    local events = app:call(function() return catga.events.read("Held") end)
    assert.equal(4, #events)
    assert.equal("Second", events[4].type)
    assert.equal("Held", app:call(function() return catga.events.read("Seen") end)[1].type)
    assert.equal("completed", app.app:process("held").status)
  end)

  it("is the same to a unit that waits to make it", function()
    local results = hold("none")
    churn("Held")
    app:advance("2h")
    assert.same({ before = 0, after = 1, seen = 2 }, results.value)
  end)

  it("meets what others have appended to it as a conflict", function()
    app:call(function() assert(catga.events.append("Held", { { type = "A" } })) end)
    local results = hold(0)
    churn("Held")
    app:call(function() assert(catga.events.append("Held", { { type = "B" } })) end)
    churn("Held")
    app:advance("4h")
    assert.equal("conflict", results.err.code)
    assert.equal(2, #app:call(function() return catga.events.read("Held") end))
  end)

  it("is listed, and so is a process of it", function()
    app:call(function()
      for i = 1, 1200 do assert(catga.run("Noop", { id = ("p%04d"):format(i) })) end
    end)
    churn("Process-p0001")
    for _ = 1, 2 do
      local ids, count = {}, 0
      for _, process in ipairs(app.app:process_list { max = 5000 }) do
        assert.equal("completed", process.status)
        if not ids[process.id] then count = count + 1 end
        ids[process.id] = true
      end
      assert.equal(1200, count)
      local names, after = 0, nil
      repeat
        local page = app:call(function()
          return catga.events.streams { prefix = "Process-", after = after, max = 500 }
        end)
        names, after = names + #page, page[#page]
      until #page == 0
      assert.equal(1200, names)
      assert.equal("done", app:call(function()
        return catga.run("Noop", { id = "p0001" })
      end))
      app:stop()
      open()
    end
  end)

  it("has a number that says so", function()
    app:call(function() assert(catga.events.append("Old", { { type = "A" } })) end)
    local number = store():stream("Old")
    assert.is_false(store():is_stale(number))
    churn("Old")
    assert.is_false(store():is_unfinished(number))
    assert.is_false(pcall(store().count, store(), number))
    assert.is_false(pcall(store().name, store(), 2 ^ 53))
    assert.not_equal(number, store():stream("Old"))
    assert.equal(1, store():count(store():stream("Old")))
    assert.is_true(store():evicted_count() > 0)
  end)
end)
