--- Polling: three ways. Often: inside one step. Seldom, without a bound: pauses that are timers of
--- the process, in a loop whose journal does not grow. In between: the attempts of a step.
local catga = require "catga"

local Poll = catga.process "Poll"

Poll.settings = {
  poll_often = { timeout = "1m" },
  poll_by_attempts = { attempts = 10, backoff = "10s" },
}

function Poll:execute(poll)
  if poll.how == "often" then return self:poll_often(poll.job) end
  if poll.how == "attempts" then return self:poll_by_attempts(poll.job) end
  return self:loop({}, function(state, round)
    local answer = self:ask(poll.job)
    if answer then return nil, ("%s in round %d"):format(answer, round) end
    self:sleep("1h")
    return state
  end)
end

function Poll:ask(job) return self:send("JobState", { job = job }) end

function Poll:poll_often(job)
  while true do
    local answer = self:ask(job)
    if answer then return answer end
    catga.sleep("1s")
  end
end

function Poll:poll_by_attempts(job)
  return self:ask(job) or error("not done yet") -- A plain error: it is tried again.
end

catga.command("JobState", function(cmd) return cmd.job .. " done" end) -- false: not done yet.
