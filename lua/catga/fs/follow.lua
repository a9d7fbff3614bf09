--- catga.fs.follow: the lines of a file that grows, over rotation, truncation and restarts.
---
---   local follower = assert(catga.fs.follow("/var/log/dpkg.log", { from = position }))
---   for line, position in follower do ... end            -- one by one
---   local lines, position = follower:read(500)           -- those that are there, at least one
---
--- A position tells where the next line begins: the byte, which file that is (its name may change),
--- A position tells where the next line begins: the byte, which file that is (its name may change),
--- line, and no line is lost or seen twice. A file that was renamed (name.1, name-20260101) is read
--- to its end, then those that came after it, by age. Only whole lines are given.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local duration = require "catga.duration"
local settings = require "catga.settings"
local host = require "catga.native.host"
local native = require "catga.native.fs"
local effect = require "catga.face".effect
local call = require "catga.fs.call"
local reading = require "catga.fs.lines"
local wait = require "catga.fs.watch".wait

local M = {}

local reader_of, CHUNK_BYTES = reading.reader, reading.CHUNK_BYTES

local HEAD_BYTES = 256 -- Of a file by which it is known again.
local POLL = "1s"      -- How often the file is looked at when nothing says that it changed.
local READ_MAX = 1000  -- Lines of one read.
local OPTIONS = { from = true, line_max = true, poll = true }
local NUMBER_DIGITS = 5 -- Of a rotated file's number; more are a date.
local LOOKS_MAX = 20 -- At a directory whose files are being renamed.
local ALIKE_BYTES = 32 -- So many equal first bytes make a copy of a file known as such.
local ROTATED = "^[.-]%d[%d:T_-]*$" -- What a rotated file's name has behind the file's.

--- Where a line begins.
---@alias catga.FollowPosition string  "<byte>:<file>:<length>:<sum of so many bytes>:<time>"

---@class catga.Follower
---@field app catga.App
---@field path string
---@field reader catga.LineReader?  of the file that is read; nil: there is none yet
---@field id string?                which file that is
---@field head string               its first bytes, at most HEAD_BYTES
---@field changed number            when it was changed last, as far as it is known
---@field is_old boolean?           the path leads to another file by now
---@field is_waited boolean?        it was looked at once more since
---@field watch catga.FileWatch?    on the directory
local Follower = {}
Follower.__index = Follower

local function sum_of(bytes) return host.sha256(bytes):sub(1, 16) end

local function parse(position)
  local offset, id, length, sum, changed = tostring(position):match(
    "^(%d+):([%x.]*):(%d+):(%x*):(%d+)$")
  if not offset then return nil end
  return { offset = tonumber(offset), id = id, length = tonumber(length), sum = sum,
    changed = tonumber(changed) }
end

-- The position of the next line that is given.
local function position_of(self)
  local offset = self.reader:given()
  local length = math.min(#self.head, offset)
  if self.summed ~= length then
    self.summed, self.sum = length, sum_of(self.head:sub(1, length))
  end
  return ("%d:%s:%d:%s:%.0f"):format(offset, self.id, length, self.sum, math.ceil(self.changed))
end

-- The first bytes of an open file. Raises.
local function head_of(self, file)
  local bytes, err = call.read(self.app, file, 0, HEAD_BYTES)
  if not bytes then error(err, 0) end
  return bytes
end

local function close_reader(self)
  if self.reader then self.reader:close() end
  self.reader, self.id, self.is_old, self.summed = nil, nil, nil, nil
end

-- Goes on in an open file.
local function enter(self, file, info, head, offset)
  if self.is_closed then return file:close() end -- Meanwhile.
  close_reader(self)
  self.reader = reader_of(self.app, self.path, file, offset, self.line_max)
  self.id, self.head, self.summed, self.changed = info.id, head, nil, info.changed
end

-- Opens a file; nil when it is not there. Raises.
local function open(self, path)
  local file, info = call.run(self.app, "open", { path = path })
  if file then return file, info end
  if info.code == "not_found" then return nil end
  error(info, 0)
end

-- Which of two rotated files is the older: .2 than .1, -20260101 than -20260102; names that are
-- numbered and dated at the same time are told apart by the time of their last change.
local function order_of(list)
  local numbered, dated, length = true, true, nil
  for _, entry in ipairs(list) do
    if not entry.is_current then
      local digits = entry.rest:match "^%.(%d+)$"
      local is_number = digits ~= nil and #digits <= NUMBER_DIGITS
      length = length or #entry.rest
      entry.number = tonumber(digits)
      numbered, dated = numbered and is_number, dated and not is_number and #entry.rest == length
    end
  end
  return function(a, b)
    if a.is_current ~= b.is_current then return b.is_current end
    if a.is_current then return false end
    if numbered then return a.number > b.number end
    if dated then return a.rest < b.rest end
    return a.info.changed < b.info.changed
  end
end

-- One look at the file and those that had its name before, the oldest first. Raises.
local function listing(self)
  local entries, err = call.run(self.app, "list", { path = self.directory,
    max = self.app.settings.fs_list_max })
  if not entries then
    if err.code == "not_found" then return {}, "" end
    error(err, 0)
  end
  local list, ids = {}, {}
  for _, info in ipairs(entries) do
    local name = info.name
    local rest = name:sub(1, #self.name) == self.name and name:sub(#self.name + 1)
    if rest and info.type == "file" and (rest == "" or rest:find(ROTATED)) then
      list[#list + 1] = { path = self.directory .. "/" .. name, info = info,
        is_current = rest == "", rest = rest }
    end
  end
  table.sort(list, order_of(list))
  for i, entry in ipairs(list) do ids[i] = entry.info.id .. entry.rest end
  return list, table.concat(ids, " ")
end

-- The same: what two looks have in common, as files may be renamed during one. Raises.
local function generations(self)
  local list, ids = listing(self)
  for _ = 1, LOOKS_MAX do
    local before = ids
    list, ids = listing(self)
    if ids == before then break end
  end
  return list
end

-- Is an open file the one of a position?
local function is_that(self, file, info, position)
  if info.size < position.offset then return false end
  local head = head_of(self, file)
  return #head >= position.length and sum_of(head:sub(1, position.length)) == position.sum, head
end

-- Takes up a position: in the file of that number, or in one that begins the same and is as long (a
-- copy of one that was truncated). False: there is none any more.
local function take_up(self, position)
  local list = generations(self)
  for _, by_id in ipairs { true, false } do
    for _, entry in ipairs(list) do
      if (entry.info.id == position.id) == by_id and (by_id or position.length >= ALIKE_BYTES) then
        local file, info = open(self, entry.path)
        local is_same, head
        if file and info.id == entry.info.id then
          is_same, head = is_that(self, file, info, position)
        end
        if is_same then
          enter(self, file, info, head, position.offset)
          self.is_old = not entry.is_current
          return true
        elseif file then
          file:close()
        end
      end
    end
  end
  return false
end

-- Begins at the beginning of the file, if there is one; with an id, if it is that one.
local function begin(self, path, id)
  local file, info = open(self, path)
  if not file then return false end
  if id and info.id ~= id then -- It was renamed just now.
    file:close()
    return false
  end
  enter(self, file, info, head_of(self, file), 0)
  return true
end

local function lost(self, position)
  self.app:say("warn", ("catga.fs.follow: the file in which %s was followed at byte %d is not "
    .. "there any more; goes on with the oldest that is younger"):format(self.path,
    position.offset))
end

-- Where to begin.
local function start(self, from)
  if from == nil then return begin(self, self.path) end
  if from == "end" then
    if begin(self, self.path) then
      local info = call.run(self.app, "stat", { path = self.path })
      if info and info.id == self.id then self.reader.offset = info.size end
    end
    return
  end
  local position = parse(from)
  if take_up(self, position) then return end
  lost(self, position)
  for _, entry in ipairs(generations(self)) do
    if entry.is_current or entry.info.changed > position.changed then
      if begin(self, entry.path, entry.info.id) then self.is_old = not entry.is_current end
      return
    end
  end
end

-- The file that came after the one that has been read to its end.
local function enter_next(self)
  local list, before = generations(self), self.id
  local place = 0
  for i, entry in ipairs(list) do
    if entry.info.id == before then place = i end
  end
  if place == 0 then -- It is gone: what is younger than what was read last comes next.
    for i, entry in ipairs(list) do
      if not entry.is_current and entry.info.changed <= self.changed then place = i end
    end
  end
  local entry = list[place + 1]
  if not entry then return false end
  if not begin(self, entry.path, entry.info.id) then return false end
  self.is_old = not entry.is_current
  return true
end

-- Does the path lead to another file, or did the file become shorter? Begins anew in such a one.
local function is_other(self)
  local info = call.run(self.app, "stat", { path = self.path })
  if not info or self.is_closed then return false end
  if info.id ~= self.id then
    self.is_old = true
    return true
  end
  local is_same = info.size >= self.reader.offset
  if is_same and (info.changed ~= self.changed or #self.head < HEAD_BYTES) then
    local head = head_of(self, self.reader.file)
    if self.is_closed then return false end
    is_same = head:sub(1, #self.head) == self.head
    if is_same and #head > #self.head then self.head, self.summed = head, nil end
  end
  if not is_same then begin(self, self.path) end
  return not is_same
end

local function pause(self)
  if self.is_closed then return end
  if not self.watch and not self.has_no_watch then
    self.watch = native.watch(self.directory)
    self.has_no_watch = not self.watch
    if self.watch then return end -- What came before it was watched is looked for first.
  end
  if not self.watch then
    tasks.wait(self.app.clock.sleep, self.app.clock, self.poll_ms)
    self.has_no_watch = false -- The directory may be there by now.
    return
  end
  repeat
    wait(self.app, self.watch, self.poll_ms)
    if self.is_closed then return end
    local changes, is_ours = self.watch:take(), false
    for _, change in ipairs(changes) do
      is_ours = is_ours or change.name:sub(1, #self.name) == self.name or change.name == ""
    end
  until is_ours or #changes == 0 -- Nothing: it was the poll.
end

-- At the end of the file. Returns the last line of one that was left without a line end; true when
-- it should have to wait and must not.
local function at_end(self, is_hasty)
  if not self.is_old then
    if is_other(self) then return end
    if is_hasty then return nil, true end
    pause(self)
    if not self.is_closed then is_other(self) end -- Before more is read of it.
    return
  end
  -- Who writes may not have noticed yet that the file has another name.
  if not self.is_waited and not is_hasty then
    self.is_waited = true
    return pause(self)
  end
  self.is_waited = nil
  local line = self.reader:rest()
  if line then self.last_position = position_of(self) end
  if enter_next(self) then return line end
  if is_hasty then return line, not line end
  pause(self)
  return line
end

-- Something was read. At the end of the file it may be of another content than what came before it:
-- the first bytes tell.
local function has_read(self, count, info)
  self.changed, self.is_waited = info.changed, nil
  if self.is_old or count >= CHUNK_BYTES and #self.head == HEAD_BYTES then return end
  local head = head_of(self, self.reader.file)
  if self.is_closed then return end
  if head:sub(1, #self.head) ~= self.head then
    begin(self, self.path)
  elseif #head > #self.head then
    self.head, self.summed = head, nil
  end
end

-- The next line, waiting for it unless in haste.
local function next_line(self, is_hasty)
  while not self.is_closed do
    if not self.reader then
      if not begin(self, self.path) then
        if is_hasty then return nil end
        pause(self)
      end
    else
      local line = self.reader:take()
      if line then return line, position_of(self) end
      local count, info = self.reader:fill()
      if self.is_closed then break end
      if not count then error(info, 0) end
      if count > 0 then
        has_read(self, count, info)
      else
        local is_over
        line, is_over = at_end(self, is_hasty)
        if line then return line, self.last_position end
        if is_over then return nil end
      end
    end
  end
end

--- Follows a file, also one that is not there yet. For ever: until close, or the end of the task
--- that began it. May yield.
---@param path string
---@param opts { from: catga.FollowPosition|"end"|nil, poll: string?, line_max: string? }?  from: a
---  position, nil: the beginning, "end": only what comes; poll: how often to look when the system
---  tells of no changes, default "1s"
---@return catga.Follower? follower
---@return catga.Error? err
function M.open(path, opts)
  local what = "catga.fs.follow"
  local app = effect(what, 3)
  call.check_path(what, path, 2)
  opts = call.check_options(what, opts, OPTIONS, 2)
  if opts.from ~= nil and opts.from ~= "end" and not parse(opts.from) then
    error(what .. ": from is a position that a loop before gave, or \"end\"", 2)
  end
  path = host.absolute(path) or path -- Where a link leads.
  local self = setmetatable({ app = app, path = path, head = "",
    directory = path:match("^(.+)/[^/]*$") or path:sub(1, 1) == "/" and "/" or ".",
    name = path:match("[^/]+$"), poll_ms = math.max(1, duration.ms(opts.poll or POLL,
      what .. ": poll")),
    line_max = opts.line_max and settings.size(opts.line_max, what .. ": line_max")
      or app.settings.fs_line_max }, Follower)
  local task = state[1]
  local ok, failure = xpcall(start, errors.catch, self, opts.from)
  if not ok then
    close_reader(self)
    return nil, failure
  end
  self.task = task
  tasks.at_end(task, self, function() self:close() end)
  return self
end

--- The next line and the position behind it; nil when it was closed. Raises what cannot be read.
--- May yield.
---@return string? line
---@return catga.FollowPosition? position
function Follower:__call()
  effect("catga.fs.follow", 3)
  return next_line(self)
end

-- Lines, the first of which is given.
local function gather(self, line, position, max)
  max = math.min(max or READ_MAX, READ_MAX)
  local lines = { line }
  while #lines < max do
    line = self.reader and self.reader:take()
    if not line then break end
    lines[#lines + 1] = line
    position = nil
  end
  return lines, position or position_of(self)
end

--- The lines that are there, at least one, and the position behind the last. May yield.
---@param max integer?  at most so many, default and most 1000
---@return string[]? lines   nil: it was closed
---@return catga.FollowPosition? position
function Follower:read(max)
  effect("follower:read", 3)
  local line, position = next_line(self)
  if line then return gather(self, line, position, max) end
end

--- The lines that are there by now, and the position behind the last. May yield.
---@param max integer?  at most so many, default and most 1000
---@return string[]? lines   nil: there is none that was not given
---@return catga.FollowPosition? position
function Follower:poll(max)
  effect("follower:poll", 3)
  local line, position = next_line(self, true)
  if line then return gather(self, line, position, max) end
end

--- Ends it; who waits for a line goes on. Harmless when repeated.
function Follower:close()
  if self.is_closed then return end
  self.is_closed = true
  tasks.at_end(self.task, self, nil)
  close_reader(self)
  if self.watch then self.watch:close() end
end

return M
