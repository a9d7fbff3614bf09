--- Base64 (RFC 4648, with padding): bytes as text and back.
local bit = require "bit"

local M = {}

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local CHAR, VALUE = {}, {}
for i = 1, 64 do
  CHAR[i - 1] = ALPHABET:sub(i, i)
  VALUE[ALPHABET:byte(i)] = i - 1
end

local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift
local char = string.char

--- Text of bytes.
---@param bytes string
---@return string
function M.encode(bytes)
  local parts, n = {}, 0
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local word = bor(lshift(a, 16), lshift(b or 0, 8), c or 0)
    n = n + 1
    parts[n] = CHAR[rshift(word, 18)] .. CHAR[band(rshift(word, 12), 63)]
      .. (b and CHAR[band(rshift(word, 6), 63)] or "=") .. (c and CHAR[band(word, 63)] or "=")
  end
  return table.concat(parts)
end

--- Bytes of a text; nil when it is no base64.
---@param text string
---@return string?
function M.decode(text)
  local body, padding = text:match "^([%w+/]*)(=*)$"
  if not body or #text % 4 ~= 0 or #padding > 2 then return nil end
  local parts, n = {}, 0
  for i = 1, #body, 4 do
    local a, b, c, d = body:byte(i, i + 3)
    if not b then return nil end
    local word = bor(lshift(VALUE[a], 18), lshift(VALUE[b], 12), lshift(VALUE[c] or 0, 6),
      VALUE[d] or 0)
    local bytes = char(rshift(word, 16), band(rshift(word, 8), 255), band(word, 255))
    n = n + 1
    parts[n] = d and bytes or bytes:sub(1, c and 2 or 1)
  end
  return table.concat(parts)
end

return M
