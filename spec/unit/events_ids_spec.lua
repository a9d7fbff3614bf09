--- Appending the same events again: they are stored once.
local testing = require "catga.testing"
local tasks = require "catga.task"
local catga = require "catga"

local app

local function open(opts)
  app = assert(testing.app(function()
    catga.command("Run", function(cmd) return cmd.fn() end)
  end, opts))
end

after_each(function() app:stop() end)

local function run(fn, ...) return app:call(fn, ...) end

local function in_unit(fn)
  return run(function()
    local value, err = app.app.mediator:send("command", "Run", { fn = fn })
    assert(value ~= nil or err == nil, err)
    return value
  end)
end

-- "a b" is two events with these ids; "-" is one without.
local function list_of(text)
  local list = {}
  for id in text:gmatch("%S+") do
    list[#list + 1] = { type = "Noted", data = { n = #list }, id = id ~= "-" and id or nil }
  end
  return list
end

local function ids_of(stream)
  local list = {}
  for i, event in ipairs(run(catga.events.read, stream, { max = 10000 })) do
    list[i] = event.metadata and event.metadata.event_id or "-"
  end
  return table.concat(list, " ")
end

describe("an append with ids", function()
  for _, case in ipairs {
    -- there before, appended, expect, version, repeated; or the conflict
    { "", "a", nil, 0 }, { "a", "a", nil, 0, true }, { "a b c", "b c", nil, 2, true },
    { "a b c", "a b", "any", 1, true }, { "a b c", "a", "exists", 0, true },
    { "a b", "c", nil, 2 }, { "- - a", "a", nil, 2, true }, { "a", "-", nil, 1 },
    { "a b", "b c", nil, "event 1 (id \"b\") is version 1 of it already, but event 2 is new" },
    { "a b", "c a", nil, "event 2 (id \"a\") is version 0 of it already, but event 1 is new" },
    { "a b c", "c a", nil, "event 2 (id \"a\") is version 0 of it already, which does not follow" },
    { "a b", "a -", nil, "event 1 (id \"a\") is version 0 of it already, but event 2 is new" },
    { "a", "a", "none", 0, true }, { "a b c", "a b", "none", 1, true },
    { "a b c", "b c", 0, 2, true }, { "a b c", "b", 0, 1, true }, { "a b", "c", 1, 2 },
    { "a b c", "c", 0, "expected 0, its version is 2" },
    { "a b c", "b x", 0, "version 1 has the id \"b\" of event 1 of this append, but version 2" },
    { "a b", "b c", 0, "version 1 has the id \"b\" of event 1 of this append, but version 2" },
    { "a -", "-", 0, "expected 0, its version is 1" },
    { "", "a", 0, "expected 0" },
  } do
    local there, new, expect, version, repeated = unpack(case, 1, 5)
    it(("of %s to %s, expecting %s"):format(new, there == "" and "nothing" or there,
      tostring(expect)), function()
      open()
      for _, wrap in ipairs { run, in_unit } do
        local stream = wrap == run and "Alone" or "InUnit"
        for id in there:gmatch("%S+") do assert(run(catga.events.append, stream, list_of(id))) end
        local result, err
        wrap(function()
          result, err = catga.events.append(stream, list_of(new), { expect = expect })
          return true
        end)
        if type(version) == "string" then
          assert.is_nil(result)
          assert.equal("conflict", err.code)
          assert.truthy(err.message:find(version, 1, true), err.message)
          assert.equal(there, ids_of(stream))
        else
          assert.is_nil(err)
          assert.same({ version = version, repeated = repeated }, result)
          assert.equal(repeated and there or (there .. " " .. new):match("^%s*(.*)$"),
            ids_of(stream))
        end
      end
    end)
  end

  it("sees what its own unit has staged", function()
    open()
    in_unit(function()
      assert.same({ version = 1 }, assert(catga.events.append("S", list_of("a b"))))
      assert.same({ version = 1, repeated = true }, catga.events.append("S", list_of("a b")))
      assert.same({ version = 1, repeated = true },
        catga.events.append("S", list_of("b"), { expect = 0 }))
      local _, err = catga.events.append("S", list_of("b c"))
      assert.equal("conflict", err.code)
      assert.equal("a", catga.events.read("S")[1].metadata.event_id)
      return true
    end)
    assert.equal("a b", ids_of("S"))
  end)

  it("of two units at the same time stores them once, and runs the later unit again", function()
    open()
    local runs, results = 0, {}
    run(function()
      local done = {}
      for n = 1, 2 do
        local future = tasks.future()
        done[n] = future
        tasks.spawn(app.app, function()
          results[n] = app.app.mediator:send("command", "Run", { fn = function()
            runs = runs + 1
            local result = assert(catga.events.append("S", list_of("x y")))
            catga.sleep("10ms")
            return result
          end })
          future:set(true)
        end)
      end
      for n = 1, 2 do done[n]:wait() end
    end)
    assert.equal("x y", ids_of("S"))
    assert.equal(3, runs)
    assert.same({ { version = 1 }, { version = 1, repeated = true } }, results)
  end)

  it("is known again after a crash", function()
    open()
    for n = 1, 30 do assert(run(catga.events.append, "S", list_of("id" .. n))) end
    app = assert(app:crash())
    assert.same({ version = 11, repeated = true }, run(catga.events.append, "S", list_of("id12")))
    assert.same({ version = 30 }, run(catga.events.append, "S", list_of("id31")))
  end)

  it("knows as many events back as the window says", function()
    open { settings = { append_window = 5, event_ids_max = 1000 } }
    for n = 1, 20 do assert(run(catga.events.append, "S", list_of("id" .. n))) end
    assert.same({ version = 15, repeated = true }, run(catga.events.append, "S", list_of("id16")))
    assert.same({ version = 20 }, run(catga.events.append, "S", list_of("id15")))
    assert(run(catga.events.append, "S", list_of("- - - - -")))
    assert.same({ version = 26 }, run(catga.events.append, "S", list_of("id15")))
  end)

  it("keeps a bounded number of ids in memory, and still knows all", function()
    open { settings = { event_ids_max = 1000 } }
    for round = 1, 2 do
      for s = 1, 40 do
        for n = 1, 50 do
          local result = assert(run(catga.events.append, "S" .. s, list_of(s .. "." .. n)))
          assert.same({ version = n - 1, repeated = round == 2 or nil }, result)
        end
      end
    end
    local held, cache = 0, app.app.event_ids
    for _, half in ipairs { cache.newer, cache.older } do
      for _, entry in pairs(half) do
        for _ in pairs(entry.at) do held = held + 1 end
      end
    end
    assert.is_true(held <= 1100, tostring(held))
  end)

  it("does not take a hidden event for one that is there", function()
    open()
    assert(run(catga.events.append, "S", list_of("a b")))
    assert(run(catga.events.delete, "S"))
    assert.same({ version = 2 }, run(catga.events.append, "S", list_of("a")))
    assert.equal("a", ids_of("S"))
  end)

  it("is refused when an id is none, or is given twice", function()
    open()
    for _, case in ipairs {
      { { { type = "A", id = "" } }, "event 1: an id is a string of 1 to 128 bytes" },
      { { { type = "A", id = 5 } }, "event 1: an id is a string" },
      { { { type = "A" }, { type = "A", id = ("x"):rep(129) } }, "event 2: an id is a string" },
      { list_of("a b a"), "events 1 and 3 have the same id \"a\"" },
    } do
      local result, err = run(catga.events.append, "S", case[1])
      assert.is_nil(result)
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)

  it("to several streams is known as one", function()
    open()
    local function all(a, b, opts)
      return run(catga.events.append_all, { { stream = "A", events = list_of(a) },
        { stream = "B", events = list_of(b) } }, opts)
    end
    assert.same({ { stream = "A", version = 1 }, { stream = "B", version = 0 } }, all("1 2", "1"))
    assert.same({ { stream = "A", version = 1, repeated = true },
      { stream = "B", version = 0, repeated = true } }, all("1 2", "1",
      { conditions = { C = "exists" } }))
    local _, err = all("1 2", "3")
    assert.equal("conflict", err.code)
    assert.truthy(err.message:find("append 2 (stream B) is new, but those before it are there", 1,
      true))
    _, err = all("3", "1")
    assert.truthy(err.message:find("append 2 (stream B) is there already, but those before it", 1,
      true))
    assert.equal("1 2", ids_of("A"))
    assert.equal("1", ids_of("B"))
  end)
end)
