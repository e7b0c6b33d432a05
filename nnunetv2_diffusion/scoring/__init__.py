"""Masks, samples and maps -> Dice, distances, calibration, and their tables."""
