--- Tells the sink, a process that is never killed, what happens here: by one write a time through a
--- FIFO. A write is below PIPE_BUF, so it arrives whole or not at all.
local M = {}

local WRITE_BYTES_MAX = 4000 -- PIPE_BUF is 4,096.

local handle
local kept, kept_bytes = {}, 0

local function write(text)
  if not handle then
    local path = assert(os.getenv("CATGA_SINK"), "CATGA_SINK names the FIFO of the sink")
    handle = assert(io.open(path, "a"))
    handle:setvbuf("no")
  end
  assert(handle:write(text))
end

--- Tells a line at once.
---@param line string
function M.write(line) write(line .. "\n") end

--- Tells what was kept.
function M.flush()
  if kept_bytes > 0 then write(table.concat(kept)) end
  kept, kept_bytes = {}, 0
end

--- Tells a line some time before the next flush is over.
---@param line string
function M.keep(line)
  if kept_bytes + #line + 1 > WRITE_BYTES_MAX then M.flush() end
  kept[#kept + 1] = line .. "\n"
  kept_bytes = kept_bytes + #line + 1
end

return M
