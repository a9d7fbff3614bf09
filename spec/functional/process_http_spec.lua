--- Processes over HTTP: lists by tags, signals, approvals, promises, control, the journal; and what
--- is refused, by name.
local testing = require "catga.testing"
local catga = require "catga"
local http = require "catga.http"
local tasks = require "catga.task"
local json = require "catga.native.json"

local START = 1767225600000
local HOUR = 3600000

local app

local function define()
  local Wait = catga.process "Wait"
  function Wait:execute(input)
    self:note(input)
    local got, err = self:receive("go", { timeout = "2h" })
    return { got = got, code = err and err.code }
  end
  function Wait.note(_, input) return input end
  function Wait.compensate_note() return true end
  local Ask = catga.process "Ask"
  Ask.options = { tags = function(input) return { shop = input.shop, urgent = true, size = 5 } end }
  function Ask:execute()
    return self:approval("budget", { timeout = "1h", approvers = { "bob", "ann" }, quorum = 2,
      form = { limit = "number?" } })
  end
  local Promise = catga.process "Promise"
  function Promise:execute()
    local promise = self:promise()
    self:tag { promise = promise.id }
    local value, err = promise:wait()
    return { value = value, code = err and err.code }
  end
  local Many = catga.process "Many"
  function Many:execute()
    return self:all("many", { function() self:sleep("1h") end,
      function() return self:step("slow", function() catga.sleep("1h") return 1 end) end,
      function() return self:step("other", function() catga.sleep("2h") return 2 end) end })
  end
  local Later = catga.process "Later"
  Later.settings = { try = { attempts = 9, backoff = "1h" } }
  function Later:execute()
    self:receive("go")
    return self:try()
  end
  function Later.try() error("no luck") end
  local Undo = catga.process "Undo"
  Undo.settings = { note = { timeout = "2h" } }
  function Undo:execute()
    self:note()
    self:approval("budget")
  end
  function Undo.note() return 1 end
  function Undo.compensate_note() catga.sleep("1h") end
  local Two = catga.process "Two"
  function Two:execute()
    self:step("first", function() return "first" end)
    return self:step("second", function() catga.sleep("5s") return false end)
  end
  local Rounds = catga.process "Rounds"
  function Rounds:execute()
    return self:loop({ n = 1 }, function(state)
      local answer = self:approval("round " .. state.n)
      if state.n == 2 then return nil, answer.by end
      return { n = state.n + 1 }
    end)
  end
  local Fail = catga.process "Fail"
  Fail.settings = { try = { attempts = 2, backoff = "10s" } }
  function Fail:execute() return self:try() end
  function Fail.try() error("no luck") end
end

local function request(method, path, body, query)
  return app:call(function()
    app.app.handling = app.app.handling or 0
    local status, _, text, header, value = http.handle(app.app, method, path, query or {}, {},
      body and (type(body) == "string" and body or json.encode(body)) or "")
    return status, json.decode(text), header, value
  end)
end

-- The answer to a request that must have this status.
local function ok(status, ...)
  local is, answer, header, value = request(...)
  assert.equal(status, is, json.encode(answer))
  return answer, value, header
end

-- A refused request: status, code and a part of what it says.
local function refused(status, code, text, ...)
  local answer = ok(status, ...)
  assert.equal(code, answer.code)
  assert.truthy(answer.detail:find(text, 1, true), answer.detail)
end

before_each(function() app = assert(testing.app(define)) end)

after_each(function()
  app:stop()
  app = nil
end)

describe("HTTP for processes", function()
  it("starts one with an id, a timeout and tags", function()
    local answer, location = ok(201, "POST", "/processes/Wait", { n = 1 },
      { id = "a/b", timeout = "1h", ["tag.k"] = "v", ["tag.n"] = "007" })
    assert.equal("a/b", answer.id)
    assert.equal("/processes/a%2Fb", location)
    ok(200, "POST", "/processes/Wait", { n = 1 }, { id = "a/b" })
    refused(409, "conflict", "a different input", "POST", "/processes/Wait", { n = 2 },
      { id = "a/b" })
    assert.same({ k = "v", n = "007" }, ok(200, "GET", "/processes/a/b").tags)
    app:advance("90m")
    assert.equal("timeout", ok(200, "GET", "/processes/a/b").error.code)
    refused(404, "unknown_process", "did you mean Wait", "POST", "/processes/Wayt", {})
    refused(400, "invalid", "the argument timout is not known; did you mean timeout?", "POST",
      "/processes/Wait", {}, { timout = "1h" })
    refused(422, "invalid", "the timeout of process Wait \"1\"", "POST", "/processes/Wait", {},
      { timeout = "1" })
  end)

  it("shows what one waits for, and which step is attempted", function()
    app:start("Wait", "w")
    app:start("Many", "m")
    app:start("Fail", "f")
    app:settle()
    local w = ok(200, "GET", "/processes/w")
    assert.equal("waiting", w.status)
    assert.same({ { op = 2, kind = "signal", name = "go", due = START + 2 * HOUR } }, w.waits)
    assert.is_nil(w.step)
    local m = ok(200, "GET", "/processes/m")
    assert.equal("running", m.status)
    assert.same({ { op = "1.1.1", kind = "timer", name = "sleep", due = START + HOUR } }, m.waits)
    assert.same({ op = "1.2.1", name = "slow", attempt = 1 }, m.step)
    assert.same({ "slow", "other" }, { m.steps[1].name, m.steps[2].name })
    local f = ok(200, "GET", "/processes/f")
    assert.equal("retry try", f.waits[1].kind .. " " .. f.waits[1].name)
    assert.is_true(f.waits[1].due > START)
    for _, listed in ipairs(ok(200, "GET", "/processes")) do assert.is_nil(listed.waits) end
    app = assert(app:crash())
    app:settle()
    assert.same(w.waits, ok(200, "GET", "/processes/w").waits)
    assert.same(f.waits, ok(200, "GET", "/processes/f").waits)
    app:advance("3h")
    w = ok(200, "GET", "/processes/w")
    assert.equal("completed", w.status)
    assert.is_nil(w.waits)
  end)

  it("shows the same of one that is not in memory", function()
    for _, name in ipairs { "Wait", "Promise", "Later" } do app:start(name, name) end
    app:call(function() assert(catga.start("Ask", { id = "Ask" })) end)
    ok(200, "POST", "/process-signals/Later", { name = "go" })
    app:settle()
    ok(200, "POST", "/process-approvals/Ask", { name = "budget", approved = true, by = "bob" })
    app:settle()
    local names = { "Wait", "Promise", "Later", "Ask" }
    local before = { approvals = ok(200, "GET", "/approvals") }
    for _, id in ipairs(names) do before[id] = ok(200, "GET", "/processes/" .. id) end
    assert.equal("retry try", before.Later.waits[1].kind .. " " .. before.Later.waits[1].name)
    assert.same({ { by = "bob" } }, before.approvals[1].answers)
    app:advance("30s")
    assert.is_nil(next(app.app.engine.active))
    assert.same(before.approvals, ok(200, "GET", "/approvals"))
    for _, id in ipairs(names) do assert.same(before[id], ok(200, "GET", "/processes/" .. id)) end
    assert.is_nil(next(app.app.engine.active)) -- To look at them does not take them up.
    ok(200, "POST", "/process-approvals/Ask", { name = "budget", approved = true, by = "ann" })
    app:settle()
    assert.same({}, ok(200, "GET", "/approvals"))
    ok(200, "POST", "/process-control/Later", { action = "skip", op = 2, result = "x" })
    app:settle()
    assert.equal("x", ok(200, "GET", "/processes/Later").result)
  end)

  it("answers the approval of a round of one that is not in memory", function()
    app:start("Rounds", "r")
    for n = 1, 2 do
      app:advance("30s")
      assert.is_nil(next(app.app.engine.active))
      assert.equal("round " .. n, ok(200, "GET", "/approvals")[1].name)
      ok(200, "POST", "/process-approvals/r", { name = "round " .. n, approved = true, by = "ann" })
    end
    app:settle()
    assert.same({ "ann" }, ok(200, "GET", "/processes/r").result)
  end)

  it("shows no result of a step as one of the process, and tries none again that only waits",
    function()
      app:start("Two", "two")
      app:start("Wait", "w")
      app:settle()
      assert.equal("second", ok(200, "GET", "/processes/two").step.name)
      assert.is_nil(ok(200, "GET", "/processes/two").result)
      ok(200, "POST", "/process-control/w", { action = "pause" })
      ok(200, "POST", "/process-control/w", { action = "resume" })
      for _ = 1, 2 do
        refused(409, "conflict", "is not ended", "POST", "/process-control/w",
          { action = "retry" })
        app:advance("30s") -- Not in memory, the second time.
      end
      assert.is_false(ok(200, "GET", "/processes/two").result)
    end)

  it("shows no wait that is over, and no approval of one that is being undone", function()
    app:start("Later", "l")
    ok(200, "POST", "/process-signals/l", { name = "go" })
    app:settle()
    assert.equal("retry", ok(200, "GET", "/processes/l").waits[1].kind)
    ok(200, "POST", "/process-control/l", { action = "pause" })
    app:start("Undo", "u")
    app:settle()
    assert.equal(1, #ok(200, "GET", "/approvals"))
    tasks.spawn(app.app, function() catga.processes.cancel("u") end)
    app:settle()
    local undone = ok(200, "GET", "/processes/u")
    assert.equal("compensating", undone.status)
    assert.same({}, undone.waits)
    assert.same({ op = 1, name = "note", attempt = 1, is_undo = true }, undone.step)
    assert.same({}, ok(200, "GET", "/approvals"))
    app:advance("1h")
    undone = ok(200, "GET", "/processes/u")
    assert.equal("cancelled", undone.status)
    assert.is_nil(undone.waits)
  end)

  it("lists by tags, parent, name and status", function()
    app:call(function()
      for _, shop in ipairs { "north", "south", "north" } do
        assert(catga.start("Ask", { shop = shop }))
      end
      assert(catga.start("Wait", "w"))
    end)
    local function count(query) return #ok(200, "GET", "/processes", nil, query) end
    assert.equal(2, count { ["tag.shop"] = "north" })
    assert.equal(1, count { ["tag.shop"] = "south", ["tag.urgent"] = "true", ["tag.size"] = "5" })
    assert.equal(0, count { ["tag.shop"] = "south", ["tag.size"] = "6" })
    assert.equal(0, count { ["tag.urgent"] = "false" })
    assert.equal(0, count { parent = "w" })
    assert.equal(1, count { name = "Wait", status = "waiting" })
    assert.equal(1, count { name = "Ask", max = "1" })
    refused(400, "invalid", "did you mean status?", "GET", "/processes", nil, { statu = "x" })
    refused(422, "invalid", "did you mean waiting", "GET", "/processes", nil, { status = "waitin" })
  end)

  it("sends signals, once for an id", function()
    app:start("Wait", "w/1")
    refused(400, "invalid", "the field nam is not known; did you mean name?", "POST",
      "/process-signals/w/1", { nam = "go" })
    refused(400, "invalid", "the body needs name", "POST", "/process-signals/w/1")
    refused(400, "invalid", "name must be a string, got number", "POST", "/process-signals/w/1",
      { name = 5 })
    refused(400, "invalid", "the body is an object", "POST", "/process-signals/w/1", "[]")
    refused(404, "not_found", "no process w/2", "POST", "/process-signals/w/2", { name = "go" })
    refused(404, "not_found", "nothing at", "POST", "/process-signals", { name = "go" })
    for _ = 1, 2 do
      ok(200, "POST", "/process-signals/w/1", { name = "early", id = "e" })
    end
    ok(200, "POST", "/process-signals/w/1", { name = "go", value = { n = 1 } })
    app:settle()
    local types = {}
    for _, record in ipairs(ok(200, "GET", "/process-history/w/1")) do
      types[#types + 1] = record.type
    end
    assert.same({ "ProcessStarted", "ProcessStepCompleted", "ProcessWaitStarted",
      "ProcessSignalled", "ProcessSignalled", "ProcessWaitCompleted", "ProcessCompleted" }, types)
    assert.same({ n = 1 }, ok(200, "GET", "/processes/w/1").result.got)
    refused(409, "ended", "has ended", "POST", "/process-signals/w/1", { name = "go" })
  end)

  it("answers approvals, and lists those that are open", function()
    app:call(function() assert(catga.start("Ask", { id = "a" })) end)
    local open = { { process = "a", name = "budget", approvers = { "ann", "bob" }, quorum = 2,
      answers = {}, due = START + HOUR } }
    assert.same(open, ok(200, "GET", "/approvals"))
    assert.same(open, ok(200, "GET", "/processes/a").approvals)
    local at = "/process-approvals/a"
    refused(403, "forbidden", "for ann, bob, not for eve", "POST", at,
      { name = "budget", approved = true, by = "eve" })
    refused(404, "not_found", "it waits for budget", "POST", at, { name = "x", approved = true })
    refused(422, "validation", "limit must be a number", "POST", at,
      { name = "budget", approved = true, by = "ann", values = { limit = "x" } })
    refused(400, "invalid", "the body needs approved", "POST", at, { name = "budget" })
    refused(400, "invalid", "a rejection has no values", "POST", at,
      { name = "budget", approved = false, values = { limit = 1 } })
    ok(200, "POST", at, { name = "budget", approved = true, by = "ann", values = { limit = 5 },
      reason = "fine" })
    app:settle()
    assert.same({ { by = "ann", reason = "fine" } }, ok(200, "GET", "/approvals")[1].answers)
    app = assert(app:crash())
    app:settle()
    open[1].answers = { { by = "ann", reason = "fine" } }
    assert.same(open, ok(200, "GET", "/approvals"))
    ok(200, "POST", at, { name = "budget", approved = true, by = "bob", reason = json.null })
    app:settle()
    assert.same({}, ok(200, "GET", "/approvals"))
    assert.same({ approved = true, by = { "ann", "bob" }, values = { limit = 5 } },
      ok(200, "GET", "/processes/a").result)
    app:call(function() assert(catga.start("Ask", { id = "b" })) end)
    ok(200, "POST", "/process-approvals/b", { name = "budget", approved = false, by = "bob",
      reason = "too much" })
    app:settle()
    assert.equal("too much", ok(200, "GET", "/processes/b").result.reason)
  end)

  it("keeps promises", function()
    for _, id in ipairs { "p/1", "p2" } do app:start("Promise", id) end
    app:settle()
    local one, two = ok(200, "GET", "/processes/p/1"), ok(200, "GET", "/processes/p2")
    assert.same({ { op = 3, kind = "promise", name = one.tags.promise } }, one.waits)
    local at = "/promises/" .. one.tags.promise
    refused(400, "invalid", "a value or an error", "POST", at)
    refused(400, "invalid", "a value or an error", "POST", at,
      { value = 1, error = { code = "x" } })
    refused(400, "invalid", "the field cod is not known; did you mean code?", "POST", at,
      { error = { cod = "x" } })
    ok(200, "POST", at, { value = json.null })
    ok(200, "POST", "/promises/" .. two.tags.promise, { error = { code = "no_stock" } })
    app:settle()
    assert.same({ value = json.null }, ok(200, "GET", "/processes/p/1").result)
    assert.same({ code = "no_stock" }, ok(200, "GET", "/processes/p2").result)
    refused(409, "ended", "has ended", "POST", at, { value = 1 })
    refused(404, "not_found", "no promise x", "POST", "/promises/x", { value = 1 })
  end)

  it("cancels, kills, holds, tries again and skips", function()
    for i = 1, 4 do app:start("Wait", "w" .. i) end
    app:start("Fail", "f")
    local function act(id, body) return ok(200, "POST", "/process-control/" .. id, body).status end
    assert.equal("paused", act("w1", { action = "pause", reason = "lunch" }))
    assert.equal("waiting", act("w1", { action = "resume" }))
    assert.equal("cancelled", act("w1", { action = "cancel", reason = "no money" }))
    local w1 = ok(200, "GET", "/processes/w1")
    assert.equal("process w1 was cancelled: no money", w1.error.message)
    assert.equal("killed", act("w2", { action = "kill", reason = "stuck" }))
    refused(409, "ended", "has ended", "POST", "/process-control/w2", { action = "kill" })
    refused(409, "conflict", "only one that failed", "POST", "/process-control/w2",
      { action = "retry" })
    app:advance("1m")
    assert.equal("failed", ok(200, "GET", "/processes/f").status)
    assert.equal("running", act("f", { action = "retry", reason = "again" }))
    assert.equal("again", app:journal("f")[5].data.reason)
    refused(409, "conflict", "is no step that waits", "POST", "/process-control/f",
      { action = "skip", op = 7 })
    act("f", { action = "skip", op = 1, result = "by hand" })
    app:settle()
    assert.equal("by hand", ok(200, "GET", "/processes/f").result)
    refused(400, "invalid", "did you mean cancel?", "POST", "/process-control/w3",
      { action = "cancl" })
    refused(400, "invalid", "the field op is not known", "POST", "/process-control/w3",
      { action = "cancel", op = 1 })
    refused(400, "invalid", "the body needs op", "POST", "/process-control/w3", { action = "skip" })
    refused(400, "invalid", "op is the number", "POST", "/process-control/w3",
      { action = "skip", op = true })
    refused(400, "invalid", "the body needs an action", "POST", "/process-control/w3", {})
    refused(404, "not_found", "no process x", "POST", "/process-control/x", { action = "pause" })
  end)

  it("tells the journal, page by page, and what each record says", function()
    app:start("Fail", "f/1")
    app:advance("1m")
    local list, more = ok(200, "GET", "/process-history/f/1", nil, { max = "2" })
    assert.equal("2", more)
    assert.same({ 0, "started Fail" }, { list[1].version, list[1].what })
    assert.same({ 1, START, "ProcessStepFailed", 1 }, { list[2].version, list[2].time,
      list[2].type, list[2].op })
    assert.truthy(list[2].what:find("^step try failed %(attempt 1, next at 2026%-01%-01T00:00:"))
    assert.equal("try", list[2].data.step)
    list, more = ok(200, "GET", "/process-history/f/1", nil, { from = more })
    assert.is_nil(more)
    assert.equal(2, #list)
    assert.truthy(list[2].what:find("failed: error: .*no luck"), list[2].what)
    assert.same({}, ok(200, "GET", "/process-history/f/1", nil, { from = "9" }))
    refused(404, "not_found", "no process f", "GET", "/process-history/f")
    refused(400, "invalid", "max must be", "GET", "/process-history/f/1", nil, { max = "0" })
  end)
end)
