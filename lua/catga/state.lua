--- What the scheduler and the Lua half share: slot 1 is the table of the running task, written by
--- the scheduler before every resume; `app` is the program's app, for code outside of tasks.
---@class catga.Task
---@field handle userdata?     the task in C; nil once it is gone
---@field app catga.App?       whose work it does
---@field ctx catga.Ctx?       envelope of the message being handled
---@field unit catga.Unit?     what the unit of work has staged so far
---@field in_unit boolean?     a unit of work is open
---@field flow boolean?        the body of a process runs, outside of its steps
---@field pure string?        what runs that must have no effects: "an upcaster", ...
---@field process catga.Instance? the process whose body or step runs
---@field limit catga.Step?    the step whose attempt runs: a unit of work with a time limit
---@field timer userdata?      armed for the limit
---@field timed_out boolean?   the limit has passed
---@field ending table<any, function>?  what is done when the task has ended, see catga.task
---@field at_end function?     does it; the scheduler calls it for a task that was dropped
---@field interrupt catga.Error? raised at the next wait
---@field timed catga.Limit?   the innermost time limit of a policy
---@field holds catga.Hold[]?  what it lets go of when it is dropped
---@field in_wait boolean?     parked below such a limit

---@class catga.State
---@field [1] catga.Task?
---@field app catga.App?
---@field mpack table?         the library of MessagePack, once it is open
local state = { false }
return state
