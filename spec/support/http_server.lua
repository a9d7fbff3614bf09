--- A small HTTP server on a free port of the loopback, inside the spec: what it does is decided for
--- each request, also what no proper server does.
---
---   local http_server = dofile "spec/support/http_server.lua"
---   local server = http_server.start(function(request, conn)
---     return 200, { ["X-A"] = "1" }, "hello"   -- or conn:send(raw), then nothing
---   end)
---   server.url                -- "http://127.0.0.1:43210"
---   server.requests           -- { method, path, headers, body } of all so far
---   server.accepted, server.open  -- connections so far, and now
---   server:stop()
local ffi = require "ffi"
local clocks = require "catga.native.clock"
local native_task = require "catga.native.task"

pcall(ffi.cdef, [[
  struct catga_spec_in { uint16_t family; uint16_t port; uint32_t address; uint8_t zero[8]; };
  struct catga_spec_un { uint16_t family; char path[108]; };
  int socket(int domain, int type, int protocol);
  int bind(int fd, const void *address, uint32_t size);
  int listen(int fd, int backlog);
  int accept4(int fd, void *address, uint32_t *size, int flags);
  int getsockname(int fd, void *address, uint32_t *size);
  int setsockopt(int fd, int level, int name, const void *value, uint32_t size);
  ssize_t recv(int fd, void *bytes, size_t size, int flags);
  ssize_t send(int fd, const void *bytes, size_t size, int flags);
  int close(int fd);
  int unlink(const char *path);
]])

local M = {}

local AF_UNIX, AF_INET, STREAM, NONBLOCK, CLOEXEC = 1, 2, 1, 0x800, 0x80000
local SOL_SOCKET, SO_LINGER, NOSIGNAL = 1, 13, 0x4000
local EAGAIN = 11

local Server = {}
Server.__index = Server
local Conn = {}
Conn.__index = Conn

local function swap(port) return bit.rshift(bit.bswap(port), 16) end

local function nap(server) server.clock:sleep(1) end

-- More bytes of the connection; false when the peer has closed it.
local function receive(conn)
  local buffer = conn.server.buffer
  while not conn.is_closed and not conn.server.is_stopped do
    local count = tonumber(ffi.C.recv(conn.fd, buffer, 65536, 0))
    if count > 0 then
      conn.input = conn.input .. ffi.string(buffer, count)
      return true
    end
    if count == 0 or ffi.errno() ~= EAGAIN then return false end
    nap(conn.server)
  end
  return false
end

--- Sends bytes as they are.
function Conn:send(bytes)
  while #bytes > 0 and not self.is_closed and not self.server.is_stopped do
    local count = tonumber(ffi.C.send(self.fd, bytes, #bytes, NOSIGNAL))
    if count > 0 then
      bytes = bytes:sub(count + 1)
    elseif ffi.errno() ~= EAGAIN then
      return self:close()
    else
      nap(self.server)
    end
  end
end

--- Waits in real time.
function Conn:sleep(ms)
  local due = self.server.clock:mono() + ms
  while self.server.clock:mono() < due and not self.server.is_stopped do nap(self.server) end
end

--- Waits until the peer closes the connection.
function Conn:await_close()
  while receive(self) do end
  self:close()
end

function Conn:close()
  if self.is_closed then return end
  self.is_closed = true
  self.server.open = self.server.open - 1
  ffi.C.close(self.fd)
end

--- Closes it so that the peer gets "connection reset".
function Conn:reset()
  local linger = ffi.new("int[2]", 1, 0)
  ffi.C.setsockopt(self.fd, SOL_SOCKET, SO_LINGER, linger, 8)
  self:close()
end

local function read_line(conn)
  while true do
    local line, rest = conn.input:match("^(.-)\r\n(.*)$")
    if line then
      conn.input = rest
      return line
    end
    if not receive(conn) then return nil end
  end
end

local function read_bytes(conn, count)
  while #conn.input < count do
    if not receive(conn) then return nil end
  end
  local bytes = conn.input:sub(1, count)
  conn.input = conn.input:sub(count + 1)
  return bytes
end

local function read_chunked(conn)
  local parts = {}
  while true do
    local size = tonumber(read_line(conn) or "", 16)
    if not size then return nil end
    local part = read_bytes(conn, size)
    if not part or not read_line(conn) then return nil end
    if size == 0 then return table.concat(parts), parts end
    parts[#parts + 1] = part
  end
end

-- The next request; `body` reads the body unless the server reads it lazily.
local function read_request(conn)
  local line = read_line(conn)
  if not line then return nil end
  local request = { headers = {}, lines = {} }
  request.method, request.path = line:match("^(%S+) (%S+)")
  while true do
    line = read_line(conn)
    if not line then return nil end
    if line == "" then break end
    request.lines[#request.lines + 1] = line
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    request.headers[name:lower()] = value
  end
  return request
end

local function read_body(conn, request)
  if request.headers["transfer-encoding"] == "chunked" then
    request.body, request.chunks = read_chunked(conn)
  else
    request.body = read_bytes(conn, tonumber(request.headers["content-length"] or 0))
  end
  return request.body ~= nil
end

local function answer(conn, request, status, headers, body)
  local lines = { ("HTTP/1.1 %d Status"):format(status) }
  body = body or ""
  for name, value in pairs(headers or {}) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      lines[#lines + 1] = name .. ": " .. one
    end
  end
  lines[#lines + 1] = "Content-Length: " .. #body
  if request.method == "HEAD" or status == 204 or status == 304 then body = "" end
  conn:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. body)
end

local function serve(server, conn)
  if server.is_raw then server.handle(nil, conn) end
  while not server.is_stopped and not conn.is_closed do
    local request = read_request(conn)
    if not request then break end
    server.requests[#server.requests + 1] = request
    if not server.is_lazy and not read_body(conn, request) then break end
    local status, headers, body = server.handle(request, conn)
    if status then answer(conn, request, status, headers, body) end
  end
  conn:close()
  server.tasks = server.tasks - 1
end

local function accept(server)
  while not server.is_stopped do
    local fd = ffi.C.accept4(server.fd, nil, nil, NONBLOCK + CLOEXEC)
    if fd >= 0 then
      server.accepted, server.open = server.accepted + 1, server.open + 1
      server.tasks = server.tasks + 1
      native_task.spawn(serve, server, setmetatable({ fd = fd, server = server, input = "" }, Conn))
    else
      nap(server)
    end
  end
  server.tasks = server.tasks - 1
end

--- Starts a server.
---@param handle fun(request: table, conn: table): integer?, table?, string?
---@param opts { unix: string?, lazy: boolean?, raw: boolean? }?  unix: path of a socket; lazy: the
---  body is not read; raw: `handle` is called for a new connection before anything is read
function M.start(handle, opts)
  opts = opts or {}
  local server = setmetatable({ handle = handle, requests = {}, accepted = 0, open = 0, tasks = 1,
    clock = clocks.system(), buffer = ffi.new "char[65536]", is_lazy = opts.lazy,
    is_raw = opts.raw,
    unix = opts.unix }, Server)
  local domain = opts.unix and AF_UNIX or AF_INET
  server.fd = ffi.C.socket(domain, STREAM + NONBLOCK + CLOEXEC, 0)
  assert(server.fd >= 0, "socket")
  local address = ffi.new(opts.unix and "struct catga_spec_un" or "struct catga_spec_in")
  address.family = domain
  if opts.unix then
    ffi.copy(address.path, opts.unix)
  else
    address.address = 0x0100007f
  end
  assert(ffi.C.bind(server.fd, address, ffi.sizeof(address)) == 0, "bind")
  assert(ffi.C.listen(server.fd, 128) == 0, "listen")
  local size = ffi.new("uint32_t[1]", ffi.sizeof(address))
  ffi.C.getsockname(server.fd, address, size)
  if not opts.unix then
    server.port = swap(address.port)
    server.url = "http://127.0.0.1:" .. server.port
  end
  native_task.spawn(accept, server)
  return server
end

--- Stops it; waits until its tasks have ended.
function Server:stop()
  self.is_stopped = true
  native_task.busy(1) -- The app that waits for this must not think that nothing will come.
  while self.tasks > 0 do nap(self) end
  native_task.busy(-1)
  ffi.C.close(self.fd)
  if self.unix then ffi.C.unlink(self.unix) end
  self.clock:close()
end

return M
