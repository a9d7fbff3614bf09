--- The pattern in query.lua: how far a running process is.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local RECIPE = { id = "soup", steps = { "cut", "boil", "salt" } }

local function ask(app) return app:ask("HowFar", { id = "soup" }) end

describe("query", function()
  it("tells how far a process is, also after a restart and when it has ended", function()
    patterns.with("query", function(app, reopen)
      app:start("Cooking", RECIPE)
      for done = 1, 3 do
        app:settle()
        assert.same({ done = done, of = 3 }, ask(app))
        app = reopen()
        assert.same({ done = done, of = 3 }, ask(app))
        app:advance("10m")
      end
      assert.equal("ready", select(2, app:wait("soup")))
      assert.same({ done = 3, of = 3 }, ask(app))
      assert.equal("not_found", select(2, app:ask("HowFar", { id = "stew" })).code)
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("query", "Cooking", RECIPE, { drive = ask })
  end)
end)
