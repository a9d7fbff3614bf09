--- catga.lua - bounds that let every message of the bench be under way.
return { outbox_concurrency = 1000, outbox_max = 100000000 }
