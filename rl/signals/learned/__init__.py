"""Signals that are fitted to a run's own experience; no model is asked.

config                 what can be set
episodes               whole episodes of a policy, as arrays
return_decomposition   each agent's share in an episode's return, a step at a time
"""
