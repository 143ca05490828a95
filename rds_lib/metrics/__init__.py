"""J, F and box scores equal to the official evaluations, and their intervals."""
