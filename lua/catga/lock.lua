--- Locks by name: one task at a time has a lock, the others wait in the order in which they came.
---
---   local value, err = catga.lock.with("stock-42", { timeout = "5s" }, function(lock) ... end)
---   local lock, err = catga.lock.acquire("stock-42", { ttl = "30s" })
---   lock:release()
---
--- Where locks are kept is a kind; "local" (the default) is this program. A kind is a module with
--- new(app), which gives an object with these methods, all of which may yield:
---   acquire(key, { timeout_ms, ttl_ms? }) -> token (a number, larger with every lock of the key)
---     | nil, err ("timeout": not free in time; "limit": too many wait)
---   release(key, token) -> boolean   false: it was lost before
---   renew(key, token, ttl_ms?) -> boolean
---   holds(key, token) -> boolean     as far as it is known here
---   list() -> { { key, token, since, waiting } }
--- spec/functional/lock_contract_spec.lua is what each kind must do.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local duration = require "catga.duration"
local suggest = require "catga.registry".suggest
local effect = require "catga.face".effect
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

local KEY_BYTES_MAX = 1024
local OPTIONS = { timeout = true, ttl = true, kind = true }

--- The kinds of locks: the module of each.
M.KINDS = { ["local"] = "catga.lock.memory" }

--- A lock that was acquired.
---@class catga.Lock
---@field key string
---@field token number   grows with every acquisition: what is guarded by the lock can refuse a
---  token smaller than one it has seen (a holder that lost the lock without knowing)
---@field kind table
---@field task catga.Task  that holds it: the lock is released when it ends
local Lock = {}
Lock.__index = Lock

--- The locks of a kind, which policies use too. Raises for a kind that there is not.
---@param app catga.App
---@param name string?  default "local"
---@return table
function M.kind(app, name)
  name = name or "local"
  local module = M.KINDS[name]
  if not module then
    local near = suggest(tostring(name), M.KINDS)
    error(("catga.lock: there is no kind %s%s"):format(tostring(name),
      near and "; did you mean " .. near .. "?" or ""), 4)
  end
  local kinds = app.locks
  if not kinds then
    kinds = {}
    app.locks = kinds
  end
  if not kinds[name] then kinds[name] = require(module).new(app) end
  return kinds[name]
end

local kind_of = M.kind

local function check(what, app, key, opts)
  if type(key) ~= "string" or key == "" or #key > KEY_BYTES_MAX then
    error(("%s: the key is a string of 1 to %d bytes"):format(what, KEY_BYTES_MAX), 3)
  end
  for name in raw_pairs(opts) do
    if not OPTIONS[name] then
      local near = suggest(tostring(name), OPTIONS)
      error(("%s: unknown option %s; there are timeout, ttl and kind%s"):format(what,
        tostring(name), near and "; did you mean " .. near .. "?" or ""), 3)
    end
  end
  local timeout_ms = opts.timeout and duration.ms(opts.timeout, what .. ": timeout")
    or app.settings.lock_timeout
  local ttl_ms = opts.ttl and duration.ms(opts.ttl, what .. ": ttl") or nil
  if ttl_ms == 0 then error(what .. ": ttl must be longer than 0", 3) end
  return { timeout_ms = timeout_ms, ttl_ms = ttl_ms }
end

-- Waiting for a lock that the task has itself would never end.
local function check_own(kind, key, task)
  local own = task.locks and task.locks[kind] and task.locks[kind][key]
  if own and own:is_held() then
    error(errors.new("would_deadlock", ("lock %s: this task has it already (token %.0f); release "
      .. "it first, or pass it on as an argument"):format(key, own.token)), 0)
  end
end

-- The task's locks of a kind, which are released when it ends.
local function remember(kind, task, lock)
  local all = task.locks
  if not all then
    all = {}
    task.locks = all
  end
  local own = all[kind]
  if not own then
    own = {}
    all[kind] = own
    tasks.at_end(task, kind, function()
      task.locks = nil
      for _, held in raw_pairs(own) do held.kind:release(held.key, held.token) end
    end)
  end
  own[lock.key] = lock
end

local function acquire(app, kind, key, wanted)
  local task = state[1]
  check_own(kind, key, task)
  local token, err = kind:acquire(key, wanted)
  if not token then return nil, err end
  local lock = setmetatable({ key = key, token = token, kind = kind, task = task,
    ttl_ms = wanted.ttl_ms, app = app }, Lock)
  remember(kind, task, lock)
  return lock
end

--- Acquires a lock; waits while another task has it. It is released by lock:release(), when its
--- ttl is over, or when the task ends. May yield.
---@param key string  1 to 1024 bytes
---@param opts { timeout: string?, ttl: string?, kind: string? }?  timeout: how long to wait, by
---  default the setting lock_timeout, "0s": not at all; ttl: it is lost after so long, for the case
---  that its holder hangs; none by default
---@return catga.Lock? lock
---@return catga.Error? err  "timeout", retryable; "limit": too many wait already
function M.acquire(key, opts)
  local app = effect("catga.lock.acquire")
  opts = opts or {}
  return acquire(app, kind_of(app, opts.kind), key, check("catga.lock.acquire", app, key, opts))
end

local function finish(lock, ok, ...)
  local was_held = lock:release()
  if not ok then error((...), 0) end
  if was_held then return ... end
  return nil, errors.new("lock_lost", ("lock %s was lost while its function ran: that took longer "
    .. "than its ttl of %d ms; renew it by lock:renew(), or give it a longer ttl"):format(lock.key,
    lock.ttl_ms or 0), { retryable = true })
end

--- Runs a function while having a lock, and gives its results. May yield.
---@param key string
---@param opts table|function  as of acquire; may be left out
---@param fn fun(lock: catga.Lock): any
---@return any ...  what the function returns; nil and an error: the lock was not to be had, or
---  ("lock_lost") its ttl was over before the function was
function M.with(key, opts, fn)
  local app = effect("catga.lock.with")
  if type(opts) == "function" and fn == nil then opts, fn = {}, opts end
  opts = opts or {}
  if type(fn) ~= "function" then error("catga.lock.with(key, opts?, fn) needs a function", 2) end
  local lock, err = acquire(app, kind_of(app, opts.kind), key,
    check("catga.lock.with", app, key, opts))
  if not lock then return nil, err end
  return finish(lock, xpcall(fn, errors.catch, lock))
end

--- The locks that are held: { key, token, since (ms), waiting (how many) }, in the order of keys.
---@param opts { kind: string? }?
---@return { key: string, token: number, since: number, waiting: integer }[]
function M.list(opts)
  local app = effect("catga.lock.list")
  return kind_of(app, opts and opts.kind):list()
end

--- Does its task still have it?
---@return boolean
function Lock:is_held() return not self.released and self.kind:holds(self.key, self.token) end

--- Lets it go; the next task that waits gets it. Harmless when repeated. May yield.
---@return boolean was_held  false: it was lost before (its ttl was over), or released already
function Lock:release()
  if self.released then return false end
  self.released = true
  local own = self.task.locks and self.task.locks[self.kind]
  if own and own[self.key] == self then own[self.key] = nil end
  return self.kind:release(self.key, self.token)
end

--- Its ttl begins anew. May yield.
---@param ttl string?  another one from now on
---@return boolean is_held
function Lock:renew(ttl)
  if ttl then self.ttl_ms = duration.ms(ttl, "lock:renew") end
  return not self.released and self.kind:renew(self.key, self.token, self.ttl_ms)
end

return M
