--- An app: one generation of scripts on one store, with its clock, mediator and process engine.
local state = require "catga.state"
local errors = require "catga.error"
local host = require "catga.native.host"
local json = require "catga.native.json"
local clocks = require "catga.native.clock"
local stores = require "catga.native.store"
local native_task = require "catga.native.task"
local tasks = require "catga.task"
local loader = require "catga.loader"
local registry = require "catga.registry"
local settings = require "catga.settings"
local mediator = require "catga.mediator"
local engine = require "catga.process.engine"
local journal = require "catga.process.journal"
local personal = require "catga.personal"
local projections = require "catga.projection"
local subscriptions = require "catga.subscription"
local schedules = require "catga.lazy".module "catga.schedule"
local outboxes = require "catga.lazy".module "catga.outbox"
local routes = require "catga.lazy".module "catga.route"
local streams = require "catga.lazy".module "catga.stream.service"
local describe_further = require "catga.lazy".call("catga.process.describe", "add")

local M = {}

---@class catga.App
---@field dir string?
---@field settings table
---@field clock userdata        now, mono, sleep, after, cancel
---@field store userdata
---@field registry catga.Registry
---@field mediator catga.Mediator
---@field engine catga.Engine
---@field projections catga.Projections
---@field subscriptions catga.Subscriptions
---@field schedules catga.Schedules?  nil: none was ever used
---@field outbox catga.Outbox?  nil: it was never used
---@field routes catga.Routes?  nil: no scripts had any
---@field streams catga.Streams?      nil: none was ever used
---@field zones table<string, catga.Zone>?  time zones that were read
---@field personal catga.PersonalKeys?  open when scripts declare personal data, or have done so
---@field forgotten_keys table<string, true>  keys that are missing, and were to be destroyed
---@field json table
---@field stopping boolean?
---@field is_closed boolean?     the store is closed, or about to be
---@field is_failed boolean?
---@field settings_text string?  catga.lua as it was when it was last looked at
---@field data string?           data directory; nil: in memory
---@field handling integer?      HTTP requests that a graceful stop waits for
---@field is_draining boolean?   no further request is taken
---@field scavenging table?      { what, done, segments } of the scavenge or compression under way
---@field has_metadata boolean?  some stream has metadata; nil: not looked yet
---@field sql_count integer?      queries of SQL that run
---@field event_ids table?       ids of events that are known, see lua/catga/events/ids.lua
---@field last_cursor table?     of the last read_all, see lua/catga/events/positions.lua
local App = {}
App.__index = App

--- A new id as text.
---@return string
function App:new_id()
  local id, err = self.store:new_id()
  if not id then error(err, 0) end
  return id
end

local LOOKS_MAX = 20000 -- Processes that one list looks at.
local PAGE = 1000

local STATUSES = { running = true, waiting = true, paused = true, compensating = true,
  diverged = true }
for _, status in pairs(engine.STATUS_OF) do STATUSES[status] = true end

-- The last record of one that waits and is not in memory: that the wait has begun, that an attempt
-- failed, that it was resumed, or a message or update that was not what it waits for.
local BEGINS = { ProcessTimerSet = true, ProcessWaitStarted = true }
local WAITS = { ProcessTimerSet = true, ProcessWaitStarted = true, ProcessStepFailed = true,
  ProcessSignalled = true, ProcessApprovalAnswered = true, ProcessPromiseResolved = true,
  ProcessPromiseRejected = true, ProcessResumed = true, ProcessUpdateCompleted = true,
  ProcessUpdateFailed = true }

local TAGS_LOOK_BACK = 64 -- Records in which changed tags are looked for, see below.

-- The tags of a process that is not in memory: the record by which it began to wait has those that
-- were changed, others may have come behind it; so has the last one.
local function stored_tags(store, stream, first, last)
  local record = last
  local least = math.max(1, last.version - TAGS_LOOK_BACK)
  while true do
    local data = type(record.data) == "table" and record.data or {}
    if data.tags then return data.tags end
    local is_alone = BEGINS[record.type] and (type(data.op) == "number" or data.alone)
    if is_alone or engine.STATUS_OF[record.type] or record.version <= least then
      return first.data.tags
    end
    local before = store:read(stream, record.version - 1, 1)
    record = before and before[1]
    if not record or record.version >= last.version then return first.data.tags end
  end
end

-- The status of a process by its last record.
local function describe_process(app, stream)
  local store = app.store
  local count = store:count(stream)
  local first = store:read(stream, 0, 1)[1]
  local last = assert(journal.read(app, stream, count - 1))
  local id = store:name(stream):sub(#journal.PREFIX + 1)
  local p = app.engine.active[id]
  local status = engine.STATUS_OF[last.type]
  if not status then
    status = last.type == "ProcessDiverged" and "diverged"
      or p and p.compensating and "compensating" or p and p.paused and "paused"
      or (p and engine.is_waiting(p) or not p and WAITS[last.type]) and "waiting" or "running"
  end
  local result
  if status == "completed" then result = last.data.result end
  return { id = id, name = first.data.name, status = status, started = first.time,
    ended = engine.STATUS_OF[last.type] and last.time or nil,
    result = result,
    error = engine.STATUS_OF[last.type] and last.data.error or nil, records = count,
    tags = p and p.tags or not p and stored_tags(store, stream, first, last) or nil,
    parent = first.data.parent and first.data.parent.id, forked_from = first.data.forked_from }
end

--- One process, with what it waits for and which step is attempted; or nil and an error.
---@param id string
function App:process(id)
  local stream = self.store:stream(journal.PREFIX .. id)
  if not stream or self.store:count(stream) == 0 then
    return nil, errors.new("not_found", "there is no process " .. tostring(id))
  end
  return describe_further(self, describe_process(self, stream))
end

-- A status that no process can have is a slip, not an empty list.
local function check_status(status)
  if not status or STATUSES[status] then return true end
  local near = registry.suggest(tostring(status), STATUSES)
  local hint = near and "; did you mean " .. near .. "?" or ""
  return nil, errors.new("invalid", ("there is no process status %s%s; there are %s"):format(
    tostring(status), hint, table.concat(registry.sorted_names(STATUSES), ", ")))
end

-- Calls `take` for processes until it says no: those in memory from the youngest, then the others
-- by name. Looks at no more than LOOKS_MAX.
local function each_process(store, take)
  local prefix, looks, is_seen = journal.PREFIX, 0, {}
  for place = store:place_count() - 1, 0, -1 do
    local stream = store:at(place)
    local name = stream and store:name(stream)
    if name and name:sub(1, #prefix) == prefix and store:count(stream) > 0 then
      looks, is_seen[name] = looks + 1, true
      if looks > LOOKS_MAX or not take(stream) then return end
    end
  end
  local after = ""
  repeat
    local names = assert(store:streams(prefix, after, PAGE))
    for _, name in ipairs(names) do
      after = name
      if not is_seen[name] then
        looks = looks + 1
        if looks > LOOKS_MAX or not take(store:stream(name)) then return end
      end
    end
  until #names == 0
end

-- Texts are also what numbers and booleans look like, so that a command line can ask for them.
local function is_tag(value, wanted)
  if type(wanted) ~= "string" or value == nil or type(value) == "string" then
    return value == wanted
  end
  return json.encode(value) == wanted
end

local function has_tags(process, wanted)
  for name, value in pairs(wanted or {}) do
    if not is_tag(process.tags and process.tags[name], value) then return false end
  end
  return true
end

--- Processes, newest first; those that ended long ago come after them, by name. Looks at 20,000 at
--- most: give a status or name only when there are not many more.
---@param opts { status: string?, name: string?, tags: table?, parent: string?, max: integer? }
---@return table[]? list
---@return catga.Error? err  there is no such status
function App:process_list(opts)
  local ok, err = check_status(opts.status)
  if not ok then return nil, err end
  local list = {}
  local most = math.min(opts.max or 100, 10000)
  each_process(self.store, function(stream)
    local process = describe_process(self, stream)
    if (not opts.status or process.status == opts.status)
      and (not opts.name or process.name == opts.name)
      and has_tags(process, opts.tags) and (not opts.parent or process.parent == opts.parent) then
      list[#list + 1] = process
    end
    return #list < most
  end)
  return list
end

--- Waits until everything committed so far is durable: an answer that leaves the machine may
--- rest on it. May yield.
---@return boolean ok
---@return catga.Error? err  the log failed
function App:flushed()
  local next_position, durable = self.store:positions()
  if durable >= next_position then return true end
  return self.store:wait(next_position - 1)
end

--- The position of the last record committed so far: it covers all that the caller has done, and
--- waited for.
---@return integer
function App:position() return (self.store:positions()) - 1 end

--- Asks a query. May yield.
---@param name string
---@param data any
---@param opts { after: integer?, timeout_ms: number? }?
function App:ask(name, data, opts)
  return self.mediator:send("query", name, data,
    opts and { after = opts.after, after_timeout_ms = opts.timeout_ms })
end

--- Says a line, unless the app was made silent.
function App:say(level, text)
  if self.sink then return self.sink(level, text) end
  host.say(level, text)
end

local function open_store(app, opts)
  return stores.open {
    path = opts.data, memory = opts.memory, manual = opts.manual, clock = app.clock,
    durability = app.settings.durability, segment_bytes = app.settings.segment_size,
    pending_bytes_max = app.settings.pending_max, node = app.settings.node,
    message_size_max = app.settings.message_size_max, journal_size_max = app.settings.blob_size,
    streams_cached_max = app.settings.streams_cached_max,
    on_failed = function(err) app:failed(err) end,
  }
end

--- Opens an app: reads settings, loads scripts, opens the store. Runs nothing yet.
---@param opts { dir: string?, define: fun()?, data: string?, clock: userdata?, memory: userdata?,
---  settings: table?, stubs: table?, sink: fun(level, text)?, on_fatal: fun(err)? }
---@return catga.App? app
---@return catga.Error? err
function M.open(opts)
  local app = setmetatable({ json = json, on_fatal = opts.on_fatal,
    sink = opts.sink, stubs = opts.stubs, natives = opts.natives, config = opts.config }, App)
  local err
  if opts.dir then
    app.dir, err = host.absolute(opts.dir)
    if not app.dir then
      return nil, errors.new("not_found", ("app directory %s: %s"):format(opts.dir, err.message))
    end
    local entries
    entries, err = host.list(app.dir)
    if not entries then return nil, err end
  end
  app.settings_text = settings.text(app.dir)
  app.settings, err = settings.load(app.dir, opts.settings)
  if not app.settings then return nil, err end
  app.clock = opts.clock or clocks.system()
  app.registry = registry.new()
  app.mediator = mediator.new(app)
  app.engine = engine.new(app)
  app.projections = projections.new(app)
  app.subscriptions = subscriptions.new(app)
  local generation
  if opts.dir then
    generation, err = loader.load(app, app.dir)
  else
    generation, err = loader.from_function(app, opts.define or function() end)
  end
  if not generation then return nil, err end
  app.store, err = open_store(app, opts)
  if not app.store then return nil, err end
  app.registry = generation
  if opts.data then app.data = opts.data end
  local is_open
  is_open, err = personal.open(app, generation, opts.keys)
  if is_open then return app end
  app.store:close()
  return nil, err
end

--- Recovers unfinished processes, starts projections, then main. Must run in a task. May yield.
function App:start()
  state[1].app = self
  self.projections:start()
  local count = self.engine:recover()
  if count > 0 then self:say("info", ("recovering %d unfinished processes"):format(count)) end
  self.subscriptions:start()
  self:start_routes()
  self:start_schedules()
  if self.store:streams("$message-", nil, 1)[1] then outboxes.of(self) end
  if self.settings.chaos == "on" then self:say_chaos() end
  self:start_streams()
  if self.registry.main then
    tasks.spawn(self, function()
      local ok, failure = xpcall(self.registry.main, errors.catch)
      if not ok then
        self:say("error", "catga.main failed: " .. tostring(failure) .. (failure.traceback or ""))
        if self.on_fatal then self.on_fatal(failure) end
      end
    end)
  end
end

--- Says into what faults may be injected.
function App:say_chaos()
  local names = self.registry:has_policies(self)
    and require("catga.policy.handlers").names_with(self.registry, "chaos") or {}
  self:say("warn", "chaos is on (catga.lua): faults are injected into "
    .. (names[1] and table.concat(names, ", ") or "nothing, as no policy has chaos"))
end

--- Starts the schedules, when the scripts have some or there were some in this store. May yield.
function App:start_schedules()
  if self.schedules then return self.schedules:reloaded() end
  if not self.registry.schedules and not self.store:stream("$schedules-all") then return end
  local ok, failure = xpcall(schedules.of, errors.catch, self)
  if not ok then self:say("error", "schedules do not run: " .. tostring(failure)) end
end

--- Starts the routes, or gives them their new rules. May yield.
function App:start_routes()
  if self.routes then return self.routes:reloaded() end
  if not self.registry.routes then return end
  self.routes = routes.new(self)
  self.routes:start()
end

--- Starts the streams of the scripts, or takes over those of new scripts.
function App:start_streams()
  if self.streams then return self.streams:reloaded() end
  if not self.registry.streams then return end
  self.streams = streams.new(self)
  self.streams:start()
end

--- Settings are read at the start; says so when catga.lua has changed since, or is wrong.
function App:compare_settings()
  local text = settings.text(self.dir)
  if text == self.settings_text then return end
  self.settings_text = text
  local _, err = settings.load(self.dir)
  if err then return self:say("error", "the settings before go on: " .. err.message) end
  self:say("warn", self.dir .. "/catga.lua has changed; settings are read at the next start")
end

--- Loads the scripts anew. On a failure the old generation goes on serving.
---@return boolean ok
---@return catga.Error? err
function App:reload()
  self:compare_settings()
  local generation, err = loader.load(self, self.dir)
  if not generation then
    self:say("error", "reload failed, the scripts before go on serving: " .. err.message)
    return false, err
  end
  if generation.hash == self.registry.hash then return true end
  local is_open
  if generation.streams then err = streams.check(self, generation) end
  if not err then is_open, err = personal.open(self, generation) end
  if not is_open then
    self:say("error", "reload failed, the scripts before go on serving: " .. err.message)
    return false, err
  end
  self.registry = generation
  if self.settings.chaos == "on" then self:say_chaos() end
  self.projections:reloaded()
  self.subscriptions:reloaded()
  self:start_routes()
  self.engine:recover() -- Processes whose script was missing, or did not fit, may go on.
  self:start_schedules()
  self:start_streams()
  self:say("info", "scripts reloaded")
  return true
end

--- Watches the directory and reloads when scripts change.
---@return boolean? ok
---@return catga.Error? err
function App:watch()
  local watch, err = host.watch(self.dir, self.settings.reload_delay, function() self:reload() end)
  if not watch then return nil, err end
  self.watcher = watch
  return true
end

--- The log has failed: nothing can be acknowledged any more.
function App:failed(err)
  if self.is_failed then return end
  self.is_failed = true
  self:say("error", "the event log stopped: " .. err.message)
  if self.on_fatal then self.on_fatal(err) end
end

-- What an app may have beside, in the order in which it ends.
local AREAS = { "schedules", "outbox", "routes", "streams" }

local function each_area(app, verb)
  for _, name in ipairs(AREAS) do
    local area = app[name]
    if area and area[verb] then area[verb](area) end
  end
end

local function running_attempts(app)
  local count = app.subscriptions:working()
  for _, name in ipairs(AREAS) do
    local working = app[name] and app[name].working or 0 -- A count, or a method that counts.
    count = count + (type(working) == "function" and working(app[name]) or tonumber(working) or 0)
  end
  for _, p in pairs(app.engine.active) do
    for _, s in ipairs(engine.strands_of(p)) do
      if s.task and s.task.limit then count = count + 1 end
    end
  end
  return count
end

local function drop_processes(app)
  for _, p in pairs(app.engine.active) do
    p.halt, p.special = true, true
    app.engine:drop_strands(p)
  end
end

--- Stops gracefully: no new work, running step attempts end, everything is flushed. May yield.
---@return boolean? ok
---@return catga.Error? err
function App:stop()
  if self.stopping then return true end
  self.stopping = true
  if self.watcher then self.watcher:stop() end
  for _, p in pairs(self.engine.active) do p.halt, p.special = true, true end
  self.subscriptions:halt()
  each_area(self, "halt")
  local deadline = self.clock:mono() + self.settings.stop_timeout
  while running_attempts(self) > 0 and self.clock:mono() < deadline do self.clock:sleep(5) end
  self.subscriptions:stop()
  each_area(self, "stop")
  self.projections:stop()
  drop_processes(self)
  if self.http_client then self.http_client:close() end
  self.is_closed = true
  local ok, err = self.store:close()
  personal.close(self)
  native_task.yield() -- Who waited for the disk ends first.
  self.engine:stopped()
  self.clock:close()
  return ok, err
end

--- Ends the app as a crash would (specs): nothing pending is kept, tasks are let go.
function App:abandon()
  self.stopping, self.is_closed = true, true
  drop_processes(self)
  self.subscriptions:abandon()
  each_area(self, "abandon")
  self.projections:abandon()
  if self.http_client then self.http_client:close() end
  if self.data then personal.close(self) end -- In memory they belong to the app that comes after.
  self.store:abandon()
  self.engine:stopped()
end

return M
