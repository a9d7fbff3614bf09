--- Random flows with steps, timers, failures, nested branches and updates, killed again and again
--- at random records: they end, what is replayed is what was live, nothing completed runs again,
--- and what was done and has an undo is undone exactly once when the flow fails.
---
--- CATGA_SEEDS is how many flows; a failing one says its seed, CATGA_SEED runs that one alone.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000
local COMPILED_MAX = 1000 -- Flows that run with LuaJIT's compiler on.

-- A generator of its own: the flow's shape must not hang on anything else.
local function generator(seed)
  local x = seed * 2654435761 % 2147483647
  return function(n)
    x = (x * 16807) % 2147483647
    return x % n + 1
  end
end

-- A random plan: what a flow does, as a tree.
local function plan(random, depth)
  local list = {}
  for i = 1, random(3) do
    local kind = random(depth > 2 and 6 or 11)
    if kind <= 2 then
      list[i] = { kind = "step", fails = random(8) == 1, waits = random(4) == 1 and random(5) }
    elseif kind == 3 then
      list[i] = { kind = "sleep", seconds = random(5) }
    elseif kind == 4 then
      list[i] = { kind = "plain", fails = random(12) == 1, flaky = random(2) == 1 }
    elseif kind == 5 then
      list[i] = { kind = "try", plan = plan(random, depth + 1) }
    elseif kind == 6 then
      list[i] = { kind = "receive", seconds = random(5) }
    elseif kind == 7 then
      list[i] = { kind = "loop", plan = plan(random, depth + 1), rounds = random(3) }
    else
      local branches = {}
      for k = 1, random(4) do branches[k] = plan(random, depth + 1) end
      list[i] = { kind = ({ "all", "all", "any", "map" })[random(4)], branches = branches,
        max = random(3) }
    end
  end
  return list
end

local runs -- Effects by name: how often they ran to their end, over all lives.
local tries

local function add(trace, what) trace[#trace + 1] = what end

local function define(tree)
  local P = catga.process "P"
  P.settings = { plain = { attempts = 3, backoff = "1s" } }
  local function run(self, list, path, trace)
    for i, item in ipairs(list) do
      local name = path .. "." .. i
      add(trace, "at " .. name)
      if item.kind == "step" then
        add(trace, self:marked(name, item))
      elseif item.kind == "plain" then
        add(trace, self:plain(name, item))
      elseif item.kind == "sleep" then
        self:sleep(item.seconds .. "s")
        add(trace, "slept " .. name .. math.random(100))
      elseif item.kind == "receive" then
        add(trace, self:receive("s" .. #name, { timeout = item.seconds .. "s" }) or "late")
      elseif item.kind == "loop" then
        add(trace, self:loop({ n = 1 }, function(state) -- What rounds share is their state.
          local own = state.own or {}
          run(self, item.plan, name .. "#" .. state.n, own)
          if state.n == item.rounds then return nil, own end
          return { n = state.n + 1, own = own }
        end))
      elseif item.kind == "try" then
        local ok, err = pcall(run, self, item.plan, name, trace)
        add(trace, ok and "fine" or err.code)
      elseif item.kind == "map" then
        self:map(item.branches, function(branch, place)
          run(self, branch, name .. ":" .. place, trace)
        end, { max = item.max })
      else
        local branches = {}
        for k, branch in ipairs(item.branches) do
          branches[k] = function()
            run(self, branch, name .. ":" .. k, trace)
            return k
          end
        end
        local result, key = self[item.kind](self, name, branches)
        add(trace, name .. " " .. tostring(key or #result))
      end
    end
  end
  function P:execute()
    local trace = {}
    self.trace = trace
    local ok, err = pcall(run, self, tree, "", trace)
    self:step("last", function() return true end)
    if not ok then error(err, 0) end
    return trace
  end
  function P.updates:change(name)
    add(self.trace, "begin " .. name)
    local item = { fails = name:find("1$") and true, waits = name:find("2$") and 2 }
    local ok = pcall(self.marked, self, name, item)
    if name:find("3$") then
      self:all(name, {
        function() self:sleep("1s") add(self.trace, "slept " .. name) end,
        function() self:marked(name .. "b", {}) end,
      })
    end
    add(self.trace, "end " .. name .. tostring(ok))
    return name
  end
  local function count(name) runs[name] = (runs[name] or 0) + 1 end
  function P.marked(_, name, item)
    if item.waits then catga.sleep(item.waits .. "s") end
    if item.fails then error(catga.error("refused")) end
    count(name)
    return name
  end
  function P.compensate_marked(_, _, name) count("undo " .. name) end
  function P.plain(_, name, item)
    tries[name] = (tries[name] or 0) + 1
    if item.fails then error(catga.error("broken")) end
    if item.flaky and tries[name] < 2 then error("once more") end
    count(name)
    return name
  end
end

local ENDS = { completed = true, compensated = true, failed = true, cancelled = true }

-- The rounds of loops that are over are not undone.
local function in_finished_round(records, op)
  for _, record in ipairs(records) do
    local own = tostring(record.data.op) .. "."
    local round = op:sub(1, #own) == own and tonumber(op:match("^(%d+)", #own + 1))
    if round and record.type == "ProcessLoopEnded" and not record.data.error then return true end
    local last = record.type == "ProcessLoopRound" and record.data.round
    if round and last and round <= last then return true end
  end
end

-- What is wrong with the journal of a flow that has ended.
local function fault_of(records, status)
  local done, undone = {}, {}
  for _, record in ipairs(records) do
    local data = record.data
    if record.type == "ProcessStepCompleted" then
      if done[data.op] then return "completed twice: " .. data.op end
      done[data.op] = data.step
    elseif record.type == "ProcessStepCompensated" then
      if undone[data.op] then return "undone twice: " .. data.op end
      undone[data.op] = true
    end
  end
  for op, step in pairs(done) do
    if (status == "compensated" or status == "cancelled") and step == "marked" and not undone[op]
      and not in_finished_round(records, tostring(op)) then
      return "not undone: " .. op
    end
  end
  for op in pairs(undone) do -- In doubt, it may have no completion: but it was recorded so.
    if done[op] and done[op] ~= "marked" then return "undone without an undo: " .. op end
  end
end

-- Sends updates at random times to the process of an app.
local function disturb(random, app, life)
  for i = 1, random(4) do
    local ms = random(6000)
    require("catga.task").spawn(app.app, function()
      app.clock:sleep(ms)
      local name = ("u%d.%d"):format(life, i)
      local value, err = catga.processes.update("x", "change", name)
      if value ~= name and err.code ~= "ended" then error(tostring(err)) end
    end)
  end
end

-- What a replay that only looks finds wrong.
local function look(app)
  local verdict, err = app:call(catga.processes.replay, "x")
  if verdict and verdict.verdict == "same" then return nil end
  return "looked at, it diverges: " .. catga.json.encode(verdict or err)
end

-- Runs the flow of a seed with kills; a description of what is wrong, or nil.
local function try(seed)
  local random = generator(seed)
  local tree = plan(random, 0)
  runs, tries = {}, {}
  local function fill() define(tree) end
  local settings = { segment_size = "1MiB" }
  local app = assert(testing.app(fill, { settings = settings }))
  app:start("P", "x")
  local kills = random(4)
  local now = START
  local signals = 0
  local function outside()
    if random(2) == 1 then return end
    app:advance(random(4) .. "s")
    signals = signals + 1
    app:call(catga.processes.signal, "x", "s" .. random(12), signals, { id = "s" .. signals })
    if seed % 4 == 0 and random(3) == 1 then app:call(catga.processes.cancel, "x") end
  end
  for life = 1, kills do
    disturb(random, app, life)
    outside()
    local status = app:wait("x")
    if not ENDS[status] then
      if os.getenv("CATGA_SEED") then
        print(catga.json.encode(tree))
        for _, record in ipairs(app:journal("x")) do
          print(record.position, record.type, catga.json.encode(record.data))
        end
      end
      return ("it ended %s\n%s"):format(tostring(status), table.concat(app.lines, "\n"))
    end
    local fault = look(app) -- The result that was live is what a replay gives.
    if fault then return fault end
    local position = random(app:position() - 2) + 1
    local memory = app:snapshot(position)
    -- What ran behind the kill did not happen; effects outside stay.
    app:kill()
    now = now + random(10000)
    app = assert(testing.app(fill, { memory = memory, start = now, settings = settings }))
    if position <= 1 then app:start("P", "x") end
    fault = look(app) -- While it goes on.
    if fault then return fault end
  end
  local status, result, err = app:wait("x")
  if not ENDS[status] then
    return ("it ended %s %s\n%s"):format(tostring(status), tostring(err),
      table.concat(app.lines, "\n"))
  end
  local fault = fault_of(app:journal("x"), status)
  if fault and os.getenv("CATGA_SEED") then
    for _, record in ipairs(app:journal("x")) do
      print(record.position, record.type, catga.json.encode(record.data))
    end
  end
  if fault then return fault end
  fault = look(app)
  if fault then return fault end
  local again = assert(testing.app(fill,
    { memory = app:snapshot(app:position() - 1), start = now + 1e6, settings = settings }))
  local status2, result2 = again:wait("x")
  local lines = table.concat(again.lines, "\n")
  again:kill()
  app:kill()
  if status2 ~= status then return status .. " became " .. tostring(status2) .. "\n" .. lines end
  if catga.json.encode { result } ~= catga.json.encode { result2 } then
    return "the replay gives another result: " .. catga.json.encode { result } .. " "
      .. catga.json.encode { result2 }
  end
end

describe("random flows that are killed again and again", function()
  it("end as they must", function()
    local only = tonumber(os.getenv("CATGA_SEED"))
    local seeds = only and { only } or {}
    if not only then
      for i = 1, tonumber(os.getenv("CATGA_SEEDS")) or 200 do seeds[i] = i end
    end
    -- So many short lives: compiling their traces would take most of the time.
    if #seeds > COMPILED_MAX then jit.off() end
    for _, seed in ipairs(seeds) do
      local fault = try(seed)
      if fault then jit.on() end
      assert.is_nil(fault, ("CATGA_SEED=%d: %s"):format(seed, tostring(fault)))
    end
    jit.on()
  end)
end)
