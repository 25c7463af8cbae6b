"""Tasks: the shipped ones and any PettingZoo environment, as batches. `factory.make_task` builds what a config names.

Nothing is imported here, since the config reads the names in `registry`.
"""
