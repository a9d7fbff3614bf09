--- Mutex: a process is the lock of a resource; who needs it signals, waits to be told, and signals
--- again. A lease ends the hold of one that never gives back.
local catga = require "catga"

local Lock = catga.process "Lock"

function Lock:execute(name)
  self:loop({ holds = 0 }, function(state)
    local request = self:receive("acquire")
    if self:tell(request.by, name) then
      self:receive("release " .. request.by, { timeout = request.lease })
    end
    return { holds = state.holds + 1 }
  end)
end

function Lock:tell(by, name) -- One that has ended meanwhile does not get it.
  return (catga.processes.signal(by, "granted " .. name, true)) or false
end

local Withdrawal = catga.process "Withdrawal"

function Withdrawal:execute(input)
  self:make_lock(input.account)
  self:signal_lock("acquire", input.account, { by = self.id, lease = "1m" })
  self:receive("granted " .. input.account)
  local before = self:send("ReadAccount", input)
  self:sleep("5s") -- Without the lock others would come between.
  local after = self:send("WriteAccount", { account = input.account, cents = before - input.cents })
  self:signal_lock("release " .. self.id, input.account, true)
  return after
end

function Withdrawal:make_lock(account) return assert(catga.start("Lock", account)) end

function Withdrawal:signal_lock(name, account, value)
  assert(catga.processes.signal(account, name, value))
end
