--- Request and reply between processes: the asking one signals, and waits for the signal that comes
--- back; the answering one serves whoever asks.
local catga = require "catga"

local Server = catga.process "Server"

function Server:execute()
  return self:loop({ served = 0 }, function(state)
    local request = self:receive("request", { timeout = "1d" })
    if not request then return nil, state.served end
    self:reply(request)
    return { served = state.served + 1 }
  end)
end

function Server:reply(request) -- One that has ended does not want it any more.
  catga.processes.signal(request.from, "reply", request.text:upper(), { id = request.from })
end

local Client = catga.process "Client"

function Client:execute(client)
  self:open(client.server)
  self:request(client.server, { from = self.id, text = client.text })
  local answer, err = self:receive("reply", { timeout = "1h" })
  return answer or err.code
end

function Client:open(server) return assert(catga.start("Server", server)) end

function Client:request(server, request)
  assert(catga.processes.signal(server, "request", request, { id = request.from }))
end
