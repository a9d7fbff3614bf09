--- Points in time as text.
local times = require "catga.time"

describe("a time", function()
  for text, ms in pairs {
    ["1970-01-01T00:00:00Z"] = 0, ["1970-01-01"] = 0, ["1970-01-01T00:00:00.001Z"] = 1,
    ["2026-01-01T00:00:00Z"] = 1767225600000, ["2026-01-01T02:00:00+02:00"] = 1767225600000,
    ["2025-12-31T19:30:00-04:30"] = 1767225600000, ["2024-02-29"] = 1709164800000,
    ["2000-02-29T23:59:59.999Z"] = 951868799999, ["2026-01-01 00:00Z"] = 1767225600000,
    ["2026-01-01t00:00:00.5z"] = 1767225600500, ["9999-12-31T23:59:59.999Z"] = 253402300799999,
    ["9999-12-31T23:59:59.9999999Z"] = 253402300799999,
  } do
    it(text .. " is " .. ms, function() assert.equal(ms, times.parse(text)) end)
  end

  for _, text in ipairs { "", "now", "2026-13-01", "2026-00-01", "2026-02-29", "2100-02-29",
    "2026-01-32", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
    "2026-01-01T00:00:00", "2026-01-01T00:00:00+2", "2026-01-01T00:00:00Zx", "1969-12-31",
    "2026-1-1", "2026-01-01T00:00:00.Z",
    "9999-12-31T23:59:59-00:01", -1, 1.5, 2 ^ 53, true } do
    it("is not " .. tostring(text), function()
      local ms, fault = times.parse(text, "until_time")
      assert.is_nil(ms)
      assert.truthy(fault:find("until_time must be a time such as", 1, true))
    end)
  end

  it("is the same after it was written and read, at any moment", function()
    math.randomseed(1)
    for _ = 1, 20000 do
      local ms = math.floor(math.random() * 253402300799999)
      assert.equal(ms, times.parse(times.format(ms)))
    end
    assert.equal("2026-01-01T00:00:00.000Z", times.format(1767225600000))
    assert.equal("2024-02-29T12:34:56.789Z", times.format(1709210096789))
  end)
end)
