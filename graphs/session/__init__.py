"""One run from start to end: what is checked before it, its directory, its processes and the loop that drives them.

``run``             `start`, the `Run` that it gives and its `RunResult`: events, result, stop, approve
``checks``          what can be known to be wrong before anything is made
``run_directory``   the run directory: made, found again, locked, and the loop's log in it
``graph_runner``    the graph from its last checkpoint to its end, with what runs beside it

Data flow of one session::

    RunConfig ─ checks ─ run directory (new, or the newest unfinished one)
                              │
        loop process          │             trainer process            worker processes
        graph ◄─ status, evidence, wake-ups ─ trains the main line
          │ ── promotions, release ─────────►
          │ ── branch jobs ──────────────────────────────────────────► continue forks of snapshots
          │ ◄─ branch results ────────────────────────────────────────
          └─► loop.db, log.jsonl, events ─► `Run.events()`, report.html
"""
