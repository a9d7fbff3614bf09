--- Settings of an app: catga.lua in its directory returns a table of them; unknown ones are errors.
local duration = require "catga.duration"
local source = require "catga.source"
local errors = require "catga.error"
local suggest = require "catga.registry".suggest

local M = {}

--- What may be set, with its kind and default.
---   duration: a string with a unit    size: a string such as "256MiB"
---   count: a whole number in the bounds that follow    text: a string    optional: text or false
---   config: a table of values for the scripts
---   processes: a table by name, see lua/catga/process/options.lua
---   policies: a table by name, see lua/catga/policy/handlers.lua
M.KNOWN = {
  handler_timeout = { "duration", "5s" },     -- a handler may run so long without waiting
  memory_max = { "size", "0B" },              -- cap of the Lua heap; 0: none
  message_size_max = { "size", "1MiB" },      -- of one event, argument or result
  blob_size = { "size", "64KiB" },   -- what is larger in a journal is stored once, beside it
  blob_size_max = { "size", "64MiB" },        -- of such a value
  durability = { "choice", "fsync", { "fsync", "os", "memory" } },
  segment_size = { "size", "256MiB" },        -- of a file of the log
  pending_max = { "size", "64MiB" },          -- appended and not yet written; then callers wait
  append_window = { "count", 1000, 1, 1000000 },       -- newest events whose ids are known
  event_ids_max = { "count", 100000, 1000, 1e8 }, -- ids of events kept in memory
  streams_cached_max = { "count", 1000000, 1000, 1000000000 }, -- streams in memory; others by file
  process_idle = { "duration", "10s" },       -- a process that waits so long leaves memory
  processes_cached_max = { "count", 10000, 1, 1e8 }, -- that wait and are in memory
  process_retain = { "duration", "0s" },      -- whole journals of ended processes; 0: for ever
  process_replay_max = { "count", 100000, 1, 1e9 }, -- records of a journal replayed for a look
  inbox_window = { "duration", "7d" },        -- how long a key is known again; 0: for ever
  outbox_concurrency = { "count", 100, 1, 10000 }, -- messages that are handled at the same time
  outbox_attempts = { "count", 5, 1, 1000000 },    -- of a message; then it is a dead letter
  outbox_backoff = { "duration", "1s" },           -- before the second attempt; doubles
  outbox_timeout = { "duration", "60s" },          -- of one attempt
  outbox_max = { "count", 10000000, 1, 1e9 },      -- messages that wait; then none is taken
  outbox_retain = { "duration", "1d" },       -- what is known of handled messages; 0: for ever
  event_attempts = { "count", 3, 1, 1000000 },     -- of a handler of catga.on
  event_backoff = { "duration", "1s" },
  dead_letter_retain = { "duration", "30d" }, -- what is known of closed letters; 0: for ever
  scavenge_min = { "count", 10, 0, 100 },     -- percent of a segment that must go for a rewrite
  node = { "count", 0, 0, 1023 },                      -- number of this program in the ids it makes
  keys_cached_max = { "count", 10000, 16, 10000000 },  -- keys of persons kept in memory
  -- What happens to new personal data of a person who was forgotten.
  forgotten_subjects = { "choice", "refuse", { "refuse", "allow" } },
  step_timeout = { "duration", "30s" },
  step_attempts = { "count", 3, 1, 1000000 },
  step_backoff = { "duration", "1s" },
  config = { "config", {} },                  -- values for the scripts, see lua/catga/config.lua
  lock_timeout = { "duration", "30s" },       -- how long to wait for a lock (catga.lock)
  lock_waiters_max = { "count", 10000, 1, 1e8 }, -- tasks that wait for locks
  cache_entries_max = { "count", 10000, 1, 1e8 },  -- of one cache (catga.cache)
  cache_size_max = { "size", "64MiB" },
  command_timeout = { "duration", "60s" },    -- of a program of catga.process_run
  command_output_max = { "size", "16MiB" },   -- that it puts out
  commands_max = { "count", 64, 1, 10000 },   -- that run at the same time
  fs_read_max = { "size", "64MiB" },          -- of a file that is read whole (catga.fs)
  fs_line_max = { "size", "1MiB" },           -- of one line
  fs_list_max = { "count", 100000, 1, 1e8 },  -- entries of a directory that is listed
  fs_calls_max = { "count", 1000, 1, 1000000 }, -- file calls under way
  http_timeout = { "duration", "30s" },       -- of a whole request of catga.http
  http_connect_timeout = { "duration", "10s" },
  http_idle_timeout = { "duration", "30s" },  -- without a byte
  http_body_max = { "size", "16MiB" },        -- of an answer that is read whole
  http_redirects_max = { "count", 5, 0, 50 },
  http_requests_max = { "count", 1000, 1, 100000 },        -- under way at the same time
  http_connections_max = { "count", 256, 1, 10000 },       -- open; further requests wait
  http_host_connections_max = { "count", 32, 1, 10000 },   -- of one host
  http_idle_connections_max = { "count", 64, 1, 10000 },   -- kept for reuse
  http_ca_file = { "optional", false },       -- certificates to trust instead of the system's
  http_proxy = { "optional", false },         -- instead of the environment's
  after_timeout = { "duration", "5s" },       -- how long a query waits for a model, `after`
  sql_timeout = { "duration", "30s" },        -- of one query of SQL
  sql_rows_max = { "count", 10000, 1, 1000000 }, -- rows that catga sql gives
  zoneinfo = { "text", "/usr/share/zoneinfo" },  -- directory of the time zones
  schedules_max = { "count", 100000, 1, 10000000 },
  route_hops_max = { "count", 16, 1, 1000 },   -- routes that one message goes through
  route_retries_max = { "count", 1000, 1, 100000 }, -- failures that wait; then the routes wait
  route_groups_max = { "count", 100000, 1, 10000000 }, -- that are being gathered
  processes = { "processes", {} },            -- settings of single processes and their steps
  policies = { "policies", {} },              -- of single messages, and of policies by name
  chaos = { "choice", "off", { "off", "on" } },  -- may policies inject faults, for drills?
  update_attempts = { "count", 10, 1, 1000 },  -- of an aggregate's update that meets conflicts
  stream_keys_max = { "count", 100000, 1, 1e8 },    -- keys of one operator of a stream
  stream_windows_max = { "count", 100000, 1, 1e8 }, -- open windows of one operator, one a key
  stream_state_max = { "size", "256MiB" },  -- of a durable stream, as it is stored
  stream_idle_timeout = { "duration", "1m" }, -- a source so long silent holds no watermark back
  stop_timeout = { "duration", "8s" },        -- how long a graceful stop waits for what runs
  reload_delay = { "duration", "30ms" },      -- quiet time before changed scripts are loaded
}

local UNITS = { B = 1, KiB = 1024, MiB = 1024 ^ 2, GiB = 1024 ^ 3, KB = 1e3, MB = 1e6, GB = 1e9 }

--- Bytes of a size with a unit. Raises when it is none.
---@param text string   "256MiB"
---@param name string   what it is for, for the message
---@return number bytes
function M.size(text, name)
  local digits, unit = tostring(text):match("^(%d+)%s*(%a+)$")
  if type(text) ~= "string" or not UNITS[unit or ""] then
    error(("%s must be a size with a unit such as \"256MiB\", got %s"):format(name,
      tostring(text)), 0)
  end
  return tonumber(digits) * UNITS[unit]
end

local function convert(name, known, value)
  local kind = known[1]
  if kind == "duration" then
    local ms, fault = duration.parse(value, name)
    if not ms then error(fault, 0) end
    return ms
  end
  if kind == "size" then return M.size(value, name) end
  if value == known[2] and kind == "config" then return value end
  if kind == "config" then return require("catga.config").check(value) end
  if kind == "processes" then return require("catga.process.options").check_file(value) end
  if kind == "policies" then
    return next(value) and require("catga.policy.handlers").check_file(value) or value
  end
  if kind == "count" then
    local low, high = known[3], known[4]
    if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
      error(("%s must be a whole number from %d to %d, got %s"):format(name, low, high,
        tostring(value)), 0)
    end
    return value
  end
  if kind == "optional" and value == false then return false end
  if kind == "text" or kind == "optional" then
    if type(value) == "string" and value ~= "" then return value end
    error(("%s must be text, got %s"):format(name, tostring(value)), 0)
  end
  for _, choice in ipairs(known[3]) do
    if choice == value then return value end
  end
  error(("%s must be one of %s, got %s"):format(name, table.concat(known[3], ", "),
    tostring(value)), 0)
end

--- Checks a table of settings and fills in the defaults: durations in ms, sizes in bytes.
---@param given table
---@return table settings
function M.resolve(given)
  for name in pairs(given) do
    if not M.KNOWN[name] then
      local near = suggest(tostring(name), M.KNOWN)
      error(("there is no setting %s%s"):format(tostring(name),
        near and "; did you mean " .. near .. "?" or ""), 0)
    end
  end
  local settings = {}
  for name, known in pairs(M.KNOWN) do
    local value = given[name]
    if value == nil then value = known[2] end
    settings[name] = convert(name, known, value)
  end
  settings.process = { timeout = settings.step_timeout, attempts = settings.step_attempts,
    backoff = settings.step_backoff }
  return settings
end

-- The table that catga.lua returns; empty when there is no such file.
local function read_file(path)
  local text, err = source.read(path)
  if not text then
    if err.code == "not_found" then return {} end
    return nil, err
  end
  local chunk, fault = source.compile(text, path, {})
  if not chunk then return nil, fault end
  local ok, given = pcall(chunk)
  if not ok then return nil, errors.new("script_error", tostring(given), { file = path }) end
  if type(given) ~= "table" then
    return nil, errors.new("invalid", path .. " must return a table of settings")
  end
  return given
end

--- The text of catga.lua, or nil when there is none or it cannot be read.
---@param dir string?
---@return string?
function M.text(dir)
  return dir and (source.read(dir .. "/catga.lua")) or nil
end

--- The settings of an app: those of catga.lua in its directory, others that go before them, and
--- the defaults.
---@param dir string?       nil: an app without a directory
---@param overrides table?
---@return table? settings
---@return catga.Error? err  names the file
function M.load(dir, overrides)
  local path = dir and dir .. "/catga.lua"
  local given, err
  if path then
    given, err = read_file(path)
    if not given then return nil, err end
  end
  local all = {}
  for _, from in ipairs { given or {}, overrides or {} } do
    for name, value in pairs(from) do all[name] = value end
  end
  local ok, settings = pcall(M.resolve, all)
  if ok then return settings end
  return nil, errors.new("invalid", (path and path .. ": " or "") .. tostring(settings))
end

return M
