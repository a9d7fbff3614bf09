--- Random numbers that are the same on every replay: xorshift128 (Marsaglia, 2003), seeded from a
--- number that the start record holds.
local bit = require "bit"

local M = {}

local bxor, lshift, rshift = bit.bxor, bit.lshift, bit.rshift

-- One round of splitmix32, which spreads a small seed over a word.
local function spread(word)
  word = bit.tobit(word + 0x9e3779b9)
  local mixed = bxor(word, rshift(word, 16))
  mixed = bit.tobit(mixed * 0x21f0 + lshift(mixed, 7))
  return bxor(mixed, rshift(mixed, 15)), word
end

--- A generator.
---@param seed number  whole, 0 to 2^48-1
---@return fun(): number  0 <= r < 1, 32 random bits
function M.new(seed)
  local word = bit.tobit(seed % 2 ^ 32)
  local high = bit.tobit(math.floor(seed / 2 ^ 32))
  local x, y, z, w
  x, word = spread(word)
  y, word = spread(bxor(word, high))
  z, word = spread(word)
  w = spread(bxor(word, lshift(high, 11)))
  if x == 0 and y == 0 and z == 0 and w == 0 then w = 1 end
  return function()
    local t = bxor(x, lshift(x, 11))
    x, y, z = y, z, w
    w = bxor(bxor(w, rshift(w, 19)), bxor(t, rshift(t, 8)))
    return (w % 2 ^ 32) / 2 ^ 32
  end
end

--- A version 4 UUID from a generator.
---@param next_random fun(): number
---@return string
function M.uuid(next_random)
  return (("xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx"):gsub("[xy]", function(c)
    local digit = math.floor(next_random() * 16)
    if c == "y" then digit = 8 + digit % 4 end
    return ("%x"):format(digit)
  end))
end

return M
