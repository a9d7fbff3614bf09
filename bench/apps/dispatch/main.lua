--- main.lua - nanoseconds of a send from Lua to Lua, beside a table lookup and a protected call.
---
--- Environment: BENCH_DISPATCH is "bare" (no behavior, no schema, the envelope is not touched) or
--- "full" (one behavior, a schema with three fields, the handler reads the envelope). "Outermost"
--- is a unit of work of its own, "nested" a send inside one that is open.
local catga = require "catga"
local clocks = require "catga.native.clock"

local CALLS = 300000 -- Far below what the deadline of handlers allows.
local WARM_UP_CALLS = 20000

local kind = os.getenv("BENCH_DISPATCH") or "bare"
local input = { order_id = "o1", amount = 99.5, note = "leave at the door" }
local clock -- Of the run, made in main.
local count = 0

if kind == "full" then
  catga.behavior("count", function(_, _, next)
    count = count + 1
    return next()
  end, { only = "command" })
  catga.command {
    name = "Work", input = { order_id = "string", amount = "number", note = "string?" },
    handle = function(cmd, ctx)
      if ctx.attempt > 1 then return nil end
      return cmd.amount
    end,
  }
else
  catga.command("Work", function(cmd)
    return cmd.amount
  end)
end

local function send_many(calls)
  local begin = clock:mono()
  for _ = 1, calls do
    local value, err = catga.send("Work", input)
    if not value then error(err) end
  end
  return (clock:mono() - begin) / calls * 1e6
end

catga.query("Nested", function(calls)
  return send_many(calls)
end)

-- What any dispatcher does: a lookup by name and a protected call.
local handlers = { Work = function(cmd) return cmd.amount end }

local function handle_error(err)
  return err
end

local function call_many(calls)
  local begin = clock:mono()
  local sum = 0
  for _ = 1, calls do
    local ok, value = xpcall(handlers.Work, handle_error, input)
    if not ok then error(value) end
    sum = sum + value
  end
  return (clock:mono() - begin) / calls * 1e6
end

catga.main(function()
  catga.sleep("300ms") -- In a program that has run for a moment: see lua/catga/protected.lua.
  clock = clocks.system()
  call_many(WARM_UP_CALLS)
  print(("lookup and xpcall beside %s: %.1f ns"):format(kind, call_many(CALLS)))
  send_many(WARM_UP_CALLS)
  print(("send %s, outermost: %.1f ns"):format(kind, send_many(CALLS)))
  catga.ask("Nested", WARM_UP_CALLS)
  print(("send %s, nested: %.1f ns"):format(kind, catga.ask("Nested", CALLS)))
  clock:close()
  catga.exit(0)
end)
