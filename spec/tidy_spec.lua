--- tidy_spec.lua - the tree keeps the project's own rules, and breaking each of them is found.

local tidy = assert(loadfile("scripts/tidy.lua"))("module")

--- Checks one file and returns its findings as one string.
local function findings(path, text)
  return table.concat(tidy.check({ { path = path, text = text } }), "\n")
end

local function c(path, line)
  return findings(path, "/* x. */\n" .. line .. "\n")
end

describe("tidy", function()
  it("finds nothing in this tree", function()
    assert.are.same({}, tidy.check(tidy.read_tree()))
  end)

  it("lets includes go downward through doors", function()
    assert.are.equal("", c("src/store/store.c", '#include "log/log.h"'))
    assert.are.equal("", c("src/store/store.c", '#include "base/map.h"'))
    assert.are.equal("", c("src/store/store.c", '#include "store/index.h"'))
    assert.are.equal("", c("src/store/store.c", "#include <uv.h>"))
    assert.are.equal("", c("src/http/server.c", '#include "bind/value.h"'))
    assert.are.equal("", c("src/bind/bind_x.h", '#include "runtime/task.h"'))
    assert.are.equal("", c("src/main.c", '#include "store/store.h"'))
  end)

  it("finds includes that go upward, sideways or past a door", function()
    assert.truthy(c("src/base/map.c", '#include "log/log.h"'):find("downward"))
    assert.truthy(c("src/log/log.c", '#include "codec/codec.h"'):find("downward"))
    assert.truthy(c("src/bind/value.c", '#include "http/http.h"'):find("downward"))
    assert.truthy(c("src/store/store.c", '#include "log/segment.h"'):find("include the door"))
    assert.truthy(c("src/runtime/task.c", '#include "store/index.h"'):find("include the door"))
    assert.truthy(c("src/log/log.c", '#include "../base/map.h"'):find("without ..", 1, true))
    assert.truthy(c("src/odd/odd.c", ""):find("no layer"))
    assert.truthy(c("src/store/store.c", '#include "catga.h"'):find("above this layer"))
  end)

  it("keeps Lua and libuv out of the lower layers", function()
    assert.truthy(c("src/store/store.c", "#include <lua.h>"):find("must not know Lua"))
    assert.truthy(c("src/codec/json.c", "#include <lauxlib.h>"):find("must not know Lua"))
    assert.truthy(c("src/log/log.c", "#include <uv.h>"):find("must not know libuv"))
  end)

  it("finds included .c files and generated headers", function()
    assert.truthy(c("src/log/log.c", '#include "log/other.c"'):find("no #include of a .c"))
    assert.truthy(c("src/runtime/x.c", '#include "gen/version.h"'):find("no generated header"))
  end)

  it("bounds files, functions and columns", function()
    local long = ("  work();\n"):rep(68)
    assert.are.equal("", c("src/log/log.c", "int f(void) {\n" .. long .. "}"))
    assert.truthy(c("src/log/log.c", "int f(void) {\n" .. long .. "x:\n}"):find("of 71 lines"))
    assert.truthy(c("src/log/log.c", "int f(int a,\n  int b) {\n" .. long .. "}"):find("71 lines"))
    assert.are.equal("", c("src/log/log.h", "struct x {\n" .. long .. long .. "};"))
    assert.truthy(c("src/log/log.c", ("  work();\n"):rep(600)):find("lines, more than 600"))
    assert.truthy(c("src/log/log.c", "/* " .. ("é"):rep(98)):find("101 columns"))

    local body = ("  work()\n"):rep(69)
    local head = "-- x.\nlocal function f(a, b)\n"
    assert.are.equal("", findings("lua/catga/x.lua", head .. body:sub(10) .. "end\n"))
    assert.truthy(findings("lua/catga/x.lua", head .. body .. "end\n"):find("of 71 lines"))
  end)

  it("finds mutable file-scope variables in the sources", function()
    assert.truthy(c("src/log/log.c", "static int count;"):find("mutable"))
    assert.truthy(c("src/log/log.c", "static struct x all[4] = {0};"):find("mutable"))
    assert.truthy(c("src/log/log.c", "static const char names[2];") == "")
    assert.are.equal("", c("src/log/log.c", "static int count(void);"))
    assert.are.equal("", c("spec/c/log_test.c", "static int count;"))
  end)

  it("wants a comment at the top", function()
    assert.truthy(findings("src/log/log.c", "#include <uv.h>\n"):find("open with a comment"))
    assert.truthy(findings("stdlib/x.lua", "local M = {}\n"):find("open with a comment"))
    assert.are.equal("", findings("scripts/x.lua", "#!/usr/bin/luajit\n-- x.\n"))
    assert.truthy(findings("src/log/log.h", ""):find("open with a comment"))
  end)

  it("finds work left as a note", function()
    assert.truthy(c("src/log/log.c", "/* TO" .. "DO: more. */"):find("left as a note"))
  end)

  it("wants a stub for each binding, one for all its parts", function()
    local function stubs(...)
      local files = {}
      for i, path in ipairs({ ... }) do
        files[i] = { path = path, text = path:match("lua$") and "--- x.\n" or "/* x. */\n" }
      end
      return #tidy.check(files)
    end
    assert.are.equal(1, stubs("src/bind/bind_log.c"))
    assert.are.equal(0, stubs("src/bind/bind_log.c", "lua/catga/_meta/log.lua"))
    assert.are.equal(1, stubs("src/bind/bind_log.c", "src/bind/bind_log_read.c"))
    assert.are.equal(1, stubs("src/bind/bind_log_read.c"))
  end)
end)
