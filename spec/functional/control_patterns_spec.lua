--- The workflow control-flow patterns of Russell, ter Hofstede, van der Aalst and Mulyar, as
--- docs/patterns.md says that they are written; each also killed at every record.
local testing = require "catga.testing"
local catga = require "catga"
local flows = dofile "spec/support/flows.lua"
local run, signals = flows.run, flows.signals

local function minutes(n) return n .. "m" end

describe("basic control flow", function()
  it("WCP-1 Sequence", function()
    run(function(self)
      self:task "a"
      self:task "b"
    end, { "a", "b" })
  end)

  it("WCP-2 Parallel Split", function()
    run(function(self)
      self:all("split", {
        function() self:task("slow", "5s") end,
        function() self:task("quick", "1s") end,
      })
    end, { "quick", "slow" })
  end)

  it("WCP-3 Synchronization", function()
    run(function(self)
      self:all("split", {
        function() self:task("slow", "5s") end,
        function() self:task("quick", "1s") end,
      })
      self:task "after both"
    end, { "quick", "slow", "after both" })
  end)

  local function choose(self, input)
    if input.large then self:task "large" else self:task "small" end
    return self:task "after either"
  end

  it("WCP-4 Exclusive Choice", function()
    run(choose, { "large", "after either" }, { input = { id = "x", large = true } })
    run(choose, { "small", "after either" }, { input = { id = "x", large = false } })
  end)

  it("WCP-5 Simple Merge", function()
    for _, large in ipairs { true, false } do
      assert.equal("after either", run(choose, nil, { input = { id = "x", large = large } }))
    end
  end)
end)

describe("advanced branching and synchronization", function()
  local function some(self, input)
    local branches = {}
    if input.weight > 10 then branches.heavy = function() self:task("crane", "2s") end end
    if input.weight > 100 then branches.huge = function() self:task("convoy", "1s") end end
    if input.fragile then branches.fragile = function() self:task("wrap", "3s") end end
    self:all("what it needs", branches)
    self:task "load"
  end

  it("WCP-6 Multi-Choice", function()
    run(some, { "convoy", "crane", "load" }, { input = { id = "x", weight = 200 } })
    run(some, { "wrap", "load" }, { input = { id = "x", weight = 1, fragile = true } })
  end)

  it("WCP-7 Structured Synchronizing Merge", function()
    run(some, { "crane", "wrap", "load" }, { input = { id = "x", weight = 20, fragile = true } })
  end)

  it("WCP-8 Multi-Merge", function()
    run(function(self)
      local function after(name) self:task("after " .. name) end
      self:all("split", {
        function() after(self:task("slow", "5s")) end,
        function() after(self:task("quick", "1s")) end,
      })
    end, { "quick", "after quick", "slow", "after slow" })
  end)

  -- The n-th branch that has come goes on; the others end as they like.
  local function nth_of(self, n, takes)
    local come = 0
    local branches = {}
    for i, pause in ipairs(takes) do
      branches[i] = function()
        self:task("branch " .. i, pause)
        come = come + 1
        if come == n then self:task "after" end
      end
    end
    return branches
  end

  it("WCP-9 Structured Discriminator", function()
    run(function(self)
      self:all("split", nth_of(self, 1, { "5s", "1s", "3s" }))
    end, { "branch 2", "after", "branch 3", "branch 1" })
  end)

  -- In rounds: the n-th who comes triggers, the next round begins when all have come. Who comes
  -- too early for it is blocked until then.
  local function blocking(n, names)
    return function(self)
      local triggers, blocked = {}, {}
      for round = 1, 2 do
        local queue, come, has_come = blocked, 0, {}
        blocked = {}
        while come < #names do
          local name = table.remove(queue, 1) or self:receive "in"
          if has_come[name] then
            blocked[#blocked + 1] = name
          else
            has_come[name], come = true, come + 1
            if come == n then triggers[round] = self:task(round .. name) end
          end
        end
      end
      return triggers
    end
  end

  local function come(...)
    local list = {}
    for i, name in ipairs { ... } do list[i] = { "in", name } end
    return { drive = signals(list) }
  end

  it("WCP-28 Blocking Discriminator", function()
    run(blocking(1, { "a", "b" }), { "1a", "2a" }, come("a", "a", "b", "b"))
  end)

  it("WCP-29 Cancelling Discriminator", function()
    run(function(self)
      self:any("first", {
        function() self:claim "slow" self:sleep("1h") self:task "never" return true end,
        function() self:task("quick", "1s") return true end,
      })
      self:task "after"
    end, { "claim slow", "quick", "release slow", "after" })
  end)

  it("WCP-30 Structured Partial Join", function()
    run(function(self)
      self:all("2 of 3", nth_of(self, 2, { "5s", "1s", "3s" }))
    end, { "branch 2", "branch 3", "after", "branch 1" })
  end)

  it("WCP-31 Blocking Partial Join", function()
    run(blocking(2, { "a", "b", "c" }), { "1b", "2c" }, come("a", "a", "b", "c", "c", "b"))
  end)

  it("WCP-32 Cancelling Partial Join", function()
    run(function(self)
      local arrived = {}
      local function arrive(name)
        arrived[#arrived + 1] = name
        if #arrived == 2 then error(catga.error("enough")) end
      end
      local _, err = pcall(function()
        self:all("2 of 3", {
          function() self:sleep("1h") arrive(self:task "late") end,
          function() arrive(self:claim "b") end,
          function() arrive(self:task("c", "3s")) end,
        })
      end)
      if err.code ~= "enough" then error(err) end
      self:task "after"
      return arrived
    end, { "claim b", "c", "after" })
  end)

  it("WCP-33 Generalized AND-Join", function()
    run(function(self)
      for round = 1, 2 do
        self:receive "a"
        self:receive "b"
        self:task("both " .. round)
      end
    end, { "both 1", "both 2" }, { drive = signals { "a", "a", "b", "b" } })
  end)

  it("WCP-37 Acyclic Synchronizing Merge", function()
    run(function(self, input)
      local begun = {}
      if input.a then begun.a = self:start("Child", "a") end
      self:task "between"
      if input.b then begun.b = self:start("Child", "b") end
      self:task "more"
      for _, child in pairs(begun) do child:wait() end
      self:task "merged"
    end, { "between", "more", "b", "merged" }, { input = { id = "x", b = true } })
  end)

  it("WCP-41 Thread Merge", function()
    run(function(self)
      self:map({ 3, 1, 2 }, function(n) self:task("thread " .. n, n .. "s") end)
      self:task "one again"
    end, { "thread 1", "thread 2", "thread 3", "one again" })
  end)

  it("WCP-42 Thread Split", function()
    run(function(self, input)
      local threads = {}
      for i = 1, input.threads do threads[i] = i end
      self:map(threads, function(n)
        self:task("a" .. n, "2s")
        self:task("b" .. n, "2s")
      end)
    end, { "a1", "a2", "b1", "b2" }, { input = { id = "x", threads = 2 } })
  end)
end)

describe("multiple instances", function()
  it("WCP-12 Multiple Instances without Synchronization", function()
    run(function(self)
      for i = 1, 2 do
        self:start("Child", "child " .. i, { id = "c" .. i, on_end = "abandon" })
      end
      self:task "after"
    end, { "after", "child 1", "child 2" }, { more = function(app)
      for i = 1, 2 do assert.equal("completed", (app:wait("c" .. i))) end
    end })
  end)

  it("WCP-13 Multiple Instances with a Priori Design-Time Knowledge", function()
    run(function(self)
      local function review() return self:claim "review" end
      return self:all("reviews", { review, review, review })
    end, { "claim review", "claim review", "claim review" })
  end)

  it("WCP-14 Multiple Instances with a Priori Run-Time Knowledge", function()
    assert.same({ "a", "b", "c" }, run(function(self, input)
      return self:map(input.items, function(item) return self:task(item) end, { max = 2 })
    end, { "a", "b", "c" }, { input = { id = "x", items = { "a", "b", "c" } } }))
  end)

  it("WCP-15 Multiple Instances without a Priori Run-Time Knowledge", function()
    run(function(self)
      local children = {}
      while self:receive "next" == "another" do
        children[#children + 1] = self:start("Child", "child " .. #children + 1)
      end
      for _, child in ipairs(children) do child:wait() end
      self:task "after all"
    end, { "child 1", "child 2", "after all" },
      { drive = signals { { "next", "another" }, { "next", "another" }, { "next", "enough" } } })
  end)

  it("WCP-34 Static Partial Join for Multiple Instances", function()
    run(function(self)
      local come = 0
      self:map({ 5, 1, 3 }, function(n)
        self:task(tostring(n), n .. "s")
        come = come + 1
        if come == 2 then self:task "after 2" end
      end)
    end, { "1", "3", "after 2", "5" })
  end)

  it("WCP-35 Cancelling Partial Join for Multiple Instances", function()
    run(function(self)
      local come = 0
      local ok, err = pcall(function()
        self:map({ 50, 1, 3 }, function(n)
          self:sleep(minutes(n))
          self:task(tostring(n))
          come = come + 1
          if come == 2 then error(catga.error("enough")) end
        end)
      end)
      if ok or err.code ~= "enough" then error(err or "too few") end
      self:task "after 2"
    end, { "1", "3", "after 2" }, { same = false })
  end)

  it("WCP-36 Dynamic Partial Join for Multiple Instances", function()
    local function define()
      flows.define_with(function(self)
        local total = 0
        while total < 5 do
          local message = self:receive "next"
          if message.more then
            self:start("Worker", { of = self.id, size = message.more })
          else
            total = total + message.done
          end
        end
        return total
      end)()
      local Worker = catga.process "Worker"
      function Worker:execute(input)
        self:sleep(minutes(input.size))
        self:tell(input)
      end
      function Worker.tell(_, input)
        assert(catga.processes.signal(input.of, "next", { done = input.size }))
      end
    end
    local drive = signals { { "next", { more = 2 } }, { "next", { more = 3 } },
      { "next", { more = 40 } } }
    local app = assert(testing.app(define))
    assert.equal(5, select(2, flows.start_and_wait(app, { drive = drive })))
    app:stop()
    assert.is_nil((testing.chaos(define, "P", { id = "x" }, { drive = drive })))
  end)
end)

describe("state", function()
  it("WCP-16 Deferred Choice", function()
    for choice, way in pairs { pay = "pay", cancel = "cancel", nothing = "late" } do
      run(function(self)
        local _, key = self:any("what comes first", {
          pay = function() return self:receive "pay" end,
          cancel = function() return self:receive "cancel" end,
          late = function() self:sleep("1h") return true end,
        })
        self:task(key)
      end, { way }, { drive = signals { choice } })
    end
  end)

  it("WCP-17 Interleaved Parallel Routing", function()
    run(function(self)
      local needs, done, left = { b = "a" }, {}, 3
      while left > 0 do
        local name = self:receive "do"
        if not done[name] and (not needs[name] or done[needs[name]]) then
          self:task(name)
          done[name], left = true, left - 1
        end
      end
    end, { "c", "a", "b" },
      { drive = signals { { "do", "b" }, { "do", "c" }, { "do", "a" }, { "do", "b" } } })
  end)

  it("WCP-18 Milestone", function()
    run(function(self)
      self:any("until it ships", {
        ship = function() return self:receive "ship" end,
        change = function()
          while true do
            self:receive "change"
            self:task "change"
          end
        end,
      })
      self:receive("wait", { timeout = "1h" })
    end, { "change" }, { drive = signals { "change", "ship", "change" } })
  end)

  it("WCP-39 Critical Section", function()
    local inside, most = 0, 0
    local function define()
      flows.define_with(function(self)
        local children = {}
        for i = 1, 3 do
          children[i] = self:start("Withdrawal", { account = "a", cents = i }, { id = "w" .. i })
        end
        for _, child in ipairs(children) do child:wait() end
        return "all"
      end)()
      dofile "examples/patterns/mutex.lua"
      catga.command("ReadAccount", function()
        inside = inside + 1
        most = math.max(most, inside)
        return 100
      end)
      catga.command("WriteAccount", function()
        inside = inside - 1
        return 0
      end)
    end
    local app = assert(testing.app(define))
    assert.equal("completed", (flows.start_and_wait(app, {})))
    app:stop()
    assert.equal(1, most)
    assert.is_nil((testing.chaos(define, "P", { id = "x" })))
  end)

  it("WCP-40 Interleaved Routing", function()
    run(function(self)
      local left = { a = true, b = true, c = true }
      while next(left) do
        local name = self:receive "do"
        if left[name] then
          left[name] = nil
          self:task(name, "1s")
        end
      end
    end, { "c", "a", "b" },
      { drive = signals { { "do", "c" }, { "do", "a" }, { "do", "c" }, { "do", "b" } } })
  end)
end)

describe("cancellation", function()
  local function until_stopped(work)
    return function(self)
      local _, key = self:any("work", {
        work = function() return work(self) end,
        stop = function() return self:receive "stop" end,
      })
      self:task("after " .. key)
    end
  end

  it("WCP-19 Cancel Task", function()
    local withdrawn = until_stopped(function(self)
      self:sleep("1h") -- Enabled, and not begun yet.
      return self:task "work"
    end)
    run(withdrawn, { "after stop" }, { drive = signals { "stop" } })
    run(withdrawn, { "work", "after work" })
  end)

  it("WCP-20 Cancel Case", function()
    run(function(self)
      self:claim "a"
      self:all("both", {
        function() self:sleep("1h") end,
        function() self:claim "b" self:sleep("2h") end,
      })
    end, { "claim a", "claim b", "release b", "release a" }, { ends = "cancelled",
      drive = function(app, id) app:call(catga.processes.cancel, id) end })
  end)

  it("WCP-25 Cancel Region", function()
    run(until_stopped(function(self)
      self:all("region", {
        function() self:claim "a" self:sleep("1h") self:task "never" end,
        function() self:sleep("2h") self:task "nor this" end,
      })
      return true
    end), { "claim a", "release a", "after stop" }, { drive = signals { "stop" } })
  end)

  it("WCP-26 Cancel Multiple Instance Task", function()
    run(until_stopped(function(self)
      return self:map({ 1, 60, 60 }, function(n)
        self:claim(tostring(n))
        self:sleep(minutes(n))
        return self:task("done " .. n)
      end, { max = 2 })
    end), { "claim 1", "claim 60", "done 1", "claim 60", "release 60", "release 60", "release 1",
      "after stop" }, { drive = function(app, id)
        app:advance("10m")
        signals { "stop" } (app, id)
      end, same = false })
  end)

  it("WCP-27 Complete Multiple Instance Task", function()
    run(function(self)
      local done = {}
      self:any("items", {
        items = function()
          return self:map({ 1, 2, 60 }, function(n)
            self:sleep(minutes(n))
            done[#done + 1] = self:task(tostring(n))
          end)
        end,
        complete = function() return self:receive "complete" end,
      })
      self:task("after " .. #done)
    end, { "1", "2", "after 2" }, { drive = function(app, id)
      app:advance("10m")
      signals { "complete" } (app, id)
    end, same = false })
  end)
end)

describe("iteration", function()
  it("WCP-10 Arbitrary Cycles", function()
    local function cycle(self, input)
      local rounds = 0
      if input.from == "b" then goto b end
      ::a::
      self:task "a"
      ::b::
      self:task "b"
      rounds = rounds + 1
      if rounds < 2 then goto a end
      self:task "c"
    end
    run(cycle, { "a", "b", "a", "b", "c" }, { input = { id = "x", from = "a" } })
    run(cycle, { "b", "a", "b", "c" }, { input = { id = "x", from = "b" } })
  end)

  it("WCP-21 Structured Loop", function()
    run(function(self)
      for i = 1, 2 do self:task("for " .. i) end
      local n = 0
      while n < 1 do n = n + #self:task "w" end
      repeat n = n - #self:task "r" until n == 0
      return self:loop({ n = 1 }, function(state)
        self:task("round " .. state.n)
        if state.n == 2 then return nil, "done" end
        return { n = state.n + 1 }
      end)
    end, { "for 1", "for 2", "w", "r", "round 1", "round 2" })
  end)

  it("WCP-22 Recursion", function()
    local function factorial(self, input)
      if input.n == 0 then return 1 end
      return input.n * self:run("P", { n = input.n - 1 })
    end
    assert.equal(6, run(factorial, {}, { input = { id = "x", n = 3 } }))
    run(function(self)
      local function hanoi(n, from, to, by)
        if n == 0 then return end
        hanoi(n - 1, from, by, to)
        self:task(from .. to)
        hanoi(n - 1, by, to, from)
      end
      hanoi(2, "a", "c", "b")
    end, { "ab", "ac", "bc" })
  end)
end)

describe("termination and triggers", function()
  it("WCP-11 Implicit Termination", function()
    assert.is_nil(run(function(self)
      self:all("split", {
        function() self:task("slow", "5s") end,
        function() self:task("quick", "1s") end,
      })
    end, { "quick", "slow" }))
  end)

  it("WCP-43 Explicit Termination", function()
    assert.equal("ended", run(function(self)
      local ok, err = pcall(function()
        self:all("case", {
          function() self:claim "a" error(catga.error("the_end")) end,
          function() self:sleep("1h") self:task "never" end,
        })
      end)
      if not ok and err.code ~= "the_end" then error(err) end
      return "ended"
    end, { "claim a" }))
  end)

  local function publish(app) app:publish("Bell", {}) end

  it("WCP-23 Transient Trigger", function()
    local function hear(self)
      self:sleep("1m")
      local _, err = self:wait_event("Bell", nil, { timeout = "1h" })
      self:task(err and "not heard" or "heard")
    end
    run(hear, { "not heard" }, { drive = publish, same = false })
    run(hear, { "heard" }, { drive = function(app)
      app:advance("2m")
      publish(app)
    end, same = false })
  end)

  it("WCP-24 Persistent Trigger", function()
    run(function(self)
      self:sleep("1m")
      local _, err = self:receive("bell", { timeout = "1h" })
      self:task(err and "not heard" or "heard")
    end, { "heard" }, { drive = signals { "bell" } })
  end)
end)

describe("the page on patterns", function()
  local function text_of(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
  end

  it("has a row for each of the 43, and says of exactly those with a spec how they are written",
    function()
      local has_spec, rows = {}, 0
      for number, name in text_of("spec/functional/control_patterns_spec.lua")
        :gmatch('%f[%w]it%("WCP%-(%d+) ([^"]+)"') do
        has_spec[number .. " " .. name] = true
      end
      local page = text_of "docs/patterns.md"
      for number, name, how in page:gmatch("\n| (%d+) | ([^|]-) | ([^\n]+)") do
        rows = rows + 1
        assert.equal(rows, tonumber(number))
        local is_written = not how:find("^Not written")
        assert.equal(is_written, has_spec[number .. " " .. name] or false, number .. " " .. name)
        has_spec[number .. " " .. name] = nil
      end
      assert.equal(43, rows)
      assert.same({}, has_spec)
    end)
end)
