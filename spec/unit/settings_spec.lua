--- Settings of an app: their kinds, their errors, and catga.lua.
local settings = require "catga.settings"
local duration = require "catga.duration"
local testing = require "catga.testing"
local app_dir = dofile "spec/support/app_dir.lua"

after_each(app_dir.remove_all)

-- The message when a setting is refused.
local function fault_of(given)
  local resolved, err = settings.load(nil, given)
  assert.is_nil(resolved)
  assert.equal("invalid", err.code)
  return err.message
end

describe("a setting that is", function()
  for _, case in ipairs {
    { "a duration", "handler_timeout", { ["5s"] = 5000, ["0ms"] = 0, ["1.5m"] = 90000 },
      { 5, "5", "five s", "5 parsecs", "-1s", true }, "no duration" },
    { "a size", "message_size_max",
      { ["1MiB"] = 2 ^ 20, ["10KB"] = 10000, ["0B"] = 0, ["2 GiB"] = 2 ^ 31 },
      { 5, "5", "MiB", "1.5MiB", "-1MiB", "5 Mib", true }, "must be a size with a unit" },
    { "a count", "node", { [0] = 0, [1023] = 1023 }, { -1, 1024, 1.5, "1", true, 0 / 0, math.huge },
      "node must be a whole number from 0 to 1023" },
    { "a count from 1", "step_attempts", { [1] = 1, [10] = 10 }, { 0, 2.5 },
      "step_attempts must be a whole number from 1" },
    { "a choice", "durability", { fsync = "fsync", os = "os", memory = "memory" },
      { "Fsync", "none", 1, true }, "durability must be one of fsync, os, memory" },
  } do
    local kind, name, good, bad, says = unpack(case)
    it(kind .. " takes its values", function()
      for value, means in pairs(good) do
        assert.equal(means, assert(settings.load(nil, { [name] = value }))[name])
      end
    end)

    it(kind .. " refuses others by name", function()
      for _, value in ipairs(bad) do
        local message = fault_of { [name] = value }
        assert.truthy(message:find(name, 1, true), message)
        if kind ~= "a duration" then assert.truthy(message:find(says, 1, true), message) end
      end
    end)
  end

  it("unknown is an error with a suggestion", function()
    assert.equal("there is no setting handler_timout; did you mean handler_timeout?",
      fault_of { handler_timout = "5s" })
    assert.equal("there is no setting colour", fault_of { colour = "red" })
    assert.truthy(fault_of { "5s" }:find("there is no setting 1", 1, true))
  end)

  it("not given has its default", function()
    local all = assert(settings.load(nil, {}))
    assert.same({ 5000, 0, 2 ^ 20, "fsync", 0 }, { all.handler_timeout, all.memory_max,
      all.message_size_max, all.durability, all.node })
    assert.same({ timeout = 30000, attempts = 3, backoff = 1000 }, all.process)
    for name, known in pairs(settings.KNOWN) do
      if known[1] ~= "optional" then assert.is_not_nil(all[name], name) end
    end
  end)
end)

describe("catga.lua", function()
  it("gives the settings of its app", function()
    local dir = app_dir.new { ["catga.lua"] = [[
      local base = 2
      return { message_size_max = base .. "KiB", step_attempts = base }
    ]] }
    local app = assert(testing.app(dir))
    assert.equal(2048, app.app.settings.message_size_max)
    assert.equal(2, app.app.settings.process.attempts)
    assert.equal(5000, app.app.settings.handler_timeout)
    app:stop()
  end)

  it("is gone before by settings that are given", function()
    local dir = app_dir.new { ["catga.lua"] = "return { node = 1, step_attempts = 2 }" }
    local app = assert(testing.app(dir, { settings = { node = 5 } }))
    assert.equal(5, app.app.settings.node)
    assert.equal(2, app.app.settings.step_attempts)
    app:stop()
  end)

  it("may be missing", function()
    local app = assert(testing.app(app_dir.new { ["main.lua"] = "" }))
    assert.equal(3, app.app.settings.step_attempts)
    app:stop()
  end)

  for _, case in ipairs {
    { "has a syntax error", "return {\n  node = = 1\n}", "catga.lua:2: unexpected symbol" },
    { "raises", "local x = nil\nreturn { node = x.y }", "catga.lua:2: attempt to index" },
    { "returns no table", "return 5", "catga.lua must return a table" },
    { "returns nothing", "", "catga.lua must return a table" },
    { "has an unknown setting", "return { nod = 1 }",
      "catga.lua: there is no setting nod; did you mean node?" },
    { "has a wrong value", "return { reload_delay = 30 }",
      "catga.lua: reload_delay must be a string with a unit" },
    { "reaches for the world", "return { node = os.time() }", "catga.lua:1: attempt to index" },
    { "is bytecode", string.dump(function() return {} end), "bytecode" },
  } do
    it("that " .. case[1] .. " is an error that names it", function()
      local app, err = testing.app(app_dir.new { ["catga.lua"] = case[2] })
      assert.is_nil(app)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
    end)
  end

  it("that cannot be read is an error, not as if it were missing", function()
    local app, err = testing.app(app_dir.new { ["catga.lua/x"] = "" })
    assert.is_nil(app)
    assert.truthy(err.message:find("catga.lua", 1, true), err.message)
  end)
end)

describe("a duration", function()
  for text, ms in pairs {
    ["0ms"] = 0, ["200ms"] = 200, ["1.5s"] = 1500, ["5s"] = 5000, ["2m"] = 120000,
    ["2min"] = 120000, ["24h"] = 86400000, ["7d"] = 604800000, [" 5 s "] = 5000, ["0.5ms"] = 0.5,
    ["36600d"] = 3162240000000,
  } do
    it("of \"" .. text .. "\" has " .. ms .. " ms", function()
      assert.equal(ms, duration.ms(text))
    end)
  end

  for _, text in ipairs { "", "5", "s", "5S", "5 sec", "1h30m", "-5s", ".5s", "5,5s", "1e3s",
    "36601d", "999999999999999999999999d", 5, 0, true, {} } do
    it("is not " .. tostring(text):gsub("0x%x+", "x"), function()
      local ms, fault = duration.parse(text, "pause")
      assert.is_nil(ms)
      assert.truthy(fault:find("^pause "), fault)
      local function caller() duration.ms(text, "pause") end
      local ok, message = pcall(function()
        caller()
        return 1
      end)
      assert.is_false(ok)
      assert.truthy(message:find("settings_spec.lua:%d+: pause "), message)
    end)
  end
end)
