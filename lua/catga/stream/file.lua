--- A file that a stream writes: one JSON document a line.
---
--- A durable stream writes the lines of a commit and syncs the file before the commit, and keeps
--- in its state how long the file is. After a kill the file is cut to that length: so each line is
--- there once. The file belongs to the stream: nobody else may write to it.
local ffi = require "ffi"
local errors = require "catga.error"

local M = {}

local O_RDWR, O_CREAT, O_CLOEXEC = 2, 64, 524288
local MODE = 420          -- 0644
local SEEK_END = 2
local BUFFER_BYTES = 64 * 1024 -- Of a stream that is not durable.

local C -- Functions of the C library, declared at the first use.

local function library()
  if C then return C end
  ffi.cdef [[
    int catga_stream_open(const char *path, int flags, ...) __asm__("open");
    ssize_t catga_stream_pwrite(int fd, const void *bytes, size_t size, int64_t offset)
      __asm__("pwrite");
    int64_t catga_stream_lseek(int fd, int64_t offset, int whence) __asm__("lseek");
    int catga_stream_ftruncate(int fd, int64_t size) __asm__("ftruncate");
    int catga_stream_fdatasync(int fd) __asm__("fdatasync");
    int catga_stream_close(int fd) __asm__("close");
    char *catga_stream_strerror(int code) __asm__("strerror");
  ]]
  C = { open = ffi.C.catga_stream_open, pwrite = ffi.C.catga_stream_pwrite,
    lseek = ffi.C.catga_stream_lseek, ftruncate = ffi.C.catga_stream_ftruncate,
    fdatasync = ffi.C.catga_stream_fdatasync, close = ffi.C.catga_stream_close,
    strerror = ffi.C.catga_stream_strerror }
  return C
end

---@class catga.StreamFile
---@field size integer     bytes that are in the file and belong to it
---@field lines string[]   not written yet
local File = {}
File.__index = File

--- A file, not open yet.
---@param app catga.App
---@param node table
---@param is_durable boolean
---@return catga.StreamFile
function M.new(app, node, is_durable)
  local path = node.to.file
  if path:sub(1, 1) ~= "/" and app.dir then path = app.dir .. "/" .. path end
  return setmetatable({ path = path, node = node, is_durable = is_durable, fd = -1, size = nil,
    lines = {}, bytes = 0 }, File)
end

local function fail(self, what)
  error(errors.new("io_error", ("stream:to (%s): %s %s: %s"):format(self.node.at, what, self.path,
    ffi.string(library().strerror(ffi.errno()))), { retryable = true }), 0)
end

local function open(self)
  if self.fd >= 0 then return end
  local flags = bit.bor(O_RDWR, O_CREAT, O_CLOEXEC)
  self.fd = library().open(self.path, flags, ffi.cast("int", MODE))
  if self.fd < 0 then fail(self, "open") end
  local length = tonumber(C.lseek(self.fd, 0, SEEK_END))
  self.size = self.size or length
  if length < self.size then
    error(errors.new("corrupt", ("stream:to (%s): %s has %d bytes, but the stream has written %d; "
      .. "bring the file back, or reset the stream"):format(self.node.at, self.path, length,
      self.size)), 0)
  end
  if length > self.size and C.ftruncate(self.fd, self.size) ~= 0 then fail(self, "cut") end
end

--- Adds a line.
---@param text string
function File:write(text)
  self.lines[#self.lines + 1] = text
  self.bytes = self.bytes + #text + 1
  if not self.is_durable and self.bytes >= BUFFER_BYTES then self:put() end
end

--- Writes the lines that wait. Raises.
function File:put()
  if #self.lines == 0 then return end
  open(self)
  local text = table.concat(self.lines, "\n") .. "\n"
  local at = 0
  while at < #text do
    local n = tonumber(C.pwrite(self.fd, ffi.cast("const char *", text) + at, #text - at,
      self.size + at))
    if n < 0 then fail(self, "write") end
    at = at + n
  end
  self.size, self.lines, self.bytes = self.size + #text, {}, 0
  self.is_changed = true
end

--- Before a commit: what the commit speaks of is on the disk.
function File:sync()
  self:put()
  if self.is_changed and C.fdatasync(self.fd) ~= 0 then fail(self, "sync") end
end

--- The end of a batch.
function File:pass() if not self.is_durable then self:put() end end

function File:reset()
  self:close()
  self.size, self.lines, self.bytes, self.is_changed = nil, {}, 0, nil
end

function File:changes(add)
  if self.is_changed then self:dump(add) end
  self.is_changed = nil
end

function File:dump(add)
  open(self)
  add(("[%d,\"f\",null,%.17g]"):format(self.node.id, self.size))
end

function File:load(size) self.size = size end

function File:close()
  if self.fd >= 0 then C.close(self.fd) end
  self.fd = -1
end

return M
