--- Sleep for days: a mail every 30 days until somebody says that it is enough. It survives
--- restarts, and is not in memory while it sleeps.
local catga = require "catga"

local Reminder = catga.process "Reminder"

function Reminder:execute(reminder)
  return self:loop({ mails = 0 }, function(state)
    self:mail(reminder.id, state.mails + 1)
    local enough = self:receive("enough", { timeout = "30d" })
    if enough then return nil, state.mails + 1 end
    return { mails = state.mails + 1 }
  end)
end

function Reminder:mail(id, number)
  assert(catga.events.append("Mail-" .. id, { { type = "Mailed", data = { number = number } } }))
end
