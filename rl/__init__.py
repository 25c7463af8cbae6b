"""Tasks, signals, the trainer process, branches, and the seam between them and the loop."""
