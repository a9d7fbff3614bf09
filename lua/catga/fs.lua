--- Files of scripts. Every call is done by a thread beside the loop while its task waits.
---
---   local text, err = catga.fs.read "in/orders.csv"
---   catga.fs.write("out/report.txt", text)       -- whole or not at all, and on the disk
---   for line, next_offset in catga.fs.lines "big.csv" do ... end
---   for line, position in catga.fs.follow("/var/log/dpkg.log", { from = position }) do ... end
---
--- What the system refuses is nil and an error: "not_found", "permission", "exists", "disk_full",
--- "limit", "invalid", "io_error".
local effect = require "catga.face".effect
local settings = require "catga.settings"
local call = require "catga.fs.call"
local lazy = require "catga.lazy"

local M = {}

local check_path, check_options = call.check_path, call.check_options

local READ, WRITE = { max = true }, { mode = true, sync = true }
local STAT, MKDIR, REMOVE = { link = true }, { parents = true, mode = true }, { recursive = true }
local COPY, TEMP = { mode = true, sync = true }, { directory = true, inside = true, prefix = true }

-- The face's checks: the app, when everything is as it should be.
local function begin(what, path, opts, known)
  local app = effect(what, 4)
  check_path(what, path, 3)
  return app, check_options(what, opts, known, 3)
end

local function mode_of(what, opts)
  if opts.mode == nil then return nil end
  local mode = type(opts.mode) == "string" and opts.mode:find("^[0-7]+$") and tonumber(opts.mode, 8)
  if not mode or mode > 4095 or mode == 0 then
    error(what .. ": mode is text of octal digits such as \"640\"", 4)
  end
  return mode
end

-- Ends with a flag: what took place, or an error.
local function flag(ok, err)
  if ok then return true end
  return nil, err
end

--- A whole file. May yield.
---@param path string
---@param opts { max: string? }?  most bytes, default the setting fs_read_max
---@return string? text
---@return catga.Error? err  "limit": it is longer
function M.read(path, opts)
  local app
  app, opts = begin("catga.fs.read", path, opts, READ)
  local most = opts.max and settings.size(opts.max, "catga.fs.read: max")
    or app.settings.fs_read_max
  return call.run(app, "read", { path = path, max = most })
end

--- Text becomes the file: it is there whole, under a temporary name, before it takes the place of
--- what was there. May yield.
---@param path string
---@param text string
---@param opts { mode: string?, sync: boolean? }?  mode: permissions, "640", default those of the
---  file that was there; sync = false: it need not be on the disk when this returns
---@return boolean? ok
---@return catga.Error? err
function M.write(path, text, opts)
  local app
  app, opts = begin("catga.fs.write", path, opts, WRITE)
  if type(text) ~= "string" then error("catga.fs.write needs text, got " .. type(text), 2) end
  return flag(call.run(app, "write", { path = path, bytes = text, synced = opts.sync ~= false,
    mode = mode_of("catga.fs.write", opts) }))
end

--- Adds text at the end of a file, which is made when it is missing. May yield.
---@param path string
---@param text string
---@param opts { mode: string?, sync: boolean? }?  sync = true: it is on the disk when this returns
---@return boolean? ok
---@return catga.Error? err
function M.append(path, text, opts)
  local app
  app, opts = begin("catga.fs.append", path, opts, WRITE)
  if type(text) ~= "string" then error("catga.fs.append needs text, got " .. type(text), 2) end
  return flag(call.run(app, "append", { path = path, bytes = text, synced = opts.sync == true,
    mode = mode_of("catga.fs.append", opts) }))
end

--- What a file is: type, size, changed, mode, id. May yield.
---@param path string
---@param opts { link: boolean? }?  link = true: of a link itself
---@return catga.FileInfo? info
---@return catga.Error? err  "not_found"
function M.stat(path, opts)
  local app
  app, opts = begin("catga.fs.stat", path, opts, STAT)
  return call.run(app, "stat", { path = path, link = opts.link })
end

--- Is there something of this name? May yield.
---@param path string
---@return boolean? is_there
---@return catga.Error? err  it cannot be told
function M.exists(path)
  local app = begin("catga.fs.exists", path, nil, STAT)
  local info, err = call.run(app, "stat", { path = path })
  if info then return true end
  if err.code == "not_found" then return false end
  return nil, err
end

--- The entries of a directory, in the order of their names:
--- for name, kind in assert(catga.fs.list "in") do ... end. May yield.
---@param path string
---@return (fun(): string?, string?)? iterator  name and "file", "directory", "link" or "other"
---@return catga.Error? err  "limit": more than the setting fs_list_max
function M.list(path)
  local app = begin("catga.fs.list", path, nil, STAT)
  local entries, err = call.run(app, "list", { path = path, max = app.settings.fs_list_max })
  if not entries then return nil, err end
  table.sort(entries, function(a, b) return a.name < b.name end)
  local place = 0
  return function()
    place = place + 1
    local entry = entries[place]
    if entry then return entry.name, entry.type end
  end
end

--- Makes a directory. May yield.
---@param path string
---@param opts { parents: boolean?, mode: string? }?  parents = true: those above too, and it may be
---  there already
---@return boolean? ok
---@return catga.Error? err  "exists"
function M.mkdir(path, opts)
  local app
  app, opts = begin("catga.fs.mkdir", path, opts, MKDIR)
  return flag(call.run(app, "mkdir", { path = path, deep = opts.parents,
    mode = mode_of("catga.fs.mkdir", opts) }))
end

--- Removes a file or an empty directory. May yield.
---@param path string
---@param opts { recursive: boolean? }?  recursive = true: a directory with all that is in it
---@return boolean? was_there
---@return catga.Error? err
function M.remove(path, opts)
  local app
  app, opts = begin("catga.fs.remove", path, opts, REMOVE)
  local ok, err = call.run(app, "remove", { path = path, deep = opts.recursive })
  if ok then return true end
  if err.code == "not_found" then return false end
  return nil, err
end

--- Gives a file another name; a file of that name is replaced. Durable. May yield.
---@param path string
---@param to string
---@return boolean? ok
---@return catga.Error? err
function M.rename(path, to)
  local app = begin("catga.fs.rename", path, nil, STAT)
  check_path("catga.fs.rename", to, 2)
  return flag(call.run(app, "rename", { path = path, to = to, synced = true }))
end

--- Copies a file, with its permissions; the copy is there whole or not at all. May yield.
---@param path string
---@param to string
---@param opts { mode: string?, sync: boolean? }?  as of write
---@return boolean? ok
---@return catga.Error? err
function M.copy(path, to, opts)
  local app
  app, opts = begin("catga.fs.copy", path, opts, COPY)
  check_path("catga.fs.copy", to, 2)
  return flag(call.run(app, "copy", { path = path, to = to, synced = opts.sync ~= false,
    mode = mode_of("catga.fs.copy", opts) }))
end

--- A new empty file, or directory, whose name nobody has had. Who makes it removes it. May yield.
---@param opts { directory: boolean?, inside: string?, prefix: string? }?  inside: default $TMPDIR
---  or /tmp
---@return string? path
---@return catga.Error? err
function M.temp(opts)
  local app = effect("catga.fs.temp", 3)
  opts = check_options("catga.fs.temp", opts, TEMP, 2)
  local inside = opts.inside or os.getenv "TMPDIR" or "/tmp"
  return call.run(app, "temp", { path = inside .. "/" .. (opts.prefix or "catga-"),
    deep = opts.directory })
end

--- Lines of a file, one by one; see lua/catga/fs/lines.lua. May yield.
---@type fun(path: string, opts: table?): catga.Lines?, catga.Error?
M.lines = lazy.call("catga.fs.lines", "open")

--- Lines of a file that grows, for ever; see lua/catga/fs/follow.lua. May yield.
---@type fun(path: string, opts: table?): catga.Follower?, catga.Error?
M.follow = lazy.call("catga.fs.follow", "open")

--- Changes of a file, or of the entries of a directory; see lua/catga/fs/watch.lua.
---@type fun(path: string): catga.Watcher?, catga.Error?
M.watch = lazy.call("catga.fs.watch", "open")

return M
