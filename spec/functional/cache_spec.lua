--- catga.cache: what it keeps, for how long, what goes first, and that a value is computed once.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local state = require "catga.state"
local catga = require "catga"

local app
local prices -- The cache, as a script would hold it.

local function open(opts)
  app = assert(testing.app(function()
    prices = catga.cache("prices", opts)
    local P = catga.process "Body"
    function P:execute()
      local value = prices:get "a"
      return value
    end
    local S = catga.process "Slow"
    S.settings = { work = { timeout = "1s", attempts = 1 } }
    function S:execute() return self:work() end
    function S:work()
      return prices:get_or("a", function()
        catga.sleep("10s")
        return 1
      end)
    end
  end))
end

after_each(function() app:stop() end)
local function run(fn) return app:call(fn) end

describe("catga.cache", function()
  it("keeps values by key, as copies", function()
    open()
    run(function()
      assert.is_nil(prices:get "a")
      local list = catga.json.array { 1, { x = "y" }, catga.null, true }
      prices:set("a", list)
      list[1] = 2
      local got = prices:get "a"
      assert.same(catga.json.array { 1, { x = "y" }, catga.null, true }, got)
      assert.equal(catga.json.array_mt, getmetatable(got))
      got[1] = 3
      assert.equal(1, prices:get "a"[1])
      prices:set("a", catga.json.array())
      assert.equal("[]", catga.json.encode(prices:get "a"))
      for _, value in ipairs { "text", 0, 1.5, false, catga.null } do
        prices:set("b", value)
        assert.equal(value, prices:get "b")
      end
      assert.is_true(prices:delete "b")
      assert.is_false(prices:delete "b")
      prices:set("a", nil)
      assert.is_nil(prices:get "a")
    end)
  end)

  it("is the same by its name, and another one by another name", function()
    open()
    run(function()
      prices:set("a", 1)
      assert.equal(1, catga.cache "prices":get "a")
      assert.is_nil(catga.cache "other":get "a")
      prices:clear()
      assert.is_nil(prices:get "a")
      assert.equal(0, prices:stats().entries)
    end)
  end)

  it("lets go of what is too old", function()
    open { ttl = "1m" }
    run(function()
      prices:set("a", 1)
      prices:set("b", 2, { ttl = "10m" })
      catga.sleep("59s")
      assert.equal(1, prices:get "a")
      catga.sleep("1s")
      assert.is_nil(prices:get "a")
      assert.equal(2, prices:get "b")
      assert.same({ 1, 1 }, { prices:stats().entries, prices:stats().expired })
    end)
  end)

  it("lets the least recently used go when there are too many", function()
    open { entries_max = 3 }
    run(function()
      for _, key in ipairs { "a", "b", "c" } do prices:set(key, key) end
      prices:get "a"
      prices:set("d", "d")
      assert.is_nil(prices:get "b")
      assert.equal("a", prices:get "a")
      prices:set("c", "C")
      prices:set("e", "e")
      assert.is_nil(prices:get "d")
      assert.same({ 3, 2 }, { prices:stats().entries, prices:stats().evictions })
    end)
  end)

  it("lets them go when they are too large together", function()
    open { size_max = "10KiB" }
    run(function()
      for n = 1, 100 do assert.is_true(prices:set("k" .. n, { text = ("x"):rep(1000) })) end
      local stats = prices:stats()
      assert.is_true(stats.bytes <= 10240 and stats.bytes > 8000)
      assert.equal(8, stats.entries)
      assert.truthy(prices:get "k100")
      assert.is_false(prices:set("k100", ("x"):rep(20000)))
      assert.is_nil(prices:get "k100")
    end)
  end)

  it("computes a value once for all that ask at the same time", function()
    open()
    run(function()
      local calls = 0
      local results = catga.map({ 1, 2, 3, 4 }, function()
        return prices:get_or("a", function(key)
          calls = calls + 1
          catga.sleep("1s")
          return { key = key }
        end)
      end)
      assert.equal(1, calls)
      results[1].key = "changed"
      assert.equal("a", results[2].key)
      assert.equal("a", prices:get_or("a", error).key)
      local stats = prices:stats()
      assert.same({ 1, 3, 1 }, { stats.loads, stats.shared, stats.hits })
    end)
  end)

  it("gives an error to all that wait and keeps nothing", function()
    open()
    run(function()
      local function failing()
        catga.sleep("1s")
        return nil, catga.error("closed")
      end
      local codes = catga.map({ 1, 2 }, function()
        local value, err = prices:get_or("a", failing)
        return value == nil and err.code
      end)
      assert.same({ "closed", "closed" }, codes)
      local raised = catga.map({ 1, 2 }, function()
        return not pcall(prices.get_or, prices, "a", function()
          catga.sleep("1s")
          error("oops")
        end)
      end)
      assert.same({ true, true }, raised)
      assert.equal(7, prices:get_or("a", function() return 7 end))
    end)
  end)

  it("asks another when the task that computes is dropped, or its step runs out of time", function()
    open()
    run(function()
      local leader
      catga.spawn(function()
        leader = state[1]
        prices:get_or("a", function() catga.sleep("1h") end)
      end)
      catga.sleep("1ms")
      local handle = catga.spawn(function() return prices:get_or("a", function() return 2 end) end)
      catga.sleep("1ms")
      native_task.drop(leader)
      assert.equal(2, handle:wait())
      prices:delete "a"
      catga.start("Slow", { id = "1" })
      catga.sleep("1ms")
      assert.equal(3, prices:get_or("a", function() return 3 end))
    end)
  end)

  it("does not keep a value that was outdated while it was computed", function()
    open()
    run(function()
      local handle = catga.spawn(function()
        return prices:get_or("a", function()
          catga.sleep("1s")
          return "old"
        end)
      end)
      catga.sleep("1ms")
      prices:delete "a"
      assert.equal("old", handle:wait())
      assert.is_nil(prices:get "a")
      handle = catga.spawn(function()
        return prices:get_or("a", function()
          catga.sleep("1s")
          return "old"
        end)
      end)
      catga.sleep("1ms")
      prices:set("a", "new")
      handle:wait()
      assert.equal("new", prices:get "a")
    end)
  end)

  it("refuses what is no data, and a function that asks for its own key", function()
    open()
    run(function()
      local ok, failure = pcall(prices.set, prices, "a", function() end)
      assert.is_false(ok)
      assert.truthy(failure:find("cache prices: the value of \"a\" is a function", 1, true))
      local cycle = {}
      cycle[1] = cycle
      assert.is_false(pcall(prices.set, prices, "a", cycle))
      assert.is_false(pcall(prices.set, prices, "a", { f = print }))
      prices:set("a", { 1 })
      assert.same({ 1 }, prices:get "a")
      local _, err = pcall(prices.get_or, prices, "b", function()
        return prices:get_or("b", print)
      end)
      assert.equal("would_deadlock", err.code)
      assert.has_error(function() prices:get(5) end)
      assert.has_error(function() prices:set("a", 1, { tll = "1s" }) end)
    end)
  end)

  it("is refused in the body of a process, with a hint", function()
    open()
    local value, err = app:run("Body", { id = "1" })
    assert.is_nil(value)
    assert.truthy(err.message:find("cache:get in the body of a process", 1, true))
    assert.truthy(err.message:find("cache_spec.lua", 1, true))
  end)

  it("has its options in one place", function()
    open()
    local other, err = testing.app(function()
      catga.cache("prices", { ttl = "1s" })
      catga.cache("prices", { ttl = "2s" })
    end)
    assert.is_nil(other)
    assert.truthy(err.message:find("has its options already", 1, true))
    run(function()
      assert.has_error(function() catga.cache("x", { ttl = "1s" }) end)
    end)
  end)
end)
