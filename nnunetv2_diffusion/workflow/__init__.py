"""The paper's whole grid as a Snakemake workflow: rules that call the commands of this package and of nnU-Net."""
