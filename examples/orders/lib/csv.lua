--- Comma-separated values (RFC 4180): quoted fields may hold commas, doubled quotes and line ends.
local M = {}

local QUOTED_LINES_MAX = 50 -- A quote that is not closed within so many lines is a mistake.

local function split_plain(line)
  local fields, n, from = {}, 0, 1
  while true do
    local comma = line:find(",", from, true)
    n = n + 1
    if not comma then
      fields[n] = line:sub(from)
      return fields
    end
    fields[n] = line:sub(from, comma - 1)
    from = comma + 1
  end
end

-- The field behind the opening quote at `from`: its text and the place after its closing quote.
local function quoted(text, from)
  local parts, at = {}, from + 1
  while true do
    local quote = text:find('"', at, true)
    if not quote then return nil end
    parts[#parts + 1] = text:sub(at, quote - 1)
    if text:byte(quote + 1) ~= ('"'):byte() then return table.concat(parts, '"'), quote + 1 end
    at = quote + 2
  end
end

-- Fields of a record with quotes; nil while a quote is open, nil and a fault when it is wrong.
local function split_quoted(text)
  local fields, from = {}, 1
  while true do
    local value, after
    if text:byte(from) == ('"'):byte() then
      value, after = quoted(text, from)
      if not value then return nil end
      if after <= #text and text:byte(after) ~= (","):byte() then
        return nil, "there is text behind a closing quote"
      end
    else
      after = text:find(",", from, true) or #text + 1
      value = text:sub(from, after - 1)
    end
    fields[#fields + 1] = value
    if after > #text then return fields end
    from = after + 1
  end
end

-- The line that begins at `from` without its end, and where the next one begins.
local function line_at(text, from)
  if from > #text then return nil end
  local stop = text:find("\n", from, true) or #text + 1
  local last = text:byte(stop - 1) == 13 and stop > from and stop - 2 or stop - 1
  return text:sub(from, last), stop + 1
end

-- The record that begins with `line`, which has quotes: its fields, where the next one begins, and
-- how many lines it has; or nil and what is wrong with it.
local function read_quoted(text, line, after)
  local record, count = line, 1
  while true do
    local fields, fault = split_quoted(record)
    if fields then return fields, after, count end
    local more, behind
    if not fault and count < QUOTED_LINES_MAX then more, behind = line_at(text, after) end
    if not more then return nil, fault or "a quote is not closed" end
    record, after, count = record .. "\n" .. more, behind, count + 1
  end
end

--- Walks the records of a text. Empty lines are passed over; after a record that is wrong it goes
--- on with the next line.
---@param text string
---@return fun(): integer?, string[]?, string?  line number, and its fields or what is wrong with it
function M.records(text)
  local from = text:sub(1, 3) == "\239\187\191" and 4 or 1 -- A byte order mark says nothing.
  local number = 0
  return function()
    while true do
      local line, after = line_at(text, from)
      if not line then return nil end
      number, from = number + 1, after
      if line:find('"', 1, true) then
        local first = number
        local fields, behind, count = read_quoted(text, line, after)
        if not fields then return first, nil, behind end
        number, from = number + count - 1, behind
        return first, fields
      elseif line ~= "" then
        return number, split_plain(line)
      end
    end
  end
end

return M
