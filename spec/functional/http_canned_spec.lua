--- The testing kit's answers to catga.http: specs of users need no server.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(http, define)
  app = assert(testing.app(define or function() end, { http = http }))
end
after_each(function() app:stop() end)
local function run(fn) return app:call(fn) end

-- The first block of Lua below a heading of docs/effects.md.
local function sample(heading)
  local file = assert(io.open "docs/effects.md")
  local text = file:read "*a"
  file:close()
  local at = assert(text:find("\n## " .. heading .. "\n", 1, true))
  return text:match("```lua\n(.-)```", at)
end

describe("docs/effects.md", function()
  it("has a request that works", function()
    open({ ["POST https://bank.example/*"] = { { error = "timeout" }, 503,
      { json = { id = "c1" } }, 402, 404 } }, assert(loadstring(sample "HTTP")))
    assert.same({ id = "c1" }, app:send("Charge", { order = "o1", cents = 5 }, { key = "o1" }))
    for _, asked in ipairs(app.http_requests) do
      assert.equal("o1/1", asked.headers["idempotency-key"])
    end
    local _, err = app:send("Charge", { order = "o2", cents = 5 })
    assert.equal("refused_by_bank", err.code)
    _, err = app:send("Charge", { order = "o3", cents = 5 })
    assert.equal("http_status", err.code)
  end)

  it("has a cache that works", function()
    local calls = 0
    open(function()
      calls = calls + 1
      return { json = { cents = 5 } }
    end, assert(loadstring("local url = 'http://shop/'\n" .. sample "Caches")))
    assert.equal(5, app:ask("Price", { sku = "a" }).cents)
    assert.equal(5, app:ask("Price", { sku = "a" }).cents)
    assert.equal(1, calls)
  end)
end)

describe("canned answers", function()
  it("are found by method and url, the longest first; what was asked is kept", function()
    open {
      ["GET https://shop.example/orders/42"] = { json = { id = "42" } },
      ["https://shop.example/*"] = 404,
      ["POST https://shop.example/*"] = function(request)
        return { status = 201, json = { got = request.json }, headers = { ["X-A"] = "1" } }
      end,
    }
    run(function()
      assert.equal("42", assert(catga.http.get "https://shop.example/orders/42"):json().id)
      assert.equal(404, assert(catga.http.get "https://shop.example/orders/43").status)
      local res = assert(catga.http.post("https://shop.example/orders", { json = { n = 1 },
        query = { a = "b c" }, auth = { token = "t" } }))
      assert.same({ 201, 1, "1" }, { res.status, res:json().got.n, res.headers["x-a"] })
      local none, err = catga.http.get "https://other.example/"
      assert.is_nil(none)
      assert.equal("no_answer", err.code)
      assert.truthy(err.message:find("GET https://other.example/", 1, true))
    end)
    local asked = app.http_requests
    assert.equal(4, #asked)
    assert.same({ "POST", "/orders", "b c", "Bearer t", 1 }, { asked[3].method, asked[3].path,
      asked[3].query.a, asked[3].headers.authorization, asked[3].json.n })
  end)

  it("come in turn, late, in pieces, as errors", function()
    open { ["http://a/*"] = { 503, { error = "refused" }, { chunks = { "one", "two" } } },
      ["http://late/"] = { delay = "10s", body = "late" } }
    run(function()
      assert.equal(503, assert(catga.http.get "http://a/").status)
      local _, err = catga.http.get "http://a/"
      assert.same({ "refused", true }, { err.code, err.retryable })
      local pieces = {}
      for chunk in assert(catga.http.get("http://a/", { stream = true })):chunks() do
        pieces[#pieces + 1] = chunk
      end
      assert.same({ "one", "two" }, pieces)
      assert.equal("onetwo", assert(catga.http.get "http://a/").body)
      local before = catga.now()
      assert.equal("late", assert(catga.http.get "http://late/").body)
      assert.equal(10000, catga.now() - before)
      _, err = catga.http.get("http://late/", { timeout = "2s" })
      assert.equal("timeout", err.code)
      assert.equal(12000, catga.now() - before)
    end)
  end)

  it("serve steps, whose timeouts run on the clock of the spec", function()
    local function define()
      local P = catga.process "Pays"
      P.settings = { pay = { timeout = "1s", attempts = 3, backoff = "1s" } }
      function P:execute(input) return self:pay(input) end
      function P:pay(input)
        local res, err = catga.http.post("https://bank/pay", { json = input, idempotency = true,
          raise = true })
        return res and res:json(), err
      end
    end
    open({ ["POST https://bank/pay"] = { { delay = "1h" }, 503, { json = { paid = true } } } },
      define)
    local result = assert(app:run("Pays", { id = "p/1", amount = 5 }))
    assert.is_true(result.paid)
    assert.equal(3, #app.http_requests)
    for _, asked in ipairs(app.http_requests) do
      assert.equal("p%2F1/1/1/1", asked.headers["idempotency-key"])
    end
    app = app:crash()
    assert.is_true(app:run("Pays", { id = "p/1", amount = 5 }).paid)
    assert.equal(3, #app.http_requests)
  end)

  it("come under policies: what may change is tried again, the last answer is given", function()
    open({ ["http://a/"] = { 503, { error = "reset" }, { body = "third" } }, ["http://b/"] = 503,
      ["http://late/"] = { delay = "10s" }, ["http://no/"] = 404 }, function()
      catga.policy("calls", { retry = { attempts = 3, backoff = "1s" }, timeout = "2s" })
    end)
    run(function()
      assert.equal("third", assert(catga.http.get("http://a/", { policy = "calls" })).body)
      local res = assert(catga.http.get("http://b/", { policy = "calls" }))
      assert.equal(503, res.status)
      assert.equal(404, assert(catga.http.get("http://no/", { policy = "calls" })).status)
      assert.equal(7, #app.http_requests)
      local ok, err = pcall(catga.http.get, "http://b/", { policy = { attempts = 2 },
        raise = true })
      assert.is_false(ok)
      assert.equal("http_status", err.code)
      assert.equal(9, #app.http_requests)
      local none
      none, err = catga.http.get("http://late/", { policy = "calls" })
      assert.is_nil(none)
      assert.equal("timeout", err.code)
      ok = pcall(catga.http.get, "http://a/", { policy = "other" })
      assert.is_false(ok)
    end)
  end)

  it("follow redirects as real ones do", function()
    open { ["http://a/x"] = { status = 302, headers = { Location = "/y" } },
      ["http://a/y"] = { status = 301, headers = { Location = "http://b/" } },
      ["http://b/"] = { body = "there" },
      ["https://a/"] = { status = 301, headers = { Location = "http://a/x" } } }
    run(function()
      local res = assert(catga.http.get("http://a/x", { auth = { token = "t" } }))
      assert.same({ "there", 2, "http://b/" }, { res.body, res.redirects, res.url })
      assert.equal("Bearer t", app.http_requests[2].headers.authorization)
      assert.is_nil(app.http_requests[3].headers.authorization)
      local none, err = catga.http.get "https://a/"
      assert.is_nil(none)
      assert.equal("redirect", err.code)
      assert.truthy(err.message:find("not encrypted", 1, true))
    end)
  end)
end)
