--- The window of a subscription: order by key, what may be delivered, and the position.
local windows = require "catga.subscription.window"
local random = require "catga.process.random"

local function entry(position, key)
  return { position = position, key = key, attempts = 0, stream = "s", version = position }
end

local function positions(window)
  local list = {}
  while window:ready_count() > 0 do list[#list + 1] = window:take().position end
  return list
end

describe("a window", function()
  it("gives the first of each key, and the next when that is done", function()
    local window = windows.new(0)
    local all = {}
    for i, key in ipairs { "a", "a", "b", "a", "b" } do
      all[i] = entry(i * 10, key)
      window:add(all[i])
    end
    window.read_to = 55
    assert.same({ 10, 30 }, positions(window))
    assert.equal(2, window.out_count)
    assert.equal(9, window:position())
    window:finish(all[3])
    assert.same({ 50 }, positions(window))
    assert.equal(9, window:position())
    assert.same({ 30 }, window:done_above())
    assert.equal(19, window:position_after(all[1]))
    window:finish(all[1])
    assert.equal(19, window:position())
    assert.same({ 20 }, positions(window))
    window:delay(all[2])
    assert.equal(0, window:ready_count())
    window:again(all[2])
    assert.same({ 20 }, positions(window))
    window:finish(all[2])
    assert.same({ 40 }, positions(window))
    window:finish(all[4])
    assert.equal(55, window:position_after(all[5]))
    window:finish(all[5])
    assert.equal(55, window:position())
    assert.equal(0, window:count())
    assert.is_nil(next(window.keys))
  end)

  it("keeps a blocked key back but for what is delivered again, in order", function()
    local window = windows.new(0)
    local one, two, three = entry(1, "k"), entry(2, "k"), entry(3, "k")
    for _, e in ipairs { one, two, three } do window:add(e) end
    window:take()
    window:block("k")
    window:block("k")
    window:finish(one)
    assert.same({}, positions(window))
    local zeroth, first, second = entry(-3, "k"), entry(-2, "k"), entry(-1, "k")
    for _, e in ipairs { zeroth, first, second } do window:add_replay(e) end
    assert.same({ -3 }, positions(window))
    window:finish(zeroth)
    assert.same({ -2 }, positions(window))
    window:finish(first)
    window:unblock("k")
    assert.same({ -1 }, positions(window))
    window:finish(second)
    assert.same({}, positions(window))
    window:unblock("k")
    assert.same({ 2 }, positions(window))
  end)

  it("takes in what was done before only above what is not", function()
    local window = windows.new(4)
    window:add_done(5)
    assert.equal(0, window:count())
    local six = entry(6)
    window:add(six)
    window:add_done(7)
    window.read_to = 7
    assert.same({ 7 }, window:done_above())
    window:take()
    assert.equal(7, window:position_after(six))
    window:finish(six)
    assert.equal(7, window:position())
  end)

  it("holds for any order of ends", function()
    for seed = 1, 60 do
      local next_random = random.new(seed)
      local function die(n) return math.floor(next_random() * n) + 1 end
      local window, out, undone, last_of, position = windows.new(0), {}, {}, {}, 0
      for _ = 1, 200 do
        local what = die(3)
        if what == 1 then
          position = position + die(3)
          local key = die(4) > 1 and die(3) or nil
          undone[position] = true
          window:add(entry(position, key))
          window.read_to = position + die(2) - 1
          position = window.read_to
        elseif what == 2 then
          out[#out + 1] = window:take()
        elseif #out > 0 then
          local ended = table.remove(out, die(#out))
          if die(4) == 1 then
            window:delay(ended)
            window:again(ended)
          else
            if ended.key then
              assert.is_true(ended.position > (last_of[ended.key] or 0))
              last_of[ended.key] = ended.position
            end
            local expected = window:position_after(ended)
            window:finish(ended)
            undone[ended.position] = nil
            assert.equal(expected, window:position())
          end
        end
        local first = math.huge
        for at in pairs(undone) do first = math.min(first, at) end
        assert.equal(math.min(first - 1, window.read_to), window:position())
        assert.equal(#out, window.out_count)
      end
    end
  end)
end)
