--- Metadata of streams and categories: retention, tombstones and the user's own fields.
---
--- The metadata of the stream S is the last record of the stream `$metadata-S`, that of the
--- category C the last of `$metadata-$category-C`; so it has versions and a history like all else.
---
---   StreamMetadata  max_age?, max_count?, truncate_before?, begins?, tags?, custom?, deleted?
---
--- `begins` is the version with which what the stream stands for begins anew: set by a deletion.
--- A stream's own max_age, max_count and truncate_before win over its category's. `deleted` is the
--- tombstone of a stream that was deleted for good. The stream `$metadata` has a record once there
--- is any metadata at all, so that a store without any pays nothing.
local errors = require "catga.error"
local duration = require "catga.duration"
local INTERNAL = require "catga.flags".INTERNAL
local stored_fault = require "catga.events.fields".stored_fault

local M = {}

M.PREFIX = "$metadata-"
M.CATEGORY_PREFIX = "$metadata-$category-"
M.MARKER = "$metadata"
M.TYPE = "StreamMetadata"

local NAME_BYTES_MAX = 1024 -- Of a stream.
local PUBLISHED = "$type-" -- Their names are the runtime's, their events the user's.

--- The category of a stream: its name up to the first hyphen.
---@param stream string
---@return string
function M.category(stream) return stream:match("^(.-)%-") or stream end

--- Is it a stream that the runtime keeps, and that scripts may only read?
---@param stream string
---@return boolean
function M.is_runtimes(stream)
  return stream:find("^%$") ~= nil and stream:sub(1, #PUBLISHED) ~= PUBLISHED
    or stream:find("^Process%-") ~= nil
end

--- Does the store hold, or may it soon hold, any metadata? Not while a commit is being built.
---@param app catga.App
---@return boolean
function M.is_used(app)
  if app.has_metadata == nil then
    local marker = app.store:stream(M.MARKER)
    app.has_metadata = marker ~= nil and app.store:count(marker) > 0
  end
  return app.has_metadata
end

--- The newest metadata in a stream of metadata, and its version there.
---@param app catga.App
---@param unit catga.Unit?  what it has staged counts
---@param name string       "$metadata-..."
---@return table? fields    nil: there is none
---@return integer|catga.Error|nil version  or the error: "corrupt", ...
function M.latest(app, unit, name)
  local store = app.store
  local stream = store:stream(name)
  if not stream then return nil end
  local count = store:count(stream)
  local staged = unit and unit:staged_count(stream) or 0
  if staged > 0 then
    for i = unit.n, 1, -1 do
      local op = unit.ops[i]
      if op.stream == stream then return app.json.decode(op.data), count + staged - 1 end
    end
  end
  if count == 0 then return nil end
  local list, err = store:read(stream, count - 1, 1)
  if not list then return nil, err end
  local fault = stored_fault(list[1].data)
  if fault then
    return nil, errors.new("corrupt", ("stream %s, version %d: the metadata is damaged: %s")
      :format(name, count - 1, fault))
  end
  return list[1].data, count - 1
end

--- Was the stream deleted for good?
---@param app catga.App
---@param unit catga.Unit?
---@param stream string
---@return catga.Error? err  "deleted" when it was; or why that is not known
function M.tombstone(app, unit, stream)
  if not M.is_used(app) then return nil end
  local fields, err = M.latest(app, unit, M.PREFIX .. stream)
  if not fields then return err end
  if not fields.deleted then return nil end
  return errors.new("deleted", ("stream %s was deleted for good; choose another name")
    :format(stream))
end

--- What is kept of a stream: its own values, else those of its category.
---@param app catga.App
---@param unit catga.Unit?
---@param stream string
---@return { max_age: number?, max_count: integer?, truncate_before: integer?, deleted: boolean? }?
---  max_age in ms; nil: everything is kept
---@return catga.Error? err
function M.effective(app, unit, stream)
  if not M.is_used(app) then return nil end
  local own, err = M.latest(app, unit, M.PREFIX .. stream)
  if not own and err then return nil, err end
  local shared
  shared, err = M.latest(app, unit, M.CATEGORY_PREFIX .. M.category(stream))
  if not shared and err then return nil, err end
  if not own and not shared then return nil end
  own, shared = own or {}, shared or {}
  local age = own.max_age or shared.max_age
  return { max_age = age and duration.parse(age), max_count = own.max_count or shared.max_count,
    truncate_before = own.truncate_before or shared.truncate_before, deleted = own.deleted }
end

--- The version with which what a stream stands for begins: 0, unless it was deleted since.
---@param app catga.App
---@param unit catga.Unit?
---@param stream string
---@return integer? first
---@return catga.Error? err  "deleted": it takes no event any more
function M.beginning(app, unit, stream)
  if not M.is_used(app) then return 0 end
  local own, err = M.latest(app, unit, M.PREFIX .. stream)
  if not own then return not err and 0 or nil, err end
  if own.deleted then return nil, M.tombstone(app, unit, stream) end
  return own.begins or 0
end

--- What a read of a stream may show.
---@param app catga.App
---@param unit catga.Unit?
---@param stream string
---@param total integer  how many events it has ever had, those staged included
---@return integer? first    the first version; nil: the stream was deleted, see err
---@return number|catga.Error|nil since  and only events not older than this (Unix ms), or the error
function M.window(app, unit, stream, total)
  local kept, err = M.effective(app, unit, stream)
  if not kept then
    if err then return nil, err end
    return 0
  end
  if kept.deleted then return nil, M.tombstone(app, unit, stream) end
  local first = kept.truncate_before or 0
  if kept.max_count then first = math.max(first, total - kept.max_count) end
  return first, kept.max_age and app.clock:now() - kept.max_age
end

--- Stages metadata.
---@param app catga.App
---@param unit catga.Unit
---@param name string    "$metadata-..."
---@param fields table   checked
---@param expect integer|"any"|"none"|"exists"|nil
---@return integer? version
---@return catga.Error? err
function M.stage(app, unit, name, fields, expect)
  if #name > NAME_BYTES_MAX then
    return nil, errors.new("invalid", ("a stream whose name has over %d bytes has no metadata, so "
      .. "no retention, and cannot be deleted"):format(NAME_BYTES_MAX - #M.PREFIX))
  end
  if not M.is_used(app) or app.store:count(app.store:stream(M.MARKER, true)) == 0 then
    local marked, err = unit:append(M.MARKER, { { type = "MetadataUsed", data = {} } }, "any",
      INTERNAL)
    if not marked then return nil, err end
    app.has_metadata = true -- Also when the unit fails: it only says that somebody must look.
  end
  return unit:append(name, { { type = M.TYPE, data = fields } }, expect, INTERNAL)
end

return M
