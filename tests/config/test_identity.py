"""Which keys decide a run's results: a new key of the config must be put on one side."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.agents.config import ModelConfig
from cosignal.config.identity import (
    BUDGETS,
    FREE,
    all_changes,
    decides,
    deciding,
    deciding_changes,
    task_identity,
    values,
)
from cosignal.config.run_config import RunConfig

# Every key that decides; whole sections end with a dot. `FREE` and `BUDGETS` name all others.
DECIDING = {
    "seed", "clock",
    "task.name", "task.env", "task.env_args", "task.n_max", "task.allow_agent_overlap", "task.team_reward",
    "task.agent_ids",
    "trainer.algorithm", "trainer.envs", "trainer.rollout", "trainer.device", "trainer.time_limit", "trainer.reward",
    "trainer.ippo.", "trainer.mappo.", "trainer.liir.", "trainer.vdn.", "trainer.qmix.",
    "signal.beta", "signal.terms", "signal.exploration.",
    "adaptation.enabled", "adaptation.gated", "adaptation.candidates", "adaptation.rounds", "adaptation.approve",
    "adaptation.max_staleness", "adaptation.stage", "adaptation.interval", "adaptation.patience",
    "adaptation.evidence_calls", "adaptation.read_failures",
    "adaptation.signals", "adaptation.library", "adaptation.library_of_other_tasks",
    "llm.samples", "llm.sample_temperatures",
    "preferences.ranker", "preferences.accuracy", "preferences.pairs", "preferences.queries", "preferences.batch",
    "preferences.form", "preferences.left_data", "preferences.rounds", "preferences.rehearsal", "preferences.refuted",
    "preferences.scorer.",
    "learned_signals.",
    "branches.horizon", "branches.screen_seeds", "branches.finalists", "branches.evaluation_episodes",
    "branches.keep_control",
    "gate.claim", "gate.level", "gate.margin", "gate.looks", "gate.adopt", "race.",
    "llm.*.provider", "llm.*.model", "llm.*.temperature", "llm.*.max_output_tokens", "llm.*.structured",
    "llm.*.logprobs", "llm.*.prompt_size", "llm.*.context_tokens", "llm.*.fallback",
    "llm.prompts.critic", "llm.prompts.generator", "llm.prompts.ranker",
}  # fmt: skip


def config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(changes)


def general(key: str) -> str:
    for role in ("default", "critic", "generator", "ranker"):
        key = key.replace(f"llm.{role}.", "llm.*.")
    return key


def listed(key: str) -> bool:
    return key in DECIDING or any(name.endswith(".") and key.startswith(name) for name in DECIDING)


def test_every_key_is_on_one_side() -> None:
    for key in values(config()):
        sides = [listed(general(key)), general(key) in FREE, key in BUDGETS]
        assert sum(sides) == 1, f"{key}: put it into FREE or BUDGETS of config.identity, or into DECIDING here"
        assert decides(key) == sides[0], key
    known = {general(key) for key in values(config())}
    assert known >= FREE | BUDGETS, "keys that are gone"


def test_every_setting_of_a_model_is_known() -> None:
    assert {f"llm.*.{name}" for name in ModelConfig.model_fields} <= DECIDING | FREE


@pytest.mark.parametrize(
    "changes",
    [
        {"run_dir": "elsewhere"},
        {"branches": {"workers": 3}},
        {"otel": {"enabled": True}},
        {"trainer": {"steps": 2_000_000, "checkpoint_every_steps": 5, "evaluation": {"episodes": 3}}},
        {"trainer": {"vdn": {"lr": 1}}},  # another algorithm's
        {"llm": {"limits": {"calls": 1, "concurrency": 1}, "default": {"timeout_s": 1, "retries": 0}}},
        {"llm": {"critic": {"provider": "rules"}}},  # the default, written out
        {"adaptation": {"max_share": 0.8}},
    ],
)
def test_what_cannot_change_results_leaves_the_hash(changes: dict[str, Any]) -> None:
    assert config(**changes).config_hash() == config().config_hash()
    assert deciding_changes(config(), config(**changes)) == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 2}, "seed"),
        ({"trainer": {"ippo": {"lr": 1e-3}}}, "trainer.ippo.lr"),
        ({"branches": {"evaluation_episodes": 3}}, "branches.evaluation_episodes"),
        ({"llm": {"generator": {"provider": "openai", "model": "x"}}}, "llm.generator.provider"),
        ({"task": {"name": None, "env": "a:b", "env_args": {"x": {"y": 1}}}}, "task.env_args"),
        ({"adaptation": {"enabled": False}}, "adaptation.enabled"),
    ],
)
def test_what_can_change_results_changes_the_hash(changes: dict[str, Any], key: str) -> None:
    assert config(**changes).config_hash() != config().config_hash()
    assert key in [change.key for change in deciding_changes(config(), config(**changes))]


def test_without_adaptation_the_loop_decides_nothing() -> None:
    off = {"adaptation": {"enabled": False}}
    changed = {
        "adaptation": {"enabled": False, "interval": 4096},
        "branches": {"horizon": 8192},
        "gate": {"level": 0.2},
    }
    assert config(**off).config_hash() == config(**changed).config_hash()
    assert config(**off).config_hash() != config(**off, gate={"margin": 0.5}).config_hash()  # it makes the stages
    assert config(**off).config_hash() != config(**off, trainer={"envs": 32}).config_hash()


def test_a_change_of_the_default_model_is_told_once() -> None:
    changed = config(llm={"default": {"provider": "openai", "model": "x", "timeout_s": 3}})
    assert [(key, before, now) for key, before, now in all_changes(config(), changed)] == [
        ("llm.default.model", None, "x"),
        ("llm.default.provider", "rules", "openai"),
        ("llm.default.timeout_s", 60.0, 3.0),
    ]


def test_of_a_fallback_only_the_address_and_the_waiting_are_free() -> None:
    def chain(**fallback: Any) -> RunConfig:
        first = {"provider": "openai", "model": "a"}
        return config(llm={"default": {**first, "fallback": [{"provider": "openai", "model": "b", **fallback}]}})

    assert chain().config_hash() == chain(base_url="http://127.0.0.1:1/v1", deadline_s=3).config_hash()
    assert chain().config_hash() != chain(temperature=0.5).config_hash()
    assert "llm.critic.fallback" in deciding(chain())


def test_a_task_is_told_by_its_name_and_by_the_settings_that_decide() -> None:
    def identity(**task: Any) -> tuple[str, str]:
        return task_identity(config(task=task).task)

    own = {"env": "a:b", "env_args": {"size": 8}}
    assert identity(**own) == identity(**own, workers=4, step_timeout_s=1.0, n_max=None)
    assert identity(**own)[0] == "a:b" and identity(name="two_switch")[0] == "two_switch"
    others = [identity(**own), identity(**own | {"env_args": {"size": 9}}), identity(**own, n_max=50)]
    assert len({digest for _, digest in others}) == 3
