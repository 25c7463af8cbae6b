"""Fitting signals to a run's own experience, in a process of its own.

    snapshot → its policy plays whole episodes → fits of each kind → terms

jobs        what the process is asked, and what it answers
fit         the fits of all kinds to the same episodes
__main__    the process: `python -m cosignal.rl.fitting JOB.json`

What is fitted, and how, is in `rl.signals.learned`.
"""
