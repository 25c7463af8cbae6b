"""The nodes of the adaptation graph, one file each, and nothing else."""
