--- Any bytes as lines of an import. Each line is taken or refused with a reason, nothing raises;
--- the same lines once more change nothing; what was taken is exported, and that export, imported
--- into another log, is exported from there as the same documents.
local testing = require "catga.testing"
local http = require "catga.http"
local json = require "catga.native.json"

local RECORDS_MAX = 2000 -- Of an app; then a new one, so that memory stays bounded.

local app, other

local function open()
  local one = assert(testing.app(function() end, { settings = { message_size_max = "2KiB" } }))
  one.app.handling = 0
  return one
end

local function begin()
  if app then
    other:stop()
    app:stop()
  end
  app, other = open(), open()
end

local function import(into, body)
  local status, _, answer = into:call(http.handle, into.app, "POST", "/import",
    { skip_bad = "1" }, {}, body)
  local result = assert(json.decode(answer))
  assert(status < 500, answer)
  return status == 200 and result or nil, result
end

-- The ids that the lines give, each with its source.
local function ids_of(text)
  local ids = {}
  for line in text:gmatch("[^\n]+") do
    local document = json.decode(line)
    if type(document) == "table" then
      ids[tostring(document.source) .. "\0" .. tostring(document.id)] = true
    end
  end
  return ids
end

-- The documents behind a position, without where they lie; each must have one of the ids.
local function export(from, after, ids)
  local status, _, body, more = from:call(http.handle, from.app, "GET", "/export",
    { after = tostring(after), max = "10000" }, {}, "")
  assert(status == 200 and not more, body)
  local documents = {}
  for line in body:gmatch("[^\n]+") do
    local document = assert(json.decode(line))
    assert(ids[document.source .. "\0" .. document.id], "another id than it came with")
    document.catgaposition, document.catgaversion = nil, nil
    documents[#documents + 1] = assert(json.encode(document))
  end
  return documents, body
end

return function(text)
  if not app or app:position() > RECORDS_MAX then begin() end
  local before, before_other = app:position() - 1, other:position() - 1
  local result = import(app, text)
  if not result then return assert(app:position() - 1 == before, "refused, and yet stored") end
  local ids = ids_of(text)
  local documents, body = export(app, before, ids)
  assert(#documents == result.imported, "what was imported is not exported")
  local again = import(app, text)
  assert(again and again.imported == 0 and again.bad_count == result.bad_count)
  local copied, refused = import(other, body)
  assert(copied, refused.detail)
  assert(copied.imported == #documents, "an export cannot be imported")
  local copies = export(other, before_other, ids)
  for i = 1, #documents do assert(documents[i] == copies[i], documents[i]) end
end
