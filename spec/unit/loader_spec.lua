--- Loading an app directory: which files, in which environment, what is refused, and reloading.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local app, dir

local function open(files)
  dir = app_dir.new(files)
  app = assert(testing.app(dir))
  return app
end

local function fault_of(files)
  local opened, err = testing.app(app_dir.new(files))
  assert.is_nil(opened)
  return err
end

local function reload() return app:call(function() return app.app:reload() end) end

-- A script with a command that answers with an expression.
local function command(name, expression)
  return ('local catga = require "catga"\ncatga.command("%s", function(cmd, ctx) return %s end)\n')
    :format(name, expression)
end

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

describe("the files of an app", function()
  it("are all .lua files below it, without lib/, spec/, catga.lua and others", function()
    local wrong = "error('must not be loaded')"
    open {
      ["a.lua"] = command("A", "1"), ["deep/er/b.lua"] = command("B", "2"),
      ["deep/lib/c.lua"] = command("C", "3"), ["deep/spec/d.lua"] = command("D", "4"),
      ["lib/wrong.lua"] = wrong, ["spec/wrong_spec.lua"] = wrong, ["catga.lua"] = "return {}",
      ["notes.txt"] = wrong, ["old.lua.bak"] = wrong, [".hidden.lua"] = wrong,
      [".catga/wrong.lua"] = wrong,
    }
    for i, name in ipairs { "A", "B", "C", "D" } do assert.equal(i, (app:send(name, {}))) end
  end)

  it("are loaded in the order of their names", function()
    open {
      ["lib/order.lua"] = "return {}",
      ["b.lua"] = 'table.insert(require "order", "b")',
      ["a.lua"] = 'table.insert(require "order", "a")',
      ["c/a.lua"] = 'table.insert(require "order", "c/a")',
      ["z.lua"] = command("Order", 'table.concat(require "order", " ")'),
    }
    assert.equal("a b c/a", app:send("Order", {}))
  end)

  it("must be in a directory", function()
    local opened, err = testing.app("/nowhere/at/all")
    assert.is_nil(opened)
    assert.truthy(err.message:find("/nowhere/at/all", 1, true), err.message)
    dir = app_dir.new { ["x.lua"] = "" }
    opened, err = testing.app(dir .. "/x.lua")
    assert.is_nil(opened)
    assert.truthy(err.message:find("x.lua", 1, true), err.message)
  end)
end)

describe("a directory", function()
  it("with two handlers of one name is refused, and both places are named", function()
    local err = fault_of { ["a.lua"] = command("Twice", "1"),
      ["sub/b.lua"] = "\n" .. command("Twice", "2") }
    assert.equal("script_error", err.code)
    local says = "sub/b.lua:3: command Twice has a handler already, at .*/a.lua:2"
    assert.truthy(err.message:find(says), err.message)
  end)

  for _, case in ipairs {
    { "with a syntax error", { ["a.lua"] = "local x =\n=" }, "a.lua:2: unexpected symbol" },
    { "whose script raises", { ["a.lua"] = "\nlocal x\nx.y = 1" }, "a.lua:3: attempt to index" },
    { "whose script raises an error value",
      { ["a.lua"] = 'error(require "catga".error("mine", "as it is"))' }, "as it is" },
    { "whose script requires what is not there", { ["a.lua"] = 'require "missing"' },
      "module 'missing' not found" },
    { "with a syntax error in lib/", { ["a.lua"] = "", ["lib/m.lua"] = "\n\nreturn +" },
      "m.lua:3: unexpected symbol" },
    { "whose lib/ raises", { ["a.lua"] = 'require "m"', ["lib/m.lua"] = "\nerror('broken')" },
      "m.lua:2: broken" },
    { "whose modules require each other", { ["a.lua"] = 'require "m"',
      ["lib/m.lua"] = 'return require "n"', ["lib/n.lua"] = 'return require "m"' },
      "module m requires itself" },
    { "with bytecode", { ["a.lua"] = string.dump(function() return 1 end) },
      "a.lua is compiled bytecode, which is never loaded" },
    { "with bytecode in lib/", { ["a.lua"] = "", ["lib/m.lua"] = string.dump(function() end) },
      "m.lua is compiled bytecode" },
    { "with bytecode of another Lua", { ["a.lua"] = "\27Lua\81" }, "a.lua is compiled bytecode" },
    { "that sends while it loads", { ["a.lua"] = 'require "catga".send("X", {})' },
      "nothing runs while scripts load" },
    { "that waits while it loads", { ["a.lua"] = 'require "catga".sleep("1s")' },
      "nothing runs while scripts load" },
  } do
    it(case[1] .. " is refused with the place", function()
      local err = fault_of(case[2])
      assert.truthy(err.message:find(case[3], 1, true), err.message)
    end)
  end

  it("that loads bytecode by itself is refused", function()
    for _, how in ipairs { "loadstring(code)", "load(code)",
      "load(function() local c = code code = nil return c end)" } do
      local err = fault_of { ["a.lua"] = ("local code = string.dump(function() end)\nassert(%s)")
        :format(how) }
      assert.truthy(err.message:find("wrong mode", 1, true), err.message)
    end
  end)
end)

describe("globals", function()
  it("of a script are its own", function()
    open {
      ["a.lua"] = "leaked = 'from a'\n" .. command("A", "leaked"),
      ["b.lua"] = command("B", "tostring(leaked) .. tostring(_G.leaked) "
        .. ".. tostring(rawget(_G, 'leaked'))"),
      ["c.lua"] = "_G.leaked = 'from c'\n" .. command("C", "leaked"),
    }
    assert.equal("from a", app:send("A", {}))
    assert.equal("nilnilnil", app:send("B", {}))
    assert.equal("from c", app:send("C", {}))
    assert.is_nil(rawget(_G, "leaked"))
  end)

  it("of a module are its own, however it is required", function()
    open {
      ["lib/m.lua"] = "leaked = (leaked or 0) + 1\nreturn { get = function() return leaked end }",
      ["a.lua"] = "local _, m = pcall(require, 'm')\n"
        .. command("A", "{ m.get(), tostring(leaked) }"),
    }
    assert.same({ 1, "nil" }, app:send("A", {}))
    assert.is_nil(rawget(_G, "leaked"))
  end)
end)

describe("lib/", function()
  it("is on the module path, also below and as init.lua, and loaded once", function()
    open {
      ["lib/money.lua"] = "return { name = ... }", ["lib/shop/init.lua"] = "return { name = ... }",
      ["lib/shop/cart.lua"] = 'return { name = ..., shop = require "shop" }',
      ["a.lua"] = command("A", "{ require('money').name, require('shop').name, "
        .. "require('shop.cart').name, tostring(require('shop.cart').shop == require('shop')) }"),
    }
    assert.same({ "money", "shop", "shop.cart", "true" }, app:send("A", {}))
  end)

  it("is not seen by another app", function()
    open { ["lib/elsewhere.lua"] = "return 1", ["a.lua"] = "require 'elsewhere'" }
    assert.truthy(fault_of { ["a.lua"] = "require 'elsewhere'" }.message:find("not found", 1, true))
  end)

  it("may hold modules that the rest of the program has too", function()
    open { ["lib/catga_spec_only.lua"] = "return 'own'",
      ["a.lua"] = command("A", "require 'catga_spec_only'") }
    package.loaded.catga_spec_only = "shared"
    local value = app:send("A", {})
    package.loaded.catga_spec_only = nil
    assert.equal("own", value)
  end)

  it("whose module failed once is tried again", function()
    open {
      ["lib/m.lua"] = "local n = require 'n'\nn.tries = n.tries + 1\n"
        .. "if n.tries == 1 then error('first') end\nreturn n.tries",
      ["lib/n.lua"] = "return { tries = 0 }",
      ["a.lua"] = command("A", "{ tostring((pcall(require, 'm'))), require 'm' }"),
    }
    assert.same({ "false", 2 }, app:send("A", {}))
  end)
end)

describe("reloading", function()
  it("swaps handlers, modules and behaviors all at once", function()
    open { ["a.lua"] = command("A", "require 'm'"), ["lib/m.lua"] = "return 'old'",
      ["gone.lua"] = command("Gone", "1") }
    assert.equal("old", app:send("A", {}))
    app_dir.write(dir, "lib/m.lua", "return 'new'")
    app_dir.write(dir, "b.lua", command("B", "2"))
    app_dir.remove(dir, "gone.lua")
    assert.is_true(reload())
    assert.equal("new", app:send("A", {}))
    assert.equal(2, app:send("B", {}))
    local _, err = app:send("Gone", {})
    assert.equal("unknown_command", err.code)
    assert.equal("info scripts reloaded", app.lines[#app.lines])
  end)

  it("of unchanged files changes nothing", function()
    open { ["a.lua"] = command("A", "1") }
    local before = app.app.registry
    assert.is_true(reload())
    assert.equal(before, app.app.registry)
  end)

  it("lets what runs go on with the scripts it began with", function()
    open { ["a.lua"] = command("A", "(require 'catga'.sleep('1h') or 'old')") }
    local value = app:call(function()
      local running = catga.spawn(function() return catga.send("A", {}) end)
      catga.sleep("1s")
      app_dir.write(dir, "a.lua", command("A", "'new'"))
      assert(app.app:reload())
      return { running:wait(), (catga.send("A", {})) }
    end)
    assert.same({ "old", "new" }, value)
  end)

  for _, case in ipairs {
    { "a syntax error", "return +", "a.lua:1: unexpected symbol" },
    { "a script that raises", "error('broken')", "a.lua:1: broken" },
    { "a script that sends", "require 'catga'.send('A', {})", "nothing runs while scripts load" },
    { "a script that waits", "require 'catga'.sleep('1s')", "nothing runs while scripts load" },
    { "a contradiction", "require 'catga'.behavior('b', print, { after = 'none' })", "a.lua:1: " },
    { "a process without execute", "require 'catga'.process 'P'",
      "process P has no execute method" },
  } do
    it("with " .. case[1] .. " leaves the old scripts serving, and says why", function()
      open { ["a.lua"] = command("A", "'old'") }
      app_dir.write(dir, "a.lua", case[2])
      local ok, err = reload()
      assert.is_false(ok)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
      assert.equal("old", app:send("A", {}))
      local line = app.lines[#app.lines]
      assert.truthy(line:find("^error reload failed"), line)
      assert.truthy(line:find(case[3], 1, true), line)
      app_dir.write(dir, "a.lua", command("A", "'mended'"))
      assert.is_true(reload())
      assert.equal("mended", app:send("A", {}))
    end)
  end

  it("does not run catga.main again", function()
    dir = app_dir.new { ["a.lua"] = [[
      local catga = require "catga"
      catga.main(function() catga.publish("Begun", {}) end)
    ]] }
    app = assert(testing.app(dir, { main = true }))
    app_dir.write(dir, "b.lua", command("B", "1"))
    assert.is_true(reload())
    app:settle()
    assert.equal(1, #app:call(catga.events.read, "$type-Begun"))
  end)
end)

describe("stubs", function()
  it("stand in for handlers, inside of their behaviors", function()
    dir = app_dir.new { ["a.lua"] = [[
      require "catga".command { name = "A", input = { n = "number" },
        handle = function() error("the real one") end }
    ]] }
    app = assert(testing.app(dir, { stubs = { A = function(cmd) return cmd.n end } }))
    assert.equal(5, app:send("A", { n = 5 }))
    local _, err = app:send("A", {})
    assert.equal("validation", err.code)
  end)

  it("must have something to stand in for", function()
    local opened, err = testing.app(app_dir.new { ["a.lua"] = "" }, { stubs = { A = print } })
    assert.is_nil(opened)
    assert.truthy(err.message:find("there is no command or query A to stub", 1, true))
  end)
end)
