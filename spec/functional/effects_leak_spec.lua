--- What reaches outside lets go of everything: descriptors, programs, also when tasks are dropped.
local testing = require "catga.testing"
local host = require "catga.native.host"
local native_task = require "catga.native.task"
local clocks = require "catga.native.clock"
local state = require "catga.state"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"
local http_server = dofile "spec/support/http_server.lua"

local function wait_until(fn)
  native_task.busy(1)
  local system = clocks.system()
  local tries = 0
  while not fn() and tries < 5000 do
    system:sleep(1)
    tries = tries + 1
  end
  system:close()
  native_task.busy(-1)
end

-- Descriptors that are open, and programs that run or wait to be asked for.
local function counts()
  for _ = 1, 3 do collectgarbage() end
  local fds, children = #assert(host.list "/proc/self/fd"), 0
  local file = io.open "/proc/self/task/self/children"
  if not file then
    local pid = io.open("/proc/self/stat"):read "*n"
    file = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  end
  if file then
    for _ in file:read "*a":gmatch "%d+" do children = children + 1 end
    file:close()
  end
  return fds, children
end

local function drop(fn, rounds)
  local task
  catga.spawn(function()
    task = state[1]
    fn()
  end)
  for _ = 1, rounds do native_task.yield() end
  if task then native_task.drop(task) end
end

-- Uses everything, well and badly.
local function use(dir, server, rounds)
  local path = dir .. "/f"
  assert(catga.fs.write(path, "a\nb\n"))
  catga.fs.read(dir .. "/none")
  local lines = assert(catga.fs.lines(path))
  lines:read()
  catga.spawn(function() assert(catga.fs.follow(path))() end):wait()
  catga.spawn(function() assert(catga.fs.watch(dir)) end):wait()
  catga.http.get(server.url)
  catga.http.get "http://127.0.0.1:1/"
  catga.spawn(function() catga.http.get(server.url, { stream = true }):read() end):wait()
  catga.process_run { "true" }
  catga.process_run { "/none" }
  drop(function() catga.http.get(server.url .. "/hang") end, rounds)
  drop(function() catga.process_run { "sleep", "100" } end, rounds)
  drop(function() for _ in assert(catga.fs.follow(path)) do end end, rounds)
  drop(function() catga.fs.read(path) end, rounds)
  drop(function() assert(catga.fs.watch(dir)):next() end, rounds)
  drop(function() for _ in assert(catga.fs.lines(path)) do end end, rounds)
end

describe("effects", function()
  it("leave no descriptor and no program behind", function()
    local dir = app_dir.new {}
    local server = http_server.start(function(request, conn)
      if request.path == "/hang" then return conn:await_close() end
      return 200, {}, "x"
    end)
    local before
    for round = 1, 6 do
      local app = assert(testing.app(function() end))
      use(dir, server, round)
      app:stop()
      wait_until(function() return server.open == 0 end)
      wait_until(function() return select(2, counts()) == 0 end)
      local fds = counts()
      if round == 1 then before = fds end -- The first opens what the program keeps.
      assert.equal(before, fds)
    end
    server:stop()
    app_dir.remove_all()
  end)
end)
