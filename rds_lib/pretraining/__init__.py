"""How the shipped weights of the mini SAM2 were made."""
