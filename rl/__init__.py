"""Reinforcement learning: tasks, signals, algorithms, training, branches, and the interface to the loop.

task         the interface of a task: its declaration, a joint step, a batch of environments
envs         the tasks, and any PettingZoo environment as one
signals      what agents are paid besides the team's sparse reward
experience   rollouts, replay, episodes, and a sample of transitions
algorithms   the learners
training     one training line: collect → shape → update → report
stage        the stage of learning, by rule
evidence     the compact record of a run that models see
ipc          messages between loop, trainer and branch workers
trainer      the trainer process
branches     forks of the main line, and the gate that compares them
preferences  moves that were ranked, and scorers that are fitted to them
playback     one episode again, step by step, for the pages
processes    the set-up that all these processes share
child        one question to a process of its own, where other people's code runs
base_config  the base of all configs
"""
