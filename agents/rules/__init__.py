"""The embedded provider `rules`: a chat model that is plain rules over the evidence and no language model."""
