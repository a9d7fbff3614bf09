--- groups.lua - what `make bench` measures: its groups, their commands and their rows.
---
--- A command prints lines "what: number unit". A row shows the median of what one such line said in
--- all runs, beside the median of its floor, a line of the same run. `budget` is what is aimed at,
--- on the machine that the project's budgets are for; `better` is "more" or "less".

--- One group.
---@class bench.Group
---@field name string
---@field is_long boolean?   run only when it is named
---@field commands bench.Command[]  run in turn, so that both sides of a ratio see the same machine
---@field rows bench.Row[]

--- One command. $BUILD is the build directory; $DATA a directory that is empty before each run;
--- $KEPT one that is kept until the end.
---@class bench.Command
---@field run string
---@field once boolean?   one run is enough: it takes turns inside, or prepares others
---@field needs string?   a file; without it the command is left out: who makes it has said why

--- One row of the table.
---@class bench.Row
---@field what string    the line that is shown
---@field title string?  what to call it; default `what`
---@field floor string?  the line that it is compared with
---@field budget number?
---@field better "more"|"less"

local APP = "$BUILD/catga run bench/apps/%s --no-watch --data $DATA </dev/null"

local BESIDE_BARE = "lookup and xpcall beside bare"
local BESIDE_FULL = "lookup and xpcall beside full"

local function app(name, environment)
  return { run = (environment and environment .. " " or "") .. APP:format(name) }
end

-- In flight, processes a run, budgets of plain and of command steps.
local LEVELS = {
  { 1, 1500 },
  { 64, 30000 },
  { 1000, 60000, 200000, 150000 },
  { 10000, 60000, 100000, 70000 },
}

local function add(list, item) list[#list + 1] = item end

local function process_command(steps, count, in_flight)
  return app("processes",
    ("BENCH_STEPS=%s BENCH_PROCESSES=%d BENCH_IN_FLIGHT=%d"):format(steps, count, in_flight))
end

local function processes()
  local group = { name = "processes", commands = {}, rows = {} }
  for _, level in ipairs(LEVELS) do
    local in_flight, count, plain_budget, command_budget = unpack(level, 1, 4)
    add(group.commands, { run = ("$BUILD/bench/floor bench/floor.lua %d %d $KEPT/floor")
      :format(count, in_flight) })
    for _, steps in ipairs { "plain", "command" } do
      add(group.commands, process_command(steps, count, in_flight))
      local what = ("processes %s %d in flight"):format(steps, in_flight)
      local floor = ("floor %d in flight"):format(in_flight)
      add(group.rows, { what = what, floor = floor, better = "more",
        budget = steps == "plain" and plain_budget or command_budget or nil })
      add(group.rows, { what = what .. ", CPU", floor = floor .. ", CPU", better = "less" })
    end
  end
  return group
end

local FLOW_PEERS = { "restate", "dbos" }
local FLOWS = "$BUILD/bench/flows/"

-- Our processes and the same flow of each peer, one row a peer; below them what only ours have.
local function flows()
  local group = { name = "flows", is_long = true, rows = {}, commands = {
    { run = "bench/peers/flows/install $BUILD", once = true },
  } }

  local function add_rows(ours, theirs, title, better)
    for _, peer in ipairs(FLOW_PEERS) do
      add(group.rows, { what = ours, floor = peer .. " " .. theirs, title = title .. ", " .. peer,
        better = better })
    end
  end

  for _, steps in ipairs { "plain", "command" } do
    for _, level in ipairs(LEVELS) do
      local in_flight, count = unpack(level, 1, 2)
      add(group.commands, process_command(steps, count, in_flight))
      for _, peer in ipairs(FLOW_PEERS) do
        add(group.commands, { needs = FLOWS .. "node",
          run = ("%snode --disable-warning=DeprecationWarning %s%s.mjs %s %d $DATA")
            :format(FLOWS, FLOWS, peer, steps, in_flight) })
      end
      local title = ("%s %d in flight"):format(steps, in_flight)
      add_rows("processes " .. title, title, title, "more")
    end
    for _, part in ipairs { "p50", "p99" } do
      local title = ("%s alone, %s"):format(steps, part)
      add_rows("processes " .. title, title, title, "less")
    end
  end

  add(group.commands, app("memory"))
  add(group.commands, app("steps"))
  for _, what in ipairs { "waiting process, Lua heap", "step, log in memory",
    "replayed step, in the body", "replayed step, with reading its record" } do
    add(group.rows, { what = what, better = "less" })
  end
  return group
end

-- Messages in flight, and how many in a run.
local MESSAGE_LEVELS = { { 1, 2000 }, { 1000, 100000 } }

local function outbox()
  local group = { name = "outbox", commands = {}, rows = {} }
  for _, level in ipairs(MESSAGE_LEVELS) do
    local in_flight, count = unpack(level)
    add(group.commands, { run = ("$BUILD/bench/sync_floor 500 400 %d $KEPT/sync")
      :format(in_flight) })
    add(group.commands, app("outbox", ("BENCH_MESSAGES=%d BENCH_IN_FLIGHT=%d"):format(count,
      in_flight)))
    local what, floor = ("messages %d in flight"):format(in_flight), "raw sync of " .. in_flight
    add(group.rows, { what = what, floor = floor, better = "more" })
    add(group.rows, { what = what .. ", p50", floor = floor .. ", p50", better = "less" })
  end
  return group
end

local WAITING_MESSAGES = 1000000

-- The first command ends as by a kill, so that the second one recovers.
local function waiting()
  local run = "BENCH_PHASE=%s BENCH_MESSAGES=%d " .. APP:gsub("%$DATA", "$KEPT/waiting")
  local group = { name = "waiting", is_long = true, rows = {}, commands = {
    { run = "rm -rf $KEPT/waiting; " .. run:format("wait", WAITING_MESSAGES, "outbox")
      .. " || true" },
    { run = run:format("recover", WAITING_MESSAGES, "outbox") },
  } }
  for _, what in ipairs { "waiting message, Lua heap", "waiting message, resident",
    "waiting message after a restart, resident", "new message beside waiting ones",
    "waiting messages known again" } do
    add(group.rows, { what = what, better = "less" })
  end
  return group
end

local STREAM_PEERS = { rxjs = "rxjs", node = "node_streams" }

-- Our chains beside a bare loop and the same chains of each peer.
local function streams()
  local home = "$BUILD/bench/streams/"
  local group = { name = "streams", is_long = true, rows = {}, commands = {
    { run = "bench/peers/streams/install $BUILD", once = true },
    app("streams"),
  } }
  for _, peer in ipairs { "rxjs", "node" } do
    add(group.commands, { needs = home .. "node",
      run = ("%snode %s%s.mjs"):format(home, home, STREAM_PEERS[peer]) })
  end
  for _, kind in ipairs { "plain", "scan", "group", "tumbling" } do
    for _, floor in ipairs { "loop", "rxjs", "node" } do
      add(group.rows, { what = "streams " .. kind, floor = floor .. " " .. kind,
        title = kind .. ", " .. floor, better = "more",
        budget = kind == "plain" and 30000000 or nil })
    end
  end
  add(group.rows, { what = "streams, aborted traces", budget = 0, better = "less" })
  add(group.rows, { what = "streams, aborted traces in the first hundredth", better = "less" })
  add(group.rows, { what = "slow sink, Lua heap", better = "less" })
  add(group.rows, { what = "slow sink, resident", better = "less" })
  add(group.rows, { what = "durable tumbling over the log", better = "more" })
  return group
end

local function json()
  local group = { name = "json", commands = { { run = "$BUILD/bench/json_bench", once = true } },
    rows = {} }
  for _, subject in ipairs { "small", "order", "fractions", "escapes" } do
    for _, verb in ipairs { "encode", "decode" } do
      local what = subject .. " " .. verb
      group.rows[#group.rows + 1] = { what = what, floor = what .. ", lua-cjson", better = "less" }
    end
  end
  return group
end

local function routing()
  local group = { name = "routing", commands = { app("routing") }, rows = {} }
  for _, count in ipairs { "1", "100", "10,000" } do
    add(group.rows, { what = ("decisions by value, %s rules"):format(count), better = "more",
      floor = ("hash lookup, %s rules"):format(count) })
    add(group.rows, { what = ("decisions by function, %s rules"):format(count), better = "more",
      floor = ("bare loop, %s rules"):format(count) })
  end
  add(group.rows, { what = "events sent on, durable", better = "more" })
  return group
end

local POLICIES = { "none", "behavior", "authorize", "fallback", "total_timeout", "timeout", "retry",
  "breaker", "limiter", "window", "bulkhead", "order_by", "lock", "deduplicate", "cache",
  "all" }

-- What each kind of policy adds to a message that goes well.
local function policies()
  local group = { name = "policies", commands = {}, rows = {} }
  for _, kind in ipairs(POLICIES) do
    group.commands[#group.commands + 1] = app("policies", "BENCH_POLICY=" .. kind)
    group.rows[#group.rows + 1] = { what = "send with " .. kind, floor = kind ~= "none"
      and "send with none" or nil, better = "less" }
  end
  return group
end

local PATHS = { "outermost", "nested", "behaviors", "full", "policies", "events" }

-- How often LuaJIT gives up a trace on a hot path.
local function traces()
  local group = { name = "traces", commands = {}, rows = {} }
  for _, path in ipairs(PATHS) do
    group.commands[#group.commands + 1] = app("traces", "BENCH_TRACES=" .. path)
    group.rows[#group.rows + 1] = { what = "traces given up, " .. path, budget = 0,
      better = "less" }
  end
  return group
end

local PEERS = { "sqlite", "lmdb", "redis" }
local LARGE_EVENTS, LARGE_STREAMS = 10000000, 1000000

-- The same work for our store and each of the others; one row a peer.
local function peers(name, arguments, lines)
  local group = { name = name, is_long = name == "large", commands = {}, rows = {} }
  for _, peer in ipairs { "catga", unpack(PEERS) } do
    local run = ("$BUILD/bench/peer_bench %s $DATA%s"):format(peer, arguments)
    group.commands[#group.commands + 1] = { run = run }
  end
  for _, line in ipairs(lines) do
    for _, peer in ipairs(PEERS) do
      group.rows[#group.rows + 1] = { what = "catga " .. line[1], floor = peer .. " " .. line[1],
        title = line[1] .. ", " .. peer, better = line[2], budget = line[3] }
    end
  end
  return group
end

return {
  peers("peers", "", {
    { "appends of one writer", "more" },
    { "appends of 64 writers", "more" },
    { "events in batches of 100", "more" },
    { "events read by stream", "more" },
    { "events read over all", "more", 5000000 },
  }),
  peers("large", (" %d %d"):format(LARGE_EVENTS, LARGE_STREAMS), {
    { "events loaded", "more" },
    { ("open with %d events"):format(LARGE_EVENTS), "less", 1000 },
    { ("memory with %d events"):format(LARGE_EVENTS), "less" },
  }),
  {
    name = "dispatch",
    commands = {
      { run = "$BUILD/bench/dispatch_bench" },
      app("dispatch", "BENCH_DISPATCH=bare"),
      app("dispatch", "BENCH_DISPATCH=full"),
    },
    rows = {
      { what = "C to C, found before", floor = "C to C, bare call", budget = 20, better = "less" },
      { what = "C to C, found by name", floor = "C to C, bare call", budget = 20, better = "less" },
      { what = "C to C, catga_send", floor = "C to C, bare call", better = "less" },
      { what = "send bare, outermost", floor = BESIDE_BARE, budget = 50, better = "less" },
      { what = "send bare, nested", floor = BESIDE_BARE, budget = 50, better = "less" },
      { what = "send full, outermost", floor = BESIDE_FULL, budget = 150, better = "less" },
      { what = "send full, nested", floor = BESIDE_FULL, budget = 150, better = "less" },
    },
  },
  policies(),
  traces(),
  {
    name = "append",
    commands = {
      { run = "$BUILD/bench/append_bench", once = true },
      { run = "$BUILD/bench/sync_floor 2000 251 1 $KEPT/sync" },
      { run = "$BUILD/bench/sync_floor 500 251 64 $KEPT/sync" },
      app("append"),
    },
    rows = {
      { what = "log append, loop thread", better = "less" },
      { what = "log commits", floor = "log raw 1 MiB writes synced, fresh file", better = "more" },
      { what = "log alone, p50", floor = "log raw 4 KiB and sync, p50", better = "less" },
      { what = "log alone, p99", floor = "log raw 4 KiB and sync, p99", better = "less" },
      { what = "log cursor, 200-byte events", budget = 5000000, better = "more" },
      { what = "append alone, p50", floor = "raw sync of 1, p50", better = "less" },
      { what = "append alone, p99", floor = "raw sync of 1, p99", better = "less" },
      { what = "durable step alone, p50", floor = "raw sync of 1, p50", better = "less" },
      { what = "durable step alone, p99", floor = "raw sync of 1, p99", better = "less" },
      { what = "append of 64 writers", floor = "raw sync of 64", better = "more" },
    },
  },
  routing(),
  {
    name = "projections",
    commands = {
      { run = "$BUILD/bench/projection_floor 200000 10000 $DATA/floor.sqlite" },
      app("projections"),
    },
    rows = {
      { what = "projection put", floor = "SQLite alone, put", budget = 200000, better = "more" },
      { what = "projection update", floor = "SQLite alone, update", budget = 80000,
        better = "more" },
      { what = "projection fold", floor = "SQLite alone, update", better = "more" },
      { what = "projection tables", floor = "SQLite alone, update", better = "more" },
      { what = "projection lag idle, p50", better = "less" },
      { what = "projection lag idle, p99", budget = 5, better = "less" },
      { what = "append into an inline projection", floor = "append beside an inline projection",
        better = "more" },
    },
  },
  processes(),
  flows(),
  {
    name = "memory",
    commands = {
      { run = "$BUILD/bench/floor bench/floor.lua 10000 10000 $KEPT/floor" },
      app("memory"),
    },
    rows = {
      { what = "waiting process, Lua heap", floor = "floor process in memory", budget = 1024,
        better = "less" },
      { what = "waiting process, resident", floor = "floor process in memory", better = "less" },
    },
  },
  {
    name = "switch",
    commands = { app("steps") },
    rows = {
      { what = "step, log in memory", budget = 500, better = "less" },
      { what = "task yield and resume", better = "less" },
      { what = "replayed step, in the body", budget = 100, better = "less" },
      { what = "replayed step, with reading its record", better = "less" },
    },
  },
  {
    name = "start",
    commands = {
      { run = "$BUILD/bench/start_bench 20 $BUILD/catga bench/apps/start $DATA", once = true },
    },
    rows = {
      { what = "start to first command", floor = "start of a bare C program", budget = 20,
        better = "less" },
      { what = "idle memory", budget = 10, better = "less" },
      { what = "program", budget = 3, better = "less" },
    },
  },
  outbox(),
  waiting(),
  json(),
  streams(),
}
