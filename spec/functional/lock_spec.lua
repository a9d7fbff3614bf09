--- catga.lock: what is of the face alone; what each kind must do is in lock_contract_spec.lua.
local testing = require "catga.testing"
local catga = require "catga"

describe("catga.lock", function()
  local app
  local result
  before_each(function()
    result = nil
    app = assert(testing.app(function()
      local P = catga.process "Body"
      function P:execute() return catga.lock.with("a", function() return 1 end) end
      local S = catga.process "Step"
      function S:execute() return self:work() end
      function S:work() return catga.lock.with("a", function() return "in a step" end) end
      local Slow = catga.process "Slow"
      Slow.settings = { work = { timeout = "1s", attempts = 1 } }
      function Slow:execute() return self:work() end
      function Slow:work() return catga.lock.with("a", { timeout = "1h" }, function() end) end
      local A = catga.aggregate "Thing"
      function A.initial() return {} end
      function A.apply.Made() catga.lock.acquire "a" end
      function A:make() self:raise("Made", {}) end
      catga.command("Make", function()
        local thing = A.load("1")
        thing:make()
        return thing:save()
      end)
      catga.projection("Seen").on.Seen = function(event, model)
        local ok, failure = pcall(catga.lock.acquire, "a")
        model:put(event.id, { ok = ok, failure = tostring(failure) })
      end
      catga.command("See", function() return catga.publish("Seen", { id = "1" }) end)
    end, { settings = { lock_waiters_max = 2 } }))
  end)
  after_each(function() app:stop() end)

  it("is refused in the body of a process, with a hint; a step may use it", function()
    local value, err = app:run("Body", { id = "1" })
    assert.is_nil(value)
    assert.truthy(err.message:find("catga.lock.with in the body of a process", 1, true))
    assert.truthy(err.message:find("self:step", 1, true))
    assert.equal("in a step", app:run("Step", { id = "2" }))
  end)

  it("is refused in apply functions and projections", function()
    local _, err = app:send("Make", {})
    assert.truthy(err.message:find("in an apply function", 1, true))
    app:send("See", {})
    app:settle()
    local doc = app:document("Seen", "1")
    assert.is_false(doc.ok)
    assert.truthy(doc.failure:find("in the handler of a projection", 1, true))
  end)

  it("counts against the timeout of the step that waits for it", function()
    app:call(function()
      local lock = assert(catga.lock.acquire "a")
      local value, err = catga.run("Slow", { id = "1" })
      assert.is_nil(value)
      assert.equal("timeout", err.code)
      assert.equal(0, catga.lock.list()[1].waiting)
      assert.is_true(lock:is_held())
    end)
  end)

  it("has a bound for those that wait", function()
    app:call(function()
      local lock = assert(catga.lock.acquire "a")
      local handles = {}
      for n = 1, 3 do
        handles[n] = catga.spawn(function()
          local got, err = catga.lock.acquire "a"
          return got and "got" or err.code
        end)
      end
      catga.sleep("1ms")
      lock:release()
      result = {}
      for n = 1, 3 do result[n] = handles[n]:wait() end
    end)
    assert.same({ "got", "got", "limit" }, result)
  end)

  it("refuses what is no key, option, or kind", function()
    app:call(function()
      assert.has_error(function() catga.lock.acquire(5) end)
      assert.has_error(function() catga.lock.acquire("a", { timout = "1s" }) end,
        "catga.lock.acquire: unknown option timout; there are timeout, ttl and kind; did you mean "
        .. "timeout?")
      assert.has_error(function() catga.lock.acquire("a", { timeout = 5 }) end)
      assert.has_error(function() catga.lock.acquire("a", { kind = "lokal" }) end,
        "catga.lock: there is no kind lokal; did you mean local?")
    end)
  end)
end)
