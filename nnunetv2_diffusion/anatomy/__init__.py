"""A mask of canal, vertebrae and discs in a mid-sagittal slice -> structures by level -> measurements in mm."""
