"""nnU-Net's results folders -> tables, statistics, figures and a web page."""
