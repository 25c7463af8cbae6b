"""The grid worlds of LCA (Lin et al., arXiv 2502.03723): what Two-Switch and Victim-Rubble share."""
