--- What a process can do: the methods of `self` besides its own steps.
local state = require "catga.state"
local duration = require "catga.duration"
local tasks = require "catga.task"
local random = require "catga.process.random"
local watch = require "catga.process.watch"
local lazy = require "catga.lazy"
local run = require "catga.process.steps".run

local verbs = {}

-- Sends a command from inside a step; raises when it fails.
local function send_in_step(p, name, data)
  local nth = p.nth + 1
  p.nth = nth
  local path = p.path or p.key or p.op
  local value, err = p.app.mediator:send_in_step(p, name, data, path, nth, p.attempt)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

local function current(what)
  local task = state[1]
  local p = task and task.process
  if not p then error("self:" .. what .. " is called outside of a process", 3) end
  return task, p
end


--- Sends a command; in the body an implicit step named after it. Raises when the command fails.
function verbs.send(_, name, data)
  local task, p = current("send")
  if type(name) ~= "string" then error("self:send needs the name of a command", 2) end
  if not task.flow then return send_in_step(p, name, data) end
  local step = p.class:implicit_step(name)
  local send = step.send
  if not send then
    send = function(_, input) return send_in_step(state[1].process, name, input) end
    step.send = send
  end
  return run(task, p, step, send, p.class.self, data)
end

local enqueue = lazy.call("catga.outbox.enqueue", "enqueue")

--- Enqueues a command, see catga.enqueue: committed with the step; in the body an implicit step
--- named after the command. Raises when it is refused.
---@return string id
function verbs.enqueue(_, name, data, opts)
  local task, p = current("enqueue")
  if type(name) ~= "string" then error("self:enqueue needs the name of a command", 2) end
  if not task.flow then
    local id, err = enqueue(p.app, name, data, opts)
    if not id then error(err, 0) end
    return id
  end
  local step = p.class:implicit_step("enqueue " .. name)
  local put = step.put
  if not put then
    put = function(_, input, options)
      local id, err = enqueue(state[1].process.app, name, input, options)
      if not id then error(err, 0) end
      return id
    end
    step.put = put
  end
  return run(task, p, step, put, p.class.self, data, opts)
end

--- Runs a function as a step of that name; undo by compensate_<name>.
function verbs.step(_, name, fn)
  local task, p = current("step")
  if type(name) ~= "string" or type(fn) ~= "function" then
    error("self:step(name, fn) needs a name and a function", 2)
  end
  if not task.flow then return fn() end
  local watched = watch.of(fn)
  if not watched then return run(task, p, p.class:implicit_step(name), fn) end
  return run(task, p, p.class:implicit_step(name), function()
    local value, err = fn()
    local changed = watch.changed(fn, watched)
    if changed then error(changed, 0) end
    return value, err
  end)
end

local wait_until_due = lazy.call("catga.process.waits", "sleep")

--- Waits; in the body a durable timer, inside a step a plain pause. May yield.
---@param text string  duration, "2s"
function verbs.sleep(_, text)
  local task, p = current("sleep")
  local ms = duration.ms(text, "self:sleep")
  if task.flow then return wait_until_due(p, ms) end
  tasks.wait(p.app.clock.sleep, p.app.clock, ms)
end

--- Milliseconds since the Unix epoch; in the body the time of the last journaled operation.
function verbs.now(_)
  local task, p = current("now")
  if task.flow then return p:time() end
  return p.app.clock:now()
end

--- A random number from 0 to 1 (excluded), the same on every replay.
function verbs.random(_)
  local task, p = current("random")
  if task.flow then return p:random() end
  return math.random()
end

--- A random UUID (version 4), the same on every replay.
function verbs.uuid(_)
  local task, p = current("uuid")
  return random.uuid(task.flow and function() return p:random() end or math.random)
end

--- A new id of the host, never given before.
function verbs.new_id(_)
  local task, p = current("new_id")
  if not task.flow then return p.app:new_id() end
  return run(task, p, p.class:implicit_step("new_id"), function() return p.app:new_id() end)
end

--- Starts a process as a child: { id, wait = function(self, { timeout }) }; wait gives its result,
--- or nil and its error. In the body only. May yield.
---@param name string
---@param input any
---@param opts { id: string?, on_end: "cancel"|"abandon"|nil, timeout: string?, tags: table? }?
---  id: default "<this process>/<operation>"; on_end: what becomes of it when this process ends
---  without having waited for it, default "cancel"
---@return { id: string, wait: fun(self, opts: { timeout: string? }?): any, any }
verbs.start = lazy.call("catga.process.children", "start")

--- Starts a child and waits for its result; raises its error. In the body only. May yield.
---@param name string
---@param input any
---@param opts table?  as in start
---@return any result
verbs.run = lazy.call("catga.process.children", "run")

--- Changes the tags of this process, by which lists are filtered; catga.null takes one away. May
--- yield.
---@param changes table<string, string|number|boolean>
function verbs.tag(_, changes)
  local task, p = current("tag")
  if not task.flow then error("self:tag is called inside a step; call it in the body", 2) end
  if type(changes) ~= "table" then error("self:tag needs a table of tags", 2) end
  return require("catga.process.tags").change(p, changes)
end

--- Runs rounds for as long as they return a state: fn(state, round) gives the next state, or nil
--- and the result. Each round is journaled with its state and does not run again: what it needs of
--- the rounds before must be in the state, and what it has done is not undone later. The journal
--- may be as long as it likes. In the body only. May yield.
---   return self:loop({ n = 0 }, function(state)
---     self:sleep("24h")
---     if self:bill(state.n) then return { n = state.n + 1 } end
---     return nil, state.n
---   end)
---@param state any
---@param fn fun(state: any, round: integer): any, any
---@return any result
verbs.loop = lazy.call("catga.process.loop", "loop")

--- Waits for a signal, which may have come before: its value; or nil and an error with the code
--- "timeout". In the body only. May yield.
---@param name string
---@param opts { timeout: string? }?
---@return any value
---@return catga.Error? err
verbs.receive = lazy.call("catga.process.waits", "receive")

--- Waits until `quorum` of the approvers have approved, or one has rejected: { approved, by, values
--- }; or nil and an error with the code "timeout". In the body only. May yield.
---@param name string
---@param opts { timeout: string?, approvers: string[]?, quorum: integer?, form: table? }?
---  approvers: who may answer; without it anybody; quorum: default 1; form: a schema of the values
---@return { approved: boolean, by: string[], values: table, reason: string? }? answer
---@return catga.Error? err
verbs.approval = lazy.call("catga.process.waits", "approval")

--- Makes a promise that somebody outside keeps by its id: { id, wait = function(self, { timeout })
--- }; wait gives the value, or nil and the error it was rejected with, or "timeout". In the body
--- only. May yield.
---@return { id: string, wait: fun(self, opts: { timeout: string? }?): any, any }
verbs.promise = lazy.call("catga.process.waits", "promise")

--- Waits until an event of the type is in the log, behind the moment when this is first called, and
--- matches: { type, data, stream, version, position, time }; or nil and an error with the code
--- "timeout". In the body only. May yield.
---@param type string
---@param match (table|fun(data: any, event: table): any)?  fields that the data must have, or a
---  function that must not have effects
---@param opts { timeout: string? }?
---@return table? event
---@return catga.Error? err
verbs.wait_event = lazy.call("catga.process.waits", "wait_event")

--- Runs functions as branches at the same time; returns their results by name or position when all
--- have ended. The first that fails ends the others at their next operation; its error is raised.
---   self:all("payment and notice", { payment = function() ... end, notice = function() ... end })
---@param name string
---@param branches table<any, fun(): any>
---@return table results
verbs.all = lazy.call("catga.process.branches", "all")

--- Runs functions as branches at the same time; returns the result of the first that succeeds and
--- its name. The others end at their next operation, and what they have done is undone. When none
--- succeeds, all is undone and an error with the code "none_succeeded" is raised.
---@param name string
---@param branches table<any, fun(): any>
---@return any result
---@return any key  its name or position
verbs.any = lazy.call("catga.process.branches", "any")

--- Runs a function for each item, at most `max` at the same time, each in a branch of its own;
--- returns the results by position. The first that fails ends the others, as in `all`.
---@param items any[]
---@param fn fun(item: any, position: integer): any
---@param opts { max: integer?, name: string? }?  max: default 8
---@return any[] results
verbs.map = lazy.call("catga.process.branches", "map")

return verbs
