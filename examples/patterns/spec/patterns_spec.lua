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

-- The files of patterns, as the table names them.
local function files()
  local list = {}
  for _, entry in ipairs(host.list(patterns.dir)) do
    local name = entry.name:match("^(.*)%.lua$")
    if name then
      list[#list + 1] = { name = name, path = entry.name, spec = "spec/" .. name .. "_spec.lua" }
    end
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
    for _, file in ipairs(files()) do
      local _, lines = text_of(file.path):gsub("\n", "")
      assert.is_true(lines <= LINES_MAX, file.path)
      assert.truthy(text_of(file.spec):find("survives", 1, true), file.spec)
    end
  end)

  it("are in the table, and nothing else is", function()
    local found, readme = {}, text_of "README.md"
    for _, file in ipairs(files()) do found[file.path] = true end
    for path in readme:gmatch("%]%(([%w_/]+%.lua)%)") do
      assert.is_true(found[path], path)
      found[path] = nil
    end
    assert.same({}, found)
  end)
end)
