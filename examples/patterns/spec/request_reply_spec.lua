--- The pattern in request_reply.lua: one process asks another.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("request and reply", function()
  it("gives each client its own answer", function()
    patterns.with("request_reply", function(app)
      for i = 1, 3 do app:start("Client", { id = "c" .. i, server = "s", text = "t" .. i }) end
      for i = 1, 3 do assert.equal("T" .. i, select(2, app:wait("c" .. i))) end
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("request_reply", "Client", { id = "c", server = "s", text = "t" })
  end)
end)
