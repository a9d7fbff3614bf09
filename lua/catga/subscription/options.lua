--- The options of subscriptions: checked, with defaults, as a definition.
local presenter = require "catga.event"
local registries = require "catga.registry"

local M = {}

local suggest, sorted_names = registries.suggest, registries.sorted_names

--- What may be given, with its kind and default.
---   count: a whole number in the bounds that follow    duration: a string with a unit
M.KNOWN = {
  name = { "name" },
  handle = { "function" },
  after = { "place", "start" },        -- "start", "end" or a position: where a new one begins
  stream = { "text" },
  category = { "text" },               -- streams whose name up to the first "-" is this
  types = { "list" },
  type_prefix = { "text" },
  group = { "table" },
  policy = { "policy" },               -- stands around each attempt; its own retry is off
  attempts = { "count", 5, 1, 1000000 },
  backoff = { "duration", "1s" },      -- before the second attempt; doubles
  ack_timeout = { "duration", "30s" }, -- a delivery that is not answered by then has failed
  on_failure = { "choice", nil, { "park", "stop", "skip" } }, -- after the last attempt
  buffer = { "count", 1000, 1, 100000 },           -- events read and not done; then reading waits
  parked_max = { "count", 1000, 1, 100000 },       -- parked events; then the subscription stops
  checkpoint_events = { "count", 100, 1, 100000 }, -- events that need no commit of their own
  checkpoint_delay = { "duration", "1s" },         -- or this long, before they are recorded
  checkpoint_records = { "count", 100, 1, 100000 }, -- records, and one more for each event in
  -- the window and parked one, before the whole state is recorded
}

--- Options of `group`; those that are also above go before them.
M.GROUP = {
  consumers = { "count", 4, 1, 10000 },         -- handlers that run at the same time
  order = { "choice", "stream", { "stream", "none" } },
  in_flight_max = { "count", 100, 1, 100000 },  -- delivered and not answered
  park_blocks = { "flag", false },              -- keep back what follows a parked event
  attempts = M.KNOWN.attempts,
  backoff = M.KNOWN.backoff,
  ack_timeout = M.KNOWN.ack_timeout,
}

local CHECK = setmetatable({}, { __index = require "catga.option_checks" })

function CHECK.table(value)
  if type(value) == "table" then return value end
  return nil, "is a table of options"
end

function CHECK.policy(value)
  if type(value) == "table" or type(value) == "string" and value ~= "" then return value end
  return nil, "is the name of a policy, or a table"
end

-- Checks the options given and fills in the defaults.
local function resolve(given, all, where)
  for option in pairs(given) do
    if not all[option] then
      local near = suggest(tostring(option), all)
      error(("%s: there is no option \"%s\"%s"):format(where, tostring(option),
        near and "; did you mean " .. near .. "?" or ""), 0)
    end
  end
  local result = {}
  for option, known in pairs(all) do
    local value = given[option]
    if value == nil then value = known[2] end
    if value ~= nil then
      local checked, fault = CHECK[known[1]](value, known)
      if checked == nil then
        error(("%s: %s %s, not %s"):format(where, option, fault, tostring(value)), 0)
      end
      result[option] = checked
    end
  end
  return result
end

-- Journals of processes are shown to who names them.
local function wants_journals(d)
  local function is_process(text) return text and text:find("^Process") ~= nil end
  if is_process(d.stream) or d.category == "Process" or is_process(d.type_prefix) then
    return true
  end
  for _, name in ipairs(d.types or {}) do
    if is_process(name) then return true end
  end
  return false
end

local function check_together(d, where)
  if not d.handle and not (d.name and d.group) then
    error(where .. ": it needs a function handle; only a named group may go without, so that "
      .. "other programs take its events", 0)
  end
  if d.group and not d.name then error(where .. ": a group needs a name", 0) end
  if not d.name and d.on_failure == "park" then
    error(where .. ": only a subscription with a name can park events; on_failure is \"stop\" or "
      .. "\"skip\"", 0)
  end
  if d.park_blocks and d.order ~= "stream" then
    error(where .. ": park_blocks needs order = \"stream\"", 0)
  end
end

-- What tells two definitions apart, but for the function.
local function signature(d)
  local parts = {}
  for option in pairs(M.KNOWN) do parts[#parts + 1] = option end
  for option in pairs(M.GROUP) do
    if not M.KNOWN[option] then parts[#parts + 1] = option end
  end
  table.sort(parts)
  for i, option in ipairs(parts) do
    local value = d[option]
    if option == "types" and value then value = table.concat(value, "\0") end
    if option == "handle" or option == "group" or option == "policy" then value = value ~= nil end
    parts[i] = option .. "=" .. tostring(value)
  end
  return table.concat(parts, "\1")
end

--- A cursor for what a definition wants to see, and a function that tells of a presented event
--- whether it does: an upcaster may give it another type than the one under which it is stored.
---@param app catga.App
---@param d table       definition
---@param after integer position
---@return catga.Cursor cursor
---@return (fun(event: table): boolean)? is_wanted  nil: all that the cursor gives
function M.cursor(app, d, after)
  local filter = { types = d.types, type_prefix = d.type_prefix, category = d.category,
    stream = d.stream, journals = d.has_journals }
  if not (app.registry.upcasts and (d.types or d.type_prefix)) then
    return app.store:cursor(after, filter)
  end
  local wanted
  if d.types then
    wanted = {}
    for _, name in ipairs(d.types) do wanted[name] = true end
    filter.types = sorted_names(presenter.stored_types(app, wanted))
  end
  filter.type_prefix = nil
  local prefix = d.type_prefix
  return app.store:cursor(after, filter), function(event)
    return (not wanted or wanted[event.type] == true)
      and (not prefix or event.type:sub(1, #prefix) == prefix)
  end
end

--- Checks options. Raises, naming the place and the option.
---@param given table
---@param at string  file:line
---@return table definition  the options with group's beside them, durations in ms, and signature,
---  at, is_external, has_journals
function M.check(given, at)
  local where = at .. ": subscription"
  if type(given) ~= "table" then error(where .. ": it takes a table of options", 0) end
  if type(given.name) == "string" then where = where .. " " .. given.name end
  local d = resolve(given, M.KNOWN, where)
  local group = d.group and resolve(d.group, M.GROUP, where .. ": group")
  for option, value in pairs(group or { consumers = 1, order = "all", in_flight_max = 1 }) do
    if d[option] == nil or not group or d.group[option] ~= nil or not M.KNOWN[option] then
      d[option] = value
    end
  end
  d.on_failure = d.on_failure or (d.name and "park" or "stop")
  check_together(d, where)
  d.is_external = d.handle == nil
  d.consumers = math.min(d.consumers, d.in_flight_max)
  d.has_journals = wants_journals(d)
  d.signature = signature(d)
  d.at = at
  return d
end

return M
