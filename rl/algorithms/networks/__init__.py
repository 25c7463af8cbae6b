"""Networks of actors, critics and values, one kind a file, and what is made of them.

mlp           linear layers
gru           linear layers and a gated recurrent unit, for what an observation alone does not tell
gru_scan      its pass through time and back, written out by hand for a CPU
cnn           convolutions, for observations that are images
factory       the network that `trainer.<algorithm>.network` names
actor_critic  an actor and a critic, and the distribution of actions
sampling      drawing choices
"""
