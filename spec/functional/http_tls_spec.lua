--- catga.http over TLS, and through a proxy: who answers is checked.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local clocks = require "catga.native.clock"
local ffi = require "ffi"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"
local http_server = dofile "spec/support/http_server.lua"

pcall(ffi.cdef, "int setenv(const char *name, const char *value, int overwrite);")
pcall(ffi.cdef, "int unsetenv(const char *name);")

local app, dir
before_each(function()
  app = assert(testing.app(function() end))
  dir = app_dir.new {}
end)
after_each(function()
  app:stop()
  app_dir.remove_all()
end)

local function openssl(...)
  local done = assert(catga.process_run { "openssl", ... })
  assert(done.code == 0, done.stderr)
end

-- A certificate of its own for a name, and a server that shows it; ends with the task.
local function serve(name, alt)
  local prefix = dir .. "/" .. name
  openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", prefix .. ".key", "-out",
    prefix .. ".pem", "-days", "2", "-subj", "/CN=" .. name, "-addext", "subjectAltName=" .. alt)
  local port
  local task = native_task.spawn(function()
    require "catga.state"[1].app = app.app
    catga.process_run({ "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", prefix .. ".pem",
      "-key", prefix .. ".key", "-www" }, { timeout = "60s", on_line = function(line)
        port = port or line:match "^ACCEPT .*:(%d+)"
      end })
  end)
  local system = clocks.system()
  while not port do system:sleep(1) end
  system:close()
  return "https://127.0.0.1:" .. port .. "/", prefix .. ".pem", task
end

describe("catga.http over TLS", function()
  it("trusts whom it should, and nobody else", function()
    local url, ca, server = serve("localhost", "DNS:localhost,IP:127.0.0.1")
    local odd, odd_ca, odd_server = serve("other", "DNS:other.example")
    local function code(at, opts)
      local res, err = catga.http.get(at, opts)
      return res and res.status or err.code .. (err.retryable and " retryable" or "")
    end
    assert.equal("tls", code(url))
    assert.equal(200, code(url, { ca_file = ca }))
    assert.equal("tls", code(url, { ca_file = odd_ca }))
    assert.equal("tls", code(odd, { ca_file = odd_ca })) -- The name is another one.
    assert.equal(200, code(odd, { unsafe_tls = true }))
    assert.equal("tls", code(odd))
    assert.equal("tls", code(url, { ca_file = dir .. "/missing.pem" }))
    native_task.drop(server)
    native_task.drop(odd_server)
  end)
end)

describe("a proxy", function()
  local function proxy()
    return http_server.start(function(request) return 200, {}, "proxied " .. request.path end)
  end

  it("is asked when an option or the environment says so", function()
    local server = proxy()
    local direct = http_server.start(function() return 200, {}, "direct" end)
    local res = assert(catga.http.get("http://nowhere.invalid/x", { proxy = server.url }))
    assert.equal("proxied http://nowhere.invalid/x", res.body)
    ffi.C.setenv("http_proxy", server.url, 1)
    ffi.C.unsetenv "no_proxy"
    assert.equal("proxied http://nowhere.invalid/y",
      assert(catga.http.get "http://nowhere.invalid/y").body)
    assert.equal("direct", assert(catga.http.get(direct.url, { proxy = false })).body)
    ffi.C.unsetenv "http_proxy"
    direct:stop()
    server:stop()
  end)

  it("that is not there is told as such, without its password", function()
    local res, err = catga.http.get("http://nowhere.invalid/",
      { proxy = "http://u:geheim@127.0.0.1:1" })
    assert.is_nil(res)
    assert.equal("refused", err.code)
    assert.is_nil(err.message:find("geheim", 1, true))
  end)
end)
