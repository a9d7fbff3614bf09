--- Cancellation: catga.processes.cancel(id), or here the job's own deadline, ends the body where it
--- waits; no pcall can swallow that. Cleaning up is undoing: the undo of the step that made a mess.
local catga = require "catga"

local Job = catga.process "Job"

Job.options = { timeout = "30d" }

function Job:execute(job)
  self:take_machine(job.machine)
  for part = 1, job.parts do
    self:work(part)
    self:sleep("1h")
  end
  self:give_back(job.machine)
  return "done"
end

local function note(machine, type)
  assert(catga.events.append("Machine-" .. machine, { { type = type } }))
end

function Job:take_machine(machine) note(machine, "Taken") end
function Job:compensate_take_machine(_, machine) note(machine, "CleanedUp") end

function Job:work(part) return part end

function Job:give_back(machine) note(machine, "GivenBack") end
