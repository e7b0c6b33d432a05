"""Images in and out: reading, grids, resampling, writing; the colours and fonts of all pictures."""
