--- What of a set of routes is durable: the records of its stream `$router-<name>`, and reading them
--- back. Messages that are being gathered are in streams of their own, `$gather-<set>/<aggregate>/
--- <key>`.
---
---   RouterReset       { to }                  where a new one begins
---   RouterMoved       { to, groups?, failed?, settled? }   committed with what was sent
---     groups    in order: { "+", aggregate, key, from, due? } begins one, { "-", aggregate, key }
---               ends one; from: version of its first message
---     failed    { position, stream, version, rule, attempts, due }: tried again at that time
---     settled   { position, rule }: no more
---   RouterPart        { groups, failed }      a part of what follows
---   RouterCheckpoint  { to, parts }           the whole state is in the parts before it
local M = {}

M.PREFIX = "$router-"
M.GATHER_PREFIX = "$gather-"

local CHUNK = 200 -- Records read at once, entries of one part.
M.PART_ENTRIES = CHUNK

---@class catga.RouterState
---@field is_new boolean?
---@field to integer
---@field groups table<string, table<string, { from: integer, due: number? }>>  by aggregate, key
---@field failed table<string, table>  by M.id_of
---@field increments integer  entries behind the last checkpoint

--- The name of a failure.
---@param position integer
---@param rule string  "" for the whole event
---@return string
function M.id_of(position, rule) return position .. "/" .. rule end

local function begin_group(state, aggregate, key, from, due)
  local of = state.groups[aggregate]
  if not of then
    of = {}
    state.groups[aggregate] = of
  end
  of[key] = { from = from, due = due }
end

local function apply(state, data)
  state.to = math.max(state.to, data.to or 0)
  for _, one in ipairs(data.groups or {}) do
    if one[1] == "+" then
      begin_group(state, one[2], one[3], one[4], one[5])
    elseif state.groups[one[2]] then
      state.groups[one[2]][one[3]] = nil
    end
  end
  for _, one in ipairs(data.settled or {}) do state.failed[M.id_of(one[1], one[2])] = nil end
  for _, one in ipairs(data.failed or {}) do
    state.failed[M.id_of(one[1], one[4])] = { position = one[1], stream = one[2],
      version = one[3], rule = one[4], attempts = one[5], due = one[6] }
  end
end

-- The newest checkpoint: version of the record behind it, and of its first part; 0, 0 without one.
local function last_checkpoint(store, stream)
  local from = store:count(stream) - 1
  while from >= 0 do
    local records, err = store:read(stream, from, CHUNK, true)
    if not records then error(err, 0) end
    for _, record in ipairs(records) do
      if record.type == "RouterCheckpoint" then
        return record.version + 1, record.version - record.data.parts
      end
    end
    if #records == 0 then break end
    from = records[#records].version - 1
  end
  return 0, 0
end

--- Reads the state of a set. Raises when it cannot.
---@param store catga.Store
---@param name string
---@return catga.RouterState
function M.load(store, name)
  local state = { to = 0, groups = {}, failed = {}, increments = 0 }
  local stream = store:stream(M.PREFIX .. name)
  if not stream or store:count(stream) == 0 then
    state.is_new = true
    return state
  end
  local behind, from = last_checkpoint(store, stream)
  local count = store:count(stream)
  while from < count do
    local records, err = store:read(stream, from, CHUNK)
    if not records then error(err, 0) end
    if #records == 0 then break end
    for _, record in ipairs(records) do
      apply(state, record.data)
      if record.version >= behind then state.increments = state.increments + 1 end
      from = record.version + 1
    end
  end
  return state
end

return M
