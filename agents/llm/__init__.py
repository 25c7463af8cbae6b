"""Everything between a role's question and a provider.

    RoleModel.ask -> ModelCall.run -> Endpoint.request -> LangChain
                         |  retries, repair turn, fallbacks, deadline; a slot of the `CallBudget` for each attempt
                         v
                     Answered, and one ledger row an attempt

==================  ===================================================================================================
`models`            `RoleModel`, one role's chain of models; `build_models` and the checks before a run
`model_call`        `ModelCall`, one question: attempts, the repair turn, fallbacks, a deadline over all
`endpoint`          `Endpoint`, one model of a chain: single requests, and how the schema reaches the provider
`rate_limits`       `CallBudget`: pace, concurrency, hard budgets of calls, tokens and money
`retry`             which failures may pass, and the wait before the next attempt
`extract`           where in a text its JSON is, outside of the reasoning
`endings`           how a reply ended: whole, cut, withheld or failed
`completion`        a chat completion as servers send it, made readable, or the error that it holds
`openai_chat`       LangChain's chat model for OpenAI's protocol, on `completion`
`explain`           what an error means, and which key mends it
`parse`             from a raw reply to a schema object, to tool calls, or to `InvalidAnswer`
`providers`         from a `ModelConfig` to a LangChain chat model
`secrets`           names of keys, and texts without their values
`hosted_tracing`    variables that make a library post prompts, hidden from the run's processes
`ledger`            `Call`, one row an attempt; what a call costs
==================  ===================================================================================================
"""
