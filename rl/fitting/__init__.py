"""Fitting signals to a run's own experience, in a process of its own.

    snapshot → its policy plays whole episodes → networks → a term

jobs        what the process is asked, and what it answers
__main__    the process: `python -m cosignal.rl.fitting JOB.json`

What is fitted, and how, is in `rl.signals.learned`.
"""
