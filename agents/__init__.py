"""The roles of the adaptation loop: one a file, all answering in the schemas of `schemas.py`.

Nothing is imported here, so that `cosignal.agents.config` and `cosignal.agents.schemas` load without LangChain.

=================  ====================================================================================================
``context``        ``build_context(evidence, history=…, diagnosis=…)``: the bounded plain data that prompts carry;
                   ``Tried``, one entry of the history; ``term_kinds(stage)``
``telling``        ``keep_most_telling(evidence, used)``: what of a large task a prompt keeps
``llm``            the only door to a provider: ``Door(limits)``, ``build_models(config, door, record)``,
                   ``check_models(config)``, ``model_problems(config)``, ``RoleModel.ask(…)``. Behind it: ``door``,
                   ``inquiry``, ``link``, ``retry``, ``structured``, ``answers``, ``question``, ``providers``
``keys``           ``key_variable_names(config)``; ``Redactor``
``prices``         ``cost_usd(…)``, None where unknown; ``unpriced(config)``
``ledger``         ``Call``, one row of the ledger; ``Place(point, round)``
``critic``         ``await diagnose(model, place, context, conversation, tools, calls_left)`` ->
                   ``Diagnosis``, or ``AIMessage`` with tool calls
``generator``      ``await propose(model, place, context, k)`` -> ``ProposalSet``
``ranker``         ``await rank(model, place, context, proposals)`` -> ``ProposalRanking``; on single moves:
                   ``transition_ranker``, ``rank_transitions(model, place, setting, items, …)``, and ``soft_votes``
``replay``         ``await replay_question(asked, own, new, door, tools)``: a recorded question through another prompt
                   or model -> ``Replay`` of ``replayed``, both sides of it
``rules``          ``RulesChatModel``, the embedded default: a chat model that is plain rules and no language model
=================  ====================================================================================================
"""
