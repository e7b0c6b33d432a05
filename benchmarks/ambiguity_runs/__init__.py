"""What ambiguity.py trains and writes."""
