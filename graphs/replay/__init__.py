"""Recorded model calls, asked again with another prompt or another model.

``recorded_calls``   the questions of a run, rebuilt from its tables
``replay``           asking them again, one call or all of a role
``validation``       the proposals of a new answer, tried on branches from the recorded snapshot

Data flow::

    RunView ─► RunTables ─► RecordedQuestion ─► agents.replay ─► Replay
                                                    │ proposals of the answer
                                                    └─► offline round in a folder of its own ─► Validation
"""
