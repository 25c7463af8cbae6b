"""Recorded model calls, asked again with another prompt or another model."""
