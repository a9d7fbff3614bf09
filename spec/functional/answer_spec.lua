--- What leaves the machine rests only on what is durable: an answer over HTTP waits for commits
--- that its handler may have seen.
local catga = require "catga"
local http = require "catga.http"
local native_task = require "catga.native.task"
local tasks = require "catga.task"
local testing = require "catga.testing"

describe("an answer over HTTP", function()
  it("waits until what its handler may have read is durable", function()
    local app = assert(testing.app(function()
      catga.command("Put", function() catga.events.append("S", { { type = "E", data = {} } }) end)
      catga.query("Count", function() return #catga.events.read("S") end)
    end, { manual = true }))
    local status, body
    tasks.spawn(app.app, function() app.app.mediator:send("command", "Put", {}) end)
    tasks.spawn(app.app, function()
      local _
      status, _, body = http.handle(app.app, "POST", "/queries/Count", {}, {}, "{}")
    end)
    for _ = 1, 5 do native_task.yield() end
    local before = status
    app.app.store:turn()
    app:settle()
    app:stop()
    assert.is_nil(before)
    assert.equal(200, status)
    assert.equal("1", body)
  end)
end)
