"""Level-based foraging: agents with levels load food together.

spec       settings, rules in words, features and events
kernel     the compiled step
batch      the compiled batch, and one environment of it as a `Task`
original   the environment of the package lbforaging, adapted
"""
