"""How the model is executed, not what it computes: `steps` lists the ways, each other file has one of them."""
