--- catga.fs.watch: what changes in a directory, or of a file.
---
---   local watcher = assert(catga.fs.watch "in")
---   for change in watcher:changes() do print(change.name, change.renamed) end
local errors = require "catga.error"
local state = require "catga.state"
local tasks = require "catga.task"
local duration = require "catga.duration"
local native = require "catga.native.fs"
local effect = require "catga.face".effect
local check_path = require "catga.fs.call".check_path

local M = {}

--- One change. Several of one name that come quickly are told as one.
---@class catga.FileChange
---@field name string      the entry of the directory, or the file
---@field renamed boolean  it came, went, or took the place of another
---@field lost boolean?    there were more changes than could be kept: look at everything

---@class catga.Watcher
---@field app catga.App
---@field native catga.FileWatch
---@field pending table[]  changes that were taken and not given
local Watcher = {}
Watcher.__index = Watcher

--- Watches a file, or the entries of a directory (not those of directories in it). Ends with the
--- task that began it, or by close.
---@param path string
---@return catga.Watcher? watcher
---@return catga.Error? err
function M.open(path)
  local app = effect("catga.fs.watch", 3)
  check_path("catga.fs.watch", path, 2)
  local watch, err = native.watch(path)
  if not watch then return nil, err end
  local watcher = setmetatable({ app = app, native = watch, pending = {}, place = 1,
    task = state[1] }, Watcher)
  tasks.at_end(state[1], watcher, function() watch:close() end)
  return watcher
end

--- Waits for a change, at most so long: false when the time is over. May yield.
---@param app catga.App
---@param watch catga.FileWatch
---@param ms number?
function M.wait(app, watch, ms)
  local is_waiting = true
  local timer = ms and app.clock:after(ms, function()
    if is_waiting then watch:wake() end
  end)
  local ok, failure = pcall(tasks.wait, watch.wait, watch)
  is_waiting = false
  if timer then app.clock:cancel(timer) end
  if not ok then error(failure, 0) end
end

--- The next change. May yield.
---@param timeout string?  how long to wait at most
---@return catga.FileChange? change  nil: the watcher was closed, or nothing came in time
---@return catga.Error? err          "timeout"
function Watcher:next(timeout)
  effect("watcher:next", 3)
  local ms = timeout and duration.ms(timeout, "watcher:next") or nil
  if self.place > #self.pending then
    if self.is_closed then return nil end
    M.wait(self.app, self.native, ms)
    if self.is_closed then return nil end
    local changes, has_lost = self.native:take()
    if has_lost then changes[#changes + 1] = { name = "", renamed = true, lost = true } end
    self.pending, self.place = changes, 1
    if #changes == 0 then
      return nil, errors.new("timeout", "nothing has changed in time", { retryable = true })
    end
  end
  self.place = self.place + 1
  return self.pending[self.place - 1]
end

--- All changes, until the watcher is closed: for change in watcher:changes() do ... end
---@return fun(): catga.FileChange?
function Watcher:changes() return function() return (self:next()) end end

--- Ends it; who waits for a change goes on. Harmless when repeated.
function Watcher:close()
  if self.is_closed then return end
  self.is_closed = true
  tasks.at_end(self.task, self, nil)
  self.native:close()
end

return M
