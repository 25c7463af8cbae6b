"""The evidence: what models get to see of a run.

schema   the record, as it crosses to the loop and goes into prompts
build    how it is made of what a training line keeps, and the answers to single questions
"""
