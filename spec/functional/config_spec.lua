--- catga.config: where values come from, what they become, what is not shown.
local testing = require "catga.testing"
local ffi = require "ffi"
local catga = require "catga"

pcall(ffi.cdef, "int setenv(const char *name, const char *value, int overwrite);")
pcall(ffi.cdef, "int unsetenv(const char *name);")

local app
local VALUES = { log_path = "/var/log/x", retries = 3, live = true, pause = "5s",
  shop = { url = "https://shop", api_key = "geheim", hosts = { "a", "b" } } }

local function open(opts, define)
  opts = opts or {}
  opts.settings = opts.settings or { config = VALUES }
  app = assert(testing.app(define or function() end, opts))
end
after_each(function()
  if app then app:stop() end
  app = nil
  for _, name in ipairs { "RETRIES", "SHOP_URL", "LIVE", "HOSTS", "X" } do
    ffi.C.unsetenv("CATGA_CONFIG_" .. name)
  end
end)
local function get(name, opts)
  return app:call(function()
    local value = catga.config.get(name, opts)
    return value
  end)
end
local function fault(name, opts)
  local ok, failure = pcall(get, name, opts)
  assert.is_false(ok)
  return failure.message or failure
end

describe("catga.config", function()
  it("gives values of catga.lua, those of tables by their path, else the default", function()
    open()
    assert.equal("/var/log/x", get "log_path")
    assert.equal(3, get "retries")
    assert.equal("https://shop", get "shop.url")
    assert.same({ "a", "b" }, get "shop.hosts")
    assert.is_nil(get "nothing")
    assert.equal(7, get("nothing", { default = 7 }))
    assert.is_nil(get "log_path.below")
  end)

  it("prefers the environment, as the type asks", function()
    open()
    ffi.C.setenv("CATGA_CONFIG_RETRIES", "12", 1)
    ffi.C.setenv("CATGA_CONFIG_SHOP_URL", "http://localhost", 1)
    ffi.C.setenv("CATGA_CONFIG_LIVE", "no", 1)
    ffi.C.setenv("CATGA_CONFIG_HOSTS", "x, y", 1)
    assert.equal(12, get "retries")
    assert.equal("http://localhost", get "shop.url")
    assert.is_false(get "live")
    assert.equal("x, y", get "hosts")
    assert.same({ "x", "y" }, get("hosts", { type = "list" }))
    assert.same({ "x", "y" }, get("hosts", { default = {} }))
    ffi.C.setenv("CATGA_CONFIG_X", '{"a":[1]}', 1)
    assert.same({ 1 }, get("x", { type = "table" }).a)
    ffi.C.setenv("CATGA_CONFIG_RETRIES", "many", 1)
    assert.truthy(fault "retries":find("config retries: \"many\" is no number", 1, true))
  end)

  it("prefers what a spec gives to all others", function()
    ffi.C.setenv("CATGA_CONFIG_RETRIES", "12", 1)
    open { config = { retries = 1, ["shop.url"] = "stub", shop = { hosts = { "c" } } } }
    assert.same({ 1, "stub", "c" }, { get "retries", get "shop.url", get "shop.hosts"[1] })
  end)

  it("says what is missing or wrong, and how to mend it", function()
    open()
    local text = fault("db.url", { required = true })
    assert.truthy(text:find("config_spec.lua", 1, true))
    assert.truthy(text:find("CATGA_CONFIG_DB_URL", 1, true))
    assert.truthy(text:find("--config db.url=", 1, true))
    assert.truthy(fault("pause", { typ = "duration" }):find("did you mean type?", 1, true))
    assert.truthy(fault("log_path", { type = "duration" }):find("is no duration", 1, true))
    assert.truthy(fault("pause", { type = "time" }):find("there is no type time", 1, true))
    assert.truthy(fault("shop url"):find("needs a name", 1, true))
    local other, err = testing.app(function() end, { settings = { config = { f = print } } })
    assert.is_nil(other)
    assert.truthy(err.message:find("config.f must be text", 1, true))
  end)

  it("does not show secrets", function()
    open()
    app:call(function()
      assert.equal("geheim", catga.config.get "shop.api_key")
      catga.config.get("shop.url", { secret = true })
      local list = catga.config.list()
      assert.same({ "***", "***", 3 }, { list["shop.api_key"], list["shop.url"], list.retries })
      local ok, failure = pcall(catga.config.get, "shop.api_key", { type = "number" })
      assert.is_false(ok)
      assert.is_nil(tostring(failure):find("geheim", 1, true))
    end)
  end)

  it("is there while scripts load, and refused in the body of a process", function()
    local at_load
    open(nil, function()
      at_load = catga.config.get "retries"
      local P = catga.process "Body"
      function P:execute()
        local value = catga.config.get "retries"
        return value
      end
    end)
    assert.equal(3, at_load)
    local value, err = app:run("Body", { id = "1" })
    assert.is_nil(value)
    assert.truthy(err.message:find("catga.config.get in the body of a process", 1, true))
  end)
end)
