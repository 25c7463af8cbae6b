"""Taking a run's results along: `cosignal export`.

source        what is taken from a run: the policy and the signal in force, by one snapshot
write         the folder of an export, and `export_run`
description   `policy.json` and the weights: networks, observations and actions as plain data
policy        the module that plays them with torch alone; every export has a copy of this file
environment   the run's environment as a PettingZoo wrapper: the team's reward and the run's time limit
shaped_env    the same with the signal's shaping in the rewards
templates     play.py, shaping.py and README.md of an export
"""
