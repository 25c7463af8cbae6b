"""Signals: what shaping adds to the team reward. Data that is compiled and checked here; never code that is run.

    config or proposal → Signal (terms) → check_signal → freeze → CompiledSignal → Rewards → the learner

expression      arithmetic over named features, in which potentials are written
scorer          fitted scorers, which learned terms name
terms           the kinds of terms, one file a kind
signal          the signal as data: when two are the same, removals, descriptions
config          the signal that a run starts with
shaping         a signal compiled for a task: rewards of transitions, and the frozen scale
critic_offset   potentials that have left, as an offset of the critic's output
reward_view     which agents the task's own reward is paid to
rewards         all of this as an algorithm sees it
check           checks of a proposal before any training is spent on it
distance        how far apart two signals are by what they pay, and which are twins
preview         numbers of a proposal, from what the run has recorded
"""
