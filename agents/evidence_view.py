"""The layout of evidence in a prompt: rows by group and name, so that the path to a figure is the key that cites it.

    features: [{name: dist_goal, group: agents, mean: 2.5, …}, …]   as `Evidence` has it
    features: {agents: {dist_goal: {mean: 2.5, …}}}                 as prompts show it: features.agents.dist_goal.mean

What is the same for all groups stands once, under `all`: a feature of the whole team has the same row in each of them.
What is declared of a feature (its description, kind, unit and bounds) stands where its name comes first, and what is
not known is left out, and so are pictures, which prompts show beside the evidence. `rows_of` is the inverse, for who
reads rows.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ..rl.evidence.schema import EventEvidence, FeatureEvidence

EVERYBODY = "all"  # in the place of a group; terms use the same word
DECLARED = ("description", "kind", "unit", "low", "high", "done")  # of a feature
_BY_NAME = ("team", "terms")  # parts whose rows have a name and no group
_EMPTY: dict[str, dict[str, Any]] = {
    part: {name: field.get_default() if not field.is_required() else None for name, field in model.model_fields.items()}
    for part, model in (("features", FeatureEvidence), ("events", EventEvidence))
}  # a row without any figure

Json = dict[str, Any]


def shown(evidence: Json) -> Json:
    """Return an `Evidence`, as plain data with rows, in the layout of prompts."""
    groups = [row["group"] for row in evidence["behaviour"]]
    view = {key: value for key, value in evidence.items() if value is not None}
    view["behaviour"] = {row["group"]: _without(row, "group") for row in evidence["behaviour"]}
    view["features"] = _declared_once(_by_group(evidence["features"], groups))
    view["events"] = _by_group(evidence["events"], groups)
    for part in _BY_NAME:
        view[part] = {row["name"]: _without(row, "name") for row in evidence[part]}
    view["episodes"] = [_without(episode, "pictures", "every_line") for episode in evidence["episodes"]]
    return view


def rows_of(view: Json) -> Json:
    """Return the evidence of a prompt with rows again, and the defaults of what was left out.

    Rows that stood once for all groups are rows of each group, after its own.
    """
    evidence = dict(view)
    groups = list(view["behaviour"])
    evidence["behaviour"] = [{"group": group, **row} for group, row in view["behaviour"].items()]
    declared: dict[str, Json] = {}
    for rows in view["features"].values():
        for name, row in rows.items():
            declared.setdefault(name, _known(row, DECLARED))
    evidence["features"] = [
        _EMPTY["features"] | ({} if "kind" in row else declared[row["name"]]) | row
        for row in _rows(view["features"], groups)
    ]
    evidence["events"] = [_EMPTY["events"] | row for row in _rows(view["events"], groups)]
    for part in _BY_NAME:
        evidence[part] = [{"name": name, **row} for name, row in view.get(part, {}).items()]
    return evidence


def _rows(places: Json, groups: list[str]) -> list[Json]:
    """Return the rows of each group, those of all groups after its own."""
    return [
        {"name": name, "group": group, **row}
        for group in groups
        for place in (group, EVERYBODY)
        for name, row in places.get(place, {}).items()
    ]


def _by_group(rows: list[Json], groups: list[str]) -> Json:
    """Return rows by group and name; those that are the same in several groups, and in every one, under `all`."""
    by_name: dict[str, list[Json]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(_without(row, "group"))
    common = [
        name
        for name, same in by_name.items()
        if len(groups) > 1 and len(same) == len(groups) and all(row == same[0] for row in same)
    ]
    places: Json = {}
    for row in rows:
        if row["name"] not in common:
            places.setdefault(row["group"], {})[row["name"]] = _known(_without(row, "group", "name"))
    for name in common:
        places.setdefault(EVERYBODY, {})[name] = _known(_without(by_name[name][0], "name"))
    return places


def _declared_once(places: Json) -> Json:
    """Leave out what is declared of a feature where its name came before with the same declaration."""
    first: dict[str, Json] = {}
    for rows in places.values():
        for name, row in rows.items():
            declared = _known(row, DECLARED)
            if first.setdefault(name, declared) is not declared and first[name] == declared:
                rows[name] = _without(row, *DECLARED)
    return places


def _known(row: Json, keys: tuple[str, ...] | None = None) -> Json:
    """Return the row, or `keys` of it, without what is None or an empty text."""
    return {key: row[key] for key in keys or row if row.get(key) not in (None, "")}


def _without(row: Json, *keys: str) -> Json:
    return {key: value for key, value in row.items() if key not in keys}


def analysed(evidence: Json) -> Json | None:
    """Return the episode whose step a diagnosis names: the one that did not succeed; None where none is shown."""
    return next((episode for episode in evidence["episodes"] if episode["outcome"] != "successful"), None)


# ---------------------------------------------------------------- keys that a finding may cite


def citable(view: Json) -> list[str]:
    """Return the keys that may be cited: parts, rows, and fields of rows, in the order of the prompt."""
    keys = ["stage", "stage_reason", "steps", "signal", "idle_tail", "episodes", "key_moments"]
    keys += ["readings"] if "readings" in view else []
    for part in ("sparse", "learner"):
        keys += [part, *(f"{part}.{field}" for field in view.get(part, {}))]
    for part in ("behaviour", *_BY_NAME):
        for name, row in view.get(part, {}).items():
            keys += [f"{part}.{name}", *(f"{part}.{name}.{field}" for field in row)]
    for part in ("features", "events"):
        for place, rows in view[part].items():
            for name, row in rows.items():
                key = f"{part}.{place}.{name}"
                keys += [key, *(f"{key}.{field}" for field in row)]
    return keys


def uncitable(cites: list[str], view: Json) -> dict[str, list[str]]:
    """Return the cites that lead nowhere, each with at most three keys that may have been meant.

    A path below a key is fine. The group may be left out of `features.<group>.<name>` where the name is in one place
    only, and `all` may stand for a group, or a group for `all`.
    """
    keys = citable(view)
    short = _short_keys(view)
    wrong: dict[str, list[str]] = {}
    for cite in cites:
        if not any(cite == key or cite.startswith(f"{key}.") for key in keys + short):
            wrong[cite] = get_close_matches(cite, keys, n=3, cutoff=0.5)
    return wrong


def _short_keys(view: Json) -> list[str]:
    """Return the keys of rows that may be cited besides: without a group, or with one for what stands under `all`."""
    keys = []
    for part in ("features", "events"):
        names = [name for rows in view[part].values() for name in rows]
        for place, rows in view[part].items():
            keys += [f"{part}.{name}" for name in rows if names.count(name) == 1]
            if place == EVERYBODY:
                keys += [f"{part}.{group}.{name}" for group in view["behaviour"] for name in rows]
    return keys
