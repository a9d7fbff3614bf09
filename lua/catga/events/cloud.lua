--- Events as CloudEvents 1.0 in JSON, one document a line, and back.
---
---   CloudEvents             | here
---   id, source              | the store's id and log; of an imported event those it came with
---   type, time              | type, time; of an imported event the time it came with
---   subject                 | stream
---   data, datacontenttype   | data; another type than application/json is kept in the metadata
---   data_base64             | data is the text, and the metadata says so
---   catgaposition, -version | where it lies; text, because it may not fit 32 bits; not read back
---   catgametadata           | further metadata, as the text of a JSON object
---   catgapersonal           | true: some fields of the data are encrypted with a subject's key
---   other attributes        | kept in the metadata
---
--- What an import keeps of a document is in the metadata's field `cloudevent`, so that the next
--- export gives the same document but for catgaposition and catgaversion.
local json = require "catga.native.json"
local errors = require "catga.error"
local times = require "catga.time"
local is_schema = require "catga.upcast".is_schema

local M = {}

local JSON_TYPE = "application/json"
local SPEC_VERSION = "1.0"
local ID_BYTES_MAX = 1024      -- Of an id and of a source.
local ATTRIBUTES_MAX = 64      -- Attributes of one document.
local ATTRIBUTE_BYTES_MAX = 32 -- Of the name of one.

-- Attributes that are not kept as they are: those with a place of their own, and ours.
local KNOWN = { specversion = true, id = true, source = true, type = true, subject = true,
  time = true, datacontenttype = true, data = true, data_base64 = true, catgaposition = true,
  catgaversion = true, catgametadata = true, catgapersonal = true }

-- The metadata without what a document says elsewhere.
local function further_metadata(metadata)
  local rest
  for name, value in pairs(metadata) do
    if name ~= "cloudevent" then
      rest = rest or {}
      rest[name] = value
    end
  end
  return rest and assert(json.encode(rest))
end

--- The document of a stored event, as it was read: neither decrypted nor upcast.
---@param event table
---@param source string  of events that were not imported
---@return table document
function M.document(event, source)
  local metadata = type(event.metadata) == "table" and event.metadata or {}
  local kept = metadata.cloudevent or {}
  local document = { specversion = SPEC_VERSION, id = kept.id or event.id,
    source = kept.source or source, type = event.type, subject = event.stream,
    time = kept.time or times.format(event.time),
    catgaposition = ("%d"):format(event.position), catgaversion = ("%d"):format(event.version),
    catgametadata = further_metadata(metadata), catgapersonal = event.personal or nil }
  if kept.is_base64 then
    document.data_base64 = event.data
  else
    document.data = event.data
  end
  if kept.datacontenttype then
    document.datacontenttype = kept.datacontenttype
  elseif not kept.is_base64 then
    document.datacontenttype = JSON_TYPE
  end
  for name, value in pairs(kept.attributes or {}) do document[name] = value end
  return document
end

local function is_object(value)
  return type(value) == "table" and getmetatable(value) ~= json.array_mt
end

local function check_text(document, name, bytes_max)
  local value = document[name]
  if type(value) ~= "string" or value == "" or #value > bytes_max then
    return ("%s must be a string of 1 to %d bytes"):format(name, bytes_max)
  end
end

local function check_attribute(name, value)
  if type(name) ~= "string" or not name:find("^[a-z0-9]+$") or #name > ATTRIBUTE_BYTES_MAX then
    return ("attribute \"%s\": names are 1 to %d lower-case letters and digits"):format(
      tostring(name), ATTRIBUTE_BYTES_MAX)
  end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    return ("attribute %s must be a string, a number or a boolean"):format(name)
  end
end

-- Attributes without a place of their own, or nothing and what is wrong with one.
local function other_attributes(document)
  local others, count = nil, 0
  for name, value in pairs(document) do
    if not KNOWN[name] then
      local fault = check_attribute(name, value)
      if fault then return nil, fault end
      count = count + 1
      if count > ATTRIBUTES_MAX then
        return nil, ("more than %d attributes"):format(ATTRIBUTES_MAX)
      end
      others = others or {}
      others[name] = value
    end
  end
  return others
end

local function check_document(document)
  if not is_object(document) then return "it is no JSON object" end
  if document.specversion ~= SPEC_VERSION then
    return ("specversion must be \"%s\""):format(SPEC_VERSION)
  end
  local fault = check_text(document, "id", ID_BYTES_MAX)
    or check_text(document, "source", ID_BYTES_MAX) or check_text(document, "type", 256)
  if fault then return fault end
  if document.time ~= nil then
    local ms, wrong = times.parse(document.time, "time")
    if not ms or type(document.time) ~= "string" then return wrong or "time must be a string" end
  end
  for _, name in ipairs { "subject", "datacontenttype", "data_base64", "catgametadata" } do
    if document[name] ~= nil and type(document[name]) ~= "string" then
      return name .. " must be a string"
    end
  end
  if document.catgapersonal ~= nil and document.catgapersonal ~= true then
    return "catgapersonal must be true"
  end
  if document.data_base64 ~= nil and document.data ~= nil then
    return "it has data and data_base64"
  end
end

local function metadata_of(document)
  if document.catgametadata == nil then return {} end
  local metadata = json.decode(document.catgametadata)
  if not is_object(metadata) or metadata.cloudevent ~= nil then
    return nil, "catgametadata must be the text of a JSON object"
  end
  if metadata.schema ~= nil and not is_schema(metadata.schema) then
    return nil, "catgametadata: schema must be a version"
  end
  return metadata
end

--- An event out of a line.
---@param line string
---@return { type: string, data: any, metadata: table, id: string, source: string,
---  subject: string?, is_personal: boolean? }? event
---@return catga.Error? err  what is wrong with it
function M.parse(line)
  local document, err = json.decode(line)
  if err then return nil, errors.new("invalid", err.message) end
  local fault = check_document(document)
  if fault then return nil, errors.new("invalid", fault) end
  local metadata, attributes
  metadata, fault = metadata_of(document)
  if not metadata then return nil, errors.new("invalid", fault) end
  attributes, fault = other_attributes(document)
  if fault then return nil, errors.new("invalid", fault) end
  local is_base64 = document.data_base64 ~= nil or nil
  local kind = document.datacontenttype
  metadata.cloudevent = { id = document.id, source = document.source, time = document.time,
    datacontenttype = (is_base64 or kind ~= JSON_TYPE) and kind or nil, is_base64 = is_base64,
    attributes = attributes }
  return { type = document.type, data = is_base64 and document.data_base64 or document.data,
    metadata = metadata, id = document.id, source = document.source, subject = document.subject,
    is_personal = document.catgapersonal }
end

return M
