--- The pattern in hello.lua: what it comes to, and after a kill at every record.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

it("hello: a process greets", function()
  patterns.with("hello", function(app)
    assert.equal("Hello, Ann", app:run("Hello", "Ann"))
  end)
  patterns.survives("hello", "Hello", "Ann")
end)
