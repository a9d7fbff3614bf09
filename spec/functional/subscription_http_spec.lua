--- Subscriptions over HTTP: what operators and consumers outside of the program do.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local json = require "catga.native.json"

local app

local function define()
  catga.events.subscribe { name = "outside", types = { "Made" }, group = { order = "none",
    ack_timeout = "10s" } }
  catga.on("Made", { durable = "inside", attempts = 1 }, function(event)
    if event.n == 2 then error("two") end
  end)
end

local function request(method, path, body, query)
  return app:call(function()
    app.app.handling = app.app.handling or 0
    local status, _, text = http.handle(app.app, method, path, query or {}, {},
      body and json.encode(body) or "")
    return status, json.decode(text)
  end)
end

local function make(first, last)
  app:call(function()
    for n = first, last do
      assert(catga.events.append("S-" .. n, { { type = "Made", data = { n = n } } }))
    end
  end)
end

before_each(function()
  app = assert(testing.app(define))
  make(1, 3)
  app:settle()
end)

after_each(function() app:stop() end)

describe("HTTP for subscriptions", function()
  it("lists and shows them", function()
    local status, list = request("GET", "/subscriptions")
    assert.equal(200, status)
    assert.same({ "inside", "outside" }, { list[1].name, list[2].name })
    assert.equal(1, list[1].parked)
    local one
    status, one = request("GET", "/subscriptions/inside")
    assert.equal(200, status)
    assert.equal("running", one.status)
    assert.equal(0, one.lag)
    assert.equal(404, (request("GET", "/subscriptions/insid")))
    assert.equal(404, (request("GET", "/subscriptions/inside/nothing")))
    assert.equal(404, (request("POST", "/subscriptions/inside/explode")))
    assert.equal(404, (request("POST", "/subscriptions/inside")))
  end)

  it("gives events by tokens and takes the answers", function()
    local _
    local status, taken = request("POST", "/subscriptions/outside/take", nil, { max = "2" })
    assert.equal(200, status)
    assert.equal(2, #taken)
    assert.equal(200, (request("POST", "/subscriptions/outside/ack", { token = taken[1].token })))
    assert.equal(404, (request("POST", "/subscriptions/outside/ack", { token = taken[1].token })))
    assert.equal(200, (request("POST", "/subscriptions/outside/retry", { token = taken[2].token,
      delay = "1s" })))
    _, taken = request("POST", "/subscriptions/outside/take", nil, { wait = "5s" })
    assert.equal(3, taken[1].data.n)
    assert.equal(200, (request("POST", "/subscriptions/outside/park", { token = taken[1].token,
      reason = "bad" })))
    _, taken = request("POST", "/subscriptions/outside/take", nil, { wait = "5s" })
    assert.equal(1, #taken) -- It has waited for the delay.
    assert.equal(2, taken[1].attempt)
    _, taken = request("POST", "/subscriptions/outside/take", nil, { wait = "1s" })
    assert.same({}, taken)
    local parked
    _, parked = request("GET", "/subscriptions/outside/parked")
    assert.equal("bad", parked[1].reason)
  end)

  it("refuses what makes no sense", function()
    local at = "/subscriptions/outside/"
    assert.equal(400, (request("POST", at .. "take", nil, { max = "0" })))
    assert.equal(400, (request("POST", at .. "take", nil, { wait = "5" })))
    assert.equal(400, (request("POST", at .. "ack", {})))
    assert.equal(400, (request("POST", at .. "ack", { token = 5 })))
    assert.equal(400, (request("POST", at .. "retry", { token = "x", delay = "soon" })))
    assert.equal(400, (request("POST", at .. "replay", { position = "some" })))
    assert.equal(400, (request("GET", at .. "parked", nil, { after = "x" })))
    assert.equal(422, (request("POST", at .. "reset", { position = "middle" })))
    assert.equal(422, (request("POST", at .. "reset", { position = 1e15 })))
    assert.equal(422, (request("POST", "/subscriptions/inside/take")))
  end)

  it("pauses, resumes, resets, replays and drops", function()
    local at = "/subscriptions/inside/"
    local function of(field) return select(2, request("GET", "/subscriptions/inside"))[field] end
    assert.equal(200, (request("POST", at .. "pause")))
    assert.equal("paused", of("status"))
    assert.equal(200, (request("POST", "/subscriptions/outside/pause")))
    assert.equal(503, (request("POST", "/subscriptions/outside/take")))
    assert.equal(200, (request("POST", at .. "resume")))
    assert.equal("running", of("status"))
    local _, parked = request("GET", at .. "parked")
    local status, answer = request("POST", at .. "replay", { position = parked[1].position })
    assert.equal(200, status)
    assert.equal(1, answer.count)
    app:settle()
    assert.equal(1, of("parked"))
    _, answer = request("POST", at .. "drop", { position = "all" })
    assert.equal(1, answer.count)
    assert.equal(0, of("parked"))
    local handled = of("handled")
    assert.equal(200, (request("POST", at .. "reset", { position = "start" })))
    app:settle()
    assert.equal(handled + 2, of("handled"))
  end)
end)
