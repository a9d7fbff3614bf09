--- Attacks through the log: one that fails, one that is behind, values that are too large, scripts
--- that go away; each spec tries to have something acknowledged that is not durable, to lose
--- something that was acknowledged, or to leave somebody waiting for ever.
local testing = require "catga.testing"
local catga = require "catga"
local tasks = require "catga.native.task"
local ffi = require "ffi"

ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
ffi.cdef "int unsetenv(const char *name);"

local DAY = "24h"

-- A new directory; who takes it removes it.
local function new_directory()
  local path = os.tmpname()
  os.remove(path)
  os.execute("mkdir -p " .. path)
  return path
end

local function definition(define)
  return function() define(catga.process "P") end
end

local function app_of(define, opts) return assert(testing.app(definition(define), opts)) end

describe("a log that fails at any sync or write", function()
  local begun -- How often each step began, over all lives.

  local function define()
    catga.command("Note", function(note)
      return catga.events.append("Notes", { { type = "Noted", data = note } })
    end)
    local P = catga.process "P"
    P.settings = { last = { attempts = 2, backoff = "1s" } }
    function P:execute()
      self:first()
      pcall(self.send, self, "Note", { by = self.id })
      self:sleep("1s")
      pcall(self.last, self)
      return self.id
    end
    local function begins(name, self) begun[self.id .. name] = (begun[self.id .. name] or 0) + 1 end
    function P:first() begins("first", self) end
    function P:compensate_first() begins("undo", self) end
    function P:last()
      begins("last", self)
      error("fails twice")
    end
  end

  -- Works until the log fails; what was acknowledged.
  local function live(app)
    local acknowledged = { notes = 0, processes = {} }
    local pending = 0
    local function work(fn)
      pending = pending + 1
      catga.spawn(function()
        fn()
        pending = pending - 1
      end)
    end
    for n = 1, 3 do
      work(function()
        local id = "p" .. n
        if catga.start("P", id) then acknowledged.processes[id] = "started" end
        if catga.run("P", id) then acknowledged.processes[id] = "completed" end
      end)
      work(function()
        for i = 1, 4 do
          if catga.send("Note", { n = n * 10 + i }) then
            acknowledged.notes = acknowledged.notes + 1
          end
        end
      end)
    end
    app:advance(DAY)
    return acknowledged, pending
  end

  local function read_notes()
    local count = 0
    for _, note in ipairs(catga.events.read("Notes")) do
      if note.data.n then count = count + 1 end
    end
    return count
  end

  local function last_record(app, id)
    local records = app:journal(id)
    return records[#records].id
  end

  local function attack(fault)
    local dir = new_directory()
    begun = {}
    ffi.C.setenv("CATGA_FAULT", fault, 1)
    local app = testing.app(define, { data = dir })
    ffi.C.unsetenv("CATGA_FAULT")
    if not app then
      os.execute("rm -rf " .. dir)
      return false
    end
    local acknowledged, pending = live(app)
    assert.equal(0, pending, fault)
    local has_failed = app.app.is_failed == true
    for id, what in pairs(acknowledged.processes) do
      local first, last = begun[id .. "first"], begun[id .. "last"]
      if has_failed and what == "started" then
        local status, _, err = app:wait(id) -- Does not take it up again: nothing could be kept.
        if status == "completed" then
          acknowledged.processes[id] = status
        else
          assert.same({ "stopped", "failed" }, { status, err.code }, fault)
        end
      end
      assert.same({ first, last }, { begun[id .. "first"], begun[id .. "last"] }, fault)
    end
    local known = {}
    for id in pairs(acknowledged.processes) do known[id] = last_record(app, id) end
    app:kill()
    app = assert(testing.app(define, { data = dir }))
    assert.is_true(app:call(read_notes) >= acknowledged.notes, fault)
    for id, what in pairs(acknowledged.processes) do
      local status, result = app:wait(id)
      assert.equal("completed", status, fault)
      assert.equal(id, result, fault)
      assert.is_true(what == "started" or known[id] == last_record(app, id), fault)
      assert.is_true(begun[id .. "first"] <= 2 and begun[id .. "last"] <= 4, fault)
      assert.is_nil(begun[id .. "undo"])
    end
    app:stop()
    os.execute("rm -rf " .. dir)
    return has_failed
  end

  for _, call in ipairs { "datasync", "pwrite" } do
    it("acknowledges nothing of it, lets nobody wait, loses nothing (" .. call .. ")", function()
      local failures = 0
      for n = 1, 24 do
        if attack(("io_error:%s:%d"):format(call, n)) then failures = failures + 1 end
      end
      assert.is_true(failures >= 4, failures .. " failures were met")
    end)
  end
end)

describe("a log that is behind", function()
  it("makes units, steps, starts and ends wait, and loses none of them", function()
    local app = assert(testing.app(function()
      catga.command("Note", function(n)
        return catga.events.append("Notes", { { type = "Noted", data = n } })
      end)
      local P = catga.process "P"
      function P:execute()
        self:send("Note", 0)
        self:send("Note", 0)
        error(catga.error("stop"))
      end
      function P:compensate_Note()
        catga.events.append("Notes", { { type = "Unnoted", data = 0 } })
      end
    end, { manual = true, settings = { pending_max = "1B" } }))
    local store = app.app.store
    local over = 0
    for n = 1, 5 do
      catga.spawn(function()
        assert(catga.send("Note", n))
        local _, err = catga.run("P", "p" .. n)
        assert(err.status == "compensated")
        over = over + 1
      end)
    end
    for _ = 1, 2000 do
      if over == 5 then break end
      tasks.yield()
      store:turn()
      app.clock:advance(1)
      app.clock:fire()
    end
    assert.equal(5, over)
    local events = catga.events.read("Notes")
    assert.equal(25, #events) -- Each process: two notes, and two undone.
    app:stop()
  end)
end)

describe("values that are too large", function()
  local large = ("x"):rep(2000)

  it("are refused with a clear error wherever they are, live and on replay", function()
    local runs = 0
    local function define(P)
      P.settings = { give = { attempts = 1 } }
      function P:execute()
        local given = { pcall(self.give, self) }
        local passed = { pcall(self.take, self, large) }
        self:sleep("1h")
        return { given = given[2].message, passed = passed[2].message, code = given[2].code }
      end
      function P:give()
        runs = runs + 1
        return large
      end
      function P:take() runs = runs + 1 end
      function P:compensate_take() end
    end
    local opts = { settings = { message_size_max = "1KB", blob_size_max = "0B" } }
    local app = app_of(define, opts)
    local id, err = app:start("P", { id = "y", text = large })
    assert.is_nil(id)
    assert.truthy(err.message:find("input", 1, true))
    assert.is_nil(app.app:process("y"))
    assert(app:start("P", "x"))
    app:settle()
    assert.equal(1, runs)
    app = assert(app:crash())
    local status, result = app:wait("x")
    assert.equal("completed", status)
    assert.equal(1, runs)
    assert.truthy(result.given:find("result", 1, true))
    assert.is_string(result.passed)
    app:stop()
  end)

  it("as the result of a process end it as failed, and undo it", function()
    local undone = 0
    local app = app_of(function(P)
      function P:execute()
        self:step("a", function() return 1 end)
        return large
      end
      function P:compensate_a() undone = undone + 1 end
    end, { settings = { message_size_max = "1KB", blob_size_max = "0B" } })
    local _, err = app:run("P", "x")
    assert.equal("compensated", err.status)
    assert.equal(1, undone)
    app:stop()
  end)
end)

describe("scripts that go away", function()
  local function write(dir, text)
    local file = assert(io.open(dir .. "/main.lua", "w"))
    file:write(text)
    file:close()
  end
  local FLOW = [[
    local catga = require "catga"
    local P = catga.process "P"
    function P:execute() self:%s() self:sleep("1s") return "end" end
    function P:a() return "a" end
    function P:b() return "b" end
  ]]

  it("stop their processes, which go on when a reload brings them back", function()
    local dir = new_directory()
    write(dir, FLOW:format("a"))
    local app = assert(testing.app(dir))
    app:start("P", "x")
    app:settle()
    write(dir, "")
    app = assert(app:crash())
    local status, _, err = app:wait("x")
    assert.equal("stopped", status)
    assert.is_string(err.message)
    write(dir, FLOW:format("b")) -- Another step: it diverges.
    app:call(function() assert(app.app:reload()) end)
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    write(dir, FLOW:format("a"))
    app:call(function() assert(app.app:reload()) end)
    local again, result = app:wait("x")
    assert.equal("completed", again)
    assert.equal("end", result)
    app:stop()
    os.execute("rm -rf " .. dir)
  end)
end)

describe("commands of a step", function()
  it("have the same key in all attempts, also when they are sent by catga.send", function()
    local keys, tries = {}, 0
    local app = assert(testing.app(function()
      catga.command { name = "Charge", idempotent = true, handle = function(_, ctx)
        keys[#keys + 1] = ctx.key
        return { n = #keys }
      end }
      catga.query("Look", function() return "seen" end)
      local P = catga.process "P"
      function P:execute() return self:pay() end
      function P:pay()
        tries = tries + 1
        catga.ask("Look", {})
        catga.send("Charge", {})
        self:send("Charge", {})
        if tries == 1 then error("the wire is down") end
      end
    end))
    app:run("P", "x")
    assert.same({ "x/1/1/1", "x/1/1/2", "x/1/1/1", "x/1/1/2" }, keys)
    app:stop()
  end)

  it("and steps named by data do not pile up", function()
    local app = app_of(function(P)
      function P:execute()
        for n = 1, 3000 do self:step("item " .. n, function() return n end) end
      end
    end)
    app:run("P", "x")
    local names = 0
    for _ in pairs(app.app.registry.processes.P.implicit) do names = names + 1 end
    assert.is_true(names <= 1000)
    app:stop()
  end)
end)
