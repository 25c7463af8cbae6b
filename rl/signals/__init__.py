"""Signals: what shaping adds to the team reward. Data that is compiled and checked here; never code that is run."""
