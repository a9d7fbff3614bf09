--- main.lua - how often LuaJIT gives up a trace on a hot path of the Lua half, from the first
--- message on, in a program that has run for a moment.
---
--- Environment: BENCH_TRACES is the path: "outermost", "nested", "behaviors", "full" (behaviors,
--- schema, envelope), "policies" or "events". BENCH_TRACES_SHOW=1 says where it gave up.
local catga = require "catga"
local jutil = require "jit.util"

local ROUNDS = 20000
local EVENTS_AT_ONCE = 50 -- Published before their handlers run.

local path = os.getenv "BENCH_TRACES" or "outermost"
local input = { order_id = "o1", amount = 99.5, note = "leave at the door" }

-- What the compiler tells; looked at when all is over. It runs inside of the compiler: it is not
-- compiled itself, and calls nothing.
local told, told_count = {}, 0
local begun_fn, begun_pc
local function listen(what, _, fn, pc, code)
  if what == "start" then begun_fn, begun_pc = fn, pc end
  if what ~= "abort" then return end
  told_count = told_count + 1
  told[told_count] = { fn, pc, code, begun_fn, begun_pc }
end
jit.off(listen)

local function show()
  local ok, vmdef = pcall(require, "jit.vmdef")
  for i = 1, told_count do
    local fn, pc, code, from, from_pc = unpack(told[i], 1, 5)
    print(("  from %s gave up at %s: %s"):format(tostring(jutil.funcinfo(from, from_pc).loc),
      tostring(jutil.funcinfo(fn, pc).loc), ok and vmdef.traceerr[code] or tostring(code)))
  end
end

-- Three behaviors of an app: counting before, counting behind, looking at the answer.
local counts = { 0, 0, 0 }
if path == "behaviors" or path == "full" then
  catga.behavior("before", function(_, _, next)
    counts[1] = counts[1] + 1
    return next()
  end)
  catga.behavior("behind", function(_, _, next)
    local value, err = next()
    counts[2] = counts[2] + 1
    return value, err
  end)
  catga.behavior("failures", function(_, _, next)
    local value, err = next()
    if value == nil and err then counts[3] = counts[3] + 1 end
    return value, err
  end)
end

local command = { name = "Work", handle = function(cmd) return cmd.amount end }
if path == "full" then
  command.input = { order_id = "string", amount = "number", note = "string?" }
  command.handle = function(cmd, ctx)
    if ctx.attempt > 1 then return nil end
    return cmd.amount
  end
elseif path == "policies" then
  command.attempts, command.timeout = 3, "5s"
  command.breaker, command.fallback = {}, 0
end
catga.command(command)

local function send_many(rounds)
  for _ = 1, rounds do
    local value, err = catga.send("Work", input)
    if not value then error(err) end
  end
  return true
end

catga.query("Nested", send_many)
catga.on("Happened", function(event) counts[1] = counts[1] + event.amount end)

local function publish_many(rounds)
  for _ = 1, rounds / EVENTS_AT_ONCE do
    for _ = 1, EVENTS_AT_ONCE do catga.publish("Happened", input, { qos = 0 }) end
    catga.sleep("0ms")
  end
end

catga.main(function()
  catga.sleep("300ms")
  -- A task that is used for the first time has a table of another shape than later.
  if path == "events" then publish_many(ROUNDS / 10) end
  jit.attach(listen, "trace")
  if path == "nested" then
    catga.ask("Nested", ROUNDS)
  elseif path == "events" then
    publish_many(ROUNDS)
  else
    send_many(ROUNDS)
  end
  jit.attach(listen)
  print(("traces given up, %s: %d count"):format(path, told_count))
  if os.getenv "BENCH_TRACES_SHOW" then show() end
  catga.exit(0)
end)
