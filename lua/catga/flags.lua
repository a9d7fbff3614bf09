--- Flags of records in the log; the same as enum cg_record_flags in src/log/record.h.
local M = {}

M.JOURNAL = 1   -- Of a process's journal.
M.OPENS = 2     -- Makes its stream unfinished.
M.CLOSES = 4    -- Makes it finished again.
M.INTERNAL = 8  -- Bookkeeping: no handler is called for it, and only who asks for it reads it.
M.PERSONAL = 16 -- Some fields of its data are encrypted.

return M
