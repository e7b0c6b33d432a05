"""nnU-Net trainers, one class a file named after it; `extension/` shows them to nnU-Net."""
