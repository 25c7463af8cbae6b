"""`cosignal study lca`: the published figures of LCA (Lin et al., arXiv 2502.03723)."""
