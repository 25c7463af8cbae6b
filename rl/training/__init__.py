"""One training line: the run's main line is one, and so is every branch, by the very same code.

    config            what the trainer is told
    line              the line: collect → shape → update → report
    rollout_statistics  what a line reports of a rollout beyond returns
    evaluate          sparse return and success on fixed seeds
    checkpoint        the whole line as a directory, and as bytes

How data flow in one update, `TrainingLine.update`:

    task ── Step ──> Collector ── Rollout [T, E] ──┬──> Rewards.shape ── Shaping ──> Learner.learn ──> UpdateMetrics
      ^                  |                         |
      └──── actions ── policy                      └──> episodes, sample of transitions ──> HistoryRow ──> UpdateReport

    collect   the policy in force acts for `trainer.rollout` steps in each of `trainer.envs` environments
    shape     the signal in force says what each agent is paid in each step besides the team's sparse reward
    update    the algorithm takes all its gradient steps on the rollout (or on what its replay holds)
    evaluate  from time to time, by whoever drives the line: the sparse return of the policy on fixed seeds
    report    what happened goes into the history, which stage, evidence and triggers are computed from

Shaping never enters a return that anybody decides by: history and evaluation have sparse returns only.
"""
