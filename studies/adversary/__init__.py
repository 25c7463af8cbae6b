"""Studies of what the gate does with proposals that mean harm."""
