--- Metadata of streams: retention in reads, deleting, what is known of a stream; reading to a time.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000

local app

local function run(fn, ...) return app:call(fn, ...) end

local function in_unit(fn)
  return run(function()
    local value, err = app.app.mediator:send("command", "Run", { fn = fn })
    assert(value ~= nil or err == nil, err)
    return value
  end)
end

-- Appends one event a word.
local function append(stream, text)
  local list = {}
  for name in text:gmatch("%S+") do list[#list + 1] = { type = name } end
  return run(catga.events.append, stream, list)
end

local function names(events)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return table.concat(list, " ")
end

local function read(stream, opts) return names(assert(run(catga.events.read, stream, opts))) end

local function set(...) return assert(run(catga.events.set_metadata, ...)) end

before_each(function()
  app = assert(testing.app(function()
    catga.command("Run", function(cmd) return cmd.fn() end)
    catga.command("Say", function(cmd) return catga.publish("Said", cmd) end)
  end))
end)

after_each(function() app:stop() end)

describe("metadata", function()
  it("is there as it was set, with a version to expect", function()
    assert.same({}, run(catga.events.metadata, "S"))
    local fields = { max_age = "30d", max_count = 5, truncate_before = 2, tags = { "a" },
      custom = { owner = "me" } }
    assert.same({ version = 0 }, set("S", fields, { expect = "none" }))
    local got, version = run(catga.events.metadata, "S")
    assert.same(fields, got)
    assert.equal(0, version)
    local _, err = run(catga.events.set_metadata, "S", {}, { expect = "none" })
    assert.equal("conflict", err.code)
    assert.same({ version = 1 }, set("S", { max_count = 7 }, { expect = 0 }))
    assert.same({ max_count = 7, truncate_before = 2 }, (run(catga.events.metadata, "S")))
    assert.equal("StreamMetadata StreamMetadata", read("$metadata-S"))
    set({ category = "Order" }, { max_count = 3 })
    assert.same({ max_count = 3 }, (run(catga.events.metadata, { category = "Order" })))
  end)

  it("hides versions below truncate_before, and those over max_count", function()
    append("S", "A B C D E")
    set("S", { truncate_before = 1 })
    assert.equal("B C D E", read("S"))
    set("S", { max_count = 2 })
    assert.equal("D E", read("S"))
    assert.equal("E D", read("S", { backward = true }))
    assert.equal("D", read("S", { max = 1 }))
    assert.equal("", read("S", { to = 2 }))
    assert.equal(3, run(catga.events.read, "S")[1].version)
    assert.same({ version = 5 }, run(catga.events.append, "S", { { type = "F" } }, { expect = 4 }))
    assert.equal("E F", read("S"))
    set("S", { max_count = 2, truncate_before = 0 })
    set("S", {})
    assert.equal("A B C D E F", read("S"))
  end)

  it("hides what is too old", function()
    for _, name in ipairs { "A", "B", "C", "D" } do
      append("S", name)
      app:advance("1h")
    end
    set("S", { max_age = "150m" })
    assert.equal("C D", read("S"))
    assert.equal("D C", read("S", { backward = true }))
    app:advance("1h")
    assert.equal("D", read("S"))
    app:advance("31m")
    assert.equal("", read("S"))
    assert.equal(0, run(catga.events.stream_info, "S").count)
    append("S", "E")
    assert.equal("E", read("S"))
  end)

  it("of a category holds where the stream says nothing else", function()
    for _, stream in ipairs { "Order-1", "Order-2", "Orders-1", "Order" } do
      append(stream, "A B C D")
    end
    set({ category = "Order" }, { max_count = 1 })
    set("Order-2", { max_count = 3, custom = {} })
    assert.equal("D", read("Order-1"))
    assert.equal("B C D", read("Order-2"))
    assert.equal("A B C D", read("Orders-1"))
    assert.equal("D", read("Order"))
    set("Order-1", { max_age = "1h" })
    assert.equal("D", read("Order-1"))
  end)

  it("is part of the unit of work that sets it", function()
    append("S", "A B C")
    in_unit(function()
      assert(catga.events.set_metadata("S", { max_count = 2 }))
      assert(catga.events.append("S", { { type = "D" } }))
      assert.equal("C D", names(catga.events.read("S")))
      assert.equal(2, catga.events.metadata("S").max_count)
      return true
    end)
    assert.equal("C D", read("S"))
    run(function()
      return app.app.mediator:send("command", "Run", { fn = function()
        assert(catga.events.set_metadata("S", { max_count = 1 }))
        return nil, catga.error("refused")
      end })
    end)
    assert.equal("C D", read("S"))
  end)

  it("of published events keeps the newest", function()
    for n = 1, 4 do app:send("Say", { n = n }) end
    set("$type-Said", { max_count = 2 })
    assert.equal(3, run(catga.events.read, "$type-Said")[1].data.n)
    set({ category = "$type" }, { max_count = 1 })
    assert.equal(2, #run(catga.events.read, "$type-Said"))
  end)

  it("survives a crash", function()
    append("S", "A B C")
    set("S", { max_count = 2 })
    app = assert(app:crash())
    assert.equal("B C", read("S"))
  end)

  it("is refused when it is wrong", function()
    for _, case in ipairs {
      { "S", { max_age = 5 }, "max_age must be a string with a unit" },
      { "S", { max_age = "0s" }, "max_age is at least" },
      { "S", { max_count = 0 }, "max_count is a whole number from 1, not 0" },
      { "S", { max_count = 1.5 }, "max_count" }, { "S", { truncate_before = -1 }, "is a version" },
      { "S", { tags = "a" }, "tags is a list of strings" }, { "S", { tags = { 1 } }, "tags is" },
      { "S", { custom = 1 }, "custom is a table" },
      { "S", { max_cuont = 1 }, "no field max_cuont; did you mean max_count?" },
      { "S", { zzzzzzzz = 1 }, "no field zzzzzzzz; there are begins, custom, max_age, max_count" },
      { "S", { deleted = true }, "no field deleted" },
      { "$outcome-x", {}, "the runtime's own" }, { "Process-1", {}, "the runtime's own" },
      { { category = "Process" }, {}, "the runtime's own" },
      { { category = "$outcome" }, {}, "the runtime's own" },
      { ("s"):rep(1020), {}, "over 1014 bytes" },
    } do
      local result, err = run(catga.events.set_metadata, case[1], case[2])
      assert.is_nil(result)
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
    end
    for _, case in ipairs {
      { { 5, {} }, "name a stream, or { category = ... }" },
      { { { categroy = "x" }, {} }, "unknown option \"categroy\"; there are category" },
      { { "S" }, "the metadata is a table" }, { { "S", {}, { expected = 1 } }, "unknown option" },
    } do
      local ok, err = pcall(run, catga.events.set_metadata, unpack(case[1], 1, 3))
      assert.is_false(ok)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)
end)

describe("a deleted stream", function()
  it("reads as empty and goes on with its versions", function()
    append("S", "A B C")
    assert.same({ version = 2 }, run(catga.events.delete, "S", { expect = 2 }))
    assert.equal("", read("S"))
    assert.equal("", read("S", { backward = true }))
    local info = run(catga.events.stream_info, "S")
    assert.equal("soft", info.deleted)
    assert.equal(2, info.version)
    assert.equal(0, info.count)
    set("S", { max_count = 10 })
    assert.equal("", read("S"))
    assert.same({ version = 3 }, run(catga.events.append, "S", { { type = "D" } }, { expect = 2 }))
    assert.equal("D", read("S"))
    info = run(catga.events.stream_info, "S")
    assert.is_nil(info.deleted)
    assert.equal(3, info.first_version)
  end)

  it("for good says so for ever, to whoever reads or appends", function()
    append("S", "A B C")
    app:send("Say", {})
    assert.same({ version = 2 }, run(catga.events.delete, "S", { hard = true }))
    assert(run(catga.events.delete, "$type-Said", { hard = true }))
    for _ = 1, 2 do
      for _, attempt in ipairs {
        function() return catga.events.read("S") end,
        function() return catga.events.append("S", { { type = "D" } }) end,
        function() return catga.events.append("S", { { type = "D", id = "d" } }) end,
        function() return catga.events.set_metadata("S", {}) end,
        function() return catga.events.delete("S") end,
        function() return catga.send("Say", {}) end,
      } do
        local result, err = run(attempt)
        assert.is_nil(result)
        assert.equal("deleted", err.code)
      end
      assert.equal("hard", run(catga.events.stream_info, "S").deleted)
      assert.same({ version = 2 }, run(catga.events.delete, "S", { hard = true }))
      app = assert(app:crash())
    end
  end)

  it("for good is so also for a unit that has staged an event before", function()
    append("S", "A")
    local runs, err = 0, nil
    run(function()
      local _
      _, err = app.app.mediator:send("command", "Run", { fn = function()
        runs = runs + 1
        assert(catga.events.append("S", { { type = "B" } }))
        if runs == 1 then
          require("catga.task").spawn(app.app, function()
            assert(catga.events.delete("S", { hard = true }))
          end)
        end
        catga.sleep("10ms")
        return true
      end })
    end)
    assert.equal("deleted", err.code)
    assert.equal(1, app.app.store:count(app.app.store:stream("S")))
  end)

  it("needs the version that is expected, also when the unit commits", function()
    append("S", "A B")
    local _, err = run(catga.events.delete, "S", { expect = 0 })
    assert.equal("conflict", err.code)
    local runs = 0
    local value, fault = run(function()
      return app.app.mediator:send("command", "Run", { fn = function()
        runs = runs + 1
        local ok, refused = catga.events.delete("S", { expect = 1 })
        if not ok then return nil, refused end
        require("catga.task").spawn(app.app, function()
          assert(catga.events.append("S", { { type = "C" } }))
        end)
        catga.sleep("10ms")
        return true
      end })
    end)
    assert.is_nil(value)
    assert.equal("conflict", fault.code)
    assert.equal(2, runs)
    assert.equal("A B C", read("S"))
  end)

  it("must be there, and the user's", function()
    for _, case in ipairs {
      { "None", nil, "not_found" }, { "Process-1", nil, "invalid" },
      { "$outcome-1", nil, "invalid" },
      { "S", { expect = "none" }, "invalid" },
    } do
      append("S", "A")
      local _, err = run(catga.events.delete, case[1], case[2])
      assert.equal(case[3], err.code)
    end
  end)
end)

describe("reading", function()
  before_each(function()
    for _, text in ipairs { "OrderMade OrderPaid", "Noted", "OrderSent Noted" } do
      append("S", text)
      app:advance("1s")
    end
  end)

  for _, case in ipairs {
    { { until_time = START }, "OrderMade OrderPaid" },
    { { until_time = "2026-01-01T00:00:00Z" }, "OrderMade OrderPaid" },
    { { until_time = START - 1 }, "" }, { { until_time = START + 999 }, "OrderMade OrderPaid" },
    { { until_time = START + 1000 }, "OrderMade OrderPaid Noted" },
    { { until_time = START + 9999 }, "OrderMade OrderPaid Noted OrderSent Noted" },
    { { until_time = START + 1000, backward = true }, "Noted OrderPaid OrderMade" },
    { { until_time = START + 1000, backward = true, from = 1 }, "OrderPaid OrderMade" },
    { { from = 1, to = 2 }, "OrderPaid Noted" }, { { to = 0 }, "OrderMade" },
    { { backward = true, to = 3 }, "Noted OrderSent" },
    { { backward = true, from = 3, to = 2 }, "OrderSent Noted" }, { { from = 3, to = 1 }, "" },
    { { types = { "Noted" } }, "Noted Noted" }, { { types = {} }, "" },
    { { types = { "OrderSent", "OrderMade" } }, "OrderMade OrderSent" },
    { { type_prefix = "Order" }, "OrderMade OrderPaid OrderSent" },
    { { type_prefix = "Order", backward = true, max = 2 }, "OrderSent OrderPaid" },
    { { type_prefix = "Order", types = { "Noted", "OrderPaid" } }, "OrderPaid" },
    { { types = { "Noted" }, max = 1 }, "Noted" },
  } do
    it("gives " .. case[2] .. " for " .. catga.json.encode(case[1]), function()
      assert.equal(case[2], read("S", case[1]))
    end)
  end

  it("says where to go on, until all was given", function()
    for _, opts in ipairs { {}, { types = { "Noted" } }, { backward = true }, { to = 3 },
      { backward = true, type_prefix = "O" }, { until_time = START + 1000 } } do
      local all = read("S", opts)
      for _, wrap in ipairs { run, in_unit } do
        local seen, pages = {}, 0
        opts.from, opts.max = nil, 1
        repeat
          local list, more = nil, nil
          wrap(function()
            list, more = catga.events.read("S", opts)
            return true
          end)
          assert.is_true(#list <= 1)
          if list[1] then seen[#seen + 1] = list[1].type end
          opts.from = more
          pages = pages + 1
        until not more or pages > 20
        assert.equal(all, table.concat(seen, " "))
        opts.from, opts.max = nil, nil
      end
    end
  end)

  it("in a unit says where to go on among what is staged", function()
    in_unit(function()
      assert(catga.events.append("S", { { type = "X" }, { type = "Y" } }))
      local list, more = catga.events.read("S", { max = 6 })
      assert.equal("X", list[6].type)
      assert.equal(6, more)
      list, more = catga.events.read("S", { max = 6, from = 6 })
      assert.equal("Y", names(list))
      assert.is_nil(more)
      list, more = catga.events.read("S", { max = 1, backward = true })
      assert.equal("Y", names(list))
      assert.equal(5, more)
      return true
    end)
  end)

  it("raises for a time that is none", function()
    local ok, err = pcall(run, catga.events.read, "S", { until_time = "yesterday" })
    assert.is_false(ok)
    assert.truthy(err.message:find("catga.events.read: until_time must be a time", 1, true))
  end)
end)

describe("reading all", function()
  before_each(function()
    for _, text in ipairs { "OrderMade OrderPaid", "Noted", "OrderSent Noted" } do
      append("Order-1", text)
      append("Other-1", "X")
      app:advance("1s")
    end
    append("Order", "Y")
  end)

  for _, case in ipairs {
    { { category = "Order" }, "OrderMade OrderPaid Noted OrderSent Noted Y" },
    { { type_prefix = "Order" }, "OrderMade OrderPaid OrderSent" },
    { { type_prefix = "N", category = "Order", max = 1 }, "Noted" },
    { { stream = "Other-1" }, "X X X" }, { { category = "None" }, "" },
    { { until_time = START + 1000 }, "OrderMade OrderPaid X Noted X" },
    { { until_time = "2025-01-01" }, "" },
    { { to = 3 }, "OrderMade OrderPaid X" }, { { after = 1, to = 3 }, "OrderPaid X" },
    { { types = { "X", "Y" } }, "X X X Y" },
  } do
    it("gives " .. case[2] .. " for " .. catga.json.encode(case[1]) .. ", at once and in pages",
      function()
        local list, position = run(catga.events.read_all, case[1])
        assert.equal(case[2], names(list))
        local seen, opts = {}, {}
        for name, value in pairs(case[1]) do opts[name] = value end
        opts.max, opts.after = 1, opts.after or 0
        for _ = 1, 20 do
          list, position = run(catga.events.read_all, opts)
          if position == opts.after then break end
          if list[1] then seen[#seen + 1] = list[1].type end
          opts.after = position
        end
        assert.equal(position, opts.after)
        if not case[1].max then assert.equal(case[2], table.concat(seen, " ")) end
      end)
  end

  it("shows what retention hides", function()
    set({ category = "Other" }, { max_count = 1 })
    assert(run(catga.events.delete, "Order", { hard = true }))
    assert.equal("X X X Y", names((run(catga.events.read_all, { types = { "X", "Y" } }))))
  end)
end)

describe("streams", function()
  it("are listed by name, in pages", function()
    for _, name in ipairs { "B-1", "A-2", "A-1", "AB-1", "A" } do append(name, "X") end
    local function list(opts) return table.concat(run(catga.events.streams, opts), " ") end
    assert.equal("A A-1 A-2 AB-1 B-1", list())
    assert.equal("A A-1 A-2", list { category = "A" })
    assert.equal("A A-1 A-2 AB-1", list { prefix = "A" })
    assert.equal("A A-1", list { max = 2 })
    assert.equal("A-2 AB-1", list { max = 2, after = "A-1" })
    assert.equal("", list { prefix = "Z" })
    local ok = pcall(run, catga.events.streams, { max = 0 })
    assert.is_false(ok)
  end)

  it("that were only named, or only staged and dropped, are not there", function()
    run(function()
      return app.app.mediator:send("command", "Run", { fn = function()
        assert(catga.events.append("Staged", { { type = "X" } }))
        return nil, catga.error("no")
      end })
    end)
    run(catga.events.set_metadata, "Named", { max_count = 1 })
    assert.same({}, run(catga.events.streams))
  end)

  it("of the runtime are listed only when they are asked for", function()
    append("S", "A")
    app:send("Say", {}, { key = "k" })
    set("S", { max_count = 1 })
    assert.same({ "$type-Said", "S" }, run(catga.events.streams))
    assert.same({ "$metadata", "$metadata-S", "$outcome-Say-k", "$type-Said" },
      run(catga.events.streams, { prefix = "$" }))
    assert.same({ "$outcome-Say-k" }, run(catga.events.streams, { category = "$outcome" }))
  end)

  it("tell what is known of one", function()
    append("S", "A B")
    app:advance("5s")
    append("S", "C")
    assert.same({ stream = "S", version = 2, count = 3, first_version = 0, first_time = START,
      last_time = START + 5000 }, run(catga.events.stream_info, "S"))
    set("S", { max_count = 1 })
    assert.same({ stream = "S", version = 2, count = 1, first_version = 2,
      first_time = START + 5000, last_time = START + 5000, metadata = { max_count = 1 } },
      run(catga.events.stream_info, "S"))
    local info, err = run(catga.events.stream_info, "None")
    assert.is_nil(info)
    assert.equal("not_found", err.code)
  end)
end)
