--- Streams as a whole: their names, what is known of one, deleting one.
local errors = require "catga.error"
local metadata = require "catga.events.metadata"
local find_later = require "catga.events.read".find_later

local M = {}

local NONE = -2 -- As the store says it.

--- Changes a stream's or category's metadata: stages the fields in place of those before.
---@param unit catga.Unit
---@param name string    "$metadata-..."
---@param fields table   checked
---@param expect any
---@return integer? version
---@return catga.Error? err
function M.change(unit, name, fields, expect)
  local app = unit.app
  local before, err = metadata.latest(app, unit, name)
  if not before and err then return nil, err end
  if before and before.deleted then
    return nil, errors.new("deleted", ("stream %s was deleted for good")
      :format(name:sub(#metadata.PREFIX + 1)))
  end
  local after = {}
  for key, value in pairs(fields) do after[key] = value end
  for _, key in ipairs { "truncate_before", "begins" } do
    if after[key] == nil then after[key] = before and before[key] end
  end
  return metadata.stage(app, unit, name, after, expect)
end

local function check_expected(name, expect, last)
  if type(expect) == "number" and expect % 1 == 0 and expect >= 0 then
    if expect == last then return nil end
    return errors.new("conflict", ("stream %s: expected version %d, its version is %d"):format(name,
      expect, last), { retryable = true })
  end
  if expect == "any" or expect == "exists" then return nil end
  return errors.new("invalid", "expect is a version (0, 1, 2, ...), \"exists\" or \"any\", not "
    .. tostring(expect))
end

-- Why a stream without events is not there: of one that was deleted for good all may be gone.
local function missing(app, unit, name)
  return metadata.tombstone(app, unit, name)
    or errors.new("not_found", ("there is no stream %s"):format(name))
end

--- Stages the deletion of a stream.
---@param unit catga.Unit
---@param name string
---@param expect any
---@param is_hard boolean?
---@return integer? version  of its last event
---@return catga.Error? err
function M.delete(unit, name, expect, is_hard)
  local app = unit.app
  local store = app.store
  local stream = store:stream(name)
  local count = stream and store:count(stream) or 0
  local last = count + (stream and unit:staged_count(stream) or 0) - 1
  if last < 0 then return nil, missing(app, unit, name) end
  local err = check_expected(name, expect, last)
  if err then return nil, err end
  local fields
  fields, err = metadata.latest(app, unit, metadata.PREFIX .. name)
  if not fields and err then return nil, err end
  if fields and fields.deleted then
    if is_hard then return last end
    return nil, metadata.tombstone(app, unit, name)
  end
  fields = fields or {}
  fields.truncate_before, fields.begins = last + 1, last + 1
  if is_hard then fields.deleted = true end
  local staged, fault = metadata.stage(app, unit, metadata.PREFIX .. name, fields, "any")
  if not staged then return nil, fault end
  if type(expect) == "number" then
    unit.ops[unit.n].conditions = { { stream = name, expected = count > 0 and count - 1 or NONE } }
    unit.has_conditions = true
  end
  return last
end

--- Describes a stream.
---@param app catga.App
---@param unit catga.Unit?
---@param name string
---@return table? info
---@return catga.Error? err
function M.info(app, unit, name)
  local store = app.store
  local stream = store:stream(name)
  local count = stream and store:count(stream) or 0
  if count == 0 then return nil, missing(app, unit, name) end
  local fields, fault = metadata.latest(app, unit, metadata.PREFIX .. name)
  if not fields and fault then return nil, fault end
  local info = { stream = name, version = count - 1, count = 0, metadata = fields }
  if fields and fields.deleted then
    info.deleted = "hard"
    return info
  end
  local first, since = metadata.window(app, unit, name, count)
  if not first then return nil, since end
  if first >= count and fields and (fields.truncate_before or 0) >= count then
    info.deleted = "soft"
  end
  if since then
    first, fault = find_later(store, stream, since - 1, math.min(first, count), count)
    if not first then return nil, fault end
  end
  if first >= count then return info end
  local oldest, err = store:read(stream, first, 1)
  if not oldest then return nil, err end
  local newest
  newest, err = store:read(stream, count - 1, 1)
  if not newest then return nil, err end
  info.first_version, info.first_time = oldest[1].version, oldest[1].time
  info.last_time, info.count = newest[1].time, count - oldest[1].version
  return info
end

local NAME_MAX = 1024
local PAGE = 1000

-- The last name there can be with a prefix.
local function last_with(prefix) return prefix .. ("\255"):rep(NAME_MAX - #prefix) end

-- Where a walk over names goes on behind one of the runtime's, past all that are next to it.
local function behind_runtimes(name)
  if name:sub(1, 1) ~= "$" then return last_with("Process-") end
  return last_with(name < "$type-" and "$type," or "$")
end

-- Adds names with a prefix to the list, up to `max` in all; not the runtime's own unless asked for.
local function add_names(store, names, prefix, after, max, with_runtimes)
  while #names < max do
    local page, err = store:streams(prefix, after, math.min(PAGE, max - #names))
    if not page then error(err, 0) end
    if #page == 0 then return end
    for _, name in ipairs(page) do
      after = name
      if not with_runtimes and metadata.is_runtimes(name) then
        after = behind_runtimes(name)
        break
      end
      names[#names + 1] = name
    end
  end
end

-- The longer of two prefixes, when one begins with the other.
local function both(prefix, other)
  if prefix:sub(1, #other) == other then return prefix end
  return other:sub(1, #prefix) == prefix and other or nil
end

--- Names of streams, sorted; the runtime's own only when a prefix or category asks for them.
---@param app catga.App
---@param prefix string?
---@param category string?
---@param after string?
---@param max integer
---@return string[] names
function M.list(app, prefix, category, after, max)
  local store, names = app.store, {}
  after, prefix = after or "", prefix or ""
  if not category then
    add_names(store, names, prefix, after, max, prefix ~= "")
    return names
  end
  local stream = category > after and category:sub(1, #prefix) == prefix
    and not category:find("-", 1, true) and store:stream(category)
  if stream and store:count(stream) > 0 then names[1] = category end
  local wanted = both(prefix, category .. "-")
  if wanted then add_names(store, names, wanted, after, max, true) end
  return names
end

return M
