--- The public face: `local catga = require "catga"`.
local state = require "catga.state"
local errors = require "catga.error"
local duration = require "catga.duration"
local tasks = require "catga.task"
local events = require "catga.events"
local class = require "catga.process.class"
local personal = require "catga.personal"
local host = require "catga.native.host"
local json = require "catga.native.json"
local projection = require "catga.projection"
local subscription = require "catga.subscription"
local subscription_face = require "catga.subscription.face"
local upcast = require "catga.upcast"
local face = require "catga.face"
local caller = require "catga.registry".caller

local loading, running = face.loading, face.running
local lazy = require "catga.lazy"
local declare = lazy.call("catga.personal_declaration", "define")
local MAP_MAX = 100 -- How many functions of catga.map run at the same time by default.

local catga = { null = json.null, json = json, error = errors.new, dropped = upcast.dropped }

local function define_handler(kind, first, second)
  local spec = first
  if type(first) == "string" then spec = { name = first, handle = second } end
  if type(spec) ~= "table" then
    error("catga." .. kind .. "(name, fn) or catga." .. kind .. " { name = ..., handle = fn }", 3)
  end
  loading("catga." .. kind):handler(kind, spec)
end

--- Registers the one handler of a command.
---@param spec string|table  its name, or { name, handle, input?, idempotent?, policy?, timeout?,
---  attempts?, backoff?, ... }, see docs/resilience.md
---@param handle (fun(cmd: any, ctx: catga.Ctx): any, any)?  returns a value, or nil and an error
function catga.command(spec, handle) define_handler("command", spec, handle) end

--- Registers the one handler of a query.
---@param spec string|table
---@param handle (fun(query: any, ctx: catga.Ctx): any, any)?
function catga.query(spec, handle) define_handler("query", spec, handle) end

--- Registers an event handler; any number a type. Runs after the commit; with options, from the
--- log and with a checkpoint: no event is missed when the program is killed.
---@param name string
---@param opts table?  durable = its name, and what catga.events.subscribe takes: attempts, group;
---  without `durable` policies: attempts, timeout, ...
---@param handle fun(event: any, ctx: catga.Ctx)
function catga.on(name, opts, handle)
  local registry = loading("catga.on")
  if type(opts) ~= "table" then return registry:on(name, opts) end
  if opts.durable ~= nil or not require("catga.policy.handlers").are_policies(opts) then
    return subscription.define_on(registry, name, opts, handle)
  end
  registry:on(name, handle, opts)
end

--- Registers an upcaster: stored events of the type and schema version become the next version
--- whenever they are read. New events are written in the newest version.
---@param kind string    type of the events
---@param from integer   the version that it takes, 1 for the first
---@param fn fun(data: any, event: table): any, string?  returns the data of the next version; with
---  a second result the event becomes version 1 of that type; catga.dropped: nobody sees it
function catga.upcast(kind, from, fn) loading("catga.upcast"):upcast(kind, from, fn) end

--- Registers a behavior that wraps handlers; or switches a shipped one ("logging") on.
---@param name string
---@param fn (fun(message: any, ctx: catga.Ctx, next: fun(): any, any): any, any)?
---@param opts { only: string?, before: string?, after: string? }?
function catga.behavior(name, fn, opts)
  loading("catga.behavior"):behavior(name, fn, opts)
end

--- Defines a policy by its name, for handlers, steps and calls: policy = "payments".
---   catga.policy("payments", { attempts = 5, backoff = "200ms", timeout = "10s" })
---@param name string
---@param given table<string, any>  by kind, see docs/resilience.md
function catga.policy(name, given)
  require("catga.policy").define(loading("catga.policy"), name, given)
end

--- Policies while the app runs: run, list, show; see lua/catga/policy/face.lua.
catga.policies = lazy.module "catga.policy.face"

--- Defines a process: fill in execute, steps and compensate_<step> methods; or chain its steps, see
--- lua/catga/process/declare.lua: catga.process("X"):step("a", fn):compensate(undo):step("b", fn)
---@param name string
---@return table process
function catga.process(name) return class.define(loading("catga.process"), name) end

--- A chain of steps, for a group of `parallel` in a process that is declared.
---@return table
function catga.steps()
  loading("catga.steps")
  return require("catga.process.declare").steps()
end

--- Defines a projection: fill in on.<EventType>.
---@param name string
---@return table projection
function catga.projection(name) return projection.define(loading("catga.projection"), name) end

-- Only a program that has aggregates loads what they need.
--- Defines an aggregate: fill in initial, apply.<EventType> and commands, and snapshot = { ... }.
---@class catga.AggregateFace
---@overload fun(name: string): table
catga.aggregate = setmetatable({
  --- A store of snapshots in memory, for `snapshot.store`.
  memory_snapshots = function(opts)
    return require("catga.aggregate.snapshot_store").memory(opts)
  end,
}, {
  __call = function(_, name)
    return require("catga.aggregate").define(loading("catga.aggregate"), name)
  end,
})

--- Declares fields of events that are encrypted with a key of the person they are about:
---   catga.personal("OrderCreated", { subject = "customer_id",
---     fields = { "name", "address.street", "contacts[].phone" } })
--- or several types at once: catga.personal { OrderCreated = { ... }, OrderPaid = { ... } }.
---@param name string|table<string, table>  an event type, or declarations by type
---@param spec { subject: string|fun(data: any): any, fields: string[] }?
function catga.personal(name, spec)
  local registry = loading("catga.personal")
  local at = caller()
  if type(name) ~= "table" or spec ~= nil then return declare(registry, at, name, spec) end
  for event_type, one in pairs(name) do declare(registry, at, event_type, one) end
end

--- Starts a process at each time of a cron expression. It gets the input, and the time as the field
--- `scheduled_time`; its id is `<name>/<time>`. See docs/schedules.md.
---@param name string
---@param cron string     "0 3 * * *", with seconds "30 0 3 * * *", "@daily", "@every 90s"
---@param process string  name of a process
---@param input table?
---@param opts { timezone: string?, overlap: "skip"|"queue"|"cancel"|"allow"|nil,
---  queue_max: integer?, jitter: string?, catch_up: string?, paused: boolean?, note: string? }?
function catga.schedule(name, cron, process, input, opts)
  local registry = loading("catga.schedule")
  require("catga.schedule.definition").define(registry, name, cron, process, input, opts)
end

--- Begins a rule that sends events of some types to other places; chain to it what it does:
--- `catga.route("OrderCreated"):when(fn):filter(fn):transform(fn):to("high-value-orders")`. See
--- docs/routing.md and lua/catga/route/definition.lua.
---@param types string|string[]  types, or patterns: "orders.*.created", "orders.>", ">" for all
---@param opts { name: string?, set: string?, priority: number?, inline: boolean?,
---  attempts: integer?, backoff: string?, on_failure: "dead_letter"|"skip"|nil, policy: any }?
---@return table route
function catga.route(types, opts)
  return require("catga.route.definition").route(loading("catga.route"), types, opts)
end

--- Sets the function that runs once as a task, after recovery.
---@param fn fun()
function catga.main(fn) loading("catga.main"):set_main(fn) end

--- Sends a command. May yield.
---@param name string
---@param data any
---@param opts { id: string?, key: string? }?  id or key: repeated, it gives the stored outcome
---@return any value
---@return catga.Error? err
function catga.send(name, data, opts)
  local mediator = running("catga.send", "use self:send or a step").mediator
  local value, err = mediator:send("command", name, data, opts and mediator.outside(opts) or nil)
  return value, err -- No tail call: a trace of LuaJIT has few of them.
end

--- Enqueues a command: it is committed with what the open unit of work does (or alone, durable when
--- this returns), and delivered afterwards, also when the program ends meanwhile. Its outcome and
--- what its handler stages are one commit. See docs/messages.md. May yield.
---@param name string
---@param data any
---@param opts { delay: string?, at: number?, key: string?, group: string?,
---  priority: "high"|"normal"|"low"|nil, attempts: integer?, backoff: string?, timeout: string?,
---  expires: string|number|nil }?  delay, or at in Unix ms: not before; key: another one with it
---  within inbox_window is the same message; group: one at a time and in order; expires: not after
---@return string? id
---@return catga.Error? err  "unknown_command", "conflict": the key with other data, "limit"
function catga.enqueue(name, data, opts)
  return require("catga.outbox.enqueue").enqueue(running("catga.enqueue",
    "use self:enqueue or a step"), name, data, opts)
end

local ASK = { after = true, timeout = true }

-- The options of a query; raises at its caller's caller.
local function ask_options(opts)
  if opts == nil then return nil end
  if type(opts) ~= "table" then error("catga.ask: the options are a table", 3) end
  for name in pairs(opts) do
    if not ASK[name] then
      error(("catga.ask: unknown option %s; there are after and timeout"):format(tostring(name)), 3)
    end
  end
  local after = opts.after
  if after ~= nil and (type(after) ~= "number" or after < 0 or after % 1 ~= 0) then
    error("catga.ask: after is a position, see catga.position; got " .. tostring(after), 3)
  end
  return { after = after, timeout_ms = opts.timeout and duration.ms(opts.timeout, "timeout") }
end

--- Asks a query. May yield.
---
---   catga.send("Pay", order)
---   catga.ask("Total", {}, { after = catga.position() })   -- sees what was just done
---@param name string
---@param data any
---@param opts { after: integer?, timeout: string? }?  after: the models that the handler reads wait
---  until they have seen this position, up to timeout (default: the setting after_timeout)
---@return any value
---@return catga.Error? err  "behind": a model did not come to the position
function catga.ask(name, data, opts)
  return running("catga.ask", "ask in a step"):ask(name, data, ask_options(opts))
end

--- The position of the last record committed so far: it covers all that this task has done, and
--- waited for.
---@return integer
function catga.position() return running("catga.position", "ask in a step"):position() end

--- Publishes an event. May yield.
---@param name string
---@param data any
---@param opts { qos: 0|1|nil }?  0: delivered, not stored
---@return boolean? ok
---@return catga.Error? err
function catga.publish(name, data, opts)
  return running("catga.publish", "publish in a step").mediator:publish(name, data, opts)
end

local START = { id = true, timeout = true, tags = true }

local function check_start(opts)
  for name in pairs(opts or {}) do
    if not START[name] then
      error(("catga.start: unknown option %s; there are id, tags and timeout"):format(
        tostring(name)), 3)
    end
  end
  return opts
end

--- Starts a process; returns at once when it is durable. May yield.
---@param name string
---@param input any
---@param opts catga.StartOptions?  id, timeout, tags
---@return string? id
---@return catga.Error? err
function catga.start(name, input, opts)
  local engine = running("catga.start", "start it as a child: self:start").engine
  local id, err = engine:start(name, input, check_start(opts))
  return id, err
end

--- Runs a process and waits for its result. May yield.
---@param name string
---@param input any
---@param opts catga.StartOptions?  id, timeout, tags
---@return any result
---@return catga.Error? err
function catga.run(name, input, opts)
  local engine = running("catga.run", "run it as a child: self:run").engine
  return engine:run(name, input, check_start(opts))
end

--- Waits. May yield.
---@param text string  duration, "100ms"
function catga.sleep(text)
  local app = running("catga.sleep", "use self:sleep")
  tasks.wait(app.clock.sleep, app.clock, duration.ms(text, "catga.sleep"))
end

--- Milliseconds since the Unix epoch.
---@return number
function catga.now() return running("catga.now", "use self:now").clock:now() end

--- A new id, never given before.
---@return string
function catga.new_id() return running("catga.new_id", "use self:new_id"):new_id() end

-- Starts a task of the running one's conversation.
local function spawn(app, fn, ...)
  tasks.spawn(app, fn, ...).ctx = state[1].ctx
end

--- Starts a task; returns a handle whose wait() gives what the function returns, or nil and its
--- error. What it does is no part of the unit of work that starts it.
---@param fn function
---@return { wait: fun(self): any }
function catga.spawn(fn, ...)
  local app = running("catga.spawn", "use a step")
  if type(fn) ~= "function" then error("catga.spawn needs a function, got " .. type(fn), 2) end
  local future = tasks.future()
  local function finish(ok, ...)
    if ok then return future:set(...) end
    local failure = ...
    if not future:is_awaited() then
      app:say("error", ("a task of catga.spawn failed: %s%s"):format(tostring(failure),
        failure.traceback or ""))
    end
    future:set(nil, failure)
  end
  spawn(app, function(...) finish(xpcall(fn, errors.catch, ...)) end, ...)
  return future
end

-- A function that gives the items of a list one by one; it is called no more after it has ended.
local function iterator_of(items)
  if type(items) == "function" then return items end
  if type(items) ~= "table" then
    error("catga.map needs a list or an iterator, got " .. type(items), 3)
  end
  local place = 0
  return function()
    place = place + 1
    return items[place]
  end
end

local function map_max(opts)
  local max = opts and opts.max
  if max == nil then return MAP_MAX end
  if type(max) ~= "number" or max < 1 or max % 1 ~= 0 then
    error("catga.map: max is a whole number from 1, got " .. tostring(max), 3)
  end
  return max
end

--- Calls fn for each item, at most opts.max at the same time; returns the results by position. The
--- first error ends it: what runs ends, nothing more begins, then it is raised. May yield.
---@param items any[]|fun(): any  a list, or an iterator that ends with nil
---@param fn fun(item: any, position: integer): any
---@param opts { max: integer? }?  default 100
---@return any[] results
function catga.map(items, fn, opts)
  local app = running("catga.map", "use a step")
  local iterate, max = iterator_of(items), map_max(opts)
  if type(fn) ~= "function" then error("catga.map needs a function, got " .. type(fn), 2) end
  local results, position = {}, 0
  local working, is_starting, is_pulling, ended, failure = 0, false, false, false, nil
  local idle, work = tasks.future(), nil
  local function start()
    working, is_starting = working + 1, true
    spawn(app, work)
  end
  local function pull()
    is_pulling = true
    local ok, item = xpcall(iterate, errors.catch)
    is_pulling = false
    if not ok then failure, item = failure or item, nil end
    ended = ended or item == nil
    position = position + 1
    return item
  end
  -- A worker takes items as long as no other one is asking the iterator, which may wait.
  function work()
    is_starting = false
    while not (ended or failure or is_pulling) do
      local item = pull()
      if item == nil then break end
      local place = position
      if working < max and not is_starting then start() end
      local ok, result = xpcall(fn, errors.catch, item, place)
      if ok then results[place] = result else failure = failure or result end
    end
    working = working - 1
    if working == 0 then idle:set() end
  end
  start()
  idle:wait()
  if failure then error(failure, 0) end
  return results
end

--- Destroys the key of a person: all personal fields of events about them are catga.null from now
--- on, for ever. Durable when this returns, also when the unit of work it is called in fails.
--- Read models that hold such fields in plain must be rebuilt. May yield.
---@param subject string|integer
---@return { key: string, digest: string, projections: string[] }? result  projections: those to
---  rebuild
---@return catga.Error? err  "not_found": nothing personal of this subject was ever stored
function catga.forget(subject)
  return personal.forget(running("catga.forget", "forget in a step"), subject)
end

--- Persons of whom there is a key, in the order in which they got it.
---@param opts { prefix: string?, after: integer?, max: integer?, forgotten: boolean? }?
---@return { key: string, time: integer, forgotten: boolean, subject: string? }[]? list
---@return integer|catga.Error? after  for the next call; nil: that was all
function catga.subjects(opts)
  return personal.subjects(running("catga.subjects", "look in a step"), opts)
end

--- Events that hold personal data of a person, decrypted, in the order of positions. Looks through
--- the whole log. May yield.
---@param subject string|integer
---@param opts { after: integer?, max: integer? }?  max: 1 to 10,000, default 100
---@return table[]? events
---@return integer|catga.Error? after  for the next call; nil: that was all
function catga.subject_events(subject, opts)
  return personal.events(running("catga.subject_events", "look in a step"), subject, opts)
end

--- Reads a projection: catga.model("Name"):get(key), :find(filter), :rows("SELECT ...").
---@param name string
---@param opts { after: integer?, timeout: string? }?  as for catga.ask
---@return catga.Model
function catga.model(name, opts)
  return running("catga.model", "read it in a step").projections:model(name, opts)
end

--- Projections from outside: list, get, skipped, pause, resume, stop, start, rebuild; see
--- lua/catga/projection/control.lua.
catga.projections = lazy.module "catga.projection.face"

--- Rows of a SELECT over all read models, read-only: see lua/catga/projection/query.lua. May yield.
---@param text string
---@param opts { on: string?, params: any[]?, max: integer?, timeout: string? }?
---@return table[]? rows
---@return string[]|catga.Error columns
---@return boolean? is_cut
function catga.sql(text, opts)
  return require("catga.projection.query").run(running("catga.sql", "ask in a step"), text, opts)
end

--- Says a line on the program's output.
---@param text string
---@param level ("debug"|"info"|"warn"|"error")?
function catga.say(text, level)
  local task = state[1]
  if task and task.app then return task.app:say(level or "info", text) end
  host.say(level or "info", text)
end

--- Ends the program gracefully.
---@param code integer?  exit code, default 0
function catga.exit(code)
  running("catga.exit", "return from execute")
  host.exit(code or 0)
end

--- The event store: see lua/catga/events.lua.
catga.events = {}
for name, fn in pairs(events) do
  local what = "catga.events." .. name
  local instead = (name:find("^read") and "read" or name:find("^append") and "append" or "do it")
    .. " in a step"
  catga.events[name] = function(...)
    running(what, instead)
    return fn(...)
  end
end

catga.events.subscribe, catga.events.follow = subscription_face.subscribe, subscription_face.follow

--- Subscriptions with a name from outside.
catga.subscriptions = subscription_face.subscriptions

--- Schedules from outside: list, get, create, pause, resume, trigger, backfill, delete; see
--- lua/catga/schedule/verbs.lua.
catga.schedules = lazy.module "catga.schedule.face"

--- HTTP requests: get, post, put, patch, delete, head, request; see lua/catga/http_client.lua.
catga.http = lazy.module "catga.http_client"

--- Runs a program without a shell: catga.process_run({ "sort" }, { input = text }); see
--- lua/catga/command.lua. May yield.
---@type fun(command: string[], opts: table?): catga.CommandResult?, catga.Error?
catga.process_run = lazy.call("catga.command", "run")

--- Files: read, write, append, list, lines, follow, watch and others; see lua/catga/fs.lua.
catga.fs = lazy.module "catga.fs"

--- Values for scripts, from catga.lua, the environment and the command line: get, list; see
--- lua/catga/config.lua.
catga.config = lazy.module "catga.config"

--- Locks by name: with, acquire, list; see lua/catga/lock.lua.
catga.lock = lazy.module "catga.lock"

--- A cache by its name: get, set, delete, get_or, clear, stats; see lua/catga/cache.lua.
---@type fun(name: string, opts: table?): catga.Cache
catga.cache = lazy.call("catga.cache", "of")

--- Messages of the outbox: list, get, cancel, retry, status; see lua/catga/outbox/verbs.lua.
catga.outbox = lazy.module "catga.outbox.face"

--- Keys of messages that are known: status; see lua/catga/inbox.lua.
catga.inbox = {}

--- How many keys are known. May yield.
---@return { count: integer, waiting: integer, oldest: number?, window: number }
function catga.inbox.status()
  return require("catga.inbox").status(running("catga.inbox.status", "look in a step"))
end

--- What failed in the end: list, get, groups, edit, retry, retry_group, purge; see
--- lua/catga/dead_letters/verbs.lua.
catga.dead_letters = lazy.module "catga.dead_letters.face"
--- Routes: catga.routes { mode = "first" } configures them, catga.routes.table adds rules that are
--- data; explain and list look from outside. See lua/catga/route/face.lua.
catga.routes = setmetatable({}, {
  __index = function(_, name) return require("catga.route.face")[name] end,
  __call = function(_, opts)
    return require("catga.route.definition").set(loading("catga.routes"), opts)
  end,
})

--- Chains of operators over events, see docs/streams.md: catga.stream("OrderCreated", { durable =
--- "stats" }):where(fn):tumbling("1h"):each(fn); catga.stream.of(iterator), catga.stream.run(fn).
catga.stream = setmetatable({}, {
  __index = function(_, name) return require("catga.stream")[name] end,
  __call = function(_, ...) return require("catga.stream")(...) end,
})

--- Streams from outside: list, get, pause, resume, reset.
catga.streams = lazy.module "catga.stream.face"

--- Processes from outside.
catga.processes = {}

--- One process: { id, name, status, result?, error?, started, ended? }, or nil and an error.
---@param id string
function catga.processes.get(id)
  return running("catga.processes.get", "look in a step"):process(id)
end

--- Processes, newest first.
---@param opts { status: string?, name: string?, tags: table?, parent: string?, max: integer? }?
---@return table[]? list
---@return catga.Error? err  there is no such status
function catga.processes.list(opts)
  return running("catga.processes.list", "look in a step"):process_list(opts or {})
end

--- What a process is made of: form, steps, settings, places; see
--- lua/catga/process/definition.lua.
---@param name string
---@return catga.Definition? definition
---@return catga.Error? err  "unknown_process"
function catga.processes.definition(name)
  return require("catga.process.definition").of(
    running("catga.processes.definition", "look in a step").registry, name)
end

--- The same of all processes, by name.
---@return catga.Definition[]
function catga.processes.definitions()
  return require("catga.process.definition").list(
    running("catga.processes.definitions", "look in a step").registry)
end

-- What others tell a process, and do to it: see lua/catga/process/outside.lua, control.lua.
for name, module in pairs { signal = "outside", approve = "outside", reject = "outside",
  cancel = "control", kill = "control", pause = "control", resume = "control", retry = "control",
  skip = "control", query = "queries", replay = "inspect",
  update = "updates", locals = "locals", fork = "fork" } do
  local fn = require("catga.lazy").call("catga.process." .. module, name)
  local instead = name .. " in a step"
  catga.processes[name] = function(...)
    return fn(running("catga.processes." .. name, instead).engine, ...)
  end
end

--- Promises of processes, kept from outside by their ids.
catga.promises = {}

--- Gives a promise its value. May yield.
---@param id string
---@param value any
---@return boolean? ok
---@return catga.Error? err  "not_found", "conflict": it has its outcome already
function catga.promises.resolve(id, value)
  return require("catga.process.outside").resolve(
    running("catga.promises.resolve", "resolve it in a step").engine, id, value)
end

--- Lets a promise fail. May yield.
---@param id string
---@param failure catga.Error|{ code: string, message: string? }
---@return boolean? ok
---@return catga.Error? err
function catga.promises.reject(id, failure)
  return require("catga.process.outside").refuse(
    running("catga.promises.reject", "reject it in a step").engine, id, failure)
end

--- Waits for the end of a process: status, result, error. May yield.
---@param id string
function catga.processes.wait(id)
  return running("catga.processes.wait", "wait in a step").engine:wait(id)
end

return catga
