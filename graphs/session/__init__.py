"""One run from start to end: what is checked before it, its directory, its processes and the loop that drives them.

``run``             `start`, the `Run` that it gives and its `RunResult`: events, result, stop, approve
``checks``          what can be known to be wrong before anything is made
``run_directory``   the run directory: made, opened again, and locked
``resume``          which run goes on with a config, and whether its files belong together
``run_log``         the loop's log in the run directory
``graph_runner``    the graph from its last checkpoint to its end, with what runs beside it
``served``          the graph as a LangGraph server runs it: a thread is a run

Data flow of one session::

    RunConfig ─ checks ─ run directory (new, or that of the run that goes on)
                              │
        loop process          │             trainer process            worker processes
        graph ◄─ status, evidence, wake-ups ─ trains the main line
          │ ── promotions, release ─────────►
          │ ── branch jobs ──────────────────────────────────────────► continue forks of snapshots
          │ ◄─ branch results ────────────────────────────────────────
          └─► loop.db, log.jsonl, events ─► `Run.events()`, report.html
"""
