--- catga.http against a server on the loopback: requests and answers, limits, errors.
local testing = require "catga.testing"
local catga = require "catga"
local http_server = dofile "spec/support/http_server.lua"

local app, server, clock
local handle -- What the server does, set by each spec.

local function run(fn) return app:call(fn) end

local function open(opts)
  opts = opts or {}
  app = assert(testing.app(opts.define or function() end, { settings = opts.settings,
    clock = opts.clock }))
  return app
end

before_each(function()
  server = http_server.start(function(request, conn) return handle(request, conn) end)
end)
after_each(function()
  if app then app:stop() end
  app = nil
  server:stop()
  if clock then clock:close() end
  clock = nil
end)

local function echo(request)
  return 200, {}, catga.json.encode { method = request.method, path = request.path,
    headers = request.headers, body = request.body }
end

describe("catga.http", function()
  it("sends each method, and gives status, headers and body", function()
    open()
    handle = function(request)
      return 201, { ["X-One"] = "1", ["Set-Cookie"] = { "a=1", "b=2" } }, "did " .. request.method
    end
    run(function()
      for _, method in ipairs { "get", "post", "put", "patch", "delete" } do
        local res = assert(catga.http[method](server.url .. "/x"))
        assert.equal("did " .. method:upper(), res.body)
        assert.equal(201, res.status)
        assert.is_true(res.ok)
      end
      local res = assert(catga.http.head(server.url .. "/x"))
      assert.same({ 201, "" }, { res.status, res.body })
      assert.equal("8", res.headers["Content-Length"])
      assert.equal("1", res.headers["x-one"])
      assert.equal("1", res.headers["X-ONE"])
      assert.same({ "a=1", "b=2" }, res:header_all "Set-Cookie")
      assert.equal("a=1, b=2", res.headers["set-cookie"])
      assert.same({}, res:header_all "x-none")
      res = assert(catga.http.request(server.url, { method = "PURGE" }))
      assert.equal("did PURGE", res.body)
    end)
    assert.equal("/", server.requests[#server.requests].path)
  end)

  it("speaks JSON in both directions with the host's codec", function()
    open()
    handle = echo
    run(function()
      local value = { list = catga.json.array(), none = catga.null, n = 1.5, text = "ä\n" }
      local res = assert(catga.http.post(server.url, { json = value }))
      local got = assert(res:json())
      assert.same("application/json", got.headers["content-type"])
      assert.equal('{"list":[],"n":1.5,"none":null,"text":"ä\\n"}', got.body)
      handle = function() return 200, {}, "{oops" end
      local none, err = assert(catga.http.get(server.url)):json()
      assert.is_nil(none)
      assert.equal("invalid", err.code)
      local _, failure = catga.http.post(server.url, { json = { f = print } })
      assert.equal("invalid", failure.code)
    end)
  end)

  it("sends query, form, headers and credentials", function()
    open()
    handle = echo
    run(function()
      local got = assert(catga.http.post(server.url .. "/p?a=1", {
        query = { b = "x y&", c = { 1, 2 } }, form = { name = "A B", s = "ä" },
        auth = { user = "u", password = "p:w" },
        headers = { ["X-Id"] = 7, ["X-Many"] = { "a", "b" }, ["X-Empty"] = "" } })):json()
      assert.equal("/p?a=1&b=x%20y%26&c=1&c=2", got.path)
      assert.equal("name=A+B&s=%C3%A4", got.body)
      assert.equal("Basic dTpwOnc=", got.headers.authorization)
      assert.equal("7", got.headers["x-id"])
      assert.equal("", got.headers["x-empty"])
      local url = server.url:gsub("//", "//us%%65r:secret@")
      got = assert(catga.http.get(url)):json()
      assert.equal("Basic dXNlcjpzZWNyZXQ=", got.headers.authorization)
      got = assert(catga.http.get(server.url, { auth = { token = "t" } })):json()
      assert.equal("Bearer t", got.headers.authorization)
    end)
    local lines = table.concat(server.requests[1].lines, "\n")
    assert.truthy(lines:find("X-Many: a\nX-Many: b", 1, true))
  end)

  it("gives statuses as answers, or as errors when asked", function()
    open()
    handle = function() return 503, { ["Retry-After"] = "7" }, "later" end
    run(function()
      local res = assert(catga.http.get(server.url))
      assert.same({ 503, false, "later" }, { res.status, res.ok, res.body })
      local _, failure = pcall(res.raise, res)
      assert.equal("http_status", failure.code)
      assert.is_true(failure.retryable)
      assert.equal(7000, failure.retry_after_ms)
      local ok, err = pcall(catga.http.get, server.url, { raise = true })
      assert.is_false(ok)
      assert.same({ "http_status", 503 }, { err.code, err.status })
      handle = function() return 404 end
      ok, err = pcall(catga.http.get, server.url, { raise = true })
      assert.is_false(ok)
      assert.is_false(err.retryable)
    end)
  end)

  it("keeps connections and uses them again, at most so many", function()
    open { settings = { http_host_connections_max = 2 } }
    local at_once, most = 0, 0
    handle = function(_, conn)
      at_once = at_once + 1
      most = math.max(most, at_once)
      conn:sleep(5)
      at_once = at_once - 1
      return 200
    end
    run(function()
      for _ = 1, 5 do assert(catga.http.get(server.url)) end
      assert.equal(1, server.accepted)
      catga.map({ 1, 2, 3, 4, 5, 6 }, function() assert(catga.http.get(server.url)) end)
    end)
    assert.equal(2, most)
    assert.equal(2, server.accepted)
    assert.equal(0, app.app.http_client.native:count())
  end)

  it("ends what takes too long, each limit with its words", function()
    open()
    handle = function(request, conn)
      if request.path == "/slow" then
        conn:send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ = 1, 1000 do
          conn:send "x"
          conn:sleep(20)
          if conn.is_closed then return end
        end
      end
      conn:await_close()
    end
    run(function()
      local res, err = catga.http.get(server.url .. "/slow", { timeout = "100ms" })
      assert.is_nil(res)
      assert.same({ "timeout", true }, { err.code, err.retryable })
      assert.truthy(err.message:find("not done within 100 ms", 1, true))
      res, err = catga.http.get(server.url .. "/hangs", { idle_timeout = "60ms" })
      assert.is_nil(res)
      assert.equal("timeout", err.code)
      assert.truthy(err.message:find("nothing was sent or received for 60 ms", 1, true))
      -- A slow one is not idle.
      res, err = catga.http.get(server.url .. "/slow", { idle_timeout = "90ms", timeout = "200ms" })
      assert.is_nil(res)
      assert.truthy(err.message:find("not done within 200 ms", 1, true))
    end)
  end)

  it("tells apart why it failed", function()
    open()
    local function code(url, opts)
      local res, err = catga.http.get(url, opts)
      assert.is_nil(res)
      return err.code .. (err.retryable and " retryable" or "")
    end
    run(function()
      assert.equal("refused retryable", code "http://127.0.0.1:1/")
      assert.equal("dns retryable", code "http://nowhere.invalid/")
      handle = function(_, conn) conn:reset() end
      assert.equal("reset retryable", code(server.url))
      handle = function(_, conn)
        conn:send "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
        conn:close()
      end
      assert.equal("reset retryable", code(server.url))
      local plain = http_server.start(function(_, conn)
        conn:send "this is no TLS at all\r\n"
        conn:close()
      end, { raw = true })
      assert.equal("tls", code((plain.url:gsub("http:", "https:"))))
      plain:stop()
      handle = function(_, conn)
        conn:send "SSH-2.0-OpenSSH_9.2\r\n\r\n"
        conn:close()
      end
      assert.equal("protocol", code(server.url))
      for _, url in ipairs { "ftp://x/", "http://", "nothing", "http://a b/", "http://x/\r\nA: b",
        "file:///etc/passwd" } do
        assert.equal("invalid", code(url))
      end
    end)
  end)

  it("has a bound for what an answer may hold", function()
    open { settings = { http_body_max = "1KiB" } }
    handle = function(request, conn)
      if request.path == "/said" then return 200, {}, ("x"):rep(1025) end
      if request.path == "/head" then
        local lines = {}
        for n = 1, 6 do lines["X-" .. n] = ("y"):rep(50 * 1024) end
        return 200, lines
      end
      if request.path == "/line" then
        return 200, { ["X-Long"] = ("y"):rep(200 * 1024) }
      end
      conn:send "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      for _ = 1, 20 do conn:send("64\r\n" .. ("x"):rep(100) .. "\r\n") end
      conn:send "0\r\n\r\n"
    end
    run(function()
      for _, path in ipairs { "/said", "/unsaid", "/head", "/line" } do
        local res, err = catga.http.get(server.url .. path)
        assert.is_nil(res)
        assert.same({ "too_large", false }, { err.code, err.retryable })
      end
      assert.equal(1025, #assert(catga.http.get(server.url .. "/said", { body_max = "2KiB" })).body)
      assert.equal(2000, #assert(catga.http.get(server.url .. "/unsaid",
        { body_max = "2KiB" })).body)
      assert.equal("1025", assert(catga.http.head(server.url .. "/said")).headers["content-length"])
    end)
  end)

  it("unpacks gzip, and counts what is unpacked", function()
    open()
    local pipe = io.popen("head -c 100000 /dev/zero | gzip -c | base64 -w0")
    local packed = require "catga.base64".decode(pipe:read "*a")
    pipe:close()
    handle = function(request)
      assert(request.headers["accept-encoding"]:find "gzip")
      return 200, { ["Content-Encoding"] = "gzip" }, packed
    end
    run(function()
      assert.equal(("\0"):rep(100000), assert(catga.http.get(server.url)).body)
      local res, err = catga.http.get(server.url, { body_max = "10KiB" })
      assert.is_nil(res)
      assert.equal("too_large", err.code)
      handle = function() return 200, { ["Content-Encoding"] = "gzip" }, "no gzip at all" end
      res, err = catga.http.get(server.url)
      assert.is_nil(res)
      assert.equal("protocol", err.code)
    end)
  end)

  it("works over a unix socket", function()
    open()
    local path = os.tmpname()
    os.remove(path)
    local local_server = http_server.start(echo, { unix = path })
    run(function()
      local res = assert(catga.http.get("http+unix://" .. path:gsub("/", "%%2F") .. "/x?y=1"))
      assert.equal("/x?y=1", res:json().path)
      assert.equal("http+unix://" .. path:gsub("/", "%%2F") .. "/x?y=1", res.url)
      local none, err = catga.http.get "http+unix://%2Fnothing%2Fhere/x"
      assert.is_nil(none)
      assert.equal("refused", err.code)
    end)
    local_server:stop()
  end)

  it("refuses what could smuggle headers, and options that are not there", function()
    open()
    handle = echo
    run(function()
      for _, headers in ipairs { { ["X-A"] = "1\r\nX-B: 2" }, { ["X A"] = "1" }, { ["X\n"] = "1" },
        { ["X-A"] = "a\0b" }, { ["X-A"] = true } } do
        local res, err = catga.http.get(server.url, { headers = headers })
        assert.is_nil(res)
        assert.equal("invalid", err.code)
      end
      local ok, failure = pcall(catga.http.get, server.url, { timeot = "1s" })
      assert.is_false(ok)
      assert.truthy(failure:find("http_client_spec.lua:%d+: catga.http.get: unknown option timeot"))
      assert.truthy(failure:find("did you mean timeout?", 1, true))
      assert.is_false(pcall(catga.http.get, server.url, { timeout = 5 }))
      assert.is_false(pcall(catga.http.post, server.url, { json = {}, body = "x" }))
      assert.is_false(pcall(catga.http.get))
    end)
  end)

  it("shows no credentials in errors and answers", function()
    open()
    run(function()
      local _, err = catga.http.get "http://u:geheim@127.0.0.1:1/a?token=geheim&x=1&api_key=geheim"
      assert.is_nil(err.message:find("geheim", 1, true))
      assert.truthy(err.message:find("GET http://127.0.0.1:1/a?token=***&x=1&api_key=***", 1, true))
      _, err = catga.http.get "ftp://user:geheim@host/"
      assert.is_nil(err.message:find("geheim", 1, true))
      handle = echo
      local res = assert(catga.http.get(server.url .. "/?secret=geheim"))
      assert.is_nil(res.url:find("geheim", 1, true))
    end)
  end)
end)

describe("redirects", function()
  it("are followed, as the method and the status ask", function()
    open()
    handle = function(request)
      local status = tonumber(request.path:match("^/(%d+)"))
      if status then return status, { Location = "/to" } end
      return echo(request)
    end
    run(function()
      local function go(method, status)
        local res = assert(catga.http[method](server.url .. "/" .. status, method == "post"
          and { body = "b", headers = { ["X-A"] = "1" } } or nil))
        assert.equal(1, res.redirects)
        assert.equal(server.url .. "/to", res.url)
        local got = res:json()
        return got.method .. " " .. (got.body or "")
      end
      assert.equal("GET ", go("get", 301))
      assert.equal("GET ", go("post", 302))
      assert.equal("GET ", go("post", 303))
      assert.equal("POST b", go("post", 307))
      assert.equal("POST b", go("post", 308))
      local res = assert(catga.http.get(server.url .. "/301", { redirects = 0 }))
      assert.equal(301, res.status)
    end)
  end)

  it("have a bound, keep secrets on their host, and lead nowhere odd", function()
    open()
    local other = http_server.start(echo)
    handle = function(request)
      if request.path == "/loop" then return 302, { Location = "/loop" } end
      if request.path == "/file" then return 302, { Location = "file:///etc/passwd" } end
      return 307, { Location = other.url .. "/there" }
    end
    run(function()
      local res, err = catga.http.get(server.url .. "/loop", { redirects = 3 })
      assert.is_nil(res)
      assert.equal("redirect", err.code)
      assert.equal(4, #server.requests)
      res, err = catga.http.get(server.url .. "/file")
      assert.is_nil(res)
      assert.equal("invalid", err.code)
      local got = assert(catga.http.post(server.url .. "/x", { body = "b", auth = { token = "t" },
        headers = { Cookie = "c", ["X-A"] = "1" } })):json()
      assert.is_nil(got.headers.authorization)
      assert.is_nil(got.headers.cookie)
      assert.equal("1", got.headers["x-a"])
      assert.equal("b", got.body)
    end)
    other:stop()
  end)
end)
