"""The trainer process, `python -m cosignal.rl.trainer RUN_DIR`: trains the main line of a run and serves the loop.

    process     the process: its loop, its clock, and the answers to requests
    main_run    the main line with what is recorded of it: snapshots, evaluation, metrics, TensorBoard
    signal_log  promotion, rollback, and their replay after a crash
    database    `trainer.db`

It trains on one thread, and everything else happens between two updates:

    update    rl.training: collect → shape → update → report; evaluation and a regular snapshot where they are due
    replay    changes that the signal log holds for this update and that a restarted line has not seen
    publish   counters into `trainer.db`, and a wake-up to whoever subscribed
    poll      requests of the loop: status, evidence, a snapshot to look at (`Look`), a promotion or a rollback
    promote   snapshot → entry in the signal log, synced → the line takes the signal or the state → reply

Under the lockstep clock the trainer stops at every adaptation point, writes a snapshot, and polls until the loop
releases it. Under the overlap clock it never waits: it polls once and goes on, and a change ends the polling, so that
the next look is at a state of its own.
"""
