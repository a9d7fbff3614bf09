--- Routes that gather, fail, are explained, and change while the app runs.
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"
local catga = require "catga"

local app

local function open(define, opts) app = assert(testing.app(define, opts)) end

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local function data_of(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream, { max = 10000 })) do
    list[i] = event.data
  end
  return list
end

local function publish(kind, data)
  assert(app:publish(kind, data))
  app:settle()
end

local function rule(name)
  for _, one in ipairs(app:call(catga.routes.list)) do
    if one.name == name then return one end
  end
end

local function said(text) return table.concat(app.lines, "\n"):find(text, 1, true) ~= nil end

local function numbers_in(list)
  local numbers = {}
  for i, one in ipairs(list) do numbers[i] = one.n end
  return numbers
end

describe("a splitter", function()
  it("gives each part its place and what it came from", function()
    open(function()
      catga.route("A"):split(function(m) return m.lines end):to("Line")
    end)
    publish("A", { lines = { { n = 1 }, { n = 2 } } })
    local events = app:call(catga.events.read, "$type-Line")
    local source = app:call(catga.events.read, "$type-A")[1]
    local id = source.id
    assert.same({ { id = id, index = 1, total = 2 }, { id = id, index = 2, total = 2 } },
      { events[1].metadata.split, events[2].metadata.split })
    assert.equal(source.id, events[1].metadata.causation_id)
    assert.equal(source.id, events[1].metadata.correlation_id)
    assert.equal("A", events[1].metadata.route)
  end)

  it("sends all parts or none", function()
    open(function()
      catga.route("A", { attempts = 1, on_failure = "skip" }):split(function(m) return m end)
        :transform(function(m)
          if m.n == 2 then error("no two") end
          return m
        end):to("Line")
    end)
    publish("A", { { n = 1 }, { n = 2 } })
    publish("A", { { n = 3 }, { n = 4 } })
    assert.same({ 3, 4 }, numbers_in(data_of "$type-Line"))
    assert.is_true(said("is skipped after 1 attempts"))
  end)
end)

describe("an aggregate", function()
  it("is complete by count, by a function, and when its time is over", function()
    open(function()
      catga.route("A", { name = "pairs" }):aggregate { by = "k", complete = 2,
        result = function(items, key, reason)
          return { key = key, numbers = numbers_in(items), reason = reason }
        end }:to("Pair")
      catga.route("A", { name = "until" }):aggregate { by = function(m) return m.k end,
        complete = function(items) return items[#items].n >= 3 end, timeout = "1h" }
        :transform(function(m) return { n = m.count, reason = m.reason, key = m.key } end)
        :to("Until")
    end)
    for n = 1, 3 do publish("A", { k = "x", n = n }) end
    publish("A", { k = 7, n = 1 })
    assert.same({ { key = "x", numbers = { 1, 2 }, reason = "complete" } }, data_of "$type-Pair")
    assert.same({ { n = 3, reason = "complete", key = "x" } }, data_of "$type-Until")
    app:advance("59m")
    assert.equal(1, #data_of "$type-Until")
    app:advance("2m")
    assert.same({ n = 1, reason = "timeout", key = 7 }, data_of("$type-Until")[2])
  end)

  it("keeps its groups and times over a kill, also those that are overdue", function()
    open(function()
      catga.route("A", { name = "g" }):aggregate { by = "k", timeout = "1h" }:to("G")
    end)
    publish("A", { k = "x", n = 1 })
    app:advance("50m")
    app = assert(app:crash())
    publish("A", { k = "x", n = 2 })
    app = assert(app:crash())
    publish("A", { k = "y", n = 3 })
    app:advance("11m")
    assert.same({ 1, 2 }, numbers_in(data_of("$type-G")[1].items))
    local source_events = app:call(catga.events.read, "$type-A")
    local metadata = app:call(catga.events.read, "$type-G")[1].metadata
    assert.same({ source_events[2].id, source_events[1].id },
      { metadata.causation_id, metadata.correlation_id })
    local memory, source, now = app:snapshot(), app.source, app.clock:now()
    app:stop()
    app = assert(testing.app(source, { memory = memory, start = now + 7200000 }))
    app:advance("1s")
    assert.same({ 3 }, numbers_in(data_of("$type-G")[2].items))
    assert.equal(2, #data_of "$type-G")
  end)

  it("gathers once what is tried again, and what shares a commit with it", function()
    local is_broken = true
    open(function()
      catga.route("A", { name = "g", backoff = "1s" }):aggregate { by = "k", complete = 2 }
        :transform(function(m)
          if is_broken and m.key == "x" then error("not yet") end
          return m
        end):to("G")
    end)
    app:call(function()
      local events = {}
      for n = 1, 6 do
        events[n] = { type = "A", data = { k = n % 3 == 0 and "x" or n % 3, n = n } }
      end
      assert(catga.events.append("S", events))
    end)
    app:settle()
    is_broken = false
    app:advance("1m")
    local list = data_of "$type-G"
    local got = {}
    for i, one in ipairs(list) do got[i] = numbers_in(one.items) end
    assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, got)
    app = assert(app:crash())
    app:advance("1m")
    assert.equal(0, app:call(catga.routes.status)[1].groups)
  end)

  it("has a bound for one group and for all", function()
    open(function()
      catga.route("A", { name = "g", attempts = 2, backoff = "1s" })
        :aggregate { by = "k", timeout = "1h", items_max = 2 }:to("G")
    end, { settings = { route_groups_max = 2 } })
    for n = 1, 3 do publish("A", { k = "x", n = n }) end
    assert.equal("full", data_of("$type-G")[1].reason)
    publish("A", { k = "y", n = 4 })
    publish("A", { k = "z", n = 5 })
    app:advance("10s")
    assert.is_true(said("route_groups_max"))
    assert.equal(1, rule("g").given_up)
  end)

  it("comes back from a checkpoint", function()
    open(function()
      catga.route("A", { name = "g" }):aggregate { by = "k", complete = 3 }:to("G")
    end)
    for n = 1, 400 do app:publish("A", { k = n % 150, n = n }) end
    app:settle()
    local kinds = {}
    for _, record in ipairs(app:call(catga.events.read, "$router-routes", { max = 10000 })) do
      kinds[record.type] = (kinds[record.type] or 0) + 1
    end
    assert.is_true(kinds.RouterCheckpoint >= 1)
    app = assert(app:crash())
    for n = 401, 450 do app:publish("A", { k = n % 150, n = n }) end
    app:settle()
    local seen, count = {}, 0
    for _, data in ipairs(data_of "$type-G") do
      for _, item in ipairs(data.items) do
        assert.is_nil(seen[item.n])
        seen[item.n], count = true, count + 1
      end
    end
    assert.equal(450, count)
  end)
end)

describe("a rule that fails", function()
  it("is tried again, while the others go on", function()
    local attempts = 0
    open(function()
      catga.route("A", { name = "weak", attempts = 3, backoff = "10s" }):when(function(m)
        if m.n ~= 1 then return true end
        attempts = attempts + 1
        return attempts == 3 or error("not yet")
      end):to("Weak")
      catga.route("A"):to("Strong")
    end)
    for n = 1, 3 do publish("A", { n = n }) end
    assert.same({ 1, 2, 3 }, numbers_in(data_of "$type-Strong"))
    assert.same({ 2, 3 }, numbers_in(data_of "$type-Weak"))
    assert.equal(1, app:call(catga.routes.status)[1].waiting)
    app:advance("1m")
    assert.same({ 2, 3, 1 }, numbers_in(data_of "$type-Weak"))
    assert.equal(0, app:call(catga.routes.status)[1].waiting)
    assert.same({ 3, 2 }, { rule("weak").matched, rule("weak").failed })
  end)

  it("lets the rules behind it have the message when it says no in the end", function()
    local attempts = 0
    open(function()
      catga.routes { mode = "first" }
      catga.route("A", { priority = 1, backoff = "1s" }):when(function()
        attempts = attempts + 1
        return attempts > 1 and false or attempts <= 1 and error("not yet")
      end):to("One")
      catga.route("A"):to("Two")
    end)
    publish("A", { n = 1 })
    assert.same({}, data_of "$type-Two")
    app:advance("1m")
    assert.same({ 1 }, numbers_in(data_of "$type-Two"))
    assert.same({}, data_of "$type-One")
  end)

  it("takes back what its command has done", function()
    open(function()
      catga.command("Half", function()
        assert(catga.events.append("Half", { { type = "Half" } }))
        return nil, catga.error("refused")
      end)
      catga.route("A", { name = "r" }):to("B"):to_command("Half")
    end)
    publish("A", {})
    assert.same({}, data_of "Half")
    assert.same({}, data_of "$type-B")
    assert.equal(1, rule("r").given_up)
    assert.is_true(said("a dead letter after 1 attempts: refused"))
  end)

  it("shares its commit with no other event when it runs code of others", function()
    open(function()
      catga.route("A"):to(function(m)
        assert(catga.events.append("S2", { { type = "Did", data = m } }))
        if m.n == 2 then return nil, catga.error("no") end
      end)
      catga.route("B"):to("C")
    end)
    local function moves()
      local count = 0
      for _, record in ipairs(app:call(catga.events.read, "$router-routes")) do
        if record.type == "RouterMoved" then count = count + 1 end
      end
      return count
    end
    app:call(function()
      assert(catga.events.append("S", { { type = "B", data = {} }, { type = "B", data = {} },
        { type = "A", data = { n = 1 } }, { type = "A", data = { n = 2 } },
        { type = "A", data = { n = 3 } }, { type = "B", data = {} } }))
    end)
    app:settle()
    assert.same({ 1, 3 }, numbers_in(data_of "S2"))
    assert.equal(5, moves())
  end)

  it("makes the reader wait when too much waits already", function()
    open(function()
      catga.route("A", { attempts = 2, backoff = "1m", on_failure = "skip" })
        :transform(function(m) return m.n > 4 and m or error("no") end):to("B")
    end, { settings = { route_retries_max = 2 } })
    app:call(function()
      for n = 1, 6 do
        assert(catga.events.append("S", { { type = "A", data = { n = n } } }))
        catga.sleep("1ms")
      end
    end)
    app:settle()
    assert.is_true(app:call(catga.routes.status)[1].waiting <= 4)
    app:advance("10m")
    assert.same({ 5, 6 }, numbers_in(data_of "$type-B"))
  end)
end)

-- The open dead letters, oldest first.
local function letters()
  local list = {}
  for i, one in ipairs(app:call(catga.dead_letters.list)) do
    list[i] = app:call(catga.dead_letters.get, one.id)
  end
  return list
end

-- Retries the first one; gives how many are open then.
local function retry(data)
  local id = letters()[1].id
  if data then assert(app:call(catga.dead_letters.edit, id, data)) end
  assert(app:call(catga.dead_letters.retry, id))
  app:advance("1h")
  return #letters()
end

describe("a dead letter of a route", function()
  it("says what failed, and can be routed again", function()
    local is_broken = true
    open(function()
      catga.route("A", { name = "r", attempts = 2, backoff = "1s" }):transform(function(m)
        if is_broken then error("broken") end
        return m
      end):to("B")
    end)
    publish("A", { n = 1 })
    app:advance("1m")
    local letter = letters()[1]
    assert.same({ "route", "routes/r", "A", 2, { n = 1 } }, { letter.kind, letter.source,
      letter.type, letter.attempts, letter.data })
    assert.truthy(letter.reason.message:find("broken", 1, true))
    assert.equal(1, retry())
    is_broken = false
    assert.equal(0, retry { n = 2 })
    assert.same({ 2 }, numbers_in(data_of "$type-B"))
    assert.equal("r", app:call(catga.events.read, "$type-B")[1].metadata.route)
  end)

  it("goes back to the reader when its rule gathers", function()
    local is_broken = true
    open(function()
      catga.route("A", { name = "r", attempts = 1 }):filter(function() return true end)
        :transform(function(m)
          if is_broken then error("broken") end
          return m
        end):aggregate { by = "k", complete = 2 }:to("B")
    end)
    publish("A", { k = 1, n = 1 })
    is_broken = false
    publish("A", { k = 1, n = 2 })
    assert.equal(0, retry())
    assert.same({ 2, 1 }, numbers_in(data_of("$type-B")[1].items))
  end)

  it("holds the group whose end has failed", function()
    local is_broken = true
    open(function()
      catga.route("A", { name = "r", attempts = 2, backoff = "1s" }):aggregate { by = "k",
        timeout = "1m", result = function(items)
          if is_broken then error("broken") end
          return { n = #items }
        end }:to("B")
    end)
    publish("A", { k = 1, n = 1 })
    publish("A", { k = 1, n = 2 })
    app:advance("1h")
    assert.equal(0, app:call(catga.routes.status)[1].groups)
    is_broken = false
    assert.equal(0, retry())
    assert.same({ { n = 2 } }, data_of "$type-B")
  end)

  it("is one also when the program is killed", function()
    open(function()
      catga.route("A", { attempts = 2, backoff = "1s" }):transform(function() error("no") end)
        :to("B")
    end)
    publish("A", { n = 1 })
    app = assert(app:crash())
    app:advance("1m")
    app = assert(app:crash())
    app:advance("1m")
    assert.equal(1, #letters())
  end)
end)

local SCRIPT = [[
local catga = require "catga"
catga.route("A", { name = "%s" }):aggregate { by = "k", complete = 2 }
  :transform(function(m) return { by = "%s", n = m.count } end):to("B")
%s
]]

describe("a reload", function()
  local dir

  local function reload(text)
    app_dir.write(dir, "main.lua", text)
    local ok, err = app:call(function() return app.app:reload() end)
    app:settle()
    return ok, err
  end

  it("takes the new rules from the next event on, and keeps what was gathered", function()
    dir = app_dir.new { ["main.lua"] = SCRIPT:format("g", "old", "") }
    open(dir)
    publish("A", { k = 1 })
    assert(reload(SCRIPT:format("g", "new", 'catga.route("C"):to("D")')))
    publish("A", { k = 1 })
    publish("C", { n = 1 })
    assert.same({ { by = "new", n = 2 } }, data_of "$type-B")
    assert.same({ { n = 1 } }, data_of "$type-D")
    assert.equal(2, rule("g").gathered)
  end)

  it("keeps the old rules when the new ones are wrong", function()
    dir = app_dir.new { ["main.lua"] = SCRIPT:format("g", "old", "") }
    open(dir)
    local ok, err = reload(SCRIPT:format("g", "new", 'catga.route("C"):to_command("Nothing")'))
    assert.is_false(ok)
    assert.truthy(err.message:find("no command is called Nothing", 1, true))
    publish("A", { k = 1 })
    publish("A", { k = 1 })
    assert.same({ { by = "old", n = 2 } }, data_of "$type-B")
  end)

  it("keeps the state of rules that are gone until they are back", function()
    dir = app_dir.new { ["main.lua"] = SCRIPT:format("g", "old", "") }
    open(dir)
    publish("A", { k = 1 })
    assert(reload('local catga = require "catga"'))
    publish("A", { k = 1 })
    assert.same({}, data_of "$type-B")
    assert(reload(SCRIPT:format("g", "back", "")))
    assert.same({ { by = "back", n = 2 } }, data_of "$type-B")
  end)

  it("has one reader of a set also when its rules go and come while it works", function()
    local script = [[
local catga = require "catga"
catga.route("A"):to(function(m)
  catga.sleep("5s")
  assert(catga.events.append("S", { { type = "Did", data = { n = m.n } } }))
end)]]
    dir = app_dir.new { ["main.lua"] = script }
    open(dir)
    app:call(function() assert(catga.events.append("X", { { type = "A", data = { n = 1 } } })) end)
    app:settle()
    assert(reload('local catga = require "catga"'))
    assert(reload(script .. " -- again"))
    app:advance("1m")
    publish("A", { n = 2 })
    app:advance("1m")
    assert.same({ 1, 2 }, numbers_in(data_of "S"))
  end)

  it("lets what is under way end with the old rules", function()
    local script = [[
local catga = require "catga"
catga.route("A"):to(function(m)
  catga.sleep("5s")
  assert(catga.events.append("S", { { type = "Did", data = { by = "%s", n = m.n } } }))
end)]]
    dir = app_dir.new { ["main.lua"] = script:format("old") }
    open(dir)
    app:call(function() assert(catga.events.append("X", { { type = "A", data = { n = 1 } } })) end)
    app:settle()
    assert(reload(script:format("new"))) -- It does not wait for what is under way.
    app:advance("6s")
    publish("A", { n = 2 })
    app:advance("6s")
    assert.same({ { by = "old", n = 1 }, { by = "new", n = 2 } }, data_of "S")
  end)
end)
