--- catga.fs.follow: each line of a growing file once, over rotation, truncation and restarts.
local testing = require "catga.testing"
local clocks = require "catga.native.clock"
local native_task = require "catga.native.task"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local app, dir, path
local followers = {}
before_each(function()
  dir = app_dir.new {}
  path = dir .. "/app.log"
  app = assert(testing.app(function() end))
end)
after_each(function()
  for _, follower in ipairs(followers) do follower:close() end
  followers = {}
  app:stop()
  app_dir.remove_all()
end)

local function write(name, text, mode)
  local file = assert(io.open(dir .. "/" .. name, mode or "ab"))
  file:write(text)
  file:close()
end

local function lines_of(first, last)
  local list = {}
  for n = first, last do list[#list + 1] = ("2026-01-01 line %06d\n"):format(n) end
  return table.concat(list)
end

-- Times of files differ, as they do when they are rotated over days.
local function age(name, days)
  os.execute(("touch -d '2026-01-%02d' %s/%s"):format(20 - days, dir, name))
end

-- Follows in a task; `seen` has the lines, `at` the position behind each.
local function follow(opts)
  local f = { seen = {}, at = {} }
  f.follower = assert(catga.fs.follow(path, opts))
  followers[#followers + 1] = f.follower
  catga.spawn(function()
    for line, position in f.follower do
      f.seen[#f.seen + 1], f.at[#f.at + 1] = line, position
    end
    f.is_over = true
  end)
  return f
end

-- Lets it see what is there, by polls and by what the system tells.
local function look(f, count)
  native_task.busy(1)
  local system = clocks.system()
  local tries = 0
  repeat
    system:sleep(1)
    native_task.yield()
    for _ = 1, 3 do
      local ms = app.clock:next()
      if ms then
        app.clock:advance(ms)
        app.clock:fire()
      end
      system:sleep(1)
    end
    tries = tries + 1
  until #f.seen >= count or f.is_over or tries > 300
  system:close()
  native_task.busy(-1)
end

local function numbers(f)
  local list = {}
  for i, line in ipairs(f.seen) do list[i] = tonumber(line:match "(%d+)$") or line end
  return list
end

local function range(first, last)
  local list = {}
  for n = first, last do list[#list + 1] = n end
  return list
end

describe("catga.fs.follow", function()
  it("waits for the file, gives whole lines as they come", function()
    local f = follow()
    write("app.log", lines_of(1, 2) .. "half ")
    look(f, 2)
    assert.same(range(1, 2), numbers(f))
    write("app.log", "and half 3\n")
    look(f, 3)
    assert.equal("half and half 3", f.seen[3])
    f.follower:close()
    look(f, 99)
    assert.is_true(f.is_over)
  end)

  it("is told by the system, without a poll", function()
    write("app.log", lines_of(1, 1))
    local f = follow()
    native_task.busy(1)
    local system = clocks.system()
    while #f.seen < 1 do system:sleep(1) end
    system:sleep(20) -- It waits for the system by now.
    write("app.log", lines_of(2, 2))
    while #f.seen < 2 do system:sleep(1) end
    system:close()
    native_task.busy(-1)
    assert.same(range(1, 2), numbers(f))
  end)

  it("goes on at each position that it gave", function()
    write("app.log", lines_of(1, 50))
    local f = follow()
    look(f, 50)
    f.follower:close()
    for n = 1, 50 do
      local again = follow { from = f.at[n] }
      look(again, 50 - n)
      assert.same(range(n + 1, 50), numbers(again))
      again.follower:close()
    end
    local only_new = follow { from = "end" }
    write("app.log", lines_of(51, 51))
    look(only_new, 1)
    assert.same({ 51 }, numbers(only_new))
  end)

  it("gives many lines at once", function()
    write("app.log", lines_of(1, 2500))
    app:call(function()
      local follower = assert(catga.fs.follow(path))
      local seen, position, lines = 0
      repeat
        lines, position = follower:read(300)
        assert.is_true(#lines <= 300)
        seen = seen + #lines
      until seen == 2500
      follower:close()
      write("app.log", lines_of(2501, 2501))
      follower = assert(catga.fs.follow(path, { from = position }))
      assert.equal("2026-01-01 line 002501", follower:read()[1])
      assert.is_nil(follower:poll())
      os.rename(path, path .. ".1")
      assert.is_nil(follower:poll())
      write("app.log", lines_of(2502, 2503))
      assert.equal(2, #follower:poll())
      assert.is_nil(follower:poll())
    end)
  end)

  it("reads a rotated file to its end, also what is written to it late", function()
    write("app.log", lines_of(1, 3))
    local f = follow()
    look(f, 3)
    write("app.log", lines_of(4, 5))
    os.rename(path, path .. ".1")
    write("app.log", lines_of(7, 8))
    write("app.log.1", lines_of(6, 6))
    look(f, 8)
    assert.same(range(1, 8), numbers(f))
    write("app.log.1", "no line end")
    os.rename(path .. ".1", path .. ".2")
    os.rename(path, path .. ".1")
    write("app.log", lines_of(9, 9))
    look(f, 9)
    assert.same(range(1, 9), numbers(f))
  end)

  it("gives the last line of a rotated file that has no line end", function()
    write("app.log", lines_of(1, 1) .. "the end")
    local f = follow()
    look(f, 1)
    os.rename(path, path .. ".1")
    write("app.log", lines_of(2, 2))
    look(f, 3)
    assert.same({ 1, "the end", 2 }, numbers(f))
    for n = 1, 3 do
      local again = follow { from = f.at[n] }
      look(again, 3 - n)
      assert.equal(3 - n, #again.seen)
      again.follower:close()
    end
  end)

  it("begins anew in a file that was truncated, or written anew", function()
    write("app.log", lines_of(1, 5))
    local f = follow()
    look(f, 5)
    write("app.log", lines_of(6, 7), "wb")
    look(f, 7)
    assert.same(range(1, 7), numbers(f))
    write("app.log", lines_of(8, 99), "wb") -- Longer than it was.
    look(f, 99)
    assert.same(range(1, 99), numbers(f))
  end)

  it("finds its place after any number of rotations while it was away", function()
    local all = 100
    write("app.log", lines_of(1, 20))
    local f = follow()
    look(f, 20)
    local kept = f.at
    f.follower:close()
    age("app.log", 9)
    os.rename(path, path .. ".3")
    write("app.log.2", lines_of(21, 40))
    age("app.log.2", 8)
    write("app.log.1", lines_of(41, 60))
    age("app.log.1", 7)
    write("app.log", lines_of(61, all))
    for _, n in ipairs { 1, 7, 20 } do
      local again = follow { from = kept[n] }
      look(again, all - n)
      assert.same(range(n + 1, all), numbers(again))
      again.follower:close()
    end
    assert.same({}, app.lines)
  end)

  it("finds its place in the copy of a file that was truncated", function()
    write("app.log", lines_of(1, 20))
    local f = follow()
    look(f, 20)
    f.follower:close()
    write("app.log", lines_of(21, 30))
    os.execute(("cp %s %s.1 && : >%s"):format(path, path, path))
    write("app.log", lines_of(31, 35))
    local again = follow { from = f.at[15] }
    look(again, 20)
    assert.same(range(16, 35), numbers(again))
  end)

  it("says when its place is gone, and gives all that is younger", function()
    write("app.log", lines_of(1, 20))
    local f = follow()
    look(f, 20)
    f.follower:close()
    os.remove(path)
    write("app.log.2", lines_of(900, 901))
    age("app.log.2", 15)
    write("app.log", lines_of(21, 25))
    local again = follow { from = f.at[5] }
    look(again, 5)
    assert.same(range(21, 25), numbers(again))
    assert.truthy(app.lines[1]:find("is not there any more", 1, true))
    again.follower:close()
    os.remove(path)
    os.remove(path .. ".2")
    again = follow { from = f.at[5] } -- There is nothing at all.
    write("app.log", lines_of(26, 26))
    look(again, 1)
    assert.same({ 26 }, numbers(again))
  end)

  it("is not led astray by files whose names only look alike", function()
    write("app.log", lines_of(1, 3))
    write("app.log.lock", "lock\n")
    write("app.log.backup", lines_of(800, 801))
    write("app.logger", lines_of(810, 811))
    write("app.log.2.gz", "packed\n")
    local f = follow()
    look(f, 3)
    os.rename(path, path .. "-20260101")
    write("app.log", lines_of(4, 4))
    look(f, 4)
    assert.same(range(1, 4), numbers(f))
  end)

  it("sees each line once, whatever comes in between", function()
    math.randomseed(7)
    write("app.log", lines_of(1, 1))
    local written, f, last = 1, follow(), nil
    local seen = {}
    look(f, 1)
    for round = 1, 40 do
      local count = math.random(0, 30)
      write("app.log", lines_of(written + 1, written + count))
      written = written + count
      local what = math.random(4)
      if what == 1 then look(f, math.random(0, #f.seen + count)) end
      if what == 2 then
        os.execute(("cd %s; for n in $(seq 40 -1 1); do [ -e app.log.$n ] && mv app.log.$n "
          .. "app.log.$((n+1)); done; [ -e app.log ] && mv app.log app.log.1; true"):format(dir))
      end
      if what == 3 or round == 40 then -- A restart, at the last position that was stored.
        f.follower:close()
        for _, n in ipairs(numbers(f)) do seen[#seen + 1] = n end
        last = f.at[#f.at] or last
        f = follow { from = last }
      end
    end
    look(f, written - #seen)
    for _, n in ipairs(numbers(f)) do seen[#seen + 1] = n end
    assert.same(range(1, written), seen)
  end)
end)
