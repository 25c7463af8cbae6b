"""Studies of what the gate does with proposals that mean harm.

`harmful_proposals`   proposals that mean harm and pass `check`, made from the evidence of any task
`providers`           chat models that answer with them: a Critic, a Generator and a Ranker that mean harm
`study`               the study adversary: whole runs with such a provider
`snapshots`           states of plain training at several competences
`trials`              one round of the gate at such a state, with candidates of the study's choice
`gate_trials`         the study gate-trials: false accepts over many trials
`gate_power`          Monte Carlo of the gate on resampled returns, without any training
`policy_power`        the study policy-power: Monte Carlo of the policy claim, without any training
`race_harm`           the study race-harm: runs with races, what is adopted in them, null races
`adoption_twins`      one run of it: every adoption beside a twin of the run that goes on without it
"""
