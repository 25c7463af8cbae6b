"""Preferences: learning from rankings how good a state is from one agent's side (LCA).

    policy → collect → pairs → votes (of a model or an oracle) → fit → a scorer, which a learned term pays

config      what can be set
jobs        what the processes are asked, and what they answer
collect     playing a task to collect pairs of states that single agents' moves connect
key_steps   what a team must do, as its rewards show, for the prompt
pairs       pairs of states, in memory and as files
votes       recorded answers, and the votes and confidences that they make
fit         fitting a scorer to ranked pairs
__main__    the process: `python -m cosignal.rl.preferences JOB.json`
"""
