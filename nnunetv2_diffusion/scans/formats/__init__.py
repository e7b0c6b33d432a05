"""How a scan's results are written: image files, 3D Slicer's segmentations, DICOM, BIDS."""
