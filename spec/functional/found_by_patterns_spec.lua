--- What the specs of the patterns have found wrong once, each as small as it gets.
local testing = require "catga.testing"
local catga = require "catga"

local function define_with(fill)
  return function()
    local P = catga.process "P"
    fill(P)
    function P.task(_, name) return name end
  end
end

-- Runs P, then kills it behind the record that tells that its branches are joined.
local function replay_join(execute)
  local define = define_with(function(P) P.execute = execute end)
  local app = assert(testing.app(define))
  app:run("P", "x")
  local position
  for _, record in ipairs(app:journal("x")) do
    if record.type == "ProcessBranchesJoined" then position = record.position end
  end
  local memory = app:snapshot(position + 1)
  app:stop()
  app = assert(testing.app(define, { memory = memory }))
  local ok, status = pcall(app.wait, app, "x")
  if ok then app:stop() else app:kill() end
  assert.equal("completed", ok and status or "waits for ever")
end

local function no_branch_has_an_operation()
  for _, branches in ipairs { {}, { function() return 1 end } } do
    replay_join(function(self)
      self:all("none", branches)
      self:task "after"
    end)
  end
end

local function no_item()
  replay_join(function(self)
    self:map({}, function() end)
    self:task "after"
  end)
end

-- Two signals that are both there when the branches begin.
local function a_branch_that_loses_takes_its_signal_along()
  local app = assert(testing.app(define_with(function(P)
    function P:execute()
      self:sleep("1m")
      local _, first = self:any("either", {
        a = function() return self:receive "a" end,
        b = function() return self:receive "b" end,
      })
      local other = self:receive(first == "a" and "b" or "a", { timeout = "1h" })
      return { first = first, other = other }
    end
  end)))
  app:start("P", "x")
  for _, name in ipairs { "a", "b" } do
    app:call(catga.processes.signal, "x", name, "signal " .. name)
  end
  local _, result = app:wait("x")
  app:stop()
  assert.same({ first = "a", other = "signal b" }, result)
end

-- An approval in a branch that has lost, and another one of the same name behind it.
local function a_name_of_an_approval_is_free_when_its_branch_has_ended()
  local app = assert(testing.app(define_with(function(P)
    function P:execute()
      self:any("either", {
        asks = function() return self:approval("budget") end,
        gives_up = function() self:sleep("1m") return true end,
      })
      local _, err = self:approval("budget", { timeout = "1h" })
      return err.code
    end
  end)))
  local result, err = app:run("P", "x")
  app:stop()
  assert.equal("timeout", result, tostring(err)) -- It is that after a restart.
end

local function a_child_of_a_branch_that_loses_is_cancelled()
  local app = assert(testing.app(define_with(function(P)
    function P:execute()
      self:any("either", {
        child = function() return self:run("Slow", {}, { id = "slow" }) end,
        timer = function() self:sleep("1m") return true end,
      })
      self:sleep("1h")
    end
    local Slow = catga.process "Slow"
    function Slow:execute() self:sleep("1d") end
  end)))
  app:start("P", "x")
  app:advance("10m")
  local status = app:call(function() return catga.processes.get("slow").status end)
  app:stop()
  assert.equal("cancelled", status)
end

local function nothing_is_left_of_a_wait_for_an_event_when_its_process_was_cancelled()
  local app = assert(testing.app(define_with(function(P)
    function P:execute() self:wait_event("Never") end
  end)))
  app:start("P", "x")
  app:settle()
  app:call(catga.processes.cancel, "x")
  local reader = (app.app.engine.event_readers or {}).Never
  local waiters = reader and #reader.waiters or 0
  app:stop()
  assert.equal(0, waiters)
end

-- A signal from a step of another process, which is one commit with the completion of that step.
local function chaos_cuts_a_commit_in_two()
  local fault = testing.chaos(define_with(function(P)
    local Q = catga.process "Q"
    function Q:execute(to) self:tell(to) end
    function Q.tell(_, to) assert(catga.processes.signal(to, "go", 1)) end
    function P:execute()
      self:start("Q", self.id)
      return self:receive "go"
    end
  end), "P", "x")
  assert.is_nil(fault)
end

-- A process that has had branches and is not in memory is ended, while it is read back.
local function one_that_has_left_memory_can_be_cancelled()
  local app = assert(testing.app(define_with(function(P)
    function P:execute()
      self:all("first", { function() return self:task "a" end })
      self:receive "go"
    end
  end)))
  app:start("P", "x")
  app:advance("30s")
  local ok, done = pcall(app.call, app, catga.processes.cancel, "x")
  if ok then app:stop() else app:kill() end
  assert.is_true(ok and done, "cancel waits for ever")
end

-- The task of a process that has ended is used for something else, which must be left alone.
local function a_process_that_was_cancelled_does_not_leave_memory_once_more()
  local app = assert(testing.app(define_with(function(P)
    function P:execute() self:sleep("1h") end
  end)))
  app:start("P", "x")
  app:settle()
  app:call(catga.processes.cancel, "x")
  local ok, count = pcall(app.call, app, function()
    local others, ended = {}, 0
    for i = 1, 10 do others[i] = catga.spawn(function() catga.sleep("1m") return 1 end) end
    for _, other in ipairs(others) do ended = ended + other:wait() end
    return ended
  end)
  if ok then app:stop() else app:kill() end
  assert.equal(10, ok and count or "a task has been dropped")
end

describe("found by the patterns:", function()
  it("branches without any operation are replayed", no_branch_has_an_operation)
  it("self:map over no items is replayed", no_item)
  it("a branch that loses gives its signal back", a_branch_that_loses_takes_its_signal_along)
  it("testing.chaos takes commits of several records whole", chaos_cuts_a_commit_in_two)
  it("the name of an approval is free when its branch has ended",
    a_name_of_an_approval_is_free_when_its_branch_has_ended)
  it("a child of a branch that loses is cancelled",
    a_child_of_a_branch_that_loses_is_cancelled)
  it("nothing is left of a wait for an event when its process was cancelled",
    nothing_is_left_of_a_wait_for_an_event_when_its_process_was_cancelled)
  it("one that had branches and has left memory can be cancelled",
    one_that_has_left_memory_can_be_cancelled)
  it("a process that was cancelled does not leave memory once more",
    a_process_that_was_cancelled_does_not_leave_memory_once_more)
end)
