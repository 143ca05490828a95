"""SAM2 as this project uses it: built, encoded under a route, adapted, tracked; which blocks always run (K)."""
