"""Table 9 and the ledger of claims, made from tables alone."""
