"""What the specs of the grid games have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..task import FeatureKind, FeatureSpec

Meaning = tuple[FeatureKind, str, str]  # kind, unit, description


def feature_specs(
    names: Sequence[str], meaning: Mapping[str, Meaning], bounds: Mapping[str, tuple[float, float]]
) -> tuple[FeatureSpec, ...]:
    """In the order of `names`, which is that of the feature arrays."""
    specs = []
    for name in names:
        kind, unit, text = meaning[name]
        low, high = bounds[name]
        specs.append(FeatureSpec(name=name, kind=kind, low=low, high=high, unit=unit, description=text))
    return tuple(specs)
