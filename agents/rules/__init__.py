"""The embedded provider `rules`: a chat model that is plain rules over the evidence and no language model.

    prompt -> `chat_model` -> the JSON block -> `critic`, `generator` or `ranker` -> JSON text in the answer's schema

It imports nothing from `rl/` and names no task: renaming features, events and agents renames its answers.

==============  ======================================================================================================
`chat_model`    `RulesChatModel`, the LangChain chat model
`features`      features as numbers in 0..1, and the roles that each can play in a term
`critic`        the failure taxonomy as thresholds on the evidence
`generator`     ideas for terms, in the order of their prior
`ranker`        a transparent score of proposals
==============  ======================================================================================================
"""
