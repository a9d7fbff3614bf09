-- What `make check` holds Lua files to.
std = "luajit"
max_line_length = 100
cache = false
exclude_files = { "build" }

-- Methods of processes need not use their self.
files["spec"] = { std = "+busted", self = false }
files["examples"] = { self = false }
files["examples/*/spec"] = { std = "+busted" }
files["stdlib/spec"] = { std = "+busted" }

-- Stubs only declare: their arguments are never used.
files["lua/catga/_meta"] = { unused_args = false, ignore = { "211", "212", "241" } }
