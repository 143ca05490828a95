"""Pictures and pages: the notebooks' figures, the paper's figures, the results page."""
