"""Learning algorithms, one a file, and the functions that they share.

config             hyper-parameters, and what each algorithm can do
registry           the learner that the config names
learner            the protocol of a learner, which is all that a training line sees of an algorithm
ppo                what the policy-gradient algorithms share
  ippo, mappo      its critic sees the agent's own observation, or everybody's
  liir             mappo with rewards of single agents that are learned
q_learning         what the value-based algorithms share
  vdn, qmix        the team's value is a sum, or a monotonic mix, of the agents'
parameter_sharing  which agents share a network
critic_inputs      the inputs of critics, mixers and Q-networks
networks/          feed-forward, recurrent and convolutional ones, actor-critics, and drawing actions
sequences          what recurrent actors and critics learn from
fused_mlp          feed-forward networks and PPO's gradient, written out by hand for a CPU
  fused_kernel     what of that is compiled: a tile of samples goes through a whole network
losses, returns    losses, advantages and targets as pure functions
flat_adam          Adam on one flat buffer of parameters
"""
