"""Branches: continuations of a snapshot under one candidate signal, and the gate that reads their results."""
