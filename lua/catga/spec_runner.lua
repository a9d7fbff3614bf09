--- Runs busted specs inside the host: `catga test`.
---
--- Each file runs insulated, in an order that a seed decides. After each file everything it started
--- must be over: a task, timer, handle or reference that is left fails it.
local host = require "catga.native.host"
local tasks = require "catga.native.task"

local M = {}

local FILES_MAX = 10000
local COLLECT_ROUNDS = 3 -- Finalizers may free what holds further finalizers.

-- Busted forgets modules that a spec file loaded; the runtime's own must stay the same ones.
local function keep_own_modules()
  for _, name in ipairs { "catga", "catga.testing", "catga.app", "catga.program", "catga.http" } do
    local ok, failure = pcall(require, name)
    if not ok and not tostring(failure):find("module '" .. name .. "' not found", 1, true) then
      error(failure, 0)
    end
  end
end

local function collect(path, files)
  local entries, err = host.list(path)
  if not entries then return err.message end
  for _, entry in ipairs(entries) do
    local below = path .. "/" .. entry.name
    if entry.is_directory then
      local fault = collect(below, files)
      if fault then return fault end
    elseif entry.name:find("_spec%.lua$") then
      files[#files + 1] = below
      if #files > FILES_MAX then return ("%s has over %d spec files"):format(path, FILES_MAX) end
    end
  end
end

local function exists(path)
  return host.list(path) ~= nil
end

-- Modules in lib/ of the app that the specs belong to.
local function add_module_path(root)
  local app = root:match("^(.*)/spec/") or root:match("^(.*)/spec$") or root
  local lib = app .. "/lib"
  if exists(lib) then
    package.path = lib .. "/?.lua;" .. lib .. "/?/init.lua;" .. package.path
  end
end

local function find_files(roots)
  local files = {}
  for _, root in ipairs(roots) do
    root = root:gsub("(.)/+$", "%1")
    add_module_path(root)
    if root:find("%.lua$") then
      if not io.open(root) then return nil, "there is no file " .. root end
      files[#files + 1] = root
    else
      local fault = collect(root, files)
      if fault then return nil, fault end
    end
  end
  if #files == 0 then
    return nil, "no file called *_spec.lua in " .. table.concat(roots, ", ")
  end
  return files
end

-- What C holds for Lua, without the pool of coroutines.
local function held(handles)
  for _ = 1, COLLECT_ROUNDS do collectgarbage() end
  tasks.settle()
  local live, refs, idle = tasks.counts()
  return { tasks = live, references = refs - 2 * (live + idle), handles = handles() }
end

local function leak_of(before, after)
  local parts = {}
  for _, kind in ipairs { "tasks", "references", "handles" } do
    local extra = after[kind] - before[kind]
    if extra > 0 then parts[#parts + 1] = ("%d %s"):format(extra, kind) end
  end
  return #parts > 0 and table.concat(parts, ", ") or nil
end

local function watch_leaks(busted, handles)
  local before
  busted.subscribe({ "file", "start" }, function() before = held(handles) end)
  busted.subscribe({ "file", "end" }, function(file)
    local leak = leak_of(before, held(handles))
    if not leak then return end
    local message = ("%s: the specs of this file leave %s behind (a timer or store counts as a "
      .. "handle); stop what they start"):format(file.name, leak)
    busted.publish({ "error", "file" }, file, busted.context.parent(file), message,
      { traceback = "", message = message, short_src = file.name, currentline = 0 })
  end)
end

local function count_faults(busted)
  local faults = { count = 0 }
  local function count() faults.count = faults.count + 1 end
  busted.subscribe({ "error" }, function(_, _, message)
    count()
    faults.last = message
    return nil, true
  end)
  busted.subscribe({ "failure" }, function()
    count()
    return nil, true
  end)
  return faults
end

local function run(opts)
  keep_own_modules()
  local files, fault = find_files(opts.roots)
  if not files then
    io.stderr:write("catga test: " .. fault .. "\n")
    return 3
  end
  local seed = tonumber(opts.seed) or host.random_seed() % 100000
  local fallback = opts.is_terminal and "utfTerminal" or "plainTerminal"
  if not opts.output then print(("seed %d"):format(seed)) end

  local busted = require "busted.core" ()
  require "busted" (busted)
  local faults = count_faults(busted)
  busted.sort, busted.randomize, busted.randomseed = false, true, seed
  require "busted.modules.output_handler_loader" ()(busted, opts.output or fallback, {
    defaultOutput = fallback, enableSound = false, verbose = false, suppressPending = false,
    language = "en", deferPrint = false, arguments = {},
  })
  require "busted.luajit" ()
  require "busted.modules.filter_loader" ()(busted, {
    tags = {}, excludeTags = {}, filter = opts.filter and { opts.filter } or {}, filterOut = {},
    list = false, nokeepgoing = false, suppressPending = false,
  })
  watch_leaks(busted, opts.handles)
  require "busted.modules.test_file_loader" (busted, { "lua" })(files, {}, { excludes = {} })
  require "busted.execute" (busted)(1, { seed = seed, shuffle = true, sort = false })
  busted.publish { "exit" }
  return faults.count > 0 and 1 or 0
end

--- Runs specs; must run in a task. opts.done gets the exit code.
---@param opts { roots: string[], seed: string?, output: string?, filter: string?,
---  is_terminal: boolean, handles: (fun(): integer), done: fun(code: integer) }
function M.run(opts)
  local ok, code = xpcall(run, debug.traceback, opts)
  if not ok then
    io.stderr:write("catga test: ", tostring(code), "\n")
    code = 1
  end
  io.stdout:flush()
  opts.done(code)
end

return M
