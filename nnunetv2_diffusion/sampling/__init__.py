"""Drawing masks from a denoiser: views, noise, chunks of a batch, early stop, precision, and the two ensembles."""
