"""Adam on one buffer against torch's own."""

import torch
from cosignal.rl.algorithms.flat_adam import FlatAdam
from cosignal.rl.algorithms.networks.mlp import MLP


def test_flat_adam_is_torchs_adam_with_a_clipped_norm() -> None:
    ours, theirs = (MLP(3, (4,), 2, 1.0, torch.Generator().manual_seed(1)) for _ in range(2))
    flat = FlatAdam(ours, 1e-2, 1.0)
    reference = torch.optim.Adam(theirs.parameters(), lr=1e-2, eps=1e-5)
    for step in range(20):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step)) * (10.0 if step % 2 else 0.1)
        flat.zero_grad()
        reference.zero_grad()
        for network in (ours, theirs):
            (network(x) ** 2).sum().backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        flat.step()
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
