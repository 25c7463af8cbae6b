"""What the models get to see of a run, and the rules that name the stage of learning."""
