"""Small prompts, a quarter of the full ones' length: the same evidence in lines of text, for models of a few billion
parameters.

    Payload  ->  questions   what a role's small template is rendered with, and the schema of its answer
                   text      the task and what its names mean, the state of learning, what was tried
                   schemas   of answers, narrowed to what can be said about this task

What the schemas allow, `agents/schemas.py` does too.
"""
