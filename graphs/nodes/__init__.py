"""The nodes of the adaptation graph, one file each, and nothing else. In the order of an intervention:

``observe``            wait for a point and decide whether to intervene
``monitor``            is the run worse than before the last promotion? Then it is rolled back
``remove_shaping``     where learning has converged, let potentials leave by their offset, propose to take away the rest
``given_signals``      propose the signals that the config gives; no model is asked
``critic``             a diagnosis, or calls of the evidence tools
``critic_tools``       those tools
``rank_transitions``   rank single agents' moves and fit scorers to the rankings
``fit_signals``        fit signals to the run's own experience, which the Ranker may judge
``generator``          candidate signals
``check``              what can be said against them before any training
``rank_proposals``     the order in which they are tried
``race``               let them race beside the main line, until a policy is proven better than its own
``validate``           try them on branches beside a control, to prove that a signal helps
``decide``             record the gate's verdict
``approve``            ask a human, where the config says so
``confirm``            try once more what was found on a snapshot that is too old
``promote``            put the signal in force
"""
