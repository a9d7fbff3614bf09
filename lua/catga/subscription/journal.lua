--- What of a subscription is durable: the records of its stream `$subscription-<name>`, and reading
--- them back.
---
---   SubscriptionMoved       { to, done? }     all up to `to` is done, and these positions above it
---   SubscriptionFailed      { position, attempts }
---   SubscriptionParked      { position, at }  `at`: version of its record in `$parked-<name>`
---   SubscriptionReplayed    { positions }     parked events that are to be delivered again
---   SubscriptionUnparked    { positions }     handled in the end, or dropped
---   SubscriptionPaused      { paused }
---   SubscriptionReset       { to }            forgets what is done and failed
---   SubscriptionCheckpoint  { from, to, done, attempts, parked, paused }
---
--- A checkpoint holds the whole state, so what lies before it is not needed. When it is made, the
--- end of other events may have been committed but not be known durable yet: `from` is the version
--- from which records are to be applied on top. Every record sets what it speaks of, so one that
--- the checkpoint has in it already does no harm.
local M = {}

local CHUNK = 200 -- Records read at once.

M.PREFIX = "$subscription-"
M.PARKED_PREFIX = "$parked-"

---@class catga.SubscriptionState
---@field is_new boolean?               nothing was ever written
---@field to integer                    all up to here is done
---@field done table<integer, boolean>  positions above it that are done
---@field attempts table<integer, integer>  failed ones, by position
---@field parked table<integer, { at: integer, replaying: boolean? }>  by position
---@field paused boolean
---@field increments integer            records since the last checkpoint

local function empty()
  return { is_new = true, to = 0, done = {}, attempts = {}, parked = {}, paused = false,
    increments = 0 }
end

local APPLY = {}

function APPLY.SubscriptionMoved(state, data)
  state.to = math.max(state.to, data.to)
  for _, position in ipairs(data.done or {}) do
    state.done[position] = true
    state.attempts[position] = nil
  end
end

function APPLY.SubscriptionFailed(state, data) state.attempts[data.position] = data.attempts end

function APPLY.SubscriptionParked(state, data)
  state.parked[data.position] = { at = data.at }
  state.done[data.position] = true
  state.attempts[data.position] = nil
end

function APPLY.SubscriptionReplayed(state, data)
  for _, position in ipairs(data.positions) do
    if state.parked[position] then state.parked[position].replaying = true end
  end
end

function APPLY.SubscriptionUnparked(state, data)
  for _, position in ipairs(data.positions) do
    state.parked[position], state.attempts[position] = nil, nil
  end
end

function APPLY.SubscriptionPaused(state, data) state.paused = data.paused end

function APPLY.SubscriptionReset(state, data)
  state.to, state.done, state.attempts = data.to, {}, {}
end

function APPLY.SubscriptionCheckpoint(state, data)
  state.to, state.paused = data.to, data.paused
  state.done, state.attempts, state.parked = {}, {}, {}
  for _, position in ipairs(data.done) do state.done[position] = true end
  for _, pair in ipairs(data.attempts) do state.attempts[pair[1]] = pair[2] end
  for _, one in ipairs(data.parked) do
    state.parked[one[1]] = { at = one[2], replaying = one[3] or nil }
  end
end

-- The version of the newest checkpoint, and its data; -1 when there is none.
local function last_checkpoint(store, stream)
  local from = store:count(stream) - 1
  while from >= 0 do
    local records, err = store:read(stream, from, CHUNK, true)
    if not records then error(err, 0) end
    for _, record in ipairs(records) do
      if record.type == "SubscriptionCheckpoint" then return record.version, record.data end
    end
    if #records == 0 then break end
    from = records[#records].version - 1
  end
  return -1
end

--- Reads the state of a subscription. Raises when it cannot.
---@param store catga.Store
---@param name string
---@return catga.SubscriptionState
function M.load(store, name)
  local state = empty()
  local stream = store:stream(M.PREFIX .. name)
  if not stream or store:count(stream) == 0 then return state end
  state.is_new = nil
  local checkpoint, data = last_checkpoint(store, stream)
  if data then APPLY.SubscriptionCheckpoint(state, data) end
  local from = data and data.from or 0
  local count = store:count(stream)
  while from < count do
    local records, err = store:read(stream, from, CHUNK)
    if not records then error(err, 0) end
    if #records == 0 then break end
    for _, record in ipairs(records) do
      if record.version > checkpoint then state.increments = state.increments + 1 end
      if record.version ~= checkpoint and APPLY[record.type] then
        APPLY[record.type](state, record.data)
      end
      from = record.version + 1
    end
  end
  for position in pairs(state.done) do -- What was parked may stand below.
    if position <= state.to then state.done[position] = nil end
  end
  for position in pairs(state.attempts) do
    if position <= state.to and not state.parked[position] then state.attempts[position] = nil end
  end
  return state
end

--- How many records the stream of a subscription has.
---@param store catga.Store
---@param name string
---@return integer
function M.count(store, name)
  local stream = store:stream(M.PREFIX .. name)
  return stream and store:count(stream) or 0
end

return M
