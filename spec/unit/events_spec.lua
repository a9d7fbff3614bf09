--- The event store's face for scripts: append with an expected version, read, read_all.
local testing = require "catga.testing"
local catga = require "catga"

local app

-- Runs a function as a task of the app.
local function run(fn, ...) return app:call(fn, ...) end

local function list_of(...)
  local list = {}
  for i, name in ipairs { ... } do list[i] = { type = name, data = { name = name } } end
  return list
end

local function names(events)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return table.concat(list, " ")
end

before_each(function()
  app = assert(testing.app(function()
    catga.command("Run", function(cmd) return cmd.fn() end)
  end))
end)

after_each(function() app:stop() end)

-- Runs a function inside a unit of work.
local function in_unit(fn)
  return run(function()
    local value, err = app.app.mediator:send("command", "Run", { fn = fn })
    assert(value ~= nil or err == nil, err)
    return value
  end)
end

describe("append", function()
  for _, case in ipairs {
    -- events there before, expect, does it hold, version then
    { 0, nil, true, 0 }, { 2, nil, true, 2 }, { 0, "any", true, 0 }, { 2, "any", true, 2 },
    { 0, "none", true, 0 }, { 1, "none", false }, { 0, "exists", false }, { 1, "exists", true, 1 },
    { 0, 0, false }, { 1, 0, true, 1 }, { 1, 1, false }, { 2, 0, false }, { 2, 1, true, 2 },
  } do
    local there, expect, holds, version = unpack(case, 1, 4)
    it(("to %d events, expecting %s, %s"):format(there, tostring(expect),
      holds and "holds" or "is a conflict"), function()
      for _, wrap in ipairs { run, in_unit } do
        local stream = wrap == run and "Alone" or "InUnit"
        for _ = 1, there do run(catga.events.append, stream, list_of("Before")) end
        local result, err
        wrap(function()
          result, err = catga.events.append(stream, list_of("New"), { expect = expect })
          return true
        end)
        local count = #run(catga.events.read, stream)
        if holds then
          assert.is_nil(err)
          assert.same({ version = version }, result)
          assert.equal(there + 1, count)
        else
          assert.is_nil(result)
          assert.equal("conflict", err.code)
          assert.is_true(err.retryable)
          assert.truthy(err.message:find("stream " .. stream .. ": expected " .. expect, 1, true))
          assert.equal(there, count)
        end
      end
    end)
  end

  it("gives the version of the last of several events", function()
    assert.same({ version = 2 }, run(catga.events.append, "S", list_of("A", "B", "C"),
      { expect = "none" }))
    assert.same({ version = 4 }, run(catga.events.append, "S", list_of("D", "E"), { expect = 2 }))
    assert.equal("A B C D E", names(run(catga.events.read, "S")))
  end)

  it("refuses what is no event, and stores nothing of it", function()
    local before = app:position()
    for _, case in ipairs {
      { { "S", { { data = 1 } } }, "event 1 of the append to S needs a type" },
      { { "S", { { type = "A" }, { type = "" } } }, "event 2 of the append to S needs a type" },
      { { "S", { "A" } }, "event 1 of the append to S needs a type" },
      { { "S", { { type = "A", data = { f = print } } } }, "A.f" },
      { { "S", { { type = "A", data = 1 }, { type = "A", dat = 1 } } },
        "event 2 of the append to S has the field \"dat\"" },
      { { "S", list_of("A"), { expect = "exists" } }, "expected exists, it has no event" },
      { { "S", { { type = "A", data = ("x"):rep(2 ^ 20) } } }, "A" },
      { { "", list_of("A") }, "1 to 1024 bytes" },
      { { ("s"):rep(1025), list_of("A") }, "1 to 1024 bytes" },
      { { "S", list_of("A"), { expect = "new" } }, "expect is a version" },
      { { "S", list_of("A"), { expect = 1.5 } }, "expect is a version" },
      { { "S", list_of("A"), { expect = -1 } }, "expect is a version" },
      { { "$type-A", list_of("A") }, "the runtime's own" },
      { { "Process-1", list_of("ProcessCompleted") }, "the runtime's own" },
    } do
      local result, err = run(catga.events.append, unpack(case[1]))
      assert.is_nil(result)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
    assert.equal(before, app:position())
  end)

  it("called wrongly raises", function()
    for _, case in ipairs {
      { { 5, list_of("A") }, "the stream is a string" },
      { { "S" }, "a list of at least one event" },
      { { "S", {} }, "a list of at least one event" },
      { { "S", { type = "A" } }, "a list of at least one event" },
      { { "S", list_of("A"), { expected = 1 } }, "unknown option \"expected\"; there are expect" },
    } do
      local ok, err = pcall(run, catga.events.append, unpack(case[1], 1, 3))
      assert.is_false(ok)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)
end)

describe("read", function()
  before_each(function()
    for _, name in ipairs { "A", "B", "C", "D", "E" } do
      run(catga.events.append, "S", list_of(name))
      run(catga.events.append, "Other", list_of("X"))
    end
  end)

  for _, case in ipairs {
    { nil, "A B C D E" }, { {}, "A B C D E" }, { { from = 2 }, "C D E" }, { { from = 5 }, "" },
    { { max = 2 }, "A B" }, { { from = 1, max = 2 }, "B C" }, { { from = 0, max = 1 }, "A" },
    { { backward = true }, "E D C B A" }, { { backward = true, max = 2 }, "E D" },
    { { backward = true, from = 1 }, "B A" }, { { backward = true, from = 99 }, "E D C B A" },
    { { backward = true, from = 3, max = 2 }, "D C" }, { { backward = true, from = 0 }, "A" },
  } do
    it("gives " .. case[2] .. " for " .. catga.json.encode(case[1] or catga.null), function()
      assert.equal(case[2], names(run(catga.events.read, "S", case[1])))
    end)

    it("gives the same in a unit that has staged the last of them: "
      .. catga.json.encode(case[1] or catga.null), function()
      run(catga.events.append, "Staged", list_of("A", "B", "C"))
      local seen = in_unit(function()
        assert(catga.events.append("Staged", list_of("D")))
        assert(catga.events.append("Away", list_of("Z")))
        assert(catga.events.append("Staged", list_of("E")))
        return names(catga.events.read("Staged", case[1]))
      end)
      assert.equal(case[2], seen)
    end)
  end

  it("gives the whole record", function()
    local event = run(catga.events.read, "S", { from = 1, max = 1 })[1]
    assert.equal("string", type(event.id))
    event.id = nil
    assert.same({ stream = "S", type = "B", version = 1, position = 3, data = { name = "B" },
      time = 1767225600000 }, event)
  end)

  it("gives staged events as they will be stored, whatever happens to the value", function()
    local stored = in_unit(function()
      local data = { list = catga.json.array(), null = catga.null, n = 0.1 }
      assert(catga.events.append("V", { { type = "A", data = data } }))
      data.n = 5
      local first = catga.events.read("V")[1]
      first.data.n = 6
      return catga.json.encode(catga.events.read("V")[1].data)
    end)
    assert.equal(stored, catga.json.encode(run(catga.events.read, "V")[1].data))
    assert.equal('{"list":[],"n":0.1,"null":null}', stored)
  end)

  it("of a stream that is not there gives nothing", function()
    assert.same({}, run(catga.events.read, "None"))
    assert.same({}, run(catga.events.read, "None", { backward = true }))
  end)

  it("called wrongly raises", function()
    for _, case in ipairs {
      { { 5 }, "the stream is a string" },
      { { "S", { max = 0 } }, "max is a whole number from 1 to 100000, not 0" },
      { { "S", { max = 100001 } }, "max is a whole number" },
      { { "S", { max = "5" } }, "max is a whole number" },
      { { "S", { from = -1 } }, "from is a whole number" },
      { { "S", { from = 0.5 } }, "from is a whole number" },
      { { "S", { form = 1 } }, "unknown option \"form\"; there are backward, from, max" },
    } do
      local ok, err = pcall(run, catga.events.read, unpack(case[1]))
      assert.is_false(ok)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)
end)

describe("read_all", function()
  before_each(function()
    run(catga.events.append, "S", list_of("A", "B"))
    run(catga.events.append, "T", list_of("A", "C"))
    run(catga.publish, "A", { n = 1 })
  end)

  it("gives the events of all streams in the order of positions, and where to go on", function()
    local events, position = run(catga.events.read_all)
    assert.equal("A B A C A", names(events))
    assert.equal("$type-A", events[5].stream)
    for i = 2, 5 do assert.is_true(events[i].position > events[i - 1].position) end
    assert.equal(events[5].position, position)
    assert.same({}, (run(catga.events.read_all, { after = position })))
  end)

  it("reads on from any position, in pieces", function()
    local seen, after = {}, 0
    for _ = 1, 10 do
      local events, position = run(catga.events.read_all, { after = after, max = 2 })
      if #events == 0 then break end
      assert.is_true(#events <= 2)
      for _, event in ipairs(events) do seen[#seen + 1] = event.type end
      after = position
    end
    assert.equal("A B A C A", table.concat(seen, " "))
    local all = run(catga.events.read_all)
    assert.equal("C A", names((run(catga.events.read_all, { after = all[3].position }))))
  end)

  it("gives only some types", function()
    assert.equal("A A A", names((run(catga.events.read_all, { types = { "A" } }))))
    assert.equal("B C", names((run(catga.events.read_all, { types = { "C", "B" } }))))
    assert.equal("", names((run(catga.events.read_all, { types = {} }))))
  end)

  it("gives no staged events, no bookkeeping, and journals only when asked for", function()
    local staged = in_unit(function()
      assert(catga.events.append("S", list_of("Staged")))
      return names((catga.events.read_all { types = { "Staged" } }))
    end)
    assert.equal("", staged)
    local other = assert(testing.app(function()
      catga.command("C", function() return 1 end)
      local P = catga.process "P"
      function P.execute() return 1 end
    end))
    other:send("C", {}, { key = "k" })
    other:run("P", "x")
    assert.equal("", names((other:call(catga.events.read_all))))
    assert.equal("ProcessStarted ProcessCompleted",
      names((other:call(catga.events.read_all, { journals = true }))))
    other:stop()
  end)

  it("called wrongly raises", function()
    for _, case in ipairs {
      { { max = 0 }, "max is a whole number" }, { { after = -1 }, "after is a whole number" },
      { { types = "A" }, "types is a list" }, { { type = "A" }, "unknown option \"type\"" },
    } do
      local ok, err = pcall(run, catga.events.read_all, case[1])
      assert.is_false(ok)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)
end)
