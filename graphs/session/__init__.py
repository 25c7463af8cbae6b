"""One run from start to end: its directory, its processes, its log."""
