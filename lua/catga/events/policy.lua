--- What of each stream a scavenge keeps.
---
---   streams of events  what their metadata shows in reads; the last event, so that versions go on;
---                      of a stream that was deleted for good nothing
---   $metadata-, $snapshot-, $scheduled-  the last record
---   $subscription-, $processor-  from the records on that the last checkpoint needs
---   $router-           from the parts of the last checkpoint on
---   $gather-           the messages of the last group
---   $schedule-         the last 100 records
---   $schedules-        from the beginning of the last list on
---   $outcome-          keys that the inbox still knows (inbox_window)
---   $message-          those that wait, and closed ones for outbox_retain
---   $letter-           open ones, and closed ones for dead_letter_retain; $letterkey- as long
---   Process-           of one that loops, the first record and those from the last round on that
---                      carries what is needed of those before; of a process that ended longer than
--- process_retain ago, the first and the
---                      last record: name, input and result; by default all
---   all others         everything
local errors = require "catga.error"
local metadata = require "catga.events.metadata"
local find_later = require "catga.events.read".find_later
local find_carrier = require "catga.lazy".call("catga.process.journal", "find_carrier")

local is_over = require "catga.lazy".call("catga.inbox", "is_over")

local M = {}

local NONE = -1             -- No version is kept by itself.
local ALL_GONE = 2 ^ 53     -- A version that no stream reaches.
local PAGE = 100            -- Records of a subscription read at once.
local LOOK_MAX = 10000      -- Records of a subscription looked at for its last checkpoint.
local SCHEDULES_LOOK = 1000  -- Records of the list of schedules looked at for its beginning.
local SCHEDULE_RECORDS = 100 -- Of a schedule: the last is its state, the others tell what it did.
local PROCESS = "Process-"

---@class catga.ScavengePolicy
---@field app catga.App
---@field now number  Unix ms, the same for all streams
local Policy = {}
Policy.__index = Policy

---@param app catga.App
---@return catga.ScavengePolicy
function M.new(app) return setmetatable({ app = app, now = app.clock:now() }, Policy) end

-- The time of the last record of a stream.
local function last_time(store, stream, count)
  local list, err = store:read(stream, count - 1, 1, true)
  if not list then error(err, 0) end
  return list[1] and list[1].time
end

-- Of a process that loops, what the last record of a round does not carry.
local function of_loop(self, stream, count)
  local carrier, err = find_carrier(self.app, stream, count)
  if err then error(err, 0) end
  if carrier then return carrier.version, 0, count - 1, true end
end

local function of_process(self, stream, count)
  local retain = self.app.settings.process_retain
  if self.app.store:is_unfinished(stream) then return of_loop(self, stream, count) end
  if retain == 0 then return nil end
  local ended = last_time(self.app.store, stream, count)
  if not ended or ended > self.now - retain then return nil end
  return ALL_GONE, 0, count - 1, true
end

local function of_outcome(self, stream, count)
  local window = self.app.settings.inbox_window
  if window == 0 then return nil end
  local list, err = self.app.store:read(stream, count - 1, 1, true)
  if not list then error(err, 0) end
  if list[1] and list[1].type == "CommandAccepted"
    and not is_over(self.app, list[1], self.now - window) then
    return nil
  end
  return 0, self.now - window, NONE
end

-- What is closed goes after a time. The last record, which closes it, stays as long as the first
-- one is there, which opens it: else an index that is built anew would take it for open.
local function of_closed(self, stream, count, retain)
  if retain == 0 or self.app.store:is_unfinished(stream) then return nil end
  local closed = last_time(self.app.store, stream, count)
  if not closed or closed > self.now - retain then return nil end
  local list, err = self.app.store:read(stream, 0, 1)
  if not list then error(err, 0) end
  if list[1] and list[1].version == 0 then return count - 1, 0, count - 1 end
  return ALL_GONE, 0, NONE
end

local function of_message(self, stream, count)
  return of_closed(self, stream, count, self.app.settings.outbox_retain)
end

local function of_letter(self, stream, count)
  return of_closed(self, stream, count, self.app.settings.dead_letter_retain)
end

local function of_letter_key(self, stream)
  local store, retain = self.app.store, self.app.settings.dead_letter_retain
  if retain == 0 then return nil end
  local list, err = store:read(stream, 0, 1)
  if not list then error(err, 0) end
  local letter = list[1] and store:stream("$letter-" .. list[1].data.id)
  if letter and store:is_unfinished(letter) then return nil end
  return 0, self.now - retain, NONE
end

-- The newest record of some types in a stream that the runtime writes.
local function newest_of(self, stream, count, types)
  local from = count - 1
  while from >= 0 and count - from <= LOOK_MAX do
    local list, err = self.app.store:read(stream, from, PAGE, true)
    if not list then error(err, 0) end
    for _, record in ipairs(list) do
      if types[record.type] then return record end
    end
    if #list == 0 then return nil end
    from = list[#list].version - 1
  end
end

-- From the records on that the last one with a whole state needs.
local function from_newest(types)
  return function(self, stream, count)
    local record = newest_of(self, stream, count, types)
    if record then
      return math.min(record.version, record.data.from or record.version), 0, count - 1
    end
  end
end

local of_subscription = from_newest { SubscriptionCheckpoint = true }
local of_processor = from_newest { StreamSnapshot = true, StreamReset = true }

local ROUTER = { RouterCheckpoint = true }
local GATHERED = { RouteGathered = true }

local function of_router(self, stream, count)
  local record = newest_of(self, stream, count, ROUTER)
  if record then return record.version - record.data.parts, 0, count - 1 end
end

local function of_gathered(self, stream, count)
  local record = newest_of(self, stream, count, GATHERED)
  if record then return record.data.from, 0, count - 1 end
end

local function of_events(self, name, count)
  local kept, err = metadata.effective(self.app, nil, name)
  if not kept then
    if err then error(err, 0) end
    return nil
  end
  if kept.deleted then return ALL_GONE, 0, NONE end
  local first = kept.truncate_before or 0
  if kept.max_count then first = math.max(first, count - kept.max_count) end
  if kept.max_age and first < count then
    -- By versions, as a read finds it: where the clock was set back nothing goes that is shown.
    first, err = find_later(self.app.store, self.app.store:stream(name),
      self.now - kept.max_age - 1, math.max(first, 0), count)
    if not first then error(err, 0) end
  end
  if first <= 0 then return nil end
  return first, 0, count - 1
end

-- Keeps the last record.
local function last_only(_, _, count) return count - 1, 0, count - 1 end

local function of_schedule(_, _, count)
  if count <= SCHEDULE_RECORDS then return nil end
  return count - SCHEDULE_RECORDS, 0, count - 1
end

-- From the beginning of the last whole list on.
local function of_schedules(self, stream, count)
  local list, err = self.app.store:read(stream, count - 1, SCHEDULES_LOOK, true)
  if not list then error(err, 0) end
  for _, record in ipairs(list) do
    if record.type == "SchedulesListed" and record.data.part == 1 then
      return record.version, 0, count - 1
    end
  end
end

local RUNTIMES = {
  ["$metadata"] = last_only,
  ["$snapshot"] = last_only,
  ["$schedule"] = of_schedule,
  ["$scheduled"] = last_only,
  ["$schedules"] = of_schedules,
  ["$subscription"] = of_subscription,
  ["$processor"] = of_processor,
  ["$outcome"] = of_outcome,
  ["$message"] = of_message,
  ["$letter"] = of_letter,
  ["$letterkey"] = of_letter_key,
  ["$router"] = of_router,
  ["$gather"] = of_gathered,
}

--- What is kept of a stream; nothing: all of it. Raises an error value when that cannot be read.
---@param name string
---@return integer? first   versions below it go
---@return number since     and records older than this (Unix ms)
---@return integer kept     but this version stays; -1: none
---@return boolean? keeps_first  and version 0
function Policy:of(name)
  local store = self.app.store
  local stream = store:stream(name)
  local count = stream and store:count(stream) or 0
  if count == 0 then
    -- Without the index nothing is known of a stream of which all is gone.
    return nil
  end
  if name:sub(1, #PROCESS) == PROCESS then return of_process(self, stream, count) end
  if metadata.is_runtimes(name) then
    local of = RUNTIMES[name:match("^%$%a+%f[-]") or ""]
    if not of then return nil end
    return of(self, stream, count)
  end
  return of_events(self, name, count)
end

--- The same, with the error as a result.
---@param name string
---@return boolean ok
---@return any first  or a catga.Error; then the other results of `of`
function Policy:try(name)
  local ok, first, since, kept, keeps_first = pcall(self.of, self, name)
  if not ok then return false, errors.from(first) end
  return true, first, since, kept, keeps_first
end

return M
