--- What policies promise, in many random stories; each prints its seed when it fails. A seed is
--- repeated with CATGA_SEED=n.
local testing = require "catga.testing"
local catga = require "catga"
local randoms = require "catga.process.random"
local tasks = require "catga.task"
local clocks = require "catga.native.clock"

local STORIES = 30

local app

local function open(define)
  app = assert(testing.app(define))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- Runs a story with many seeds; a failure names its seed.
local function stories(name, story)
  it(name, function()
    local fixed = tonumber(os.getenv "CATGA_SEED")
    local first = fixed or math.random(1, 2 ^ 30)
    for seed = first, fixed or first + STORIES - 1 do
      local random = randoms.new(seed)
      local function pick(low, high) return low + math.floor(random() * (high - low + 1)) end
      local ok, failure = xpcall(story, debug.traceback, pick, random)
      if app then app:stop() end
      app = nil
      if not ok then error(("seed %d: %s"):format(seed, tostring(failure)), 0) end
    end
  end)
end

local function begin(name, data, on_end)
  local handle = {}
  handle.task = tasks.spawn(app.app, function()
    local kind = app.app.registry.handlers[name].kind
    handle.value, handle.err = app.app.mediator:send(kind, name, data)
    handle.done = true
    if on_end then on_end(handle) end
  end)
  return handle
end

describe("a limiter, in random stories,", function()
  -- Sends at random times for some keys, some of whom give up; the times of all that went on.
  local function story_of(pick, limiter)
    local times = {}
    limiter.key, limiter.wait = "key", pick(0, 1) == 0 and "0ms" or pick(1, 3000) .. "ms"
    open(function()
      catga.command { name = "C", limiter = limiter, total_timeout = pick(50, 4000) .. "ms",
        handle = function(cmd)
          local list = times[cmd.key] or {}
          times[cmd.key] = list
          list[#list + 1] = app.clock:mono()
          return true
        end }
    end)
    local keys = pick(1, 3)
    for _ = 1, pick(20, 120) do
      for _ = 1, pick(1, 4) do begin("C", { key = pick(1, keys) }) end
      if pick(1, 3) > 1 then app:advance(pick(0, 400) .. "ms") end
    end
    app:advance("20s")
    return times
  end

  -- How many times lie in the window of that length which begins with the i-th.
  local function count_from(list, i, ms)
    local count = 0
    while list[i + count] and list[i + count] < list[i] + ms do count = count + 1 end
    return count
  end

  stories("a sliding window never lets more than its rate through in any window", function(pick)
    local rate, per = pick(1, 10), pick(100, 3000)
    local times = story_of(pick, { kind = "sliding_window", rate = rate, per = per .. "ms" })
    for _, list in pairs(times) do
      for i = 1, #list do
        local count = count_from(list, i, per)
        assert(count <= rate, ("%d calls in %d ms, the rate is %d"):format(count, per, rate))
      end
    end
  end)

  stories("a token bucket never lets more than burst and rate through", function(pick)
    local rate, per = pick(1, 10), pick(100, 3000)
    local burst = pick(1, 10)
    local times = story_of(pick, { rate = rate, per = per .. "ms", burst = burst })
    for _, list in pairs(times) do
      for i = 1, #list do
        for _, ms in ipairs { 1, 50, per, per * 3 } do
          local count = count_from(list, i, ms)
          local most = burst + math.floor(ms * rate / per + 1e-6)
          assert(count <= most, ("%d calls in %d ms, at most %d"):format(count, ms, most))
        end
      end
    end
  end)

  stories("a token bucket that is asked often gives all of its rate", function(pick)
    local rate = pick(1, 20)
    local times = {}
    open(function()
      catga.command { name = "C", limiter = { rate = rate, per = "1s", burst = 1 },
        handle = function()
          times[#times + 1] = true
          return true
        end }
    end)
    for _ = 1, 10000, 10 do
      begin("C", {})
      app:advance("10ms")
    end
    assert(#times >= rate * 10 * 0.8, ("%d of %d"):format(#times, rate * 10))
  end)
end)

describe("a breaker, in random stories,", function()
  -- The same as the breaker, said as plainly as possible: all outcomes are kept.
  local Model = {}
  Model.__index = Model

  local function new_model(p)
    return setmetatable({ p = p, state = "closed", life = 1, outcomes = {} }, Model)
  end

  function Model:rates(now)
    local p, list = self.p, {}
    for _, one in ipairs(self.outcomes) do
      local is_in = type(p.window) == "number"
        or math.floor(one.at / (p.window.ms / 10)) > math.floor(now / (p.window.ms / 10)) - 10
      if is_in then list[#list + 1] = one end
    end
    if type(p.window) == "number" then
      while #list > p.window do table.remove(list, 1) end
    end
    local failed, slow = 0, 0
    for _, one in ipairs(list) do
      failed, slow = failed + (one.failed and 1 or 0), slow + (one.slow and 1 or 0)
    end
    return #list, failed, slow
  end

  function Model:go(to, now)
    self.state, self.life, self.outcomes, self.since, self.begun = to, self.life + 1, {}, now, 0
  end

  function Model:begin(now)
    if self.state == "open" and now >= self.since + self.p.open then self:go("half_open", now) end
    if self.state == "open" then return nil end
    if self.state == "half_open" then
      if self.begun >= self.p.probes then
        if now - self.since < self.p.open then return nil end
        self:go("half_open", now)
      end
      if self.begun == 0 then self.since = now end
      self.begun = self.begun + 1
    end
    return self.life
  end

  function Model:is_bad(count, failed, slow)
    return failed > 0 and failed / count * 100 >= self.p.failure_rate - 1e-9
      or slow > 0 and slow / count * 100 >= self.p.slow_rate - 1e-9
  end

  function Model:record(life, now, failed, slow)
    if life ~= self.life then return end
    self.outcomes[#self.outcomes + 1] = { at = now, failed = failed, slow = slow }
    if self.state == "closed" then
      local count, failures, slows = self:rates(now)
      if count >= self.p.min_calls and self:is_bad(count, failures, slows) then
        self:go("open", now)
      end
    elseif #self.outcomes >= self.p.probes then
      local failures, slows = 0, 0
      for _, one in ipairs(self.outcomes) do
        failures, slows = failures + (one.failed and 1 or 0), slows + (one.slow and 1 or 0)
      end
      self:go(self:is_bad(#self.outcomes, failures, slows) and "open" or "closed", now)
    end
  end

  function Model:cancel(life)
    if life == self.life and self.state == "half_open" then self.begun = self.begun - 1 end
  end

  stories("does what a plain model does", function(pick, random)
    local breakers = require "catga.policy.breaker"
    local clock = clocks.virtual(0)
    local p = { failure_rate = pick(1, 100), slow_rate = pick(1, 100),
      window = pick(0, 1) == 0 and pick(1, 20) or { ms = pick(10, 2000) },
      min_calls = pick(1, 10), open = pick(1, 1000), probes = pick(1, 5) }
    if type(p.window) == "number" then p.min_calls = math.min(p.min_calls, p.window) end
    local breaker, model = breakers.new({ clock = clock }, p), new_model(p)
    local calls, bad = {}, random()
    for step = 1, 600 do
      clock:advance(pick(1, 5) == 1 and pick(0, 300) or pick(0, 10))
      local now, action = clock:mono(), pick(1, 10)
      if action <= 5 then
        local real, life = breaker:begin(now), model:begin(now)
        assert((real ~= nil) == (life ~= nil), "step " .. step .. ": one refuses")
        if real then calls[#calls + 1] = { real, life } end
      elseif calls[1] then
        local call = table.remove(calls, pick(1, #calls))
        if action == 10 then
          breaker:cancel(call[1])
          model:cancel(call[2])
        else
          local failed, slow = random() < bad, random() < bad / 2
          breaker:record(call[1], now, failed, slow)
          model:record(call[2], now, failed, slow)
        end
      end
      assert(breaker.state == model.state, ("step %d: %s, the model is %s"):format(step,
        breaker.state, model.state))
    end
    clock:close()
  end)
end)

describe("a bulkhead, in random stories,", function()
  stories("never has more inside, and loses no place", function(pick)
    local max, inside, most, is_early, left_at = pick(1, 4), 0, 0, false, 0
    open(function()
      catga.command { name = "C", bulkhead = { max = max, queue = pick(0, 10),
        wait = pick(1, 500) .. "ms" }, timeout = pick(50, 500) .. "ms", handle = function(cmd)
          inside = inside + 1
          most = math.max(most, inside)
          local ok, err = pcall(catga.sleep, cmd.sleep .. "ms")
          inside, left_at = inside - 1, app.clock:mono()
          if not ok then error(err, 0) end
          if cmd.fail then error("down") end
          return true
        end }
    end)
    local handles = {}
    for _ = 1, pick(20, 100) do
      handles[#handles + 1] = begin("C", { sleep = pick(0, 600), fail = pick(1, 4) == 1 },
        function(handle)
          if handle.err and handle.err.message:find("no place came free", 1, true) then
            is_early = is_early or inside ~= "?" and inside < max and left_at < app.clock:mono()
          end
        end)
      local victim = handles[pick(1, #handles)]
      if pick(1, 10) == 1 and not victim.done and not victim.dropped then
        app:settle()
        if tasks.drop(victim.task) then
          victim.dropped = true
          inside = "?" -- One may be inside that does not say that it leaves.
        end
      end
      if inside == "?" then break end
      app:advance(pick(0, 100) .. "ms")
    end
    assert(most <= max, most .. " inside")
    assert(not is_early, "one gave up though there was a place")
    app:advance("10m")
    local status = app.app.registry.policy_memory["command C/bulkhead"].instance:status()
    assert(status.running == 0 and status.waiting == 0, "a place is lost")
  end)
end)

describe("order by a key, in random stories,", function()
  stories("has one of a key at a time, in the order in which they came", function(pick)
    local inside, begun, sent = {}, {}, {}
    open(function()
      catga.command { name = "C", order_by = "key", attempts = 3, backoff = "10ms",
        handle = function(cmd, ctx)
          assert(not inside[cmd.key], "two of one key")
          inside[cmd.key] = true
          if ctx.attempt == 1 then
            begun[cmd.key] = begun[cmd.key] or {}
            table.insert(begun[cmd.key], cmd.n)
          end
          catga.sleep(cmd.sleep .. "ms")
          inside[cmd.key] = nil
          if cmd.fail >= ctx.attempt then error("again") end
          return true
        end }
    end)
    local handles = {}
    for n = 1, pick(10, 80) do
      local key = "k" .. pick(1, 4)
      sent[key] = sent[key] or {}
      table.insert(sent[key], n)
      handles[n] = begin("C", { key = key, n = n, sleep = pick(0, 50), fail = pick(-3, 3) })
      if pick(1, 2) == 1 then app:advance(pick(0, 60) .. "ms") end
    end
    app:advance("5m")
    for key, list in pairs(sent) do assert.same(list, begun[key]) end
    for _, handle in ipairs(handles) do
      assert(handle.done, "one has not ended")
      assert(not handle.err or not handle.err.message:find("two of one key"), "two of one key")
    end
  end)
end)

describe("a cache, in random stories,", function()
  stories("never gives what was stale when it was asked", function(pick)
    local value = 0
    open(function()
      catga.query { name = "Q", cache = { ttl = "1h", key = "key",
        invalidated_by = { "Changed" } }, handle = function(query)
          local read = value
          catga.sleep(query.sleep .. "ms")
          if query.fail then error("down") end
          return read
        end }
      catga.command("Set", function(cmd)
        assert(catga.events.append("S", { { type = "Changed", data = {} } }))
        if cmd.slow then catga.sleep("7ms") end
        value = cmd.value
        return true
      end)
    end)
    local asked = {}
    for n = 1, pick(30, 120) do
      if pick(1, 4) == 1 then
        app:send("Set", { value = n, slow = pick(1, 2) == 1 })
      else
        local handle = begin("Q", { key = pick(1, 2), sleep = pick(0, 40), fail = pick(1, 8) == 1 })
        handle.least = value
        asked[#asked + 1] = handle
      end
      if pick(1, 2) == 1 then app:advance(pick(0, 30) .. "ms") end
    end
    app:advance("1m")
    for _, handle in ipairs(asked) do
      assert(handle.done, "one has no answer")
      assert(handle.err or handle.value >= handle.least, ("%s, but %s was committed before")
        :format(tostring(handle.value), handle.least))
    end
  end)
end)

describe("a hedge, in random stories,", function()
  stories("gives the answer that is there first, and leaves nothing behind", function(pick)
    local after, max, calls, open_calls = pick(0, 100), pick(1, 3), nil, 0
    open(function()
      catga.query { name = "Q", hedge = { after = after .. "ms", max = max }, handle = function()
        local call = table.remove(calls, 1)
        open_calls = open_calls + 1
        catga.sleep(call.sleep .. "ms")
        open_calls = open_calls - 1
        if call.fail then error("down") end
        return call.n
      end }
    end)
    for _ = 1, 20 do
      calls, open_calls = {}, 0
      local plan = {}
      for n = 1, max + 1 do
        plan[n] = { n = n, sleep = pick(0, 300), fail = pick(1, 4) == 1 }
        calls[n] = plan[n]
      end
      local start = app.clock:mono()
      local value = app:ask("Q", {})
      local took = app.clock:mono() - start
      if value then
        local mine = plan[value]
        assert(not mine.fail)
        assert(took == (value - 1) * after + mine.sleep, "it waited for another one")
        for n = 1, max + 1 do -- Nobody else was done before.
          local other = plan[n]
          assert(other.fail or n == value or (n - 1) * after + other.sleep >= took, "not the first")
        end
      end
      for _, task in ipairs(require("catga.native.task").live()) do
        assert(not (task.ctx and task.ctx.name == "Q"), "a call is left")
      end
    end
  end)
end)
