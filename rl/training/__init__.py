"""One training line: collect, shape, update."""
