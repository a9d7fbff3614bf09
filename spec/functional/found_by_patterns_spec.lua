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

describe("found by the patterns:", function()
  it("branches without any operation are replayed", no_branch_has_an_operation)
  it("self:map over no items is replayed", no_item)
  it("a branch that loses gives its signal back", a_branch_that_loses_takes_its_signal_along)
  it("testing.chaos takes commits of several records whole", chaos_cuts_a_commit_in_two)
end)
