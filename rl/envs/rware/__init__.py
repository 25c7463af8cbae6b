"""The robotic warehouse: agents bring requested shelves to a goal.

spec       settings, map, rules in words, features and events
kernel     the compiled step
batch      the compiled batch, and one environment of it as a `Task`
original   the environment of the package rware, adapted
"""
