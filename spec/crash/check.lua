--- Checks what the crash spec has left. Usage: luajit check.lua SINK_FILE DUMP_FILE KILLS
---
--- The sink's file: "life N" before each start of the program, "call KEY COMMAND" for each attempt,
--- "end PROCESS OUTCOME" when the program was told that a process has ended. The dump: see
--- app/lib/dump.lua. Each check is one line of output; the last line counts them.
local SHOWN_MAX = 5
local REFUSED_ABOVE = 10000 * 1000 -- Thousandths of a pound.
local TRIP_EVERY = 50
local CLOSING = { ProcessCompleted = "completed", ProcessCompensated = "compensated" }
local ENDINGS = { ProcessCompleted = true, ProcessCompensated = true, ProcessFailed = true,
  ProcessCompensationFailed = true, ProcessCancelled = true, ProcessDiverged = true }

-- What must be called, in this order. The payment is undone too when it was in doubt: when a kill
-- came after the step before it, so that a first attempt may have gone through.
local IN_DOUBT = { ["2/undo"] = true }
local PATHS = {
  completed = { "1", "2", "3", "4" },
  compensated = { "1", "2", "2/undo", "1/undo" },
  trip = { "1", "2", "3", "4", "3/undo", "2/undo", "1/undo" },
}

local sink_path, dump_path, kills = arg[1], arg[2], tonumber(arg[3])

--- Faults of one check.
local function new_check(name)
  return { name = name, faults = 0, fault = function(self, ...)
    self.faults = self.faults + 1
    if self.faults <= SHOWN_MAX then print("    " .. string.format(...)) end
  end }
end

local function read_dump(path)
  local d = { orders = {}, outcomes = {}, journals = {}, sums = {}, months = {} }
  local readers = {
    order = function(id, month, amount)
      d.orders[#d.orders + 1] = { id = id, month = month, amount = tonumber(amount) }
    end,
    outcome = function(process, outcome)
      d.outcomes[process] = d.outcomes[process] and "two outcomes" or outcome
    end,
    record = function(process, kind, op)
      local journal = d.journals[process] or {}
      d.journals[process] = journal
      journal[#journal + 1] = { kind = kind, op = op }
    end,
    sum = function(name, count, amount)
      d.sums[name] = { count = tonumber(count), amount = tonumber(amount) }
    end,
    month = function(month, amount) d.months[month] = tonumber(amount) end,
  }
  for line in assert(io.open(path)):lines() do
    local kind, a, b, c = line:match("^(%S+) (%S+) (%S+) ?(%S*)$")
    readers[kind](a, b, c)
  end
  return d
end

-- What must have become of every process: its outcome and the paths of its calls.
local function expectations(dump)
  local expected = {}
  for place, order in ipairs(dump.orders) do
    local outcome = order.amount > REFUSED_ABOVE and "compensated" or "completed"
    expected["order-" .. order.id] = { outcome = outcome, paths = PATHS[outcome],
      doubts = IN_DOUBT }
    if place % TRIP_EVERY == 0 then
      expected["trip-" .. order.id] = { outcome = "compensated", paths = PATHS.trip, doubts = {} }
    end
  end
  for _, e in pairs(expected) do
    e.stage = {}
    for stage, path in ipairs(e.paths) do e.stage[path] = stage end
    e.at, e.life, e.calls = 0, 0, {}
  end
  return expected
end

-- The state of the walk over the sink's lines.
local function new_walk(expected)
  return { expected = expected, life = 0, in_flight = 0, at_kills = {}, calls = 0, repeats = 0,
    unfinished = 0, order = new_check("no step was called after its completion was acknowledged"),
    keys = new_check("every expected call was made, and no other"),
    lives = new_check("no call was repeated within one run of the program"),
    ends = new_check("an outcome that was acknowledged stayed") }
end

local WALK = {}

function WALK.life(walk)
  if walk.life > 0 then
    walk.at_kills[walk.life] = { in_flight = walk.in_flight, unfinished = walk.unfinished }
  end
  walk.life, walk.in_flight = walk.life + 1, 0
end

-- An attempt counts as in flight from its call until the next step's call, or the end.
local function note_call(walk, e, key)
  if e.at == 0 then
    walk.unfinished, e.first_life = walk.unfinished + 1, walk.life
  end
  if e.calls[key] then
    walk.repeats = walk.repeats + 1
    if e.calls[key] == walk.life then
      walk.lives:fault("%s called twice in run %d", key, walk.life)
    end
  end
  e.calls[key] = walk.life
  if e.life ~= walk.life then walk.in_flight = walk.in_flight + 1 end
  e.life = walk.life
end

function WALK.call(walk, key)
  walk.calls = walk.calls + 1
  local process, path = key:match("^(.-)/1/(.+)/1$")
  local e = walk.expected[process]
  local stage = e and e.stage[path]
  if not stage then return walk.keys:fault("%s was called and should not be", key) end
  note_call(walk, e, key)
  if e.doubts[path] and e.first_life == walk.life then
    walk.keys:fault("%s was called and the step was never in doubt", key)
  end
  local due = e.at + 1
  if e.doubts[e.paths[due]] and path ~= e.paths[due] then due = due + 1 end
  if e.ended then
    walk.order:fault("%s was called after %s had ended", key, process)
  elseif stage < e.at then
    walk.order:fault("%s was called after %s/1/%s", key, process, e.paths[e.at])
  elseif stage > due then
    walk.order:fault("%s was called before %s/1/%s", key, process, e.paths[due])
  end
  e.at = math.max(e.at, stage)
end

WALK["end"] = function(walk, process, outcome)
  local e = walk.expected[process]
  if not e then return walk.ends:fault("%s ended and was not started", process) end
  if outcome ~= e.outcome then walk.ends:fault("%s ended %s", process, outcome) end
  if e.life == walk.life then walk.in_flight = walk.in_flight - 1 end
  if not e.ended and e.at > 0 then walk.unfinished = walk.unfinished - 1 end
  e.life, e.ended = 0, true
end

function WALK.quit() end

local function walk_sink(file, expected)
  local walk = new_walk(expected)
  for line in assert(io.open(file)):lines() do
    local kind, a, b = line:match("^(%S+) ?(%S*) ?(%S*)$")
    WALK[kind](walk, a, b)
  end
  for process, e in pairs(expected) do
    if not e.ended then walk.ends:fault("the end of %s was never told", process) end
    for _, path in ipairs(e.paths) do
      if not e.calls[process .. "/1/" .. path .. "/1"] and not e.doubts[path] then
        walk.keys:fault("%s/1/%s was never called", process, path)
      end
    end
  end
  return walk
end

local function check_outcomes(dump, expected)
  local check = new_check("every process has the one outcome it must have")
  for process, e in pairs(expected) do
    local journal, ended = dump.journals[process] or {}, nil
    for place, record in ipairs(journal) do
      if ENDINGS[record.kind] then
        if ended or place < #journal then check:fault("%s goes on after its end", process) end
        ended = CLOSING[record.kind] or record.kind
      end
    end
    if ended ~= e.outcome then
      check:fault("%s is %s in its journal, not %s", process, tostring(ended), e.outcome)
    end
    local told = dump.outcomes[process]
    if process:find("^order") and told ~= e.outcome then
      check:fault("%s is said to be %s", process, tostring(told))
    end
  end
  for process in pairs(dump.journals) do
    if not expected[process] then check:fault("%s has a journal and was not started", process) end
  end
  return check
end

local function check_journals(dump)
  local once = new_check("no step is completed or undone twice in a journal")
  local reverse = new_check("steps are undone last first")
  for process, journal in pairs(dump.journals) do
    local seen, undone = {}, math.huge
    for _, record in ipairs(journal) do
      if record.op ~= "-" and record.kind:find("^ProcessStepComp") then
        local key = record.kind .. " " .. record.op
        if seen[key] then once:fault("%s has %s twice", process, key) end
        seen[key] = true
        if record.kind == "ProcessStepCompensated" then
          if tonumber(record.op) >= undone then
            reverse:fault("%s undoes %s after %d", process, record.op, undone)
          end
          undone = tonumber(record.op)
        end
      end
    end
  end
  return once, reverse
end

local function check_totals(dump)
  local check = new_check("the read model's sums are those of the orders")
  local sums = { completed = { 0, 0 }, refused = { 0, 0 } }
  local months = {}
  for _, order in ipairs(dump.orders) do
    local is_refused = order.amount > REFUSED_ABOVE
    local sum = sums[is_refused and "refused" or "completed"]
    sum[1], sum[2] = sum[1] + 1, sum[2] + order.amount
    months[order.month] = (months[order.month] or 0) + (is_refused and 0 or order.amount)
  end
  for name, sum in pairs(sums) do
    local found = dump.sums[name] or {}
    if found.count ~= sum[1] or found.amount ~= sum[2] then
      check:fault("%s: %s orders, %s; expected %d, %d", name, tostring(found.count),
        tostring(found.amount), sum[1], sum[2])
    end
  end
  for month, amount in pairs(months) do
    if dump.months[month] ~= amount then
      check:fault("%s: %s, expected %d", month, tostring(dump.months[month]), amount)
    end
  end
  return check
end

local function check_kills(walk)
  local check = new_check("every kill met unfinished processes, and repeats are attempts in flight")
  local in_flight = 0
  for life = 1, kills do
    local at_kill = walk.at_kills[life] or { in_flight = 0, unfinished = 0 }
    in_flight = in_flight + at_kill.in_flight
    if at_kill.unfinished == 0 then check:fault("kill %d met no unfinished process", life) end
  end
  if walk.repeats > in_flight then
    check:fault("%d repeats, %d attempts in flight at the kills", walk.repeats, in_flight)
  end
  print(("%d orders, %d kills, %d calls, %d repeats, %d attempts in flight at the kills"):format(
    walk.order_count, kills, walk.calls, walk.repeats, in_flight))
  return check
end

local dump = read_dump(dump_path)
local expected = expectations(dump)
local walk = walk_sink(sink_path, expected)
walk.order_count = #dump.orders
local once, reverse = check_journals(dump)
local checks = { check_outcomes(dump, expected), once, reverse, walk.keys, walk.order, walk.lives,
  walk.ends, check_kills(walk), check_totals(dump) }
local passed, failed = 0, 0
for _, check in ipairs(checks) do
  local is_right = check.faults == 0
  if is_right then passed = passed + 1 else failed = failed + 1 end
  print((is_right and "ok      " or "FAILED  ") .. check.name
    .. (is_right and "" or (" (%d)"):format(check.faults)))
end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
