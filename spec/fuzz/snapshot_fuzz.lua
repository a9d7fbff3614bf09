--- Any bytes as the newest record in the stream of an aggregate's snapshots. Loading the aggregate
--- gives the state that its events make, whatever stands there. What has the right hash is
--- believed: then loading, here of a second aggregate, gives a state or an error value.
local testing = require "catga.testing"
local errors = require "catga.error"
local host = require "catga.native.host"
local json = require "catga.native.json"
local catga = require "catga"

local RECORDS_MAX = 2000 -- Of an app; then a new one, so that memory stays bounded.
local EVENTS = 3
local PREFIX = "$snapshot-Counter-"
local INTERNAL, ANY = 8, -1

local app, Counter, genuine

local function define()
  Counter = catga.aggregate "Counter"
  function Counter.initial() return { n = 0 } end
  function Counter.apply.Counted(state, event) state.n = state.n + event.by end
  Counter.snapshot, Counter.shape = { every = 2 }, "one"
end

-- The hash that a snapshot must have to be believed.
local function check_of(snapshot)
  return host.sha256(table.concat({ "Counter", "2", ("%.0f"):format(snapshot.version),
    tostring(snapshot.event), tostring(snapshot.shape), ("%.0f"):format(snapshot.time),
    tostring(snapshot.key), tostring(snapshot.state) }, "\0"))
end

local function begin()
  if app then app:stop() end
  app = assert(testing.app(define))
  local events = {}
  for i = 1, EVENTS do events[i] = { type = "Counted", data = { by = 2 } } end
  for id = 1, 2 do
    assert(app:call(catga.events.append, "Counter-" .. id, events))
    assert(app:call(Counter.load, tostring(id)))
  end
  app:settle()
  genuine = assert(app:call(catga.events.read, PREFIX .. "2"))[1].data
  assert(genuine.check == check_of(genuine), "the hash is made in another way by now")
end

-- Puts a record behind the snapshots of an aggregate.
local function put(id, data)
  local store = app.app.store
  store:begin()
  assert(store:add(store:stream(PREFIX .. id, true), ANY, "SnapshotTaken", data, nil, INTERNAL))
  assert(store:commit())
end

-- What a snapshot is when the program itself has written these fields.
local function forge(fields)
  local snapshot = {}
  for key, value in pairs(genuine) do snapshot[key] = value end
  for key, value in pairs(fields) do snapshot[key] = value end
  if type(snapshot.version) ~= "number" or type(snapshot.time) ~= "number" then return nil end
  snapshot.check = check_of(snapshot)
  return json.encode(snapshot)
end

return function(text)
  if not app or app:position() > RECORDS_MAX then begin() end
  put("1", text)
  local one = assert(app:call(Counter.load, "1"))
  assert(one.state.n == 2 * EVENTS and one.version == EVENTS - 1)
  local fields = json.decode(text)
  local forged = type(fields) == "table" and getmetatable(fields) ~= json.array_mt and forge(fields)
  if not forged then return end
  put("2", forged)
  local ok, value, err = pcall(app.call, app, Counter.load, "2")
  local failure = not ok and value or not value and err
  assert(not failure or errors.is(failure) and not failure.traceback, tostring(failure))
end
