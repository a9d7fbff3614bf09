--- The pattern in file_processing.lua: three tries, and nothing left behind.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function failing(times)
  return { stubs = { Upload = function(cmd)
    if tonumber(cmd.path:match("%-(%d)")) <= times then return nil, catga.error("full") end
    return "bucket" .. cmd.path
  end } }
end

describe("file processing", function()
  it("begins again when the upload fails, and removes its files", function()
    patterns.with("file_processing", function(app)
      assert.same({ place = "bucket/tmp/a-3.converted", tries = 3 },
        app:run("File", { id = "f", url = "a" }))
      assert.equal(3, #patterns.types(app, "Removed"))
    end, failing(2))
  end)

  it("comes to the same end after a kill at every record", function()
    local FILE, never = { id = "f", url = "a" }, failing(3)
    never.ends = "failed"
    patterns.survives("file_processing", "File", FILE, failing(1))
    patterns.survives("file_processing", "File", FILE, never)
  end)
end)
