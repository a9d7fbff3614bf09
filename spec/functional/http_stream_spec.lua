--- catga.http against a server on the loopback: bodies piece by piece, and how requests end.
local testing = require "catga.testing"
local clocks = require "catga.native.clock"
local native_task = require "catga.native.task"
local state = require "catga.state"
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

-- Waits in real time; `settle` waits too.
local function wait_until(fn)
  native_task.busy(1)
  local system = clocks.system()
  while not fn() do system:sleep(1) end
  system:close()
  native_task.busy(-1)
end

local function echo(request)
  return 200, {}, catga.json.encode { method = request.method, path = request.path,
    headers = request.headers, body = request.body }
end

describe("bodies piece by piece", function()
  local function pieces(conn, count)
    conn:send "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for n = 1, count do conn:send(("%x\r\n%d\r\n"):format(#tostring(n), n)) end
    conn:send "0\r\n\r\n"
  end

  it("come to on_data, to res:chunks(), to res:read()", function()
    open()
    handle = function(_, conn) pieces(conn, 100) end
    local all = {}
    for n = 1, 100 do all[n] = n end
    local whole = table.concat(all)
    run(function()
      local got = {}
      local res = assert(catga.http.get(server.url, { on_data = function(chunk)
        got[#got + 1] = chunk
      end }))
      assert.equal(whole, table.concat(got))
      assert.is_nil(res.body)
      res = assert(catga.http.get(server.url, { stream = true }))
      assert.equal(200, res.status)
      got = {}
      for chunk in res:chunks() do
        got[#got + 1] = chunk
        catga.sleep "1ms"
      end
      assert.equal(whole, table.concat(got))
      assert.is_nil(res:read())
      res = assert(catga.http.get(server.url, { stream = true }))
      assert.equal("1", assert(res:read()):sub(1, 1))
      res:close()
      assert.is_nil(res:read())
    end)
  end)

  it("stop at the server while nobody takes them", function()
    open()
    local sent, is_done = 0, false
    handle = function(_, conn)
      conn:send "HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n"
      for _ = 1, 512 do
        conn:send(("x"):rep(65536))
        sent = sent + 65536
      end
      is_done = true
    end
    run(function()
      local res = assert(catga.http.get(server.url, { stream = true }))
      local before
      repeat -- Until the buffers of the system are full.
        before = sent
        local due = os.clock() + 0.02
        wait_until(function() return os.clock() > due end)
      until sent == before
      assert.is_false(is_done)
      local bytes = 0
      for chunk in res:chunks() do bytes = bytes + #chunk end
      assert.equal(33554432, bytes)
    end)
  end)

  it("that break off raise; the bound holds too", function()
    open()
    handle = function(_, conn)
      conn:send "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
      conn:close()
    end
    run(function()
      local res = assert(catga.http.get(server.url, { stream = true }))
      local ok, err = pcall(function() for _ in res:chunks() do end end)
      assert.is_false(ok)
      assert.equal("reset", err.code)
      handle = function() return 200, {}, ("x"):rep(5000) end
      res = assert(catga.http.get(server.url, { stream = true, body_max = "4KiB" }))
      local none
      none, err = res:read()
      assert.is_nil(none)
      assert.equal("too_large", err.code)
      none, err = catga.http.get(server.url, { body_max = "4KiB", on_data = function() end })
      assert.is_nil(none)
      assert.equal("too_large", err.code)
      ok, err = pcall(catga.http.get, server.url, { on_data = function() error "oops" end })
      assert.is_false(ok)
      assert.truthy(err.message:find "oops")
    end)
  end)

  it("go out from a function, with and without a size", function()
    open()
    handle = echo
    local function counter(count)
      local n = 0
      return function()
        n = n + 1
        if n <= count then return tostring(n % 10):rep(1000) end
      end
    end
    run(function()
      local res = assert(catga.http.put(server.url, { body = counter(1000), body_max = "4MiB" }))
      local got = res:json()
      assert.equal(1000000, #got.body)
      assert.equal("chunked", got.headers["transfer-encoding"])
      got = assert(catga.http.post(server.url, { body = counter(10), body_size = 10000 })):json()
      assert.equal("10000", got.headers["content-length"])
      assert.equal("POST", got.method)
      got = assert(catga.http.post(server.url, { body = counter(0) })):json()
      assert.equal("", got.body)
      local ok, err = pcall(catga.http.post, server.url, { body = function() error "oops" end })
      assert.is_false(ok)
      assert.truthy(err.message:find "oops")
    end)
  end)

  it("stop going out when the server has answered already", function()
    open()
    server:stop()
    server = http_server.start(function(_, conn)
      conn:send "HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
      conn:sleep(20)
      conn:close()
    end, { lazy = true })
    local given = 0
    run(function()
      local res, err = catga.http.put(server.url, { body = function()
        given = given + 1
        if given < 10000 then return ("x"):rep(65536) end
      end })
      assert.is_true(res ~= nil and res.status == 413 or err.code == "reset")
    end)
    assert.is_true(given < 10000)
  end)
end)

describe("a request", function()
  local function hangs(_, conn) conn:await_close() end

  it("ends when its task is dropped", function()
    open()
    handle = hangs
    run(function()
      local task
      catga.spawn(function()
        task = state[1]
        catga.http.get(server.url)
      end)
      wait_until(function() return #server.requests == 1 end)
      assert.equal(1, app.app.http_client.native:count())
      assert.is_true(native_task.drop(task))
      assert.equal(0, app.app.http_client.native:count())
      wait_until(function() return server.open == 0 end)
    end)
  end)

  it("that is streamed ends with its task", function()
    open()
    handle = function(_, conn)
      conn:send "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
      conn:await_close()
    end
    run(function()
      catga.spawn(function() assert(catga.http.get(server.url, { stream = true })) end):wait()
      assert.equal(0, app.app.http_client.native:count())
    end)
  end)

  it("ends when its step's timeout fires, while it waits and while it sends", function()
    local runs = 0
    clock = clocks.system()
    open { clock = clock, define = function()
      local P = catga.process "Calls"
      P.settings = { call = { timeout = "50ms", attempts = 2, backoff = "1ms" },
        upload = { timeout = "50ms", attempts = 1 } }
      function P:execute(input)
        if input.upload then return self:upload(input.url) end
        return self:call(input.url)
      end
      function P:call(url)
        runs = runs + 1
        local res = assert(catga.http.get(url, { idempotency = true }))
        return res.body
      end
      function P:upload(url)
        return catga.http.put(url, { body = function()
          catga.sleep "10ms"
          return "x"
        end })
      end
    end }
    handle = hangs
    local function outcome(input)
      local id = assert(app.app.engine:start("Calls", input))
      local _, result, err = app.app.engine:wait(id)
      return result, err
    end
    local value, err = outcome { id = "1", url = server.url }
    assert.is_nil(value)
    assert.equal("timeout", err.code)
    assert.equal(2, runs)
    assert.equal("1/1/1/1", server.requests[1].headers["idempotency-key"])
    assert.equal("1/1/1/1", server.requests[2].headers["idempotency-key"])
    value, err = outcome { id = "2", url = server.url, upload = true }
    assert.is_nil(value)
    assert.equal("timeout", err.code)
    assert.equal(0, app.app.http_client.native:count())
    wait_until(function() return server.open == 0 end)
  end)

  it("ends when the app stops", function()
    open()
    handle = hangs
    local got
    catga.spawn(function() got = { catga.http.get(server.url) } end)
    wait_until(function() return #server.requests == 1 end)
    app:stop()
    app = nil
    assert.is_nil(got and got[1])
    wait_until(function() return server.open == 0 end)
  end)

  it("does not hold up the loop while a name is resolved", function()
    open()
    run(function()
      local handles = {}
      for n = 1, 20 do
        handles[n] = catga.spawn(function()
          return catga.http.get("http://host" .. n .. ".invalid/", { timeout = "5s" })
        end)
      end
      for n = 1, 20 do
        local res, err = handles[n]:wait()
        assert.is_nil(res)
        assert.equal("dns", err.code)
      end
    end)
  end)

  it("has keys and traces of its handler, the same in every attempt", function()
    local keys = {}
    open { define = function()
      catga.command("Call", function(cmd)
        for n = 1, 2 do
          catga.http.post(cmd.url, { idempotency = true, traceparent = true })
          keys[n] = server.requests[#server.requests].headers
        end
        catga.http.post(cmd.url, { idempotency = "own", traceparent = "00-x-y-01" })
        return true
      end)
    end }
    handle = function() return 200 end
    assert(app:send("Call", { url = server.url }, { key = "order-1" }))
    assert.equal("order-1/1", keys[1]["idempotency-key"])
    assert.equal("order-1/2", keys[2]["idempotency-key"])
    assert.truthy(keys[1].traceparent:find("^00%-%x+%-%x+%-01$"))
    assert.equal(keys[1].traceparent:sub(4, 35), keys[2].traceparent:sub(4, 35))
    assert.not_equal(keys[1].traceparent, keys[2].traceparent)
    local last = server.requests[#server.requests].headers
    assert.same({ "own", "00-x-y-01" }, { last["idempotency-key"], last.traceparent })
    run(function()
      local ok, failure = pcall(catga.http.post, server.url, { idempotency = true })
      assert.is_false(ok)
      assert.truthy(failure:find("idempotency = true is for steps and handlers", 1, true))
    end)
  end)

  it("is refused in the body of a process, and when too many are under way", function()
    open { settings = { http_requests_max = 2 }, define = function()
      local P = catga.process "Body"
      function P:execute(input)
        local res = catga.http.get(input.url)
        return res
      end
    end }
    local value, err = app:run("Body", { id = "1", url = server.url })
    assert.is_nil(value)
    assert.truthy(err.message:find("catga.http.get in the body of a process", 1, true))
    assert.truthy(err.message:find("http_stream_spec.lua", 1, true))
    handle = function(_, conn)
      conn:sleep(20)
      return 200
    end
    run(function()
      local codes = catga.map({ 1, 2, 3 }, function()
        local res, failure = catga.http.get(server.url)
        return res and res.status or failure.code
      end)
      table.sort(codes, function(a, b) return tostring(a) < tostring(b) end)
      assert.same({ 200, 200, "limit" }, codes)
    end)
  end)

  it("can be the result of a step", function()
    open { define = function()
      local P = catga.process "Keeps"
      function P:execute(input) return self:call(input.url) end
      function P:call(url) return catga.http.get(url) end
    end }
    handle = function() return 200, { ["X-A"] = "1" }, "text" end
    local result = assert(app:run("Keeps", { id = "1", url = server.url }))
    assert.same({ 200, true, "text", "1" }, { result.status, result.ok, result.body,
      result.headers["x-a"] })
  end)
end)
