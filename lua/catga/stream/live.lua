--- Streams that are not durable: over iterators, over events of the log from now on, over events
--- that are published without being stored. Their state is in memory.
---
--- Each source has a task. Only one task at a time is in the chain (its turn), so a source is read
--- when the item before it has gone through: a slow sink slows the sources down. A single iterator
--- that a running script reads is read by the script's own task.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local graphs = require "catga.stream.graph"
local instances = require "catga.stream.instance"
local failures = require "catga.stream.failures"
local reading = require "catga.stream.reading"
local rings = require "catga.stream.queue"

local M = {}

-- Items of an iterator before other tasks get their turn: as many as take about a millisecond, in
-- these bounds. What is between two slices is not compiled, so short ones would cost; the first one
-- is long enough for the loop to be compiled before the functions that it calls are by themselves.
local SLICE_MIN, SLICE, SLICE_MAX = 64, 1024, 65536
local SLICE_MS = 1
local RING_MAX = 256         -- Live events taken at once.
local TIMER_MS_MAX = 86400000
-- What a chain of the same shape may have anew; an iterator goes on.
local RENEWED = { "fn", "by", "keys", "reduce", "merge", "event_time", "at", "to", "initial",
  "options" }

---@class catga.LiveStream
---@field app catga.App
---@field graph catga.StreamGraph
---@field name string
---@field status "running"|"paused"|"failed"|"finished"|"stopped"
---@field instance catga.StreamInstance
---@field working integer
---@field tasks table<catga.Task, boolean>
local Live = {}
Live.__index = Live

--- A stream; start begins its work.
---@param app catga.App
---@param graph catga.StreamGraph
---@return catga.LiveStream
function M.new(app, graph)
  local self = setmetatable({ app = app, graph = graph, name = graph.name, status = "stopped",
    working = 0, tasks = {}, events = 0, rings = {}, waiting = {}, waiting_first = 1,
    waiting_last = 0, done = tasks.future(), caught_up = {} }, Live)
  self.instance = instances.new(app, graph, failures.guard(self))
  self.instance.failed = function(failure) self:fail(failure) end
  if graph.options.on_error ~= "stop" then self.instance:use(true) end
  for _, node in ipairs(graph.sources) do
    if node.kind == "events" and node.options.qos == 0 then
      self.rings[node.id] = rings.new(node.options.buffer, node.options.overflow,
        ("stream %s"):format(self.name))
    end
  end
  return self
end

-- Waits for the turn to be in the chain. May yield.
local function enter_later(self)
  local entry = { task = state[1] }
  self.waiting_last = self.waiting_last + 1
  self.waiting[self.waiting_last] = entry
  while not entry.has_turn do native_task.park() end
end

local function enter(self)
  if not self.is_busy then
    self.is_busy = true
  else
    enter_later(self)
  end
end

-- Gives the turn to who waits first.
local function leave(self)
  local entry = self.waiting[self.waiting_first]
  if not entry then
    self.is_busy = false
    return
  end
  self.waiting[self.waiting_first] = nil
  self.waiting_first = self.waiting_first + 1
  entry.has_turn = true
  native_task.wake(entry.task)
end

local function cancel_timer(self)
  if self.timer then self.app.clock:cancel(self.timer) end
  self.timer = nil
end

local function is_caught_up(self)
  for _, node in ipairs(self.graph.sources) do
    if not self.caught_up[node.id] then return false end
  end
  return true
end

-- Runs a task of the stream; an error ends the stream.
local function spawn(self, fn, ...)
  local task
  local function finish(ok, failure)
    self.tasks[task] = nil
    if not ok then self:fail(failure) end
  end
  task = tasks.spawn(self.app, function(...) finish(xpcall(fn, errors.catch, ...)) end, ...)
  self.tasks[task] = true
  return task
end

local arm

local function tick(self)
  enter(self)
  local instance = self.instance
  instance.now = self.app.clock:now()
  instance:tick()
  if is_caught_up(self) then instance:look_idle() end
  leave(self)
  if self.room then
    local room = self.room
    self.room = nil
    room:set()
  end
  arm(self)
end

-- Sets the timer for what is due next.
function arm(self)
  if self.is_over or not self.graph.is_timed then return end
  local at = self.instance:due()
  if self.timer and self.timer_at <= at then return end -- It will look again.
  cancel_timer(self)
  self.timer_at = at
  if at == math.huge then return end
  local ms = math.ceil(math.max(0, math.min(at - self.app.clock:now(), TIMER_MS_MAX)))
  self.timer = self.app.clock:after(ms, function()
    state[1].app = self.app
    self.timer = nil
    if not (self.is_over or self.is_paused) then spawn(self, tick, self) end
  end)
end

-- Waits for the end of a pause, and for room in a delay. Not in the turn. May yield.
local function wait_for_room(self)
  while not self.is_over and (self.is_paused or self.instance:is_full()) do
    self.room = self.room or tasks.future()
    self.room:wait()
  end
end

local function feed(self, node, events)
  enter(self)
  self.instance.now = self.app.clock:now()
  self.instance:feed(node, events, 1, #events)
  self.instance:pass()
  self.events = self.events + #events
  leave(self)
  arm(self)
end

-- Events of the log, from a position on.
local function read_log(self, node)
  local store = self.app.store
  local after = node.options.after or "end"
  if after == "continue" or after == "end" then
    after = self.places and self.places[node.id] or self.from
  elseif after == "start" then
    after = 0
  end
  local reader = reading.new(self.app, { sources = { node } }, after)
  while not self.is_over do
    wait_for_room(self)
    local batch = reader:next(node.options.batch)
    if #batch.events > 0 then feed(self, node, batch.events) end
    if batch.failure then error(batch.failure, 0) end
    self.caught_up[node.id] = not batch.is_behind
    if batch.is_behind or #batch.events > 0 then
      native_task.yield()
    else
      self.is_parked = true
      arm(self)
      if tasks.wait(store.wait_growth, store, batch.position) == false then return end
    end
  end
end

-- Events that are not stored, out of the buffer that publishing fills.
local function read_ring(self, node)
  local ring = self.rings[node.id]
  while true do
    self.caught_up[node.id] = ring.count == 0
    if not ring:wait() then return end
    wait_for_room(self)
    local events = {}
    while ring.count > 0 and #events < RING_MAX do events[#events + 1] = ring:shift() end
    feed(self, node, events)
    native_task.yield()
  end
end

-- What gives the items of an iterator to the compiled loop. While the iterator waits, others may be
-- in the chain.
local function puller(self, node)
  local iterate, instance, clock = node.iterate, self.instance, self.app.clock
  if #self.graph.sources == 1 and not self.graph.is_timed then return iterate end
  local needs_clock, caught_up, id = self.graph.needs_clock, self.caught_up, node.id
  return function()
    self.is_busy, caught_up[id] = false, true
    local v = iterate()
    caught_up[id] = false
    if self.is_busy then enter_later(self) end
    self.is_busy = true
    if needs_clock then instance.now = clock:now() end
    return v
  end
end

local function next_slice(slice, ms)
  if ms < SLICE_MS then return math.min(slice * 2, SLICE_MAX) end
  return ms > 2 * SLICE_MS and math.max(math.floor(slice / 2), SLICE_MIN) or slice
end

local function read_iterator(self, node)
  local instance, next_item = self.instance, puller(self, node)
  local source = instance.sources[node.id]
  local clock, slice = self.app.clock, SLICE
  enter(self)
  while not self.is_over do
    instance.now = clock:now()
    instance.watermark:arrived(source, instance.now)
    local begin = clock:mono()
    local is_over, count = instance.X["s" .. node.id](next_item, slice)
    slice = next_slice(slice, clock:mono() - begin)
    self.events = self.events + count
    instance:pass()
    if is_over or self.is_over then break end
    leave(self)
    arm(self)
    native_task.yield()
    wait_for_room(self)
    enter(self)
  end
  leave(self)
end

-- A source has ended; with the last one the stream has.
local function source_ended(self, node)
  self.caught_up[node.id] = true
  self.open_count = self.open_count - 1
  self.instance.sources[node.id].has_ended = true
  if self.open_count > 0 and not self.instance.ended or self.is_over then return end
  enter(self)
  self.instance.now = self.app.clock:now()
  self.instance:finish()
  self:over "finished"
end

-- Between slices there are loops of a few rounds and new closures, which the compiler would try,
-- and give up, again and again.
for _, fn in ipairs { arm, wait_for_room, feed, next_slice, read_iterator } do jit.off(fn) end

local READ = { events = read_log, iterator = read_iterator }

local function run_source(self, node)
  local read = self.rings[node.id] and read_ring or READ[node.kind]
  read(self, node)
  if not self.is_over then source_ended(self, node) end
end

local function begin(self)
  self.status, self.is_over, self.error = "running", nil, nil
  self.open_count = #self.graph.sources
  self.from = self.app.store:positions() - 1
  if next(self.rings) then M.listen(self) end
end

--- Begins its work.
function Live:start()
  begin(self)
  for _, node in ipairs(self.graph.sources) do spawn(self, run_source, self, node) end
end

--- It has come to an end: nothing of it runs on.
---@param status string
function Live:over(status)
  if self.is_over then return end
  self.is_over, self.status = true, status
  cancel_timer(self)
  M.unlisten(self)
  self.instance:close()
  for task in pairs(self.tasks) do
    if task ~= state[1] and native_task.drop(task) then self.tasks[task] = nil end
  end
  self.done:set()
end

--- Ends with an error.
---@param err catga.Error
function Live:fail(err)
  if self.is_over or self.app.is_closed then return end
  self.error = failures.storable(err)
  self.failure = err
  self:over "failed"
  if self.is_called then return end
  self.app:say("error", ("stream %s stopped: %s%s"):format(self.name, tostring(err.message),
    err.traceback or ""))
end

function Live:halt() self.is_halting = true end
function Live:drop() self:over(self.status == "running" and "stopped" or self.status) end
Live.finish = Live.drop

--- Puts an item into the chain. May yield.
---@param one { node: integer, v: any, k: any, w: table?, t: number?, outcome: catga.Future }
function Live:inject(one)
  enter(self)
  self.is_injecting, self.instance.now = true, self.app.clock:now()
  local was_guarded = self.instance.guard ~= nil
  self.instance:use(true)
  local ok, err = xpcall(self.instance.X["n" .. one.node], errors.catch, one.v, one.k, one.w, one.t)
  self.instance:use(was_guarded)
  self.is_injecting = nil
  leave(self)
  one.outcome:set(ok or nil, err)
end

--- Begins or ends a pause: sources are not read meanwhile.
---@param is_paused boolean
function Live:pause(is_paused)
  self.is_paused = is_paused
  if not self.is_over then self.status = is_paused and "paused" or "running" end
  if not is_paused and self.room then
    local room = self.room
    self.room = nil
    room:set()
    arm(self)
  end
end

--- Takes over the functions of a chain of the same shape; state and sources go on. May yield.
---@param graph catga.StreamGraph
function Live:adopt(graph)
  enter(self)
  for i, node in ipairs(self.graph.nodes) do
    local from = graph.nodes[i]
    for _, name in ipairs(RENEWED) do node[name] = from[name] end
  end
  self.graph.options = graph.options
  self.instance:renew()
  leave(self)
end

--- What is to be seen of it.
---@return table
function Live:describe()
  local one = self.instance:counts()
  local wm = self.instance.watermark.wm
  for _, ring in pairs(self.rings) do one.dropped = one.dropped + ring.dropped end
  one.name, one.kind, one.status, one.at = self.name, "live", self.status, self.graph.at
  one.events, one.error, one.last_error = self.events, self.error, self.last_error
  one.watermark = wm > -math.huge and wm < math.huge and wm or nil
  one.skipped = self.skipped
  return one
end

-- Events that are not stored: the registry of the app knows who listens.

--- Begins to take events that are published with qos 0.
---@param live catga.LiveStream
function M.listen(live)
  local app = live.app
  app.live_streams = app.live_streams or {}
  for id, ring in pairs(live.rings) do
    local node = live.graph.nodes[id]
    for _, name in ipairs(node.options.types) do
      local list = app.live_streams[name] or {}
      list[#list + 1] = { live = live, ring = ring, node = node }
      app.live_streams[name] = list
    end
  end
end

--- Ends it.
---@param live catga.LiveStream
function M.unlisten(live)
  local all = live.app.live_streams
  if not all then return end
  for name, list in pairs(all) do
    local kept = {}
    for _, one in ipairs(list) do
      if one.live ~= live then kept[#kept + 1] = one else one.ring:close() end
    end
    all[name] = kept[1] and kept or nil
  end
  if not next(all) then live.app.live_streams = nil end
end

--- Gives an event that is not stored to the streams that read it; waits where a buffer says so, and
--- raises when all have had it and one was full that says "fail". May yield.
---@param app catga.App
---@param op table  type, data (JSON), id
function M.deliver(app, op)
  local list = app.live_streams and app.live_streams[op.type]
  local failure
  for _, one in ipairs(list or {}) do
    local ok, err = pcall(one.ring.push, one.ring, { type = op.type, id = op.id,
      data = app.json.decode(op.plain or op.data), time = app.clock:now() })
    if not ok then failure = failure or err end
  end
  if failure then error(failure, 0) end
end

-- Runs graphs in the calling task and gives what they have come to.
local function run_graphs(app, list)
  local runners = {}
  for i, graph in ipairs(list) do
    if graph.is_durable then
      error(("%s: a durable stream is defined at the top level of a script"):format(graph.at), 0)
    end
    require("catga.stream.sinks").check_names(graph, app.registry)
    runners[i] = M.new(app, graph)
    runners[i].is_called = true
  end
  local stats = { events = 0, late = 0, dropped = 0 }
  if #runners == 1 and #list[1].sources == 1 and list[1].sources[1].kind == "iterator" then
    local runner = runners[1]
    begin(runner)
    local ok, failure = xpcall(run_source, errors.catch, runner, list[1].sources[1])
    if not ok then runner:fail(failure) end
  else
    for _, runner in ipairs(runners) do runner:start() end
  end
  for _, runner in ipairs(runners) do
    runner.done:wait()
    if runner.failure then
      for _, other in ipairs(runners) do other:drop() end
      error(runner.failure, 0)
    end
    local one = runner:describe()
    for name in pairs(stats) do stats[name] = stats[name] + one[name] end
  end
  return stats
end

--- Runs the chain that ends with a node, to the end of its sources. May yield.
---@param node table
---@param world table
---@return table stats  { events, late, dropped }
function M.run(node, world) return run_graphs(world.app, { graphs.of(node) }) end

--- Runs all chains that were made.
---@param world table
---@return table stats
function M.run_all(world)
  local list = {}
  for _, node in ipairs(world.nodes) do
    if not (node.id or node.is_fused) then list[#list + 1] = graphs.of(node) end
  end
  return run_graphs(world.app, list)
end

return M
