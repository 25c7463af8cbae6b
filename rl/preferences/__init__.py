"""Which of two states is better, from one agent's side: pairs, votes, and the scorers that are fitted to them (LCA)."""
