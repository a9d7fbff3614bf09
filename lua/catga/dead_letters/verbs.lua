--- What can be done with dead letters.
local errors = require "catga.error"
local json = require "catga.native.json"
local stage = require "catga.events.stage".run
local duration = require "catga.duration"
local suggest = require "catga.registry".suggest
local dead_letters = require "catga.dead_letters"
local reading = require "catga.dead_letters.read"
local INTERNAL = require "catga.flags".INTERNAL
local lazy = require "catga.lazy"
local enqueue = lazy.module "catga.outbox.enqueue"
local inbox = lazy.module "catga.inbox"

local M = {}

local LIST_MAX, LIST_DEFAULT = 10000, 100
local BATCH_MAX = 100    -- Letters of one commit.
local GROUPS_MAX = 10000 -- Groups that are told apart.

local FILTER = { kind = "text", source = "text", group = "text", type = "text", code = "text",
  status = "text", older_than = "duration", all = "flag" }
local PAGING = { after = true, max = true }
local STATUSES = { open = true, retrying = true, retried = true, purged = true, all = true }

local function invalid(format, ...) return nil, errors.new("invalid", format:format(...)) end

-- The filter that options make, or nil and an error.
local function filter_of(app, opts, others)
  local filter = {}
  for option, value in pairs(opts or {}) do
    local kind = FILTER[option]
    if not kind and not (others and others[option]) then
      local near = suggest(tostring(option), FILTER)
      return invalid("dead letters: there is no option \"%s\"%s", tostring(option),
        near and "; did you mean " .. near .. "?" or "")
    end
    if kind == "text" and type(value) ~= "string" then
      return invalid("dead letters: %s is a string, not %s", option, tostring(value))
    end
    if kind == "duration" then
      local ms, fault = duration.parse(value, option)
      if not ms then return invalid("%s", fault) end
      filter.before = app.clock:now() - ms
    elseif kind == "text" then
      filter[option] = value
    end
  end
  if filter.status and not STATUSES[filter.status] then
    return invalid("dead letters: status is open, retrying, retried, purged or all, not %s",
      filter.status)
  end
  return filter
end

--- Letters, the oldest first; behind them the parked events of subscriptions. May yield.
---@param app catga.App
---@param opts { kind: string?, source: string?, group: string?, type: string?, code: string?,
---  status: "open"|"retrying"|"retried"|"purged"|"all"|nil, older_than: string?, after: string?,
---  max: integer? }?  status: default all that are not closed; max: 1 to 10,000, default 100
---@return catga.Letter[]? list
---@return catga.Error|string|nil after  for the next call; nil: that was all
function M.list(app, opts)
  opts = opts or {}
  local filter, err = filter_of(app, opts, PAGING)
  if not filter then return nil, err end
  local max = opts.max or LIST_DEFAULT
  if type(max) ~= "number" or max % 1 ~= 0 or max < 1 or max > LIST_MAX then
    return invalid("dead letters: max is a whole number from 1 to %d", LIST_MAX)
  end
  local list, is_more = {}, false
  reading.each(app, filter, opts.after, function(letter)
    is_more = #list == max
    if not is_more then list[#list + 1] = letter end
    return not is_more
  end)
  return list, is_more and list[#list].id or nil
end

--- One letter. May yield.
---@param app catga.App
---@param id string
---@return catga.Letter? letter  with the data of its event where it has none of its own
---@return catga.Error? err  "not_found"
function M.get(app, id)
  local letter, err = reading.get(app, id)
  if not letter then return nil, err end
  if letter.data == nil then letter.data = reading.event_data(app, letter) end
  return letter
end

--- Letters that are alike, the most frequent first. Looks at all of them. May yield.
---@param app catga.App
---@param opts table?  as of list, but after and max
---@return { group: string, count: integer, kind: string, source: string, code: string,
---  first_failed: number, last_failed: number, id: string }[]? groups  id: of the newest
---@return catga.Error? err
function M.groups(app, opts)
  local filter, err = filter_of(app, opts)
  if not filter then return nil, err end
  local by_name, list = {}, {}
  reading.each(app, filter, nil, function(letter)
    local group = by_name[letter.group]
    if not group then
      if #list == GROUPS_MAX then return false end
      group = { group = letter.group, count = 0, kind = letter.kind, source = letter.source,
        code = letter.reason.code, first_failed = letter.first_failed, last_failed = 0 }
      by_name[letter.group], list[#list + 1] = group, group
    end
    group.count = group.count + 1
    group.first_failed = math.min(group.first_failed, letter.first_failed)
    if letter.last_failed >= group.last_failed then
      group.last_failed, group.id = letter.last_failed, letter.id
    end
    return true
  end)
  table.sort(list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.group < b.group
  end)
  return list
end

-- An open letter that nothing is under way for, or nil and an error.
local function find_open(app, id)
  local letter, err = reading.get(app, id)
  if not letter then return nil, err end
  if not letter.is_open then
    return nil, errors.new("conflict", ("the dead letter %s is closed: it was %s"):format(id,
      letter.status))
  end
  if letter.status == "retrying" then
    return nil, errors.new("busy", ("the dead letter %s is being retried"):format(id),
      { retryable = true })
  end
  return letter
end

-- The key of a message stands for its new data from now on, unless something with it was done.
local function rekey(app, unit, letter, data)
  local key = letter.kind == "message" and letter.detail and letter.detail.key
  if not key then return true end
  local name = inbox.stream_name(letter.source, key)
  local found, err = inbox.find(app, name)
  if not found then return nil, err end
  if not found.is_known or found.is_handled then return true end
  local version, fault = unit:append(name, { { type = "CommandAccepted",
    data = { id = found.id, hash = inbox.hash(data) } } }, found.expect, INTERNAL)
  return version and true, fault
end

--- Changes the data with which a letter is retried; it stays a letter. May yield.
---@param app catga.App
---@param id string
---@param data any
---@return boolean? ok
---@return catga.Error? err  "not_found", "conflict": closed, "busy": being retried, "invalid"
function M.edit(app, id, data)
  local letter, err = find_open(app, id)
  if not letter then return nil, err end
  if letter.kind == "subscription" then
    return invalid("%s is an event in the log, which does not change; let the handler cope with it,"
      .. " or purge it", id)
  end
  if data == nil then return invalid("edit: give the new data") end
  return stage(function(unit)
    local version, fault = dead_letters.stage(id, "LetterEdited", { data = data }, letter.last)
    if not version then return nil, fault end
    return rekey(app, unit, letter, data)
  end)
end

-- How often kinds of letters are tried in one retry, unless they say it; by setting.
local ATTEMPTS = { message = "outbox_attempts", handler = "event_attempts" }

-- Stages the retry of a letter.
local function stage_retry(app, unit, letter)
  local detail, setting = letter.detail or {}, ATTEMPTS[letter.kind]
  local id, err = enqueue.put_in(app, unit, { kind = "letter", name = letter.source,
    letter = letter.id, group = detail.group, priority = detail.priority,
    attempts = detail.attempts or setting and app.settings[setting] or 1,
    backoff = detail.backoff, timeout = detail.timeout })
  if not id then return nil, err end
  return dead_letters.stage(letter.id, "LetterRetrying", { message = id }, letter.last)
end

-- Frees the key of a message that will not be done: with it another one may be.
local function free_key(app, unit, letter)
  local detail = letter.detail or {}
  local key = letter.kind == "message" and detail.key
  if not key then return true end
  local name = inbox.stream_name(letter.source, key)
  local found, err = inbox.find(app, name)
  if not found then return nil, err end
  if not found.is_known or found.is_handled or found.id ~= detail.message then return true end
  local version, fault = unit:append(name, { { type = "CommandCancelled", data = {} } },
    found.expect, INTERNAL)
  return version and true, fault
end

local function stage_purge(app, unit, letter)
  local ok, err = free_key(app, unit, letter)
  if not ok then return nil, err end
  return dead_letters.stage(letter.id, "LetterClosed", { how = "purged" }, letter.last)
end

-- What is done with letters of the log and with parked events.
local ACTS = {
  retry = { stage = stage_retry, parked = "replay" },
  purge = { stage = stage_purge, parked = "drop" },
}

local function act_on_all(app, act, letters)
  local list = {}
  for _, letter in ipairs(letters) do
    if letter.kind == "subscription" then
      local count, err = app.subscriptions[act.parked](app.subscriptions, letter.source,
        letter.position)
      if not count then return nil, err end
    else
      list[#list + 1] = letter
    end
  end
  if #list == 0 then return true end
  return stage(function(unit)
    for _, letter in ipairs(list) do
      local version, err = act.stage(app, unit, letter)
      if not version then return nil, err end
    end
    return true
  end)
end

local function act_on_filter(app, act, filter)
  local batch, count, failure = {}, 0, nil
  local function flush()
    local ok, err = act_on_all(app, act, batch)
    if ok then count = count + #batch else failure = err end
    batch = {}
    return ok
  end
  reading.each(app, filter, nil, function(letter)
    if letter.status == "retrying" then return true end
    batch[#batch + 1] = letter
    return #batch < BATCH_MAX or flush()
  end)
  if not failure and #batch > 0 then flush() end
  if failure then
    return nil, errors.new(failure.code, ("%s (%d were done before)"):format(failure.message,
      count), { retryable = failure.retryable })
  end
  return { count = count }
end

local function act_on(app, what, which)
  local act = ACTS[what]
  if type(which) == "string" then
    local letter, err = find_open(app, which)
    if not letter then return nil, err end
    local ok, fault = act_on_all(app, act, { letter })
    if not ok then return nil, fault end
    return { count = 1 }
  end
  if type(which) ~= "table" or next(which) == nil then
    return invalid("%s: name a letter by its id, or several by kind, source, group, type, code or "
      .. "older_than, or give all = true", what)
  end
  if which.status and which.status ~= "open" then
    return invalid("%s: only open letters can be", what)
  end
  local filter, err = filter_of(app, which)
  if not filter then return nil, err end
  return act_on_filter(app, act, filter)
end

--- Does again what failed: the command, that handler, that event. It is done by the outbox, after
--- this returns; done well, the letter is closed; else it is open again. May yield.
---@param app catga.App
---@param which string|table  an id; or a filter as of list, { all = true } for all
---@return { count: integer }? result  how many are being retried
---@return catga.Error? err  "not_found", "conflict": closed, "busy": being retried
function M.retry(app, which) return act_on(app, "retry", which) end

--- Retries all letters of a group. May yield.
---@param app catga.App
---@param group string
---@return { count: integer }? result
---@return catga.Error? err
function M.retry_group(app, group) return act_on(app, "retry", { group = group }) end

--- Closes letters for good: what failed will not be done. May yield.
---@param app catga.App
---@param which string|table  an id; or a filter as of list, { all = true } for all
---@return { count: integer }? result
---@return catga.Error? err
function M.purge(app, which) return act_on(app, "purge", which) end

--- A letter as JSON shows it.
---@param letter catga.Letter
---@return table
function M.shown(letter)
  local shown = {}
  for field, value in pairs(letter) do shown[field] = value end
  shown.is_open, shown.last = nil, nil
  if shown.causes then shown.causes = json.array(shown.causes) end
  return shown
end

return M
