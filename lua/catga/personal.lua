--- Personal data: fields of events that are encrypted with a key of the person they are about (the
--- "subject"). Destroying that key makes them unreadable everywhere; all other fields stay.
---
--- A sealed event has null in the places of its personal fields, and beside them
---   "$personal": { "key": name of the key, "paths": [...], "sealed": base64 }
--- where the sealed text is the list of the values in the order of the paths, bound to the type,
--- the stream and the paths. The record has a flag, so that readers look at flagged ones only.
--- What scripts declare: lua/catga/personal_declaration.lua.
local errors = require "catga.error"
local json = require "catga.native.json"
local native = require "catga.native.personal"
local native_task = require "catga.native.task"
local commits = require "catga.commit"
local paths = require "catga.lazy".module "catga.personal_path"

local M = {}

local ENVELOPE = "$personal"            -- The member of the data that holds what was sealed.
local STREAM = "$personal-forgotten"    -- One record for each key that was destroyed.
local TYPE = "PersonalForgotten"
local SUBJECT_BYTES_MAX = 128
local LIST_MAX = 10000
local SCAN_COUNT = 1000                 -- Events looked at before other tasks get their turn.
local READ_COUNT = 1000                 -- Records of one read.

--- A subject as text; nil when the value can be none.
---@param value any
---@return string?
function M.subject_text(value)
  if type(value) == "number" and value % 1 == 0 and math.abs(value) <= 2 ^ 53 then
    value = ("%.0f"):format(value)
  end
  if type(value) == "string" and value ~= "" and #value <= SUBJECT_BYTES_MAX then return value end
end

local function check_subject(value, what)
  local subject = M.subject_text(value)
  if not subject then
    error(("%s: a subject is a string of 1 to %d bytes, or a whole number"):format(what,
      SUBJECT_BYTES_MAX), 4)
  end
  return subject
end

local function bound_to(stream, name, list)
  return assert(json.encode { name, stream, list })
end

local function invalid(name, text)
  return nil, errors.new("invalid", ("event %s: %s"):format(name, text))
end

local function subject_of(spec, plain)
  local data = json.decode(plain) -- The function gets a copy of its own.
  local value
  if type(spec.subject) == "function" then value = spec.subject(data)
  else value = paths.get(data, spec.subject) end
  local subject = M.subject_text(value)
  if subject then return subject end
  return invalid(spec.type, ("it has personal fields but %s gives no subject (a string of 1 to %d "
    .. "bytes, or a whole number); nothing was stored"):format(spec.subject_text,
    SUBJECT_BYTES_MAX))
end

-- The error of sealing, in the words of who appends.
local function seal_failed(name, err)
  if err.code == "forgotten" then
    return errors.new("forgotten", ("event %s: its subject was forgotten, and nothing personal of "
      .. "it is stored any more; forgotten_subjects = \"allow\" in catga.lua gives a new key")
      :format(name))
  end
  return errors.new(err.code, ("event %s: %s"):format(name, err.message),
    { retryable = err.retryable })
end

--- Encodes an event and encrypts its personal fields.
---@param app catga.App
---@param stream string
---@param spec catga.Personal
---@param data any
---@return string? stored   JSON for the record; nil and an error
---@return string|catga.Error plain  JSON as handlers see it
---@return integer? change  to wait for before the record may become durable; nil: nothing is sealed
---@return string? key      its name
function M.seal(app, stream, spec, data)
  local plain, fault = app.store:encode(data, spec.type)
  if not plain then return nil, fault end
  local copy = json.decode(plain)
  if copy == nil or copy == json.null then return plain, plain end
  if not paths.is_object(copy) then return invalid(spec.type, "its data is no object") end
  if copy[ENVELOPE] ~= nil then
    return invalid(spec.type, "the field $personal is the runtime's own")
  end
  local places, values = {}, {}
  for _, path in ipairs(spec.fields) do
    local fault_at = paths.take(copy, path, places, values)
    if fault_at then return invalid(spec.type, fault_at) end
  end
  if #places == 0 then return plain, plain end
  local subject, err = subject_of(spec, plain)
  if not subject then return nil, err end
  if not app.personal then return nil, errors.new("closed", "the app was stopped") end
  local sealed, key, change = app.personal:seal(subject,
    app.settings.forgotten_subjects == "allow", bound_to(stream, spec.type, places),
    assert(json.encode(values)))
  if not sealed then return nil, seal_failed(spec.type, key) end
  copy[ENVELOPE] = { key = key, paths = places, sealed = sealed }
  local stored
  stored, err = app.store:encode(copy, spec.type)
  if not stored then return nil, err end
  return stored, plain, change, key
end

local function raise_corrupt(event, text)
  error(errors.new("corrupt", ("event %s at position %s (stream %s, version %s): personal data: %s")
    :format(tostring(event.type), tostring(event.position), tostring(event.stream),
    tostring(event.version), text), { position = event.position, type = event.type }), 0)
end

-- The envelope of a flagged event, checked.
local function envelope_of(event)
  local data = event.data
  local envelope = paths.is_object(data) and data[ENVELOPE]
  local is_whole = paths.is_object(envelope) and type(envelope.key) == "string"
    and type(envelope.sealed) == "string" and type(envelope.paths) == "table"
    and #envelope.paths > 0
  for _, place in ipairs(is_whole and envelope.paths or {}) do
    is_whole = is_whole and type(place) == "string"
  end
  if not is_whole then raise_corrupt(event, "the field $personal is missing or damaged") end
  return envelope
end

--- Decrypts a flagged event in place. When the key was destroyed the personal fields are
--- catga.null, and event.forgotten lists their paths. event.personal becomes the name of the key.
--- Raises "corrupt", with position and path, for what was tampered with, or when the key is
--- missing. Never yields.
---@param app catga.App
---@param event table
---@return table event
function M.unseal(app, event)
  local envelope = envelope_of(event)
  event.data[ENVELOPE], event.personal = nil, envelope.key
  if app.is_closed then error(errors.new("closed", "the app was stopped"), 0) end
  if not app.personal then
    raise_corrupt(event, ("its key is missing: there is no file %s/keys; bring back its backup")
      :format(app.data or "."))
  end
  local plain, err = app.personal:unseal(envelope.key,
    bound_to(event.stream, event.type, envelope.paths), envelope.sealed)
  if not plain then
    if err.code ~= "forgotten" and not app.forgotten_keys[envelope.key] then
      raise_corrupt(event, ("%s: %s"):format(table.concat(envelope.paths, ", "), err.message))
    end
    event.forgotten = envelope.paths
    return event
  end
  local values = json.decode(plain)
  if type(values) ~= "table" or #values ~= #envelope.paths then
    raise_corrupt(event, "the values that were sealed are not those of its paths")
  end
  for i, place in ipairs(envelope.paths) do
    if not paths.put(event.data, place, values[i]) then
      raise_corrupt(event, place .. ": there is no such place in the data")
    end
  end
  return event
end

-- Destroys again what an older key file has brought back.
local function bury(app)
  local keys, store = app.personal, app.store
  local stream = store:stream(STREAM)
  local count = stream and store:count(stream) or 0
  local from, before = 0, keys:queued()
  while from < count do
    stream = store:stream(STREAM) -- Its number may change in a wait.
    local records, err = store:read(stream, from, READ_COUNT)
    if not records then return nil, err end
    for _, record in ipairs(records) do
      local change, is_there = keys:forget(record.data.key, record.data.subject)
      if not change then return nil, is_there end
      if not is_there then app.forgotten_keys[record.data.key] = true end
    end
    from = from + #records
    local ok
    ok, err = keys:flush()
    if not ok then return nil, err end
  end
  local again = keys:queued() - before
  if again > 0 then
    app:say("warn", ("%d persons who were forgotten had come back with an older file of keys, or "
      .. "the program had been stopped meanwhile; their keys are destroyed now"):format(again))
  end
  return true
end

--- Encrypts what was made of decrypted data, with the same key, so that it ends with it.
---@param app catga.App
---@param key string    event.personal of what it was made of
---@param bound string  must be the same for open_text
---@param text string
---@return string? sealed
---@return catga.Error? err  "forgotten", ...
function M.seal_text(app, key, bound, text)
  if not app.personal then return nil, errors.new("closed", "the keys of persons are closed") end
  return app.personal:seal_with(key, bound, text)
end

--- Decrypts what seal_text gave.
---@param app catga.App
---@param key string
---@param bound string
---@param sealed string
---@return string? text
---@return catga.Error? err  "forgotten", "corrupt", "not_found"
function M.open_text(app, key, bound, sealed)
  if not app.personal then
    return nil, errors.new("not_found", "there is no file of keys of persons")
  end
  return app.personal:unseal(key, bound, sealed)
end

local function has_file(app)
  local file = app.data and io.open(app.data .. "/keys", "rb")
  if file then file:close() end
  return file ~= nil
end

--- Opens the keys when the scripts declare personal data, or a file of keys is there.
---@param app catga.App
---@param generation catga.Registry
---@param kept catga.PersonalKeys?  of an app in memory that has ended (specs)
---@return boolean? ok
---@return catga.Error? err
function M.open(app, generation, kept)
  if app.personal or not (generation.personal or kept or has_file(app)) then return true end
  local keys, err = kept, nil
  if not keys then
    keys, err = native.open { directory = app.data, clock = app.clock,
      cached_max = app.settings.keys_cached_max,
      master_file = app.data and os.getenv("CATGA_MASTER_KEY_FILE") or nil,
      master_old_file = app.data and os.getenv("CATGA_MASTER_KEY_FILE_OLD") or nil }
  end
  if not keys then return nil, err end
  app.personal, app.forgotten_keys = keys, {}
  local damaged = keys:damaged_count()
  if damaged > 0 then
    app:say("warn", ("%s/keys: %d keys are damaged, and what they have encrypted cannot be read; "
      .. "bring back a backup of the file"):format(app.data, damaged))
  end
  local ok
  ok, err = bury(app)
  if ok then return true end
  app.personal = nil
  keys:close()
  return nil, err
end

--- Closes the keys; harmless without.
---@param app catga.App
function M.close(app)
  local keys = app.personal
  app.personal = nil
  if keys then keys:close() end
end

-- Stores that a key is to be destroyed, durably and before it is: so it will be, whatever happens.
local function store_end(app, key, digest)
  return commits.records(app, function(add) add(STREAM, TYPE, { key = key, subject = digest }) end)
end

--- The projections whose handlers see personal data, by name.
---@param app catga.App
---@return string[]
function M.projections(app)
  local list = {}
  for name, definition in pairs(app.registry.projections) do
    for event_type in pairs(app.registry.personal or {}) do
      if definition.handlers[event_type] then
        list[#list + 1] = name
        break
      end
    end
  end
  table.sort(list)
  return list
end

local function no_such_subject(app)
  return errors.new("not_found", app.personal and "no personal data of this subject was ever stored"
    or "this app has no personal data: no script declares any by catga.personal")
end

-- The newest key of a subject and whether it is destroyed, or nil and an error.
local function key_of(app, subject)
  if not app.personal then return nil, no_such_subject(app) end
  local key, forgotten = app.personal:find(subject)
  if key then return key, forgotten end
  return nil, forgotten or no_such_subject(app)
end

--- Destroys the key of a subject: its own commit, whatever unit of work is open. Durable when this
--- returns. Again for the same subject it does nothing. May yield.
---@param app catga.App
---@param value string|integer  the subject
---@return { key: string, digest: string, projections: string[] }? result  projections: those that
---  may hold plain values until they are rebuilt
---@return catga.Error? err  "not_found", ...
function M.forget(app, value)
  local subject = check_subject(value, "catga.forget")
  local key, forgotten = key_of(app, subject)
  if not key then return nil, forgotten end
  local digest, err = app.personal:digest(subject)
  if not digest then return nil, err end
  if not forgotten then
    local ok, fault = store_end(app, key, digest)
    if not ok then return nil, fault end
    if not app.personal then return nil, errors.new("closed", "the app was stopped") end
  end
  local change, is_there = app.personal:forget(key, digest)
  if not change then return nil, is_there end
  local ok, fault = app.personal:wait(change)
  if not ok then return nil, fault end
  return { key = key, digest = digest, projections = json.array(M.projections(app)) }
end

local function check_number(what, name, value, low, high)
  if value == nil then return end
  if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
    error(("%s: %s is a whole number from %d to %.0f, got %s"):format(what, name, low, high,
      tostring(value)), 4)
  end
end

local function check_options(what, opts, allowed)
  for name in pairs(opts or {}) do
    if not allowed[name] then
      error(("%s: unknown option \"%s\""):format(what, tostring(name)), 4)
    end
  end
  opts = opts or {}
  check_number(what, "max", opts.max, 1, LIST_MAX)
  check_number(what, "after", opts.after, 0, 2 ^ 53)
  return opts
end

--- Subjects that have a key, in the order in which they got it. May yield.
---@param app catga.App
---@param opts { prefix: string?, after: integer?, max: integer?, forgotten: boolean? }?  forgotten:
---  lists those too of which only the name of the key is left
---@return { key: string, time: integer, forgotten: boolean, subject: string? }[]? list
---@return integer|catga.Error? after  for the next call; nil: that was all
function M.subjects(app, opts)
  opts = check_options("catga.subjects", opts,
    { prefix = true, after = true, max = true, forgotten = true })
  if opts.prefix ~= nil and type(opts.prefix) ~= "string" then
    error("catga.subjects: prefix is a string", 3)
  end
  local list, after, max = {}, opts.after or 0, opts.max or 100
  while app.personal do
    local some, upto, more = app.personal:list(opts.prefix or "", after, max - #list,
      opts.forgotten == true)
    if not some then return nil, upto end
    for _, one in ipairs(some) do list[#list + 1] = one end
    if not more then break end
    after = upto
    if #list >= max then return list, after end
    native_task.yield()
  end
  return list
end

-- Decrypted events of one key out of what was read.
local function pick(app, events, key, list)
  for _, event in ipairs(events) do
    if event.personal and envelope_of(event).key == key then
      list[#list + 1] = M.unseal(app, event)
    end
  end
end

--- Events that hold personal data of a subject, decrypted, in the order of positions: what a person
--- may ask for. Looks through the whole log, page by page. May yield.
---@param app catga.App
---@param value string|integer
---@param opts { after: integer?, max: integer? }?  after: a position; max: 1 to 10,000 events
---@return table[]? events
---@return integer|catga.Error? after  for the next call; nil: that was all
function M.events(app, value, opts)
  local subject = check_subject(value, "catga.subject_events")
  opts = check_options("catga.subject_events", opts, { after = true, max = true })
  local key, forgotten = key_of(app, subject)
  if not key then return nil, forgotten end
  if forgotten then
    return nil, errors.new("forgotten", "this subject was forgotten; its data cannot be read")
  end
  local list, after, max = {}, opts.after or 0, opts.max or 100
  local cursor, failure = app.store:cursor(after, { personal = true }), nil
  while #list < max do
    local events, position = cursor:next(math.min(SCAN_COUNT, max - #list))
    if not events then
      failure = position
      break
    end
    pick(app, events, key, list)
    if #events == 0 and position == after then
      after = nil
      break
    end
    after = position
    native_task.yield()
  end
  cursor:close()
  if failure then return nil, failure end
  return list, after
end

return M
