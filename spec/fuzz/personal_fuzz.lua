--- Any JSON as the data of an event that is flagged to have encrypted fields: as it is, and with
--- its paths and values sealed by a true key. Each is shown, or refused as "corrupt" with its
--- position.
local testing = require "catga.testing"
local errors = require "catga.error"
local json = require "catga.native.json"
local present = require "catga.event".present
local catga = require "catga"

local app, key

local function begin()
  app = assert(testing.app(function()
    catga.personal("Registered", { subject = "id", fields = { "name" } })
  end))
  local data = { id = "7", name = "Ada" }
  assert(app:call(catga.events.append, "Customer-7", { { type = "Registered", data = data } }))
  key = assert(app:call(catga.events.read, "Customer-7"))[1].personal
end

local function show(data)
  local event = { stream = "Customer-7", type = "Registered", version = 1, position = 2,
    id = "1", time = 0, data = data, personal = true }
  local ok, failure = pcall(present, app.app, event)
  assert(ok or errors.is(failure) and failure.code == "corrupt" and failure.position == 2,
    tostring(failure))
  return ok and event
end

-- Seals the envelope's own values for its paths, as the program would have done.
local function seal(data)
  local envelope = data["$personal"]
  local values = json.encode(envelope.values)
  if type(envelope.paths) ~= "table" or not values then return false end
  local bound = json.encode { "Registered", "Customer-7", envelope.paths }
  if not bound then return false end
  envelope.key, envelope.sealed = key, assert(app.app.personal:seal_with(key, bound, values))
  return true
end

return function(text)
  if not app then begin() end
  show((json.decode(text)))
  local data = json.decode(text)
  local envelope = type(data) == "table" and data["$personal"]
  if type(envelope) ~= "table" or not seal(data) then return end
  local event = show(data)
  if event then assert(json.encode(event.data), "what is shown cannot be written") end
end
