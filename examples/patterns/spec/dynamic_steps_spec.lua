--- The pattern in dynamic_steps.lua: steps by name.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local INPUT = { id = "d", text = "Ann", steps = { "greet", "loudly", "shout" } }

it("dynamic steps: come from the input, also after a kill at every record", function()
  patterns.with("dynamic_steps", function(app)
    assert.equal("HELLO, ANN LOUDLY!", app:run("Dynamic", INPUT))
    local names = {}
    for _, record in ipairs(app:journal("d")) do names[#names + 1] = record.data.step end
    assert.same({ "greet", "say loudly", "shout" }, names)
  end)
  patterns.survives("dynamic_steps", "Dynamic", INPUT)
end)
