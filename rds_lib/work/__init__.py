"""How work is done: by several processes that end together, by one run at a time, and once."""
