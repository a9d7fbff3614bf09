return { durability = "os" }
