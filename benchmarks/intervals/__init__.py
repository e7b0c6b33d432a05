"""What measurements.py is made of: cohorts with patients that no training saw, rivals' masks, scores of intervals."""
