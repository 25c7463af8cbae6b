"""The nodes of the adaptation graph, one file each, and nothing else. In the order of an intervention:

``observe``            wait for a point and decide whether to intervene
``monitor``            is the run worse than before the last promotion? Then it is rolled back
``remove_shaping``     where learning has converged, propose to take shaping away
``critic``             a diagnosis, or calls of the evidence tools
``critic_tools``       those tools
``rank_transitions``   rank single agents' moves and fit scorers to the rankings
``generator``          candidate signals
``check``              what can be said against them before any training
``rank_proposals``     the order in which they are tried
``validate``           try them on branches beside a control
``decide``             record the gate's verdict
``approve``            ask a human, where the config says so
``confirm``            try once more what was found on a snapshot that is too old
``promote``            put the signal in force
"""
