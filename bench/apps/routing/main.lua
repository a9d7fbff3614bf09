--- main.lua - routing decisions a second with 1, 100 and 10,000 rules, beside a bare loop of the
--- same predicates and beside a hash lookup; and events that a durable route sends on.
---
--- A decision is: which rule takes a message, its conditions asked. "by value" are rules that
--- compare one field; "by function" ones are asked one after the other. Half of the messages meet a
--- rule. Environment: BENCH_SECONDS, how long each is measured (default 0.3); BENCH_EVENTS, events
--- that go through the durable route (default 20000).
local catga = require "catga"
local clocks = require "catga.native.clock"

local SECONDS = tonumber(os.getenv("BENCH_SECONDS")) or 0.3
local EVENTS = tonumber(os.getenv("BENCH_EVENTS")) or 20000
local SIZES = { 1, 100, 10000 }
local MESSAGES = 1024

-- Sets of rules by name; the fields are what webhooks have.
local function define(size)
  catga.routes { name = "value" .. size }
  local rows = {}
  for i = 1, size do rows[i] = { field = "repository", value = "r" .. i, to = "t" .. i } end
  catga.routes.table("value." .. size, rows, { set = "value" .. size, name = "v" })
  catga.routes { name = "function" .. size }
  for i = 1, size do
    local wanted = "r" .. i
    catga.route("function." .. size, { set = "function" .. size })
      :when(function(m) return m.repository == wanted end):to("t" .. i)
  end
end
for _, size in ipairs(SIZES) do define(size) end
catga.route("Source", { name = "durable" }):when(function(m) return m.amount > 0 end):to("Target")

local function messages_of(size)
  local list = {}
  for i = 1, MESSAGES do
    list[i] = { repository = "r" .. (i % 2 == 0 and i % size + 1 or -i), amount = i }
  end
  return list
end

local clock -- Of the run, made in main.

-- Calls decide(message) for a while; how often, and the milliseconds that it took.
local function run(messages, decide, seconds)
  local count, taken, ms = 0, 0, 0
  while ms < seconds * 1000 do
    local begin = clock:mono()
    local now
    repeat
      for i = 1, 64 do taken = taken + decide(messages[(count + i) % MESSAGES + 1]) end
      count = count + 64
      now = clock:mono()
    until now - begin > 10
    ms = ms + (now - begin)
    catga.sleep("1ms") -- A handler may run only so long without waiting.
  end
  return count, ms, taken
end

local function measure(what, messages, decide)
  run(messages, decide, SECONDS / 2) -- Warms up.
  local count, ms = run(messages, decide, SECONDS)
  print(("%s: %.0f /s"):format(what, count / ms * 1000))
end

-- What counts the rules that take a message, and does nothing else.
local Sink = { taken = 0 }
function Sink:matched() self.taken = self.taken + 1 end
function Sink.send() end
function Sink.filtered() end
function Sink.begin() end

local function decider(set, kind)
  local index, scan = set.index, set.index.scan
  return function(message)
    Sink.taken = 0
    local rules = index:find(kind, message)
    local at = scan(rules, 1, message, nil, Sink)
    while at do
      rules[at].take(message, nil, Sink)
      at = scan(rules, at + 1, message, nil, Sink)
    end
    return Sink.taken
  end
end

local function bare_loop(size)
  local tests = {}
  for i = 1, size do
    local wanted = "r" .. i
    tests[i] = function(m) return m.repository == wanted end
  end
  return function(message)
    local taken = 0
    for i = 1, size do
      if tests[i](message) then taken = taken + 1 end
    end
    return taken
  end
end

local function bare_hash(size)
  local by = {}
  for i = 1, size do by["r" .. i] = i end
  return function(message) return by[message.repository] and 1 or 0 end
end

local function decisions(app, size)
  local sets, messages = app.registry.routes.sets, messages_of(size)
  local label = size == 10000 and "10,000" or tostring(size)
  measure(("decisions by value, %s rules"):format(label), messages,
    decider(sets["value" .. size], "value." .. size))
  measure(("hash lookup, %s rules"):format(label), messages, bare_hash(size))
  measure(("decisions by function, %s rules"):format(label), messages,
    decider(sets["function" .. size], "function." .. size))
  measure(("bare loop, %s rules"):format(label), messages, bare_loop(size))
end

-- Events in the log, until the last one was sent on.
local function durable()
  local batch = {}
  for first = 1, EVENTS, 500 do
    for i = 1, 500 do batch[i] = { type = "Source", data = { amount = first + i } } end
    assert(catga.events.append("S", batch))
  end
  local begin = clock:mono()
  local last
  repeat
    catga.sleep("2ms")
    last = assert(catga.events.read("$type-Target", { max = 1, backward = true }))[1]
  until last and last.version == EVENTS - 1
  print(("events sent on, durable: %.0f /s"):format(EVENTS / (clock:mono() - begin) * 1000))
end

catga.main(function()
  clock = clocks.system()
  local app = require("catga.state")[1].app
  for _, size in ipairs(SIZES) do decisions(app, size) end
  durable()
  clock:close()
  catga.exit(0)
end)
