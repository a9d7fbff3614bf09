--- DSL: the input is the flow, as a low-code editor makes it. Nodes: { send = "Command", with = {},
--- into = "x" }, { sequence = {} }, { parallel = {} }, { when = "x", is = value, run = node },
--- { wait = "2h" }. "$x" in `with` is the variable x.
local catga = require "catga"

local Interpreter = catga.process "Interpreter"

local run, RUN = nil, {}

function RUN.send(self, node, vars)
  local data = {}
  for field, value in pairs(node.with or {}) do
    local name = type(value) == "string" and value:match("^%$(.+)$")
    if name then data[field] = vars[name] else data[field] = value end
  end
  vars[node.into or node.send] = self:send(node.send, data)
end
function RUN.sequence(self, node, vars)
  for _, child in ipairs(node.sequence) do run(self, child, vars) end
end
function RUN.parallel(self, node, vars)
  self:map(node.parallel, function(child) run(self, child, vars) end)
end
function RUN.when(self, node, vars)
  if vars[node.when] == node.is then run(self, node.run, vars) end
end
function RUN.wait(self, node) self:sleep(node.wait) end

function run(self, node, vars)
  for kind, fn in pairs(RUN) do
    if node[kind] ~= nil then return fn(self, node, vars) end
  end
  error(catga.error("unknown_node", "a node is one of send, sequence, parallel, when, wait"))
end

function Interpreter:execute(flow)
  local vars = flow.vars or {}
  run(self, flow.root, vars)
  return vars
end
