--- The pattern in child.lua: a result and an error of children.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

it("child: a parent gets results and errors, also after a kill at every record", function()
  patterns.with("child", function(app)
    assert.same({ greeting = "Hello, Ann", second = "nameless" },
      app:run("Parent", { id = "p", name = "Ann" }))
  end)
  patterns.survives("child", "Parent", { id = "p", name = "Ann" })
end)
