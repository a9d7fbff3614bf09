--- Processes whose inputs, results and arguments are more than JSON can hold.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local json = require "catga.native.json"
local base64 = require "catga.base64"

local BYTES = "\0\255\128\10binary"

local app
local undone = {}

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(fill, opts)
  undone = {}
  app = assert(testing.app(fill, opts))
  return app
end

-- A process whose values JSON has not: as its input, results, arguments, state and result.
local function flow(serializer, more)
  return function()
    local P = catga.process "P"
    P.options = { serializer = serializer }
    P.process_id = function(input) return input.id end
    function P:execute(input)
      local key = self:key(input.bytes, nil, 1)
      local gaps = self:gaps()
      local plain = self:plain(#key)
      local both = self:all("both", { a = function() return self:key(input.bytes) end })
      if input.fails then error(catga.error("no")) end
      return { key = key, gaps = gaps, plain = plain, branch = both.a }
    end
    function P.key(_, bytes) return bytes and bytes .. "!" end
    function P.compensate_key(_, result, bytes, second, third)
      undone[#undone + 1] = { result, bytes, second or "nil", third or "nil" }
    end
    function P.gaps() return { 1, nil, 3, inf = math.huge } end
    function P.plain(_, n) return { n = n } end
    if more then more(P) end
  end
end

local RESULT = { key = BYTES .. "!", gaps = { 1, nil, 3, inf = math.huge }, plain = { n = 11 },
  branch = BYTES .. "!" }

local function raw_of(id)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, "Process-" .. id)) do list[i] = event.data end
  return list
end

for _, name in ipairs { "binary", "msgpack" } do
  describe("a process with the serializer " .. name, function()
    it("keeps such values, in memory and after a restart", function()
      open(flow(name))
      assert.same(RESULT, app:run("P", { id = "a", bytes = BYTES }))
      local status, result = app:wait("a")
      assert.same({ "completed", RESULT }, { status, result })
      assert.same(RESULT, app:call(catga.processes.get, "a").result)
      for position = 2, app:position() do
        app = assert(app:crash(position))
        status, result = app:wait("a")
        assert.same({ "completed", RESULT }, { status, result })
      end
    end)

    it("undoes with them", function()
      open(flow(name))
      local _, err = app:run("P", { id = "a", bytes = BYTES, fails = true })
      assert.equal("compensated", err.status)
      assert.same({ { BYTES .. "!", BYTES, "nil", "nil" }, { BYTES .. "!", BYTES, "nil", 1 } },
        undone)
    end)

    it("has a journal of ordinary events: JSON where that can hold a value, else base64", function()
      open(flow(name))
      app:run("P", { id = "a", bytes = BYTES })
      local records = raw_of "a"
      assert.same({ as = name, field = "input" }, records[1].packed)
      assert.is_string(records[1].input)
      assert.same({ as = "bytes", field = "result" }, records[2].packed)
      assert.equal(base64.encode(BYTES .. "!"), records[2].result)
      assert.equal(name, records[2].args.packed)
      assert.same({ as = name, field = "result" }, records[3].packed)
      assert.same({ op = 3, step = "plain", result = { n = 11 } }, records[4])
      for _, data in ipairs(records) do assert.is_string(json.encode(data)) end
    end)

    it("comes to the same end after a kill at every record", function()
      local function define()
        flow(name, function(P)
          local plain = P.execute
          function P:execute(input)
            local result = plain(self, input)
            return { base64.encode(result.key), result.plain, 1 }
          end
        end)()
      end
      assert.is_nil((testing.chaos(define, "P", { id = "a", bytes = BYTES })))
      assert.is_nil((testing.chaos(define, "P", { id = "a", bytes = BYTES, fails = true })))
    end)

    it("is the same run when it is started with the same input, else a conflict", function()
      open(flow(name))
      assert.equal("a", app:start("P", { id = "a", bytes = BYTES }))
      assert.equal("a", app:start("P", { id = "a", bytes = BYTES }))
      assert.equal("conflict", select(2, app:start("P", { id = "a", bytes = BYTES .. "x" })).code)
      assert.equal("conflict", select(2, app:start("P", { id = "a" })).code)
      assert.equal("b", app:start("P", { id = "b", bytes = "text" }))
      assert.equal("conflict", select(2, app:start("P", { id = "b", bytes = BYTES })).code)
    end)

    it("may be started in a unit of work, and by a process", function()
      open(function()
        flow(name)()
        catga.command("Begin", function()
          return assert(catga.start("P", { id = "a", bytes = BYTES }))
        end)
        local Parent = catga.process "Parent"
        Parent.options = { serializer = name }
        function Parent:execute() return self:run("P", { id = "b", bytes = BYTES }) end
      end)
      app:send("Begin", {})
      assert.same(RESULT, select(2, app:wait("a")))
      assert.same(RESULT, app:run("Parent", "p"))
      app = assert(app:crash())
      assert.same(RESULT, select(2, app:wait("p")))
    end)

    it("keeps large values", function()
      local large = BYTES:rep(20000)
      open(flow(name, function(P)
        function P:execute(input) return self:key(input.bytes) end
      end), { settings = { message_size_max = "256KiB" } })
      assert.is_true(app:run("P", { id = "a", bytes = large }) == large .. "!")
      app = assert(app:crash())
      assert.is_true(select(2, app:wait("a")) == large .. "!")
    end)

    it("gives the body what is stored, not what the step has made", function()
      local made = { BYTES, { n = 1 } }
      open(flow(name, function(P)
        function P.execute(self)
          local got = self:gaps()
          made[2].n = 2
          return { rawequal(got, made), got[2].n }
        end
        function P.gaps() return made end
      end))
      assert.same({ false, 1 }, app:run("P", { id = "a" }))
    end)

    it("refuses functions by their path", function()
      open(flow(name, function(P)
        P.settings = { gaps = { attempts = 1 } }
        function P.gaps() return { list = { BYTES, print } } end
      end))
      local _, err = app:run("P", { id = "a" })
      assert.truthy(err.message:find("result.list.2 is a function", 1, true), err.message)
    end)
  end)
end

describe("a journal", function()
  it("is read as it was written when the script has another serializer", function()
    open(flow("msgpack", function(P)
      local plain = P.execute
      function P:execute(input)
        local result = plain(self, input)
        self:sleep("1h")
        return result
      end
    end))
    app:start("P", { id = "a", bytes = BYTES })
    app:settle()
    app = assert(app:crash(nil, flow("binary")))
    local status = app:wait("a")
    assert.equal("diverged", status)
    app = assert(app:crash(nil, flow("binary", function(P)
      local plain = P.execute
      function P:execute(input)
        local result = plain(self, input)
        self:sleep("1h")
        return result
      end
    end)))
    assert.same({ "completed", RESULT }, { (app:wait("a")), (select(2, app:wait("a"))) })
  end)

  it("of a process without a serializer refuses such values", function()
    for _, name in ipairs { "json", false } do
      open(flow(name or nil))
      local _, err = app:start("P", { id = "a", bytes = BYTES })
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find("input.bytes", 1, true), err.message)
      app:stop()
      app = nil
    end
  end)
end)

describe("HTTP", function()
  it("shows what JSON has not as well as it can", function()
    open(flow "binary")
    app:run("P", { id = "a", bytes = BYTES })
    local status, _, text = app:call(function()
      return http.handle(app.app, "GET", "/processes/a", {}, {}, "")
    end)
    assert.equal(200, status)
    local result = json.decode(text).result
    assert.same({ ["$base64"] = base64.encode(BYTES .. "!") }, result.key)
    assert.same({ ["1"] = 1, ["3"] = 3, inf = "inf" }, result.gaps)
    assert.same({ n = 11 }, result.plain)
    local list
    status, _, list = app:call(function()
      return http.handle(app.app, "GET", "/processes", {}, {}, "")
    end)
    assert.equal(200, status)
    assert.same(result, json.decode(list)[1].result)
    status, _, text = app:call(function()
      return http.handle(app.app, "GET", "/streams/Process-a", {}, {}, "")
    end)
    assert.equal(200, status)
    assert.truthy(text:find(base64.encode(BYTES .. "!"), 1, true))
  end)
end)

describe("a serializer", function()
  local function fault_of(name)
    local opened, err = testing.app(flow(name))
    if opened then opened:stop() end
    return err and err.message
  end

  it("of an unknown name is a load error", function()
    assert.truthy(fault_of "xml":find("serializer_spec.lua:%d+: process P: options.serializer is "
      .. "one of binary, json, msgpack, not xml"))
  end)

  it("whose library is missing is a load error that says what to install", function()
    local state = require "catga.state"
    local module, loaded = state.mpack, package.loaded.mpack
    state.mpack, package.loaded.mpack = nil, nil
    package.preload.mpack = function() error("not here") end
    local message = fault_of "msgpack"
    local other = fault_of "binary"
    state.mpack, package.loaded.mpack, package.preload.mpack = module, loaded, nil
    assert.truthy(message:find("options.serializer: the serializer msgpack needs the Lua module "
      .. "mpack: install Debian's package lua-mpack", 1, true), message)
    assert.is_nil(other)
  end)
end)
