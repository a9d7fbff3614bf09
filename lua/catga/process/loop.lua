--- self:loop: rounds that are journaled one by one, so that a process may run for ever and a wake
--- costs its last round.
---
--- A round gets the state that the round before returned, as the journal has it. Once a round is
--- journaled it does not run again: what it changed elsewhere in the body is not there after a
--- restart, and what it has done is not undone. Its operations have numbers of their own, 4.17.1:
--- the first of round 17 of operation 4.
---
--- Now and then the record of a round carries all that is needed of the journal before it; readers
--- begin there, and a scavenge takes what lies before.
local errors = require "catga.error"
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"
local steps = require "catga.process.steps"
local waits = require "catga.process.waits"
local mailbox = require "catga.process.mailbox"
local sandbox = require "catga.sandbox"

local M = {}

local raw_next, raw_pairs = sandbox.raw.next, sandbox.raw.pairs
local CHECKPOINT_ROUNDS = 1000      -- Rounds between two records that carry what was before.
local CHECKPOINT_BYTES_MAX = 262144 -- Of what they carry; with more the journal stays whole.
local TURN_ROUNDS = 32              -- Rounds after which others run.
local IDS_MAX = 1000                -- Ids of messages that they remember.

local function head_of(key, round)
  return ('"op":%s,"round":%d,'):format(type(key) == "string" and '"' .. key .. '"' or key, round)
end

-- What is needed of the journal before this record: records of operations before the loop, messages
-- that were not taken, tags, children; nil when it is not the only strand, or is too much.
local function carried(s, key)
  local root = s.root or s
  if s ~= root or type(key) == "string" then return nil end
  if root.branches and raw_next(root.branches) then return nil end
  mailbox.collect(root, true)
  local records = journal.records(root.app, root.stream)
  if not records then return nil end
  local own = key .. "."
  local kept = {}
  for i = 2, #records do
    local record = records[i]
    local op = type(record.data) == "table" and record.data.op
    local before = type(op) == "string" and tonumber(op:match("^%d+"))
    if type(op) == "number" and op < key or before and before < key and op:sub(1, #own) ~= own
      or journal.is_of_update(record) or record.type:find("^ProcessUpdate") then
      kept[#kept + 1] = { type = record.type, data = record.data, time = record.time,
        version = record.version }
    end
  end
  for _, list in raw_pairs(root.mail or {}) do
    for _, message in ipairs(list) do
      kept[#kept + 1] = { type = message.type, data = message.data, version = message.version }
    end
  end
  table.sort(kept, function(a, b) return a.version < b.version end)
  local ids = {}
  for id in raw_pairs(root.mail_ids or {}) do
    if #ids < IDS_MAX then ids[#ids + 1] = id end
  end
  table.sort(ids)
  local text = journal.json.encode { records = journal.json.array(kept), tags = root.tags,
    paused = root.paused, children = root.children, ids = journal.json.array(ids) }
  if not text or #text > CHECKPOINT_BYTES_MAX then return nil end
  return ',"carried":' .. text
end

-- The strand's own numbering is put aside while it is in a round.
local SCOPE = { "prefix", "key", "op", "history", "doubt", "generator", "special" }

local function save(s)
  local scope = {}
  for _, field in ipairs(SCOPE) do scope[field] = rawget(s, field) end
  return scope
end

local function restore(s, scope)
  for _, field in ipairs(SCOPE) do s[field] = scope[field] end
end

local function begin_round(s, key, round, is_doubtful)
  local root = s.root or s
  local prefix = ("%s.%d."):format(key, round)
  local history = root.branch_histories and root.branch_histories[prefix] or false
  s.prefix, s.key, s.op, s.history, s.generator, s.special = prefix, false, 0, history, false, true
  s.doubt = is_doubtful and not (history and history.is_asleep)
    and (history and history.last or 0) + 1 or false
end

local function end_round(s, key, round, value)
  local tail = round % CHECKPOINT_ROUNDS == 0 and carried(s, key) or nil
  strands.go_live(s, "loop loop")
  local state = journal.must_write(s, "ProcessLoopRound", 0, head_of(key, round), "state", value,
    tail)
  if s.halt then strands.checkpoint(s) end
  return state
end

local function finish(s, key, round, result)
  strands.go_live(s, "loop loop")
  local value = journal.must_write(s, "ProcessLoopEnded", 0, head_of(key, round), "result", result)
  if s.halt then strands.checkpoint(s) end
  return value
end

-- A round has failed: so has the loop. The body gets the error as the journal has it.
local function fail(s, key, round, failure)
  strands.go_live(s, "loop loop")
  local stored = journal.must_write(s, "ProcessLoopEnded", 0, head_of(key, round), "error",
    journal.storable(s, errors.from(failure)))
  if s.halt then strands.checkpoint(s) end
  error(errors.from(stored), 0)
end

local function run_round(s, key, round, is_doubtful, state, fn)
  local scope = save(s)
  begin_round(s, key, round, is_doubtful)
  local ok, next_state, result = xpcall(fn, errors.catch, state, round)
  if s.halt then strands.checkpoint(s) end
  if ok then journal.check_end(s, "the end of round " .. round) end
  restore(s, scope)
  return ok, next_state, result
end

-- The state of the first round, as the journal would have it.
local function first_state(value)
  if value == nil then return nil end
  local text, err = journal.json.encode(value)
  if not text then error(err, 0) end
  return (journal.json.decode(text))
end

--- Runs rounds until one returns nil and the result. The documentation is in verbs.lua.
function M.loop(_, state, fn)
  local s = waits.current("loop")
  if type(fn) ~= "function" then error("self:loop(state, fn) needs a function", 2) end
  local op = strands.begin(s, "self:loop")
  local key = strands.key_of(s, op)
  local recorded = s.history and journal.recorded(s, op, "loop", "loop")
  local round = 1
  if recorded then
    strands.operate(s, strands.take_turn, s, recorded, "loop loop")
    if recorded.error then error(errors.from(recorded.error), 0) end
    if recorded.done then return recorded.result end
    state, round = recorded.state, recorded.round + 1
  else
    state = first_state(state)
  end
  local is_doubtful = s.doubt == op
  s.special = true
  while true do
    local ok, next_state, result = run_round(s, key, round, is_doubtful, state, fn)
    is_doubtful = false
    steps.done_with_doubt(s)
    if not ok then strands.operate(s, fail, s, key, round, next_state) end
    if next_state == nil then return strands.operate(s, finish, s, key, round, result) end
    state = strands.operate(s, end_round, s, key, round, next_state)
    if round % TURN_ROUNDS == 0 then strands.let_others(s) end
    round = round + 1
  end
end

return M
