"""Lumbar spines drawn at random, in SPIDER's layout."""
