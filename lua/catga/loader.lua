--- Loading an app directory: every .lua in it, without spec/ and lib/; lib/ is on the module path.
local host = require "catga.native.host"
local source = require "catga.source"
local errors = require "catga.error"
local registry = require "catga.registry"
local state = require "catga.state"
local check_global = require "catga.process.watch".check_global

local M = {}

local FILES_MAX = 10000

local function collect(path, prefix, files, into_lib)
  local entries, err = host.list(path)
  if not entries then return err end
  for _, entry in ipairs(entries) do
    local name = prefix .. entry.name
    if entry.is_directory then
      local skipped = prefix == ""
        and (entry.name == "spec" or entry.name == "lib" and not into_lib)
      if not skipped then
        local fault = collect(path .. "/" .. entry.name, name .. "/", files, into_lib)
        if fault then return fault end
      end
    elseif entry.name:find("%.lua$") and name ~= "catga.lua" then
      files[#files + 1] = { name = name, path = path .. "/" .. entry.name }
      if #files > FILES_MAX then
        return errors.new("limit", ("%s has over %d scripts"):format(path, FILES_MAX))
      end
    end
  end
end

local function read_sources(files)
  for _, file in ipairs(files) do
    local text, err = source.read(file.path)
    if not text then return err end
    file.text = text
  end
end

-- The hash of all scripts: what a process's start record names as its code.
local function manifest_hash(files, lib)
  local lines = {}
  for _, list in ipairs { files, lib } do
    for _, file in ipairs(list) do
      lines[#lines + 1] = host.sha256(file.text) .. " " .. file.name
    end
  end
  return host.sha256(table.concat(lines, "\n"))
end

local function fault_of(file, failure)
  local message = type(failure) == "string" and failure or tostring(failure)
  return errors.new("script_error", message, { file = file.path })
end

-- Globals of one script: reads fall through to the shared ones, writes stay in it. They are kept
-- beside the environment itself, so that each write is seen.
local function make_environment(own_require)
  local globals = setmetatable({ require = own_require }, { __index = _G })
  local env = setmetatable({}, { __index = globals, __newindex = function(_, name, value)
    check_global(name)
    globals[name] = value
  end })
  globals._G = env
  return env
end

-- A require that finds the modules of lib/ anew in every generation.
local function make_require(lib)
  local by_name, loaded, loading = {}, {}, {}
  for _, file in ipairs(lib) do
    local name = file.name:gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
    by_name[name] = file
  end
  local plain = require
  local function own_require(name)
    local file = by_name[name]
    if not file then return plain(name) end
    if loaded[name] ~= nil then return loaded[name] end
    if loading[name] then error("module " .. name .. " requires itself", 2) end
    local chunk = assert(source.compile(file.text, file.path, make_environment(own_require)))
    loading[name] = true
    local ok, value = pcall(chunk, name)
    loading[name] = nil
    if not ok then error(value, 0) end
    if value == nil then value = true end
    loaded[name] = value
    return value
  end
  return own_require
end

local function run_file(file, own_require, into)
  local chunk = assert(source.compile(file.text, file.path, make_environment(own_require)))
  state.loading = into
  local ok, raised = pcall(chunk)
  state.loading = nil
  if not ok then return fault_of(file, errors.is(raised) and raised.message or raised) end
end

-- Scripts run in the order of their names; what does not compile is found before any of them runs.
local function run_files(files, lib, into)
  for _, list in ipairs { files, lib } do
    for _, file in ipairs(list) do
      local chunk, fault = source.compile(file.text, file.path, {})
      if not chunk then return fault end
    end
  end
  local own_require = make_require(lib)
  for _, file in ipairs(files) do
    local fault = run_file(file, own_require, into)
    if fault then return fault end
  end
end

--- Loads all scripts of a directory as a new generation.
---@param app catga.App
---@param dir string   absolute path
---@return catga.Registry? registry
---@return catga.Error? err  names file and line; nothing has changed
function M.load(app, dir)
  local files, lib = {}, {}
  local fault = collect(dir, "", files)
  if not fault and host.list(dir .. "/lib") then fault = collect(dir .. "/lib", "", lib, true) end
  fault = fault or read_sources(files) or read_sources(lib)
  if fault then return nil, fault end
  local into = registry.new()
  local texts = {}
  for _, list in ipairs { files, lib } do
    for _, file in ipairs(list) do texts[file.path] = file.text end
  end
  into.source_of = function(path) return texts[path] end
  into.hash = manifest_hash(files, lib)
  into.lib_hash = manifest_hash({}, lib)
  return M.finish(app, into, function() return run_files(files, lib, into) end)
end

-- Handlers that a spec replaces; each must exist.
local function replace_handlers(into, stubs)
  for name, fn in pairs(stubs or {}) do
    local entry = into.handlers[name]
    if not entry then
      return errors.new("invalid", "there is no command or query " .. name .. " to stub")
    end
    entry.handle = fn
  end
end

--- Fills a generation by a function and composes it.
---@param app catga.App
---@param into catga.Registry
---@param fill fun(): catga.Error?
---@return catga.Registry? registry
---@return catga.Error? err
function M.finish(app, into, fill)
  into.app = app
  if app.natives then app.natives(into) end
  local fault = fill() or replace_handlers(into, app.stubs)
  if fault then return nil, fault end
  local before = app.registry
  app.registry, into.memory_before = into, before.policy_memory
  local ok, failure = pcall(into.compose, into, app)
  app.registry, into.memory_before = before, nil
  if not ok then
    return nil, errors.new("script_error", type(failure) == "string" and failure
      or tostring(failure))
  end
  return into
end

--- Loads an app out of a function that registers things (for specs).
---@param app catga.App
---@param define fun()
---@return catga.Registry? registry
---@return catga.Error? err
function M.from_function(app, define)
  local into = registry.new()
  into.source_of = function(path) return host.read_file(path) end
  into.hash = host.sha256("function")
  return M.finish(app, into, function()
    state.loading = into
    local ok, raised = pcall(define)
    state.loading = nil
    if not ok then return errors.new("script_error", errors.from(raised).message) end
  end)
end

return M
