--- The patterns together: one app has them all, each is short, has a spec, and is in the table.
local testing = require "catga.testing"
local host = require "catga.native.host"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local LINES_MAX = 40

local function text_of(path)
  local file = assert(io.open(patterns.dir .. "/" .. path))
  local text = file:read("*a")
  file:close()
  return text
end

-- The files of patterns, without .lua.
local function names()
  local list = {}
  for _, entry in ipairs(assert(host.list(patterns.dir))) do
    list[#list + 1] = entry.name:match("^(.*)%.lua$")
  end
  return list
end

describe("the patterns", function()
  it("are one app", function()
    local app = assert(testing.app(patterns.dir))
    assert.equal("Hello, Ann", app:run("Hello", "Ann"))
    app:stop()
  end)

  it("are short, and each has a spec that kills it", function()
    for _, name in ipairs(names()) do
      local _, lines = text_of(name .. ".lua"):gsub("\n", "")
      assert.is_true(lines <= LINES_MAX, name)
      assert.truthy(text_of("spec/" .. name .. "_spec.lua"):find("survives", 1, true), name)
    end
  end)

  it("are in the table, and nothing else is", function()
    local found, readme = {}, text_of "README.md"
    for _, name in ipairs(names()) do found[name] = true end
    for name in readme:gmatch("%]%(([%w_]+)%.lua%)") do
      assert.is_true(found[name], name)
      found[name] = nil
    end
    assert.same({}, found)
  end)
end)
