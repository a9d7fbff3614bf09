--- Tells the sink, a process that is never killed, what happens here: one line a time through a
--- FIFO. A line is below PIPE_BUF, so it is written whole or not at all.
local M = {}

local handle

---@param line string
function M.write(line)
  if not handle then
    local path = assert(os.getenv("CATGA_SINK"), "CATGA_SINK names the FIFO of the sink")
    handle = assert(io.open(path, "a"))
    handle:setvbuf("no")
  end
  assert(handle:write(line .. "\n"))
end

return M
