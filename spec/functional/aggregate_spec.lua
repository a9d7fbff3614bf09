--- Aggregates under conflicts, crashes and chance: the state is what a serial run of the same
--- commands gives, from snapshots as from all events, at every version.
local testing = require "catga.testing"
local catga = require "catga"

local app, Account

local function define(snapshot)
  return function()
    Account = catga.aggregate "Account"
    Account.shape = 1
    Account.snapshot = snapshot or {}
    function Account.initial() return { balance = 0, entries = {}, open = {} } end
    function Account.apply.Opened(state, event) state.owner = event.owner end
    function Account.apply.Paid(state, event)
      state.balance = state.balance + event.amount
      state.entries[#state.entries + 1] = { amount = event.amount, n = #state.entries + 1 }
    end
    function Account.apply.Reserved(state, event)
      state.open[event.key] = { amount = event.amount }
    end
    function Account.apply.Released(state, event)
      state.open[event.key] = nil
      if next(state.open) == nil then state.quiet = { since = #state.entries } end
    end
    function Account:pay(amount)
      if self.state.balance + amount < 0 then return nil, catga.error "no_money" end
      self:raise("Paid", { amount = amount })
      return self.state.balance
    end
    function Account:reserve(key, amount)
      if self.state.open[key] then return nil, catga.error "taken" end
      self:raise("Reserved", { key = key, amount = amount })
    end
    function Account:release(key)
      if not self.state.open[key] then return nil, catga.error "not_there" end
      self:raise("Released", { key = key })
    end
    catga.command("Pay", function(cmd)
      local account = Account.load(cmd.id)
      if cmd.pause then catga.sleep(cmd.pause) end
      local balance, err = account:pay(cmd.amount)
      if err then return nil, err end
      local version, conflict = account:save()
      if not version then return nil, conflict end
      return balance
    end)
    catga.command("Transfer", function(cmd)
      local ok, err = Account.update(cmd.from, function(a) return a:pay(-cmd.amount) end)
      if not ok then return nil, err end
      if cmd.pause then catga.sleep(cmd.pause) end
      assert(Account.update(cmd.to, function(a) return a:pay(cmd.amount) end))
      return true
    end)
  end
end

local function open(source, opts)
  local err
  app, err = testing.app(source, opts)
  assert(app, err and err.message)
end

local function run(fn, ...) return app:call(fn, ...) end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("aggregates that many tasks change at once", function()
  it("end as after a serial run", function()
    open(define { every = 7 })
    local refused = 0
    run(function()
      assert(Account.update("1", function(a) return a:pay(50) end))
      catga.map({ 30, -20, -70, 40, -10, -60, 5, 5, -80, 25, 60, -30 }, function(amount, n)
        local _, err = Account.update("1", function(a)
          catga.sleep(n % 3 + 1 .. "ms") -- Others are in between.
          return a:pay(amount)
        end, { attempts = 100 })
        if err then
          assert(err.code == "no_money")
          refused = refused + 1
        end
      end)
    end)
    local events = run(catga.events.read, "Account-1")
    assert.equal(13 - refused, #events)
    local balance = 0
    for _, event in ipairs(events) do
      balance = balance + event.data.amount
      assert.is_true(balance >= 0) -- Each command saw what was before it.
    end
    assert.equal(balance, run(Account.load, "1").state.balance)
  end)

  it("give up after as many attempts as are allowed", function()
    open(define(), { settings = { update_attempts = 3 } })
    local calls = 0
    local function meet(account)
      calls = calls + 1
      assert(catga.events.append("Account-1", { { type = "Paid", data = { amount = 1 } } }))
      return account:pay(1)
    end
    local value, err = run(Account.update, "1", meet)
    assert.is_nil(value)
    assert.equal("conflict", err.code)
    assert.is_true(err.retryable)
    assert.matches("aggregate Account%-1: 3 attempts to update it met another change each time",
      err.message)
    assert.equal(3, calls)
    run(Account.update, "1", meet, { attempts = 5 })
    assert.equal(8, calls)
  end)

  it("run the handler again that met the conflict, when it saves and at its commit", function()
    open(define())
    assert(app:send("Pay", { id = "1", amount = 1 }))
    local results = {}
    run(function()
      local tasks = {}
      for n = 1, 5 do
        tasks[n] = catga.spawn(function()
          return catga.send("Pay", { id = "1", amount = n, pause = "10ms" })
        end)
      end
      for n = 1, 5 do results[n] = tasks[n]:wait() or false end
    end)
    table.sort(results)
    assert.equal(16, results[5])
    assert.equal(16, run(Account.load, "1").state.balance)
    assert.equal(6, #run(catga.events.read, "Account-1"))
  end)

  it("run the step of a process again that met the conflict", function()
    local runs = 0
    open(function()
      define()()
      local P = catga.process "P"
      function P:execute(input) return self:pay(input.amount) end
      function P:pay(amount)
        runs = runs + 1
        local account = Account.load "1"
        catga.sleep "10ms"
        account:pay(amount)
        return account:save()
      end
    end)
    run(function()
      for n = 1, 3 do catga.start("P", { id = "p" .. n, amount = n }) end
      for n = 1, 3 do catga.processes.wait("p" .. n) end
    end)
    assert.equal(6, run(Account.load, "1").state.balance)
    assert.is_true(runs > 3)
    for n = 1, 3 do
      for _, record in ipairs(app:journal("p" .. n)) do
        assert.not_equal("ProcessStepFailed", record.type)
      end
    end
  end)

  it("move money in units of work, none of it lost", function()
    open(define { every = 5 })
    local ids = { "a", "b", "c" }
    for _, id in ipairs(ids) do assert(app:send("Pay", { id = id, amount = 100 })) end
    run(function()
      local n = 0
      catga.map(function()
        n = n + 1
        if n <= 60 then return n end
      end, function(i)
        catga.send("Transfer", { from = ids[i % 3 + 1], to = ids[(i + i % 2) % 3 + 1],
          amount = i * 7 % 50, pause = i % 4 == 0 and "3ms" or nil })
      end)
    end)
    local sum = 0
    for _, id in ipairs(ids) do sum = sum + run(Account.load, id).state.balance end
    assert.equal(300, sum)
  end)
end)

-- Numbers of a chance that is the same for a seed.
local function chance(seed)
  local x = seed * 2654435761 % 2 ^ 31 + 1
  return function(n)
    x = x * 16807 % 2147483647
    return x % n + 1
  end
end

-- What a state is after each version, made by hand, without any of the code under test.
local Model = {}
Model.__index = Model

local function model()
  return setmetatable({ versions = { [-1] = { balance = 0, entries = {}, open = {} } }, last = -1 },
    Model)
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = copy(inner) end
  return result
end

function Model:happened(kind, data)
  local s = copy(self.versions[self.last])
  if kind == "Paid" then
    s.balance = s.balance + data.amount
    table.insert(s.entries, { amount = data.amount, n = #s.entries + 1 })
  elseif kind == "Reserved" then
    s.open[data.key] = { amount = data.amount }
  else
    s.open[data.key] = nil
    local count = 0
    for _ in pairs(s.open) do count = count + 1 end
    if count == 0 then s.quiet = { since = #s.entries } end
  end
  self.last = self.last + 1
  self.versions[self.last] = s
end

local RULES = { { every = 1 }, { every = 3 }, { every = 10 }, { after = "5m" }, { bytes = "200B" },
  { every = 6, after = "20m", bytes = "1KiB" }, {} }

-- One random command of an account; gives the event that it must raise, or nil.
local function random_command(random, s)
  local what = random(3)
  local key = "k" .. random(4)
  if what == 1 then
    local amount = random(100) - 40
    return function(a) return a:pay(amount) end,
      s.balance + amount >= 0 and { "Paid", { amount = amount } } or nil
  elseif what == 2 then
    return function(a) return a:reserve(key, 1) end,
      not s.open[key] and { "Reserved", { key = key, amount = 1 } } or nil
  end
  return function(a) return a:release(key) end, s.open[key] and { "Released", { key = key } } or nil
end

-- A save of one to three commands on an account; the model follows what is raised.
local function random_save(random, id, m)
  run(function()
    local account = assert(Account.load(id))
    for _ = 1, random(3) do
      local command, expected = random_command(random, m.versions[m.last])
      local value, err = command(account)
      assert((value ~= nil or err == nil) == (expected ~= nil), "refused as the model says")
      if expected then m:happened(expected[1], expected[2]) end
    end
    assert(account:save() == m.last)
  end)
end

local function random_trouble(random, id)
  local what = random(12)
  if what == 1 then
    run(Account.drop_snapshot, id)
  elseif what == 2 then
    app = assert(app:crash())
  elseif what == 3 then
    app:advance(random(30) .. "m")
  elseif what == 4 then -- Other rules and another shape from now on.
    local rules = RULES[random(#RULES)]
    local shape = random(3)
    app = assert(app:crash(nil, function()
      define(rules)()
      Account.shape = shape
    end))
  elseif what == 5 then -- A snapshot that nobody took.
    run(function()
      local store = require "catga.aggregate.snapshot_store".log
      store.put("Account", id, { version = random(20), event = "1", state = '{"balance":1e9}',
        shape = "1:=1", time = 1, check = "none" })
    end)
  end
  app:settle()
end

describe("random commands", function()
  local seeds = tonumber(os.getenv "CATGA_SEEDS") or 25

  it("give the same state from snapshots, from all events, and by the model", function()
    for seed = 1, seeds do
      local random = chance(seed)
      local ok, failure = pcall(function()
        open(define(RULES[random(#RULES)]))
        local models = { a = model(), b = model() }
        for _ = 1, 40 do
          local id = random(2) == 1 and "a" or "b"
          random_save(random, id, models[id])
          random_trouble(random, id)
        end
        for id, m in pairs(models) do
          assert.same(m.versions[m.last], run(Account.load, id).state)
          for version = -1, m.last do
            assert.same(m.versions[version], run(Account.load, id, { version = version }).state)
          end
        end
      end)
      if app then app:stop() end
      app = nil
      if not ok then error(("seed %d: %s"):format(seed, tostring(failure)), 0) end
    end
  end)

  it("leave a whole history after a kill at every record", function()
    local source = define { every = 2 }
    for seed = 1, 4 do
      local random = chance(seed)
      open(source)
      local m = model()
      for _ = 1, 15 do random_save(random, "a", m) app:settle() end
      for position = 1, app:position() do
        local after = assert(testing.app(source, { memory = app:snapshot(position) }))
        local account = after:call(Account.load, "a")
        assert.same(m.versions[account.version], account.state)
        assert(after:call(Account.update, "a", function(a) return a:pay(1000) end))
        after:settle()
        local again = after:call(Account.load, "a")
        assert.equal(account.version + 1, again.version)
        assert.equal(account.state.balance + 1000, again.state.balance)
        after:stop()
      end
      app:stop()
      app = nil
    end
  end)
end)
