--- Any bytes as the newest metadata of a stream and of its category, and as metadata that a user
--- sets. Whatever stands there, everything that looks at it gives an answer or an error value.
local testing = require "catga.testing"
local errors = require "catga.error"
local json = require "catga.native.json"
local catga = require "catga"
local beginning = require "catga.events.metadata".beginning

local RECORDS_MAX = 2000 -- Of an app; then a new one, so that memory stays bounded.
local EVENTS = 5
local INTERNAL, ANY = 8, -1

local app

local function append(stream)
  return app:call(catga.events.append, stream, { { type = "Happened", data = { n = 1 } } })
end

local function begin()
  if app then app:stop() end
  app = assert(testing.app(function() end))
  assert(app:call(catga.events.set_metadata, { category = "Other" }, { max_count = 1 }))
  for _ = 1, EVENTS do
    assert(append("Order-1"))
    app:advance("1h")
  end
end

-- Puts metadata behind what there is.
local function put(stream, data)
  local store = app.app.store
  store:begin()
  assert(store:add(store:stream(stream, true), ANY, "StreamMetadata", data, nil, INTERNAL))
  assert(store:commit())
end

-- An answer, or an error value that says what is wrong.
local function check_answer(value, err)
  if value ~= nil then return value end
  assert(errors.is(err) and not err.traceback and err.message ~= "", tostring(err))
end

local function look()
  local events = check_answer(app:call(catga.events.read, "Order-1", { max = RECORDS_MAX }))
  local backward = check_answer(app:call(catga.events.read, "Order-1",
    { max = RECORDS_MAX, backward = true }))
  assert((events == nil) == (backward == nil))
  for i = 1, events and #events or 0 do
    assert(events[i].version == backward[#events + 1 - i].version)
  end
  local info = check_answer(app:call(catga.events.stream_info, "Order-1"))
  assert(not info or not events or info.count == #events, "described is what is not shown")
  check_answer(app:call(catga.events.metadata, "Order-1"))
  check_answer(app:call(beginning, app.app, nil, "Order-1"))
end

return function(text)
  if not app or app:position() > RECORDS_MAX then begin() end
  local fields = json.decode(text)
  if type(fields) == "table" then
    if check_answer(app:call(catga.events.set_metadata, "Order-1", fields)) then
      assert(app:call(catga.events.stream_info, "Order-1"), "what was set cannot be read")
    end
    look()
  end
  for _, stream in ipairs { "$metadata-Order-1", "$metadata-$category-Order" } do
    put(stream, text)
    look()
    put(stream, "{}")
  end
  check_answer(append("Order-1"))
end
