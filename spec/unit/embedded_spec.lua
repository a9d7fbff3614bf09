--- The modules inside the program: their bytecode and their text are the same program.
local raw = require "catga.sandbox".raw

-- The host's own searcher, its one upvalue (take the bytecode?) set.
local function search(name, is_code)
  local searcher = package.loaders[2]
  local _, before = debug.getupvalue(searcher, 1)
  debug.setupvalue(searcher, 1, is_code)
  local chunk = searcher(name)
  debug.setupvalue(searcher, 1, before)
  return chunk, before
end

-- The bytes of a program in order of their values: the fields of a constant table are dumped in any
-- order.
local function bytes_of(chunk)
  local code = string.dump(chunk)
  local bytes = {}
  for i = 1, #code do bytes[i] = code:sub(i, i) end
  table.sort(bytes)
  return table.concat(bytes)
end

describe("modules inside the program", function()
  it("come from bytecode that this LuaJIT takes", function()
    local _, is_code = search("catga.error", false)
    assert.is_true(is_code)
  end)

  it("are the same program as text, with the same line numbers", function()
    local count = 0
    for name in raw.pairs(package.loaded) do
      if name:find("^catga") and not name:find("^catga%.native") then
        local code, text = search(name, true), search(name, false)
        if type(code) == "function" then
          count = count + 1
          assert.is_true(bytes_of(code) == bytes_of(text), name)
          assert.are.equal(debug.getinfo(code, "S").source, debug.getinfo(text, "S").source)
        end
      end
    end
    assert.is_true(count > 30, count .. " modules")
  end)
end)
