"""`cosignal study lca`: the published figures of LCA (Lin et al., arXiv 2502.03723).

`arms`         tasks with the paper's budgets, arms, and which figure has which
`curves`       one seed of one arm: pairs, scorers, training, and its learning curve
`statements`   what the paper's figures say, checked on curves
`laws`         laws of the method, checked on scorers
`rollout`      what single steps pay (figure 6)
`study`        the command: runs, rows, tables and drawings
"""
