"""The experience of the agents: transitions and episodes, and what a run remembers of them.

    task → rollout → the learner
                  → replay_buffer (off-policy learners only) → samples for the learner
                  → episodes → stage, evidence and reports
                  → transition_sample → frozen scales and the checks of proposals

rollout             steps of a batch of environments under a policy, as arrays
replay_buffer       transitions on disk that an off-policy learner draws from
episodes            figures of finished episodes, and steps as text
transition_sample   a bounded sample of a run's own transitions
"""
