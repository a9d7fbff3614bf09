--- A process in memory: what the engine knows of it while it runs.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local bit = require "bit"
local random = require "catga.process.random"
local updates = require "catga.lazy".module "catga.process.updates"

--- A process in memory.
---@class catga.Instance
---@field id string
---@field run integer
---@field class catga.ProcessClass
---@field stream integer
---@field op integer           number of the last operation the body asked for
---@field nth integer          sends of the step so far
---@field attempt integer      of the step that runs
---@field path string?         while it undoes: "3/undo"; else the operation counts
---@field history table?       while it replays
---@field input any
---@field now number           time of the last record it has seen
---@field status string|false  how it ended
---@field result any           of a completed one
---@field failure catga.Error? of one that ended otherwise
---@field waiter catga.Task|false  the first that waits for the end; more are in `future`
---@field doubt integer?       operation that may have been attempted before a crash
---@field halt boolean?        no further step begins: cancelled, or the app stops
---@field special boolean?     it replays, was recovered, or is to halt: not the usual case
---@field waiting boolean|number|catga.Wait|table|nil  its body waits: for a timer (when it is due),
---  for something from outside, for another attempt ({ kind, name, due }); true: while it is paused
---@field cancelled catga.Error?
---@field in_doubt table?      the step that may have been attempted before a crash, as it is undone
---@field doubts table[]?      those of strands that a cancel has ended
---@field prefix string?       of a branch: of the numbers of its operations
---@field root catga.Instance? of a branch: the process
---@field branches table<catga.Branch, true>?  that have not ended
---@field floor catga.Floor?   while there are branches
---@field branch_histories table<string, table>?  while it replays, by prefix
---@field groups table<integer|string, true>?  operations that had branches, while it replays
---@field is_gone boolean?     the body's own strand was ended by a cancel
---@field timeout_at number?   Unix ms when it is ended
---@field has_timed_out boolean?  that is why it is being ended
---@field deadline_timer userdata?
---@field tags table?          what lists of processes can be filtered by
---@field tags_changed boolean?
---@field children table<string, string>?  processes that it has started and not waited for, and
---  what becomes of them when it ends: "cancel" or "abandon"
---@field parent_id string?    the process that started it
---@field is_fork boolean?     children that it waits for may be those of another process
---@field paused boolean?      no operation begins
---@field ending boolean?      its body is over
---@field updates catga.Updates?  see updates.lua
---@field yielding boolean?    its code lets others run before an operation
---@field nap_until number|false|nil  Unix ms until when it waits
---@field vars table?          what the body has set on self
---@field shadow catga.Shadow? it is a replay that only looks, see shadow.lua
---@field stopped catga.ShadowStop|true|nil  where a strand of such a replay has stopped
---@field place string?        file:line of the link it is at, of a declared process
---@field results table?       of a declared one that is undone: by name, out of the journal
local Instance = { run = 1, attempt = 1 } -- What most instances have in common is not in each.
Instance.__index = Instance

--- Time of the flow: that of the last journaled operation.
function Instance:time() return self.now end

-- A whole number from 0 to 2^48-1 out of text (FNV-1a on two words).
local function hash48(text)
  local low, high = 0x811c9dc5, 0x1234567
  for i = 1, #text do
    low = bit.tobit(bit.bxor(low, text:byte(i)) * 0x0193 + bit.lshift(low, 24))
    high = bit.tobit(bit.bxor(high, bit.rshift(low, 9)) * 0x0193 + i)
  end
  return low % 2 ^ 32 + (high % 2 ^ 16) * 2 ^ 32
end

--- The process's own random numbers: seeded by the id of its start record, so a replay, and no
--- other process but one forked from it, sees the same.
function Instance:random()
  local generator = self.generator
  if not generator then
    local first = self.app.store:read(self.stream, 0, 1)[1]
    generator = random.new(hash48((first.data.seed or first.id) .. (self.prefix or "")))
    self.generator = generator
  end
  return generator()
end

--- Wakes who waits for the end of the process.
---@param status string
---@param result any
---@param failure catga.Error?
function Instance:settle(status, result, failure)
  self.status, self.result = status, result
  if failure then
    failure.status = status
    self.failure = failure
  end
  local waiter = self.waiter
  if waiter then
    self.waiter = false
    if waiter[1] then native_task.wake(waiter[1]) end
  end
  if self.future then self.future:set() end
  if self.updates then updates.let_go(self, failure) end
end

local function park_as(entry)
  if not native_task.can_park() then entry[1] = nil end -- Then park raises.
  native_task.park()
  entry[1] = nil -- An interrupted task must not be woken a second time.
end

--- Waits for the end: status, result, error. May yield.
function Instance:wait()
  if not self.status then
    if not self.waiter then
      local entry = { state[1] }
      self.waiter = entry
      tasks.wait(park_as, entry)
    else
      self.future = self.future or tasks.future()
      self.future:wait()
    end
  end
  return self.status, self.result, self.failure
end

--- The engine itself failed in this process: it stays in the journal as it is.
---@param failure catga.Error|string
function Instance:crashed(failure)
  failure = errors.from(failure)
  self = self.root or self
  self.app.engine:drop_strands(self) -- Their tasks are used for something else from now on.
  if state[1] == self.task then self.task = false end
  if self.shadow then return self:settle("stopped", nil, failure) end
  if self.app.is_closed then return self.app.engine:let_go(self, failure) end
  self.app:say("error", ("process %s stopped: %s%s"):format(self.id, tostring(failure),
    failure.traceback or ""))
  self.app.engine:forget(self)
  self:settle("stopped", nil, failure)
end

return Instance
