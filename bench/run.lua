--- run.lua - runs the groups of bench/groups.lua in interleaved rounds and prints the medians.
---
--- Usage: luajit bench/run.lua BUILD DIRECTORY [GROUP] [RUNS], in the root of the tree, as
--- scripts/bench does. DIRECTORY is a scratch directory. Prints a table a group, and below it one
--- line a row for programs, separated by tabs, "-" where there is none: "bench", group, what, unit,
--- ours, floor, ratio, budget, runs, lowest and highest of ours. The ratio is the median of the
--- ratios of the rounds; ours and floor are medians of their own.
local build, directory, only, runs = ...
runs = tonumber(runs) or 5

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function expand(text, words)
  return (text:gsub("%$(%u+)", words))
end

local function exists(path)
  local file = io.open(expand(path, { BUILD = build }))
  if file then file:close() end
  return file ~= nil
end

--- Runs one command and adds what its lines say to values[what], a list of numbers.
local function measure(command, values, units)
  local data, kept = directory .. "/data", directory .. "/kept"
  assert(os.execute(("rm -rf %s && mkdir -p %s %s"):format(quote(data), quote(data),
    quote(kept))) == 0)
  local text = expand(command, { BUILD = quote(build), DATA = quote(data), KEPT = quote(kept) })
  local pipe = assert(io.popen(text .. "; echo \"exit code: $? of it\""))
  local code
  for line in pipe:lines() do
    local what, number, unit = line:match("^(.-): (%-?[%d.]+) (.+)$")
    if what == "exit code" then
      code = number
    elseif what and tonumber(number) then
      values[what] = values[what] or {}
      table.insert(values[what], tonumber(number))
      units[what] = unit
    end
  end
  pipe:close()
  if code ~= "0" then
    io.stderr:write(("bench: exit code %s of: %s\n"):format(tostring(code), text))
    return false
  end
  return true
end

local function median(list)
  if not list then return nil end
  local sorted = { unpack(list) }
  table.sort(sorted)
  local middle = math.floor(#sorted / 2)
  if #sorted % 2 == 1 then return sorted[middle + 1], sorted[1], sorted[#sorted] end
  return (sorted[middle] + sorted[middle + 1]) / 2, sorted[1], sorted[#sorted]
end

--- A number with as many digits as it deserves; "-" for none.
local function show(number)
  if not number then return "-" end
  if number >= 1000 then
    local text = ("%.0f"):format(number)
    local shown = text:reverse():gsub("(%d%d%d)", "%1,"):reverse()
    return (shown:gsub("^,", ""))
  end
  if number >= 100 then return ("%.0f"):format(number) end
  return ("%.2f"):format(number)
end

--- The ratio of each round where both sides were measured as often; else of the medians.
local function ratio_of(ours, floor)
  if not (ours and floor) then return nil end
  if #ours ~= #floor then return median(ours) / median(floor) end
  local ratios = {}
  for i = 1, #ours do ratios[i] = ours[i] / floor[i] end
  return (median(ratios))
end

local function verdict(row, ours, floor)
  if ours and row.floor and not floor then return "not measured beside" end
  if not (row.budget and ours) then return "" end
  local is_met = row.better == "more" and ours >= row.budget
    or row.better == "less" and ours <= row.budget
  return is_met and "met" or "short"
end

local FORMAT = "%-42s %12s %12s %8s %10s %-9s %s"

local function print_group(group, values, units)
  print(("\n%s"):format(group.name))
  print(FORMAT:format("", "ours", "floor", "ratio", "budget", "unit", ""))
  local lines = {}
  for _, row in ipairs(group.rows) do
    local ours, lowest, highest = median(values[row.what])
    local floor = row.floor and median(values[row.floor])
    local ratio = ratio_of(values[row.what], row.floor and values[row.floor])
    local title = row.title or row.what
    print(FORMAT:format(title, show(ours), show(floor), show(ratio), show(row.budget),
      units[row.what] or "not measured", verdict(row, ours, floor)))
    local fields = { "bench", group.name, title, units[row.what] or "-", ours or "-",
      floor or "-", ratio or "-", row.budget or "-", #(values[row.what] or {}), lowest or "-",
      highest or "-" }
    for i = 1, #fields do fields[i] = tostring(fields[i]) end
    lines[#lines + 1] = table.concat(fields, "\t")
  end
  print("")
  print(table.concat(lines, "\n"))
  io.stdout:flush()
end

local function run_group(group)
  local values, units, is_complete = {}, {}, true
  for round = 1, runs do
    for _, command in ipairs(group.commands) do
      local is_due = round == 1 or not command.once
      if is_due and (not command.needs or exists(command.needs)) then
        is_complete = measure(command.run, values, units) and is_complete
      end
    end
  end
  print_group(group, values, units)
  for _, row in ipairs(group.rows) do
    if not values[row.what] or row.floor and not values[row.floor] then is_complete = false end
  end
  return is_complete
end

local groups = dofile("bench/groups.lua")
local is_complete, is_known = true, false
for _, group in ipairs(groups) do
  if only == group.name or (not only or only == "") and not group.is_long then
    is_known = true
    is_complete = run_group(group) and is_complete
  end
end
if not is_known then
  local names = {}
  for i, group in ipairs(groups) do names[i] = group.name end
  io.stderr:write(("bench: there is no group %s; there are %s\n"):format(only,
    table.concat(names, ", ")))
end
os.exit(is_known and is_complete and 0 or 1)
