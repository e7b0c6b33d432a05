"""nnU-Net's prediction with sampling settings and uncertainty maps: folders of cases, folds, checkpoints."""
