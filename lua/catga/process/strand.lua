--- Strands: the body of a process, and the branches that it has at a time. Each numbers its own
--- operations; the body's are 1, 2, ..., those of the second branch of operation 3 are 3.2.1, ...
---
--- The body's strand is the instance itself; a branch is a table that reads through to it, with
--- what each strand has of its own.
local state = require "catga.state"
local tasks = require "catga.task"
local journal = require "catga.process.journal"
local floors = require "catga.process.floor"
local native_task = require "catga.native.task"
local shadow = require "catga.lazy".module "catga.process.shadow"
local sandbox = require "catga.sandbox"

local M = {}

local LOOK_MS = 60000 -- How often a wait for a time looks whether the clock has jumped.
local TURN_OPS = 128  -- Operations after which a strand lets others run.
local can_park = native_task.can_park
local raw_next, raw_pairs = sandbox.raw.next, sandbox.raw.pairs

local naps = 0 -- Waits that have begun: who has waited longest has the least number.

--- What a branch has of its own; everything else is read from the instance.
---@class catga.Branch: catga.Instance
---@field root catga.Instance
---@field prefix string        "3.2.": of its operations
---@field key string|false     of the operation under way, "3.2.1"
---@field group catga.Group    that it belongs to
---@field parent catga.Instance  the strand that made it
---@field index integer        its place in the group
---@field serial integer       grows with every branch of the process

--- The process that a strand belongs to.
---@param s catga.Instance
---@return catga.Instance
function M.root_of(s) return s.root or s end

--- A branch of a strand.
---@param parent catga.Instance
---@param group catga.Group
---@param index integer
---@param prefix string
---@return catga.Branch
function M.branch(parent, group, index, prefix)
  local root = parent.root or parent
  local meta = root.branch_meta
  if not meta then
    meta = { __index = root }
    root.branch_meta = meta
  end
  local serial = (root.branch_serial or 0) + 1
  root.branch_serial = serial
  local history = root.branch_histories and root.branch_histories[prefix] or false
  local doubt = parent.doubt and parent.doubt == parent.op and (history and history.last or 0) + 1
  local b = setmetatable({ root = root, prefix = prefix, group = group, parent = parent,
    index = index, serial = serial, op = 0, nth = 0, attempt = 1, key = false, path = false,
    history = history, doubt = doubt or false, in_doubt = false, failures = false, due = false,
    special = true, now = parent.now, generator = false, floor_task = false, task = false,
    napping = false, waiting = false, skipped = false, retrying = false, yielding = false,
    stopped = false, nap_until = false }, meta)
  if history and history.is_asleep then b.doubt = false end
  return b
end

--- The number of an operation as the journal has it: 3, or "3.2.1" in a branch.
---@param s catga.Instance
---@param op integer
---@return integer|string
function M.key_of(s, op)
  local prefix = s.prefix
  if not prefix then return op end
  local key = prefix .. op
  s.key = key
  return key
end

--- Between operations, when the process is to halt: a cancelled one leaves its body here, one of a
--- stopping app waits here for the next start of the program. Does not return.
---@param s catga.Instance
function M.checkpoint(s)
  local root = s.root or s
  while root.cancelled and s do
    root.app.engine:strand_left(root, s)
    local group = s.group -- Who waits for the last of its branches leaves with it.
    s = nil
    if group then
      group.open = group.open - 1
      if group.open == 0 and group.waiter and native_task.drop(group.waiter) then
        s = group.parent
      end
    end
  end
  native_task.abandon()
end

--- A strand goes on no more: nothing outside is left of what it waits for.
---@param s catga.Instance
function M.release(s)
  local waiter = rawget(s, "waiter_for_event")
  if not waiter then return end
  s.waiter_for_event = false
  require("catga.process.events").remove(s.app, waiter)
end

--- Between operations: lets other tasks run, and keeps the floor. May yield.
---@param s catga.Instance
function M.let_others(s)
  s.yielding = true
  native_task.yield()
  s.yielding = false
end

--- An operation has to wait for its record, and where that is not possible it must not begin: below
--- a C function. It is not counted then, so the body goes on the same way in every run.
---@param s catga.Instance
---@param what string  for the error
---@return integer op
function M.begin(s, what)
  if not can_park() then
    error(what .. " is called below a C function such as table.sort, string.gsub or require, where "
      .. "nothing can wait; call it before or after", 3)
  end
  local op = s.op + 1
  s.op = op
  if op % TURN_OPS == 0 then M.let_others(s) end
  return op
end

-- A branch of a group that is over ends where it stands.
local function is_over(s)
  while s.group do
    if s.group.is_over then return true end
    s = s.parent
  end
  return false
end
M.is_over = is_over

-- Ends the branch: its group is over. What may have had an effect is put down to be undone.
local function settle(s)
  M.release(s)
  local in_doubt = s.in_doubt
  s.in_doubt = false
  if in_doubt then journal.abandoned(s, in_doubt) end
  if s.floor then s.floor:leave(s) end
  s.group:ended(s)
  native_task.abandon()
end

--- The branches of a process that have not ended, in the order in which they were made.
---@param p catga.Instance
---@return catga.Branch[]
function M.branches_of(p)
  local list = {}
  for b in raw_pairs(p.branches or {}) do list[#list + 1] = b end
  table.sort(list, function(a, b) return a.serial < b.serial end)
  return list
end

local function check_stuck(s, asked)
  local entry = s.floor:stuck_at()
  if not entry then return end
  local prefix = type(entry.op) == "string" and entry.op:match("^(.*%.)%d+$") or nil
  if prefix ~= s.prefix then asked = "nothing" end -- No strand is where it was recorded.
  journal.diverge(s, entry.op, entry.kind .. " " .. entry.name, asked)
end
M.check_stuck = check_stuck

--- Waits for the turn of a recorded operation that is done. May yield.
---@param s catga.Instance
---@param entry table   what is recorded
---@param asked string  kind and name, for a divergence
function M.take_turn(s, entry, asked)
  local floor = s.floor
  if not floor then return end
  if not floor:is_replaying() then return floor:enter(s) end -- It was made for this operation.
  floor.waiting[entry] = s
  check_stuck(s, asked)
  floor:turn(s, entry)
end

--- Before something new happens in a strand: everything recorded must have been gone through. Ends
--- the branch when its group is over, holds while the process is paused. May yield.
---@param s catga.Instance
---@param asked string           kind and name of the operation, for a divergence
---@param key (integer|string)?  its number, unless it has branches
function M.go_live(s, asked, key)
  local floor, groups = s.floor, s.groups
  if groups and key and groups[key] then journal.diverge(s, key, "branches", asked) end
  if s.group and is_over(s) then settle(s) end
  if floor and floor:is_replaying() then
    check_stuck(s, asked)
    floor:await_replay(s)
    if s.group and is_over(s) then settle(s) end
  end
  local root = s.root or s
  if root.shadow then shadow.stop(s, asked, key) end
  if s == root and floor then M.drop_floor(s) end
  if root.paused then M.nap(s, nil, function() return not root.paused end) end
end

local function entered(s, ok, ...)
  local floor = s.floor
  if floor then floor:enter(s) end
  if s.group and is_over(s) then settle(s) end
  if not ok then error((...), 0) end
  return ...
end

--- Runs an operation of a strand, which has no floor meanwhile. May yield.
---@param s catga.Instance
---@param fn function
---@return any ...  what fn returns
function M.operate(s, fn, ...)
  local floor = s.floor
  if floor then floor:leave(s) end
  return entered(s, pcall(fn, ...))
end

--- The shortest operation, which has not left the floor, is over: there may be one now. May yield.
---@param s catga.Instance
function M.arrived(s)
  if s.halt then M.checkpoint(s) end
  if s.floor then s.floor:enter(s) end
end

--- The process has a floor from now on; the strand that runs has it.
---@param s catga.Instance
---@return catga.Floor
function M.need_floor(s)
  local root = s.root or s
  local floor = root.floor
  if floor then return floor end
  floor = floors.new(s)
  root.floor, root.special = floor, true
  return floor
end

--- The same from outside of the process, which does not replay: while its body is in an operation,
--- nobody has the floor.
---@param p catga.Instance
function M.open_floor(p)
  if p.floor then return end
  p.floor, p.special = floors.new((p.op == 0 or p.yielding) and p or false), true
end

--- The strand is the only one again.
---@param s catga.Instance
function M.drop_floor(s)
  local root = s.root or s
  if s ~= root or root.branches and raw_next(root.branches) then return end
  if not root.floor or root.floor:is_replaying() then return end
  root.floor = nil
end

--- Ends a wait early, so that it looks again what it waits for.
---@param s catga.Instance
function M.poke(s)
  if s.napping then native_task.interrupt(s.napping) end
end

-- Parks for a while, or until it is poked.
local function doze(s, ms)
  s.napping, naps = state[1], naps + 1
  s.napping_since = naps
  if ms then
    tasks.wait(s.app.clock.sleep, s.app.clock, math.min(math.ceil(ms), LOOK_MS))
  else
    tasks.wait(native_task.park)
  end
  s.napping = false
end

--- Waits in the body, outside of any attempt, until `look` finds something or the time has come.
--- Leaves the body when the process is to halt, the branch when its group is over. May yield.
---@param s catga.Instance
---@param due number?         Unix ms
---@param look (fun(): any)?  what is waited for: true or a value when it is there
---@param what catga.Wait|{ kind: string, name: string, due: number }|number|nil  the same for who
---  looks at the process: see describe.lua; of a timer when it is due
---@return any found          nil: the time has come
function M.nap(s, due, look, what)
  local task = state[1]
  local clock = s.app.clock
  local is_announced
  while true do
    if s.group and is_over(s) then settle(s) end
    if s.halt then M.checkpoint(s) end
    local found = look and look()
    if found then return found end
    local ms = due and due - clock:now()
    if ms and ms <= 0 then return nil end
    task.flow, s.waiting, s.nap_until = nil, what or true, due or false
    if not is_announced and not s.root then s.app.engine:waits(s, due) end
    is_announced = true
    doze(s, ms)
    task.flow, s.waiting = true, false
  end
end

return M
