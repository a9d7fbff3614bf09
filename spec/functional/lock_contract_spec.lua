--- What every kind of lock must do. As a spec it tries the kind "local";
--- that of another kind runs it so:
---   setfenv(assert(loadfile "spec/functional/lock_contract_spec.lua"), getfenv())("redis", open)
--- `open` gives a test app in which the kind works.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local state = require "catga.state"
local catga = require "catga"

local kind, given = ...
if type(kind) ~= "string" then kind, given = "local", nil end
local open = given or function() return assert(testing.app(function() end)) end

describe("a lock of kind " .. kind, function()
  local app
  before_each(function() app = open() end)
  after_each(function() app:stop() end)

  local function run(fn) return app:call(fn) end
  local function acquire(key, opts)
    opts = opts or {}
    opts.kind = kind
    return catga.lock.acquire(key, opts)
  end
  local function with(key, opts, fn)
    opts.kind = kind
    return catga.lock.with(key, opts, fn)
  end

  it("is had by one task at a time, in the order in which they came", function()
    local order, inside, most = {}, 0, 0
    run(function()
      catga.map({ 1, 2, 3, 4, 5 }, function(n)
        with("a", {}, function()
          inside = inside + 1
          most = math.max(most, inside)
          catga.sleep("10ms")
          order[#order + 1] = n
          inside = inside - 1
        end)
      end)
    end)
    assert.same({ 1, 2, 3, 4, 5 }, order)
    assert.equal(1, most)
  end)

  it("of another key is had at the same time", function()
    run(function()
      local a, b = assert(acquire "a"), assert(acquire "b")
      assert.is_true(a:is_held() and b:is_held())
    end)
  end)

  it("gives the function's results; what it raises is raised when the lock is free", function()
    run(function()
      assert.same({ 1, nil, 3 }, { with("a", {}, function() return 1, nil, 3 end) })
      local ok, failure = pcall(with, "a", {}, function() error("oops") end)
      assert.is_false(ok)
      assert.truthy(failure.message:find("oops", 1, true))
      assert(acquire("a", { timeout = "0s" }))
    end)
  end)

  it("gives tokens that grow", function()
    run(function()
      local last = 0
      for _ = 1, 20 do
        local lock = assert(acquire "a")
        assert.is_true(lock.token > last)
        last = lock.token
        assert.is_true(lock:release())
      end
    end)
  end)

  it("is waited for only so long", function()
    run(function()
      local lock = assert(acquire "a")
      catga.spawn(function()
        local none, err = acquire("a", { timeout = "3s" })
        assert.is_nil(none)
        assert.equal("timeout", err.code)
        assert.is_true(err.retryable)
        none, err = acquire("a", { timeout = "0s" })
        assert.is_nil(none)
        assert.equal("timeout", err.code)
      end):wait()
      assert.is_true(lock:is_held())
      assert.is_true(lock:release())
      assert.is_false(lock:release())
      assert.is_false(lock:is_held())
    end)
  end)

  it("is lost when its ttl is over, and goes to the next", function()
    run(function()
      local lock = assert(acquire("a", { ttl = "1s" }))
      local next_one = catga.spawn(function()
        local other = assert(acquire("a", { timeout = "10s" }))
        assert.is_true(other.token > lock.token)
        return "got it"
      end):wait()
      assert.equal("got it", next_one)
      assert.is_false(lock:is_held())
      assert.is_false(lock:release())
    end)
  end)

  it("is kept as long as it is renewed", function()
    run(function()
      local lock = assert(acquire("a", { ttl = "1s" }))
      for _ = 1, 5 do
        catga.sleep("800ms")
        assert.is_true(lock:renew())
      end
      assert.is_true(lock:is_held())
      catga.sleep("2s")
      assert.is_false(lock:renew())
    end)
  end)

  it("that was lost fails what ran under it", function()
    run(function()
      local value, err = with("a", { ttl = "1s" }, function()
        catga.sleep("2s")
        return "done"
      end)
      assert.is_nil(value)
      assert.equal("lock_lost", err.code)
    end)
  end)

  it("is released when its task ends, fails, or is dropped", function()
    run(function()
      catga.spawn(function() assert(acquire "a") end):wait()
      local lock = assert(acquire("a", { timeout = "0s" }))
      lock:release()
      catga.spawn(function()
        assert(acquire "a")
        error("oops")
      end):wait()
      lock = assert(acquire("a", { timeout = "0s" }))
      lock:release()
      local task
      catga.spawn(function()
        task = state[1]
        with("a", {}, function() catga.sleep("1h") end)
      end)
      catga.sleep("1ms")
      assert.is_nil((acquire("a", { timeout = "0s" })))
      assert.is_true(native_task.drop(task))
      assert(acquire("a", { timeout = "1s" }))
    end)
  end)

  it("is passed over a task that was dropped while it waited, or just when it got it", function()
    run(function()
      local lock = assert(acquire "a")
      local tasks, got = {}, {}
      for n = 1, 3 do
        catga.spawn(function()
          tasks[n] = state[1]
          assert(acquire("a", { timeout = "1h" }))
          got[#got + 1] = n
        end)
      end
      catga.sleep("1ms")
      native_task.drop(tasks[1])
      lock:release()
      native_task.drop(tasks[2]) -- It has the lock, and has not run yet.
      catga.sleep("1ms")
      assert.same({ 3 }, got)
    end)
  end)

  it("asked for by the task that has it would wait for ever: an error", function()
    run(function()
      local lock = assert(acquire "a")
      local ok, failure = pcall(acquire, "a")
      assert.is_false(ok)
      assert.equal("would_deadlock", failure.code)
      lock:release()
      assert(acquire "a")
    end)
  end)

  it("is listed with how many wait", function()
    run(function()
      assert(acquire "b")
      local lock = assert(acquire "a")
      local handle = catga.spawn(function() assert(acquire "a") end)
      catga.sleep("1ms")
      local list = catga.lock.list { kind = kind }
      assert.same({ "a", "b" }, { list[1].key, list[2].key })
      assert.equal(lock.token, list[1].token)
      assert.same({ 1, 0 }, { list[1].waiting, list[2].waiting })
      lock:release()
      handle:wait()
    end)
    assert.same({}, run(function() return catga.lock.list { kind = kind } end))
  end)
end)
