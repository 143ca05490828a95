"""What a run needs from outside: data sets are fetched, unpacked and checked before hours are spent on them."""
