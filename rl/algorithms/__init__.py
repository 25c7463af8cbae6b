"""Learning algorithms, one a file, and the pure functions that they share."""
