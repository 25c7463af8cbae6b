"""Playing one recorded episode again, step by step, for the pages."""
