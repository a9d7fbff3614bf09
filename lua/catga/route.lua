--- Routes: rules that send events to other places by their content; their lives from start to stop,
--- over reloads. See docs/routing.md.
---
---   catga.route("OrderCreated"):when(function(order) return order.amount > 1000 end)
---     :to("high-value-orders")
---
--- `lua/catga/route/`: definition: how rules are written; conditions, topics, destinations: what
--- they are made of; compose: rules become closures; index: which may take a message; runner, turn,
--- state, groups: the durable reader; inline, unstored: the other two ways; explain, face: from
--- outside.
local errors = require "catga.error"
local tasks = require "catga.task"
local registries = require "catga.registry"
local runners = require "catga.route.runner"

local M = {}

---@class catga.Routes
---@field app catga.App
---@field routers table<string, catga.Router>  by name of their set
---@field ending table<string, catga.Future>  those whose set is gone, until their last turn is over
---@field is_stopping boolean?
local Routes = {}
Routes.__index = Routes

---@param app catga.App
---@return catga.Routes
function M.new(app)
  return setmetatable({ app = app, routers = {}, ending = {} }, Routes)
end

local function sets_of(self)
  local routes = self.app.registry.routes
  return routes and routes.sets or {}
end

-- Counters go on where those of the generation before ended.
local function take_counters(set, before)
  for name, rule in pairs(set.by_name) do
    local old = before.by_name[name]
    if old then rule.counter = old.counter end
  end
end

local function launch(self, set)
  local router = runners.new(self.app, set)
  self.routers[set.name] = router
  local ok, failure = xpcall(router.start, errors.catch, router)
  if not ok then router:fail(failure) end
end

--- Starts the readers of sets that have none; must run in a task. May yield.
function Routes:start()
  local sets = sets_of(self)
  for _, name in ipairs(registries.sorted_names(sets)) do
    if not (self.routers[name] or self.ending[name]) then launch(self, sets[name]) end
  end
end

-- Ends the reader of a set that is gone. When the set is back before that is done, it starts then:
-- two readers of one set would route events twice.
local function finish(self, name)
  local router, ending = self.routers[name], tasks.future()
  self.routers[name], self.ending[name] = nil, ending
  tasks.spawn(self.app, function()
    local ok, failure = xpcall(router.finish, errors.catch, router)
    if not ok then router:fail(failure) end
    self.ending[name] = nil
    ending:set()
    if not self.is_stopping and not self.app.is_closed then self:start() end
  end)
end

--- Takes over the rules of a new generation of scripts. May yield.
function Routes:reloaded()
  if self.is_stopping then return end
  local sets = sets_of(self)
  for _, name in ipairs(registries.sorted_names(self.routers)) do
    local router = self.routers[name]
    local set = sets[name]
    if set then
      take_counters(set, router.set)
      router:replace(set)
    else
      finish(self, name)
    end
  end
  self:start()
end

local function each(self, method)
  for _, router in pairs(self.routers) do router[method](router) end
end

--- How many units of work are under way.
---@return integer
function Routes:working()
  local count = 0
  for _, router in pairs(self.routers) do count = count + router.working end
  return count
end

--- Lets nothing more begin.
function Routes:halt()
  self.is_stopping = true
  each(self, "halt")
end

--- Ends all, and records where they stand. May yield.
function Routes:stop()
  self:halt()
  each(self, "stop")
end

--- Ends as a crash would.
function Routes:abandon()
  self.is_stopping = true
  each(self, "abandon")
end

return M
