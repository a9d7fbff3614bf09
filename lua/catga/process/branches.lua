--- Branches of a process that run at the same time: self:all, self:any, self:map.
---
--- Each branch is a strand in a task of its own. When the last one has ended, the strand that made
--- them journals that they are joined and goes on. On replay the branches run again, answered from
--- the journal in its order, so what they share in the body comes out the same.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local steps = require "catga.process.steps"
local undo = require "catga.process.undo"
local mailbox = require "catga.process.mailbox"
local messages = require "catga.process.messages"
local children = require "catga.lazy".module "catga.process.children"
local sandbox = require "catga.sandbox"
local native_task = require "catga.native.task"
local shadow = require "catga.lazy".module "catga.process.shadow"

local M = {}

local sorted_keys, raw_next = sandbox.sorted_keys, sandbox.raw.next

local MAP_MAX = 8            -- Items of self:map at the same time by default.
local BRANCHES_MAX = 100000  -- Of one operation.

--- The branches of one operation.
---@class catga.Group
---@field kind "all"|"any"|"map"
---@field parent catga.Instance     the strand that waits for them
---@field key integer|string        number of the operation
---@field keys any[]                names of the branches, in order
---@field make fun(index: integer): function, any  what a branch runs, and its arguments
---@field max integer               at the same time
---@field next integer              the next to begin
---@field open integer              begun and not ended
---@field results table
---@field failures table<integer, catga.Error>
---@field first_failure integer?    the branch that failed first
---@field winner integer?           of "any"
---@field is_over boolean?          who still runs ends at its next operation
---@field waiter catga.Task?        the task of the parent, while it waits
local Group = {}
Group.__index = Group

local run_branch

-- Begins the next branch.
local function begin_one(group)
  local parent, index = group.parent, group.next
  group.next, group.open = index + 1, group.open + 1
  local root = strands.root_of(parent)
  local b = strands.branch(parent, group, index, ("%s.%d."):format(group.key, index))
  root.branches = root.branches or {}
  root.branches[b] = true
  root.floor:add(b)
  b.task = tasks.spawn(root.app, run_branch, b)
end

local function begin_some(group, ended)
  if group.is_over or strands.is_over(group.parent) then return end
  while group.next <= #group.keys and group.open - ended < group.max do
    begin_one(group)
  end
end

--- A branch has ended: with its result, or because the group is over.
---@param s catga.Branch
function Group:ended(s)
  local root = s.root
  root.branches[s] = nil
  self.open = self.open - 1
  if root.shadow then shadow.check(root) end
  if self.open > 0 or not self.waiter then return end
  root.floor.coming = root.floor.coming + 1
  native_task.wake(self.waiter)
end

local function take_result(group, s, ok, value, err)
  if ok and value == nil and err ~= nil then ok, value = false, err end
  if ok then
    group.results[group.keys[s.index]] = value
    if group.kind == "any" then group.winner, group.is_over = s.index, true end
    return
  end
  group.failures[s.index] = errors.from(value)
  group.first_failure = group.first_failure or s.index
  if group.kind ~= "any" then group.is_over = true end
end

--- Wakes those branches of a group that is over, and theirs, which only wait.
---@param root catga.Instance
function M.poke_all(root)
  root.floor:release_late(strands.is_over)
  for _, b in ipairs(strands.branches_of(root)) do
    if b.napping and strands.is_over(b) then strands.poke(b) end
  end
end

function run_branch(s)
  local task, group, floor = state[1], s.group, s.floor
  task.process, task.flow = s, true
  floor:begin(s)
  if strands.is_over(s) then -- Before it has begun.
    floor:leave(s)
    return group:ended(s)
  end
  local fn, first, second = group.make(s.index)
  local ok, value, err = xpcall(fn, errors.catch, first, second)
  if s.halt and not floor:is_replaying() then strands.checkpoint(s) end
  journal.check_end(s, "the end of branch " .. s.prefix:sub(1, -2))
  take_result(group, s, ok, value, err)
  begin_some(group, 1) -- New branches come before whoever waits for the floor.
  floor:leave(s)
  if group.is_over then M.poke_all(s.root) end
  group:ended(s)
  task.flow = nil
  if floor:is_replaying() then strands.check_stuck(s, "nothing more") end
end

-- Waits until all branches have ended.
local function await(group)
  local floor = group.parent.floor
  if group.open > 0 then
    group.waiter = state[1]
    native_task.park()
    group.waiter = nil
    floor.coming = floor.coming - 1
  end
end

-- Undoes what the branches that did not win have done.
local function undo_losers(s, group)
  local records, err = journal.records(s.app, s.stream)
  if not records then error(err, 0) end
  local own = ("%s."):format(group.key)
  local kept = group.winner and own .. group.winner .. "."
  local function is_losers(op)
    op = tostring(op)
    return op:sub(1, #own) == own and not (kept and op:sub(1, #kept) == kept)
  end
  local root = strands.root_of(s)
  if root.children then children.end_some(root, records, is_losers) end
  local list = undo.list(s.class, records, is_losers)
  if #list == 0 then return end
  local path, attempt = s.path, s.attempt
  local ok, fault = undo.run(s, list, nil, group.key)
  s.path, s.attempt = path, attempt
  if not ok then error(fault, 0) end
end

local function check_branches(s, group)
  local histories = strands.root_of(s).branch_histories
  local index = histories and #group.keys + 1
  local surplus = histories and histories[("%s.%d."):format(group.key, index)]
  if surplus then
    local entry = surplus[1]
    journal.diverge(s, ("%s.%d.1"):format(group.key, index),
      entry and entry.kind .. " " .. entry.name or "a branch", "nothing")
  end
end

local function none_succeeded(group)
  local lines = {}
  for i, failure in ipairs(group.failures) do
    lines[i] = ("%s: %s"):format(tostring(group.keys[i]), tostring(failure))
  end
  return errors.new("none_succeeded", ("none of the branches of %s succeeded: %s"):format(
    group.name, table.concat(lines, "; ")), { failures = group.failures })
end

local function outcome(group)
  if group.kind == "any" then
    if not group.winner then error(none_succeeded(group), 0) end
    local key = group.keys[group.winner]
    return group.results[key], key
  end
  if group.first_failure then error(group.failures[group.first_failure], 0) end
  return group.results
end

-- Signals that the losers have taken are there for whoever waits for them.
local function give_back(s, group)
  local root = strands.root_of(s)
  local kept = group.winner and ("%s.%d."):format(group.key, group.winner)
  if messages.give_back(root, group.key, kept) then mailbox.announce(root) end
end

-- The branches have all ended: journals it, or finds it in the journal.
local function join(s, op, group, asked)
  local recorded = s.history and journal.recorded(s, op, group.kind, group.name)
  if recorded then return strands.take_turn(s, recorded, asked) end
  strands.go_live(s, asked)
  if s.halt then strands.checkpoint(s) end
  if group.kind == "any" then undo_losers(s, group) end
  local head = ('"op":%s,"kind":"%s","name":%s,'):format(
    type(group.key) == "string" and '"' .. group.key .. '"' or group.key, group.kind,
    journal.json.encode(group.name))
  journal.must_write(s, "ProcessBranchesJoined", 0, head, "winner",
    group.winner and tostring(group.keys[group.winner]) or nil,
    group.winner and (',"branch":%d'):format(group.winner) or nil)
  if group.kind == "any" then give_back(s, group) end
  if s.halt then strands.checkpoint(s) end
end

local function run_group(s, op, group)
  await(group)
  check_branches(s, group)
  join(s, op, group, group.kind .. " " .. group.name)
  steps.done_with_doubt(s)
end

local function current(what)
  local task = state[1]
  local s = task and task.process
  if not s then error("self:" .. what .. " is called outside of a process", 3) end
  if not task.flow then
    error(("self:%s is called inside a step: branches belong in the body; in a step use catga.map")
      :format(what), 3)
  end
  return s
end

local function run(s, kind, name, keys, make, max)
  if #keys > BRANCHES_MAX then
    error(("self:%s %s has %d branches; there may be %d"):format(kind, name, #keys, BRANCHES_MAX),
      3)
  end
  local op = strands.begin(s, "self:" .. kind)
  local group = setmetatable({ kind = kind, name = name, parent = s, keys = keys, make = make,
    max = max, next = 1, open = 0, results = {}, failures = {} }, Group)
  group.key = strands.key_of(s, op)
  if s.history then journal.expect(s, op, kind, name) end
  strands.need_floor(s)
  begin_some(group, 0) -- While this strand has the floor: they come next.
  strands.operate(s, run_group, s, op, group)
  strands.drop_floor(s)
  return outcome(group)
end

local function check_functions(what, name, branches)
  if type(name) ~= "string" or type(branches) ~= "table" then
    error(("self:%s(name, { key = function() ... end, ... }) needs a name and a table of functions")
      :format(what), 4)
  end
  local keys = sorted_keys(branches)
  for _, key in ipairs(keys) do
    if type(branches[key]) ~= "function" then
      error(("self:%s %s: branch %s must be a function, got %s"):format(what, name, tostring(key),
        type(branches[key])), 4)
    end
  end
  return keys
end

local function of_table(what, name, branches)
  local s = current(what)
  local keys = check_functions(what, name, branches)
  return run(s, what, name, keys, function(index) return branches[keys[index]] end, #keys)
end

-- The documentation of these is where they are methods of `self`, in verbs.lua.

function M.all(_, name, branches) return of_table("all", name, branches) end

function M.any(_, name, branches)
  if type(branches) == "table" and raw_next(branches) == nil then
    error(("self:any %s has no branch that could succeed"):format(tostring(name)), 2)
  end
  return of_table("any", name, branches)
end

local function check_map(items, fn, opts)
  if type(items) ~= "table" or type(fn) ~= "function" then
    error("self:map(items, fn, { max = 8 }) needs a list and a function", 3)
  end
  for option in pairs(opts) do
    if option ~= "max" and option ~= "name" then
      error(("self:map: unknown option %s; there are max and name"):format(tostring(option)), 3)
    end
  end
  local max = opts.max or MAP_MAX
  if type(max) ~= "number" or max < 1 or max % 1 ~= 0 then
    error("self:map: max is a whole number from 1, got " .. tostring(max), 3)
  end
  if opts.name ~= nil and type(opts.name) ~= "string" then
    error("self:map: name is a string, got " .. type(opts.name), 3)
  end
  return max
end

function M.map(_, items, fn, opts)
  opts = opts or {}
  local s = current("map")
  local max = check_map(items, fn, opts)
  local keys = {}
  for i = 1, #items do keys[i] = i end
  return run(s, "map", opts.name or "map", keys, function(index)
    return fn, items[index], index
  end, max)
end

return M
