"""The roles of the adaptation loop: who is asked, with what, and how the answers are checked.

    Evidence -> `prompt_payload` -> a role's question -> `llm` -> an object of `schemas`, recorded in the ledger

Nothing is imported here, so that `config`, `schemas`, `replay_results` and `llm.ledger` load without LangChain.

=====================  ================================================================================================
`config`               which model answers for which role, and the limits of a run
`schemas`              the roles' answers: `Diagnosis`, `ProposalSet`, `ProposalRanking`, `TransitionVotes`
`prompt_payload`       `build_payload`: evidence, diagnosis and history as plain data of bounded size
`critic`               `diagnose`: what is wrong with learning, or calls of the evidence tools
`generator`            `propose`: K candidate signals
`race_rules`           what Generator and Ranker are told of how proposals race
`ranker`               `rank`: which proposals are tried first
`transition_ranker`    `rank_transitions`: which single moves are good for the team, as votes
`llm`                  everything between a role's question and a provider
`rules`                the embedded default provider: plain rules, no language model, no network
`replay`               `replay_question`: a recorded question through another prompt or model
`replay_results`       the two sides of a replay, and how they differ
=====================  ================================================================================================
"""
