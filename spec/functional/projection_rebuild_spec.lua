--- A projection that is built anew: beside the one that serves, swapped without its readers
--- noticing.
local testing = require "catga.testing"
local catga = require "catga"
local runners = require "catga.projection.runner"
local state = require "catga.state"
local tasks = require "catga.task"

local app, dir

local function open(define)
  local opened, err = testing.app(define, { data = dir })
  assert(opened, err and err.message)
  app = opened
  return app
end

local function append(...)
  local events = {}
  for i, data in ipairs { ... } do events[i] = { type = "Added", data = data } end
  app:call(function() assert(catga.events.append("s", events)) end)
end

local function control(verb, ...)
  local given = { ... }
  return app:call(function() return catga.projections[verb](unpack(given)) end)
end

-- Each order adds as much to one account as it takes from another: the sum is 0 after every event.
local PUT = "INSERT INTO account VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n"
local COUNT = "INSERT INTO seen VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET count = count + 1"

local kinds = {}

kinds["SQL tables"] = function()
  local p = catga.projection "Accounts"
  p.tables = { "CREATE TABLE account (name TEXT PRIMARY KEY, n INTEGER)",
    "CREATE TABLE seen (one INTEGER PRIMARY KEY, count INTEGER)" }
  function p.on.Moved(event, model)
    model:sql(PUT, event.from, -event.n)
    model:sql(PUT, event.to, event.n)
    model:sql(COUNT)
  end
end

kinds.documents = function()
  local p = catga.projection "Accounts"
  function p.on.Moved(event, model)
    local function add(key, n)
      model:update(key, function(doc) doc.n = (doc.n or 0) + n end)
    end
    add(event.from, -event.n)
    add(event.to, event.n)
    add("seen", 1)
  end
  return p
end

kinds["an inline one"] = function() kinds.documents().lifecycle = "inline" end

kinds["a live one"] = function() kinds.documents().lifecycle = "live" end

-- The sum of all accounts, and how many events are in it, as one look at the model sees them.
local function look(kind)
  local model = catga.model "Accounts"
  if kind == "SQL tables" then
    local rows = assert(model:rows("SELECT (SELECT coalesce(sum(n), 0) FROM account) AS sum, "
      .. "(SELECT coalesce(sum(count), 0) FROM seen) AS count"))
    return rows[1].sum, rows[1].count
  end
  local docs, keys = model:find(nil, { max = 1000 })
  assert(docs, keys)
  local sum, count = 0, 0
  for i, doc in ipairs(docs) do
    if keys[i] == "seen" then count = doc.n else sum = sum + doc.n end
  end
  return sum, count
end

local function order(i)
  assert(catga.events.append("Transfers-" .. i % 10, { { type = "Moved",
    data = { from = "a" .. i % 7, to = "a" .. (i * 5 + 1) % 7, n = i % 100 } } }))
end

-- Looks again and again until `is_over` says so: how often, and what was wrong first.
local function read_all_the_time(kind, before, is_over)
  local looks, fault = 0, nil
  while not is_over() do
    local sum, count = look(kind)
    looks = looks + 1
    if sum ~= 0 then fault = fault or ("the sum is %d of %d events"):format(sum, count) end
    if count < before then
      fault = fault or ("%d events were seen and then %d"):format(before, count)
    end
    before = count
    app.app.clock:sleep(1)
  end
  return looks, fault
end

describe("a projection that is rebuilt", function()
  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir " .. dir) == 0)
  end)
  after_each(function()
    runners.limits.events = 1000
    if app then app:stop() end
    app = nil
    os.execute("rm -rf " .. dir)
  end)

  it("comes to what the scripts say now, and is one version again", function()
    local factor = 1
    local function define()
      local p = catga.projection "Sums"
      function p.on.Added(event, model)
        model:update(event.name, function(doc) doc.n = (doc.n or 0) + factor * event.n end)
      end
    end
    open(define)
    append({ name = "a", n = 1 }, { name = "a", n = 2 })
    app:settle()
    factor = 10
    for _ = 1, 3 do
      local is = assert(control("rebuild", "Sums", { wait = true }))
      assert.equal("running", is.status)
      assert.is_true(is.is_serving)
      assert.is_nil(is.building)
      assert.same({ n = 30 }, app:document("Sums", "a"))
    end
    append({ name = "a", n = 3 })
    app:settle()
    app:stop()
    open(define)
    assert.same({ n = 60 }, app:document("Sums", "a"))
    assert.equal(1, #app.app.projections:status())
  end)

  it("stays as it was when it cannot be, and can be tried again", function()
    local is_bad = false
    open(function()
      local p = catga.projection "Sums"
      function p.on.Added(event, model)
        if is_bad and event.name == "a" then error("not again") end
        model:put(event.name, event)
      end
    end)
    append({ name = "a", n = 1 })
    app:settle()
    is_bad = true
    local none, err = control("rebuild", "Sums", { wait = true })
    assert.is_nil(none)
    assert.equal("projection_failed", err.code)
    assert.truthy(err.message:find("not again"))
    assert.same({ name = "a", n = 1 }, app:document("Sums", "a"))
    local is = control("get", "Sums")
    assert.equal("running", is.status)
    assert.equal("failed", is.building.status)
    append({ name = "b", n = 1 })
    app:settle()
    assert.same({ name = "b", n = 1 }, app:document("Sums", "b")) -- The one before goes on.
    is_bad = false
    assert(control("rebuild", "Sums", { wait = true }))
    assert.same({ name = "b", n = 1 }, app:document("Sums", "b"))
    assert.is_nil(control("get", "Sums").building)
  end)

  it("goes on being rebuilt after a restart", function()
    local function sums()
      local p = catga.projection "Sums"
      p.key = "name"
      function p.fold.Added(doc, event) doc.n = (doc.n or 0) + event.n end
    end
    open(sums)
    local list = {}
    for i = 1, 3000 do list[i] = { name = "k" .. i % 3, n = 1 } end
    append(unpack(list))
    app:settle()
    runners.limits.events = 100
    app:call(function() assert(catga.projections.rebuild("Sums")) end)
    app:kill()
    open(sums)
    app:settle()
    assert.is_nil(control("get", "Sums").building)
    assert.same({ n = 1000 }, app:document("Sums", "k0"))
  end)

  it("is not swapped before it has come as far as readers have seen", function()
    open(kinds.documents)
    app:call(function()
      for i = 1, 10 do order(i) end
    end)
    app:settle()
    local projections = app.app.projections
    local real, early = projections.take_over, nil
    function projections.take_over(self, runner)
      if early == nil then
        runner.reached = runner.reached - 1 -- As if the other one were an event ahead.
        real(self, runner)
        runner.reached, early = runner.reached + 1, runner.place:serves()
        return
      end
      return real(self, runner)
    end
    assert(control("rebuild", "Accounts", { wait = true }))
    assert.is_false(early)
    assert.equal(10, select(2, app:call(look, "documents")))
  end)

  it("misses no event that was committed while it takes over, when it is inline", function()
    local left, number = 0, 10
    open(function()
      kinds["an inline one"]()
      local handlers = state.loading.projections.Accounts.handlers
      local move = handlers.Moved
      function handlers.Moved(event, model)
        left = left - 1
        if left == 0 then -- The last one of a rebuild: one more is committed while it ends.
          number = number + 1
          tasks.spawn(app.app, order, number)
        end
        move(event, model)
      end
    end)
    app:call(function()
      for i = 1, 10 do order(i) end
    end)
    for round = 1, 20 do
      app:settle()
      if round % 2 == 0 then
        left = number
        assert(control("rebuild", "Accounts", { wait = true }))
      else
        assert(control("stop", "Accounts"))
        number, left = number + 1, 1
        app:call(order, number)
        assert(control("start", "Accounts"))
      end
      app:settle()
      local sum, count = app:call(look, "an inline one")
      assert.equal(0, sum)
      assert.equal(number, count)
    end
  end)

  for _, kind in ipairs { "documents", "SQL tables", "an inline one", "a live one" } do
    it("shows whole states only while 1,000 orders a second come in: " .. kind, function()
      open(kinds[kind])
      app:call(function()
        for i = 1, 500 do order(i) end
      end)
      app:settle()
      local is_over, made, rebuilds, looks, fault = false, 500, 0, nil, nil
      app:call(function()
        local clock, writers = app.app.clock, {}
        for w = 1, 10 do
          writers[w] = catga.spawn(function()
            for _ = 1, 300 do
              clock:sleep(10) -- Each of ten: 1,000 a second.
              made = made + 1
              order(made)
            end
          end)
        end
        local reader = catga.spawn(function()
          looks, fault = read_all_the_time(kind, 500, function() return is_over end)
        end)
        local builder = catga.spawn(function()
          while not is_over do
            clock:sleep(100)
            assert(catga.projections.rebuild("Accounts", { wait = true }))
            rebuilds = rebuilds + 1
          end
        end)
        for _, one in ipairs(writers) do one:wait() end
        is_over = true
        local _, err = reader:wait()
        assert.is_nil(err)
        _, err = builder:wait()
        assert.is_nil(err)
      end)
      assert.is_nil(fault)
      app:settle()
      local sum, count = app:call(look, kind)
      assert.equal(0, sum)
      assert.equal(3500, count)
      assert.is_true(looks > 200, "only " .. looks .. " looks")
      assert.is_true(rebuilds > 5, "only " .. rebuilds .. " rebuilds")
    end)
  end
end)
