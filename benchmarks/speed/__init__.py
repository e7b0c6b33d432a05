"""What inference.py and training.py share: models to time, how they are timed, and the tables."""
