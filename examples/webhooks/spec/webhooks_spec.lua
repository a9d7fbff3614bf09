--- The webhooks example on real payloads: all of them through validation, routes and read models,
--- and out of the store as they went in.
---
--- The payloads are those that scripts/fetch_webhooks has put into the build directory.
local testing = require "catga.testing"
local catga = require "catga"
local host = require "catga.native.host"

local DIR = debug.getinfo(1, "S").source:match("^@(.*)/spec/[^/]*$")
local json = catga.json

-- The directory of the payloads, or nil and why there are none.
local function find()
  local build = os.getenv("BUILD") or "build"
  for _, dir in ipairs { build .. "/webhooks", build .. "/../webhooks" } do
    if host.list(dir .. "/api.github.com") then return dir end
  end
  return nil, host.read_file(build .. "/webhooks/missing") or "scripts/fetch_webhooks was not run"
end

local payloads_dir, reason = find()

-- All payloads: { name, payload } in the order of the files.
local function payloads()
  local list = {}
  for _, entry in ipairs(assert(host.list(payloads_dir))) do
    if entry.is_directory then
      local text = assert(host.read_file(payloads_dir .. "/" .. entry.name .. "/index.json"))
      for _, webhook in ipairs(assert(json.decode(text))) do
        for _, payload in ipairs(webhook.examples) do
          list[#list + 1] = { name = webhook.name, payload = payload }
        end
      end
    end
  end
  return list
end

local function read_all(app, stream)
  return app:call(catga.events.read, stream, { max = 10000 })
end

-- Counts texts: { [text] = how often }.
local function add(counts, text) counts[text] = (counts[text] or 0) + 1 end

-- What a plain loop makes of the payloads.
local function expected_of(list)
  local e = { payloads = {}, repositories = {}, names = {}, triage = 0, done = 0, commits = 0,
    pushes = 0 }
  for _, one in ipairs(list) do
    local payload = one.payload
    local repository = payload.repository and payload.repository.full_name
    add(e.payloads, (repository or "-") .. " " .. one.name .. " " .. json.encode(payload))
    add(e.names, one.name)
    if repository then add(e.repositories, repository) end
    if one.name == "issues" or one.name == "pull_request" then
      if payload.action == "opened" then e.triage = e.triage + 1 end
      if payload.action == "closed" or payload.action == "deleted" then e.done = e.done + 1 end
    end
    if one.name == "push" and #payload.commits > 0 then
      e.commits, e.pushes = e.commits + #payload.commits, e.pushes + 1
    end
  end
  return e
end

-- What the archive holds, as expected_of has it.
local function archived(app, expected)
  local counts = {}
  local function take(stream, repository)
    for _, event in ipairs(read_all(app, stream)) do
      local name = event.type:match("^archived%.(.*)$")
      add(counts, repository .. " " .. name .. " " .. json.encode(event.data))
    end
  end
  take("NoRepository", "-")
  for repository in pairs(expected.repositories) do
    take("Repository-" .. repository, repository)
  end
  return counts
end

local function check(app, expected)
  assert.same(expected.payloads, archived(app, expected))
  for repository, count in pairs(expected.repositories) do
    assert.equal(count, app:ask("Repository", { full_name = repository }).events)
  end
  for name, count in pairs(expected.names) do
    assert.equal(count, app:ask("WebhookCount", { name = name }))
  end
  assert.equal(expected.triage, #read_all(app, "$type-to-triage"))
  assert.equal(expected.done, #read_all(app, "$type-done"))
  assert.equal(expected.commits, #read_all(app, "$type-commit"))
  assert.equal(expected.pushes, #read_all(app, "$type-push-summary"))
end

local function receive(app, one, key)
  assert(app:send("ReceiveWebhook", { event = one.name, payload = one.payload }, { key = key }))
end

describe("webhooks", function()
  local app

  before_each(function() app = assert(testing.app(DIR)) end)
  after_each(function() app:stop() end)

  it("are refused when they are not as they must be", function()
    for _, bad in ipairs { {}, { event = "Push!", payload = {} }, { event = "push" },
      { event = "push", payload = { repository = {} } },
      { event = "push", payload = { action = 5 } } } do
      local value, err = app:send("ReceiveWebhook", bad)
      assert.is_nil(value)
      assert.equal("validation", err.code)
    end
  end)

  it("are explained", function()
    local explanation = app:call(catga.routes.explain, { type = "github.issues",
      data = { action = "opened", repository = { full_name = "o/r" } } })
    local to = {}
    for i, send in ipairs(explanation.sends) do to[i] = send.to end
    assert.same({ "Repository-o/r", "Activity", "to-triage" }, to)
  end)

  it("come out as they went in, each once, and are counted", function()
    if not payloads_dir then return pending(reason) end
    local list = payloads()
    assert.is_true(#list > 700)
    for i, one in ipairs(list) do
      receive(app, one, "delivery-" .. i)
      if i % 100 == 0 then receive(app, one, "delivery-" .. i) end -- Delivered twice.
    end
    app:settle()
    check(app, expected_of(list))
  end)

  it("come out as they went in when the program is killed again and again", function()
    if not payloads_dir then return pending(reason) end
    local list = {}
    for i, one in ipairs(payloads()) do
      if i % 7 == 0 then list[#list + 1] = one end
    end
    for i, one in ipairs(list) do
      receive(app, one, "delivery-" .. i)
      if i % 10 == 0 then
        app = assert(app:crash(app:position() - i % 5)) -- What came last may be lost with it.
        for k = math.max(1, i - 5), i do receive(app, list[k], "delivery-" .. k) end
      end
    end
    app:settle()
    check(app, expected_of(list))
  end)
end)
