--- catga.fs: files read, written, listed and watched while the task waits.
local testing = require "catga.testing"
local clocks = require "catga.native.clock"
local native_task = require "catga.native.task"
local state = require "catga.state"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local app, dir
local function open(define, opts) app = assert(testing.app(define or function() end, opts)) end
before_each(function() dir = app_dir.new {} end)
after_each(function()
  app:stop()
  app_dir.remove_all()
end)
local function run(fn) return app:call(fn) end

local function raw_read(name)
  local file = io.open(dir .. "/" .. name, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

local function shell(command)
  local pipe = io.popen(command)
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function wait_until(fn)
  native_task.busy(1)
  local system = clocks.system()
  while not fn() do system:sleep(1) end
  system:close()
  native_task.busy(-1)
end

describe("catga.fs", function()
  it("writes a file whole, keeps its permissions, and leaves nothing else behind", function()
    open()
    run(function()
      local path = dir .. "/a.txt"
      assert.is_true(catga.fs.write(path, "one\0two"))
      assert.equal("one\0two", raw_read "a.txt")
      assert.equal("one\0two", catga.fs.read(path))
      assert(catga.fs.write(path, "", { mode = "600" }))
      assert.equal("600", assert(catga.fs.stat(path)).mode)
      assert(catga.fs.write(path, "x"))
      assert.equal("600", assert(catga.fs.stat(path)).mode)
      shell(("ln -s a.txt %s/link"):format(dir))
      assert(catga.fs.write(dir .. "/link", "by the link"))
      assert.equal("by the link", raw_read "a.txt")
      assert.equal("link", assert(catga.fs.stat(dir .. "/link", { link = true })).type)
      local ok, err = catga.fs.write(dir .. "/no/such/place", "x")
      assert.is_nil(ok)
      assert.equal("not_found", err.code)
    end)
    assert.equal("a.txt\nlink\n", shell("ls -A " .. dir))
  end)

  it("appends, says what is there, and what is not", function()
    open()
    run(function()
      local path = dir .. "/log"
      assert.is_false(catga.fs.exists(path))
      assert(catga.fs.append(path, "a\n"))
      assert(catga.fs.append(path, "b\n", { sync = true }))
      assert.equal("a\nb\n", catga.fs.read(path))
      assert.is_true(catga.fs.exists(path))
      local info = assert(catga.fs.stat(path))
      assert.same({ "file", 4 }, { info.type, info.size })
      assert.is_true(math.abs(info.changed / 1000 - os.time()) < 60)
      local none, err = catga.fs.stat(dir .. "/none")
      assert.is_nil(none)
      assert.equal("not_found", err.code)
      none, err = catga.fs.exists(path .. "/below")
      assert.is_nil(none)
      assert.equal("io_error", err.code)
    end)
  end)

  it("lists, makes, removes, renames and copies", function()
    open()
    run(function()
      assert(catga.fs.mkdir(dir .. "/x/y/z", { parents = true }))
      assert(catga.fs.mkdir(dir .. "/x/y/z", { parents = true }))
      local ok, err = catga.fs.mkdir(dir .. "/x")
      assert.is_nil(ok)
      assert.equal("exists", err.code)
      assert(catga.fs.write(dir .. "/x/b", "b", { mode = "640" }))
      assert(catga.fs.copy(dir .. "/x/b", dir .. "/x/a"))
      assert.equal("640", assert(catga.fs.stat(dir .. "/x/a")).mode)
      assert(catga.fs.rename(dir .. "/x/b", dir .. "/x/c"))
      local got = {}
      for name, kind in assert(catga.fs.list(dir .. "/x")) do
        got[#got + 1] = name .. " " .. kind
      end
      assert.same({ "a file", "c file", "y directory" }, got)
      ok, err = catga.fs.list(dir .. "/none")
      assert.is_nil(ok)
      assert.equal("not_found", err.code)
      ok = catga.fs.remove(dir .. "/x")
      assert.is_nil(ok)
      shell(("mkdir %s/kept && touch %s/kept/f && ln -s %s/kept %s/x/y/link"):format(dir, dir, dir,
        dir))
      assert.is_true(catga.fs.remove(dir .. "/x", { recursive = true }))
      assert.is_false(catga.fs.remove(dir .. "/x", { recursive = true }))
      assert.equal("", raw_read "kept/f") -- Links are removed, not followed.
      local file = assert(catga.fs.temp { inside = dir, prefix = "t-" })
      assert.truthy(file:find(dir .. "/t-", 1, true))
      assert.equal(0, assert(catga.fs.stat(file)).size)
      assert.equal("directory", assert(catga.fs.stat(assert(catga.fs.temp { directory = true,
        inside = dir }))).type)
    end)
  end)

  it("has bounds", function()
    open(nil, { settings = { fs_read_max = "10B", fs_list_max = 2, fs_calls_max = 2 } })
    run(function()
      assert(catga.fs.write(dir .. "/a", ("x"):rep(11)))
      local text, err = catga.fs.read(dir .. "/a")
      assert.is_nil(text)
      assert.equal("limit", err.code)
      assert.equal(11, #assert(catga.fs.read(dir .. "/a", { max = "11B" })))
      assert(catga.fs.write(dir .. "/b", ""))
      assert(catga.fs.list(dir))
      assert(catga.fs.write(dir .. "/c", ""))
      text, err = catga.fs.list(dir)
      assert.is_nil(text)
      assert.equal("limit", err.code)
      local handles, codes = {}, {}
      for n = 1, 3 do
        handles[n] = catga.spawn(function()
          local info, failure = catga.fs.stat(dir)
          return info and "ok" or failure.code
        end)
      end
      for n = 1, 3 do codes[n] = handles[n]:wait() end
      assert.same({ "ok", "ok", "limit" }, codes)
      text, err = catga.fs.read(dir)
      assert.is_nil(text)
      assert.equal("invalid", err.code)
      shell("mkfifo " .. dir .. "/pipe")
      text, err = catga.fs.read(dir .. "/pipe")
      assert.is_nil(text)
      assert.equal("invalid", err.code)
    end)
  end)

  it("gives the lines of a file with offsets to go on from", function()
    open(nil, { settings = { fs_line_max = "100KiB" } })
    run(function()
      local parts = {}
      for n = 1, 20000 do parts[n] = "line " .. n end
      local path = dir .. "/big"
      assert(catga.fs.write(path, table.concat(parts, "\n")))
      local n, middle = 0, nil
      for line, offset in assert(catga.fs.lines(path)) do
        n = n + 1
        assert(line == parts[n])
        if n == 12345 then middle = offset end
      end
      assert.equal(20000, n)
      local lines = assert(catga.fs.lines(path, { from = middle }))
      assert.equal("line 12346", (lines:read()))
      lines:close()
      assert.is_nil((lines:read()))
      assert(catga.fs.write(path, "a\n\nb\n"))
      local got = {}
      for line, offset in assert(catga.fs.lines(path)) do got[#got + 1] = line .. offset end
      assert.same({ "a2", "3", "b5" }, got)
      assert(catga.fs.write(path, "ok\n" .. ("x"):rep(300 * 1024)))
      local ok, err = pcall(function() for _ in assert(catga.fs.lines(path)) do end end)
      assert.is_false(ok)
      assert.equal("too_large", err.code)
      assert.truthy(err.message:find("at byte 3", 1, true))
    end)
  end)

  it("tells of changes in a directory, until it is closed", function()
    open()
    local seen, watcher = {}, nil
    catga.spawn(function()
      watcher = assert(catga.fs.watch(dir))
      for change in watcher:changes() do
        seen[change.name] = seen[change.name] or change -- Then it may be written to.
      end
      seen.over = true
    end)
    wait_until(function() return watcher end)
    assert(catga.fs.append(dir .. "/a", "x"))
    wait_until(function() return seen.a end)
    assert.is_true(seen.a.renamed) -- It has come.
    assert(catga.fs.rename(dir .. "/a", dir .. "/b"))
    wait_until(function() return seen.b end)
    watcher:close()
    wait_until(function() return seen.over end)
    run(function()
      local own = assert(catga.fs.watch(dir))
      local none, err = own:next "5s"
      assert.is_nil(none)
      assert.equal("timeout", err.code)
      own:close()
      none, err = catga.fs.watch(dir .. "/none")
      assert.is_nil(none)
      assert.equal("not_found", err.code)
    end)
  end)

  it("refuses what is no path or option", function()
    open()
    run(function()
      for _, path in ipairs { "", "a\0b", ("x"):rep(5000), 5, false } do
        local ok, failure = pcall(function()
          local text = catga.fs.read(path)
          return text
        end)
        assert.is_false(ok)
        assert.truthy(failure:find("fs_spec.lua", 1, true))
      end
      assert.has_error(function() catga.fs.write(dir .. "/a", 5) end)
      assert.has_error(function() catga.fs.write(dir .. "/a", "x", { mode = 640 }) end)
      assert.has_error(function() catga.fs.read(dir .. "/a", { maximum = "1B" }) end)
      assert.has_error(function() catga.fs.follow(dir .. "/a", { from = 7 }) end)
    end)
  end)

  it("is refused in the body of a process, may be used in its steps, ends with them", function()
    open(function()
      local P = catga.process "Files"
      function P:execute(input)
        if input.body then
          local text = catga.fs.read(input.path)
          return text
        end
        return self:work(input.path)
      end
      P.settings = { work = { timeout = "1s", attempts = 1 } }
      function P:work(path)
        if path:find "follow" then
          for _ in assert(catga.fs.follow(path)) do end
        end
        assert(catga.fs.write(path, "from a step"))
        return catga.fs.read(path)
      end
    end)
    local value, err = app:run("Files", { id = "1", path = dir .. "/a", body = true })
    assert.is_nil(value)
    assert.truthy(err.message:find("catga.fs.read in the body of a process", 1, true))
    assert.equal("from a step", app:run("Files", { id = "2", path = dir .. "/a" }))
    value, err = app:run("Files", { id = "3", path = dir .. "/follow" })
    assert.is_nil(value)
    assert.equal("timeout", err.code)
  end)

  it("does what was begun when its task is dropped, and lets go of everything", function()
    open()
    for n = 1, 20 do
      local task
      catga.spawn(function()
        task = state[1]
        catga.fs.write(dir .. "/" .. n, ("x"):rep(100000))
        catga.fs.lines(dir .. "/" .. n):read()
      end)
      native_task.yield()
      if n % 2 == 0 then native_task.yield() end
      native_task.drop(task)
    end
    app:settle()
    for name in shell("ls -A " .. dir):gmatch "[^\n]+" do
      assert.is_nil(name:find "^%.catga")
      assert.equal(100000, #raw_read(name))
    end
  end)
end)
