--- catga.lua - settings of the bench of a long loop.
return { durability = "os" }
