--- What all of catga.fs is made of: one call, done by a thread of the pool while the task waits.
local errors = require "catga.error"
local tasks = require "catga.task"
local native = require "catga.native.fs"
local registries = require "catga.registry"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

local PATH_BYTES_MAX = 4095

-- Waits for a job, which counts among those of the app.
local function finish(app, job)
  app.file_calls = (app.file_calls or 0) + 1
  local ok, failure = pcall(tasks.wait, job.wait, job)
  app.file_calls = app.file_calls - 1
  if not ok then error(failure, 0) end
  return job:take()
end

local function refuse(app)
  local most = app.settings.fs_calls_max
  if (app.file_calls or 0) < most then return nil end
  return errors.new("limit", ("%d file calls are under way, which is the most (fs_calls_max in "
    .. "catga.lua)"):format(most), { retryable = true })
end

--- Makes a call. May yield.
---@param app catga.App
---@param verb string  as of catga.native.fs.job
---@param opts table
---@return any? result
---@return any? info_or_err
function M.run(app, verb, opts)
  local err = refuse(app)
  if err then return nil, err end
  return finish(app, native.job(verb, opts))
end

--- Reads from an open file. May yield.
---@param app catga.App
---@param file catga.File
---@param offset integer
---@param max integer
---@return string? bytes
---@return catga.FileInfo|catga.Error info_or_err
function M.read(app, file, offset, max)
  local err = refuse(app)
  if err then return nil, err end
  local job
  job, err = file:read(offset, max)
  if not job then return nil, err end
  return finish(app, job)
end

--- Raises unless it is a path.
---@param what string
---@param path any
---@param level integer  as of error, from here
function M.check_path(what, path, level)
  if type(path) ~= "string" or path == "" or #path > PATH_BYTES_MAX or path:find("%z") then
    error(("%s: a path is text of 1 to %d bytes, got %s"):format(what, PATH_BYTES_MAX,
      type(path) == "string" and "another" or type(path)), level + 1)
  end
end

--- Raises when an option is not known.
---@param what string
---@param opts table?
---@param known table<string, true>
---@param level integer
---@return table opts
function M.check_options(what, opts, known, level)
  if opts == nil then return {} end
  if type(opts) ~= "table" then
    error(("%s: the options are a table, got %s"):format(what, type(opts)), level + 1)
  end
  for name in raw_pairs(opts) do
    if not known[name] then
      local near = registries.suggest(tostring(name), known)
      error(("%s: unknown option %s; there are %s%s"):format(what, tostring(name),
        table.concat(registries.sorted_names(known), ", "),
        near and "; did you mean " .. near .. "?" or ""), level + 1)
    end
  end
  return opts
end

return M
