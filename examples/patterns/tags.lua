--- Tags: what lists of processes are filtered by, given at the start and changed on the way.
local catga = require "catga"

local Ticket = catga.process "Ticket"

Ticket.options = {
  tags = function(ticket) return { customer = ticket.customer, state = "open" } end,
}

function Ticket:execute()
  local answer = self:receive("answer")
  self:tag { state = "answered", by = answer.by }
  self:sleep("3d")
  self:tag { state = "closed" }
  return answer.text
end

catga.query("OpenTickets", function(query)
  local ids = catga.json.array {}
  for _, process in ipairs(catga.processes.list { name = "Ticket",
    tags = { customer = query.customer, state = "open" } }) do
    ids[#ids + 1] = process.id
  end
  return ids
end)
