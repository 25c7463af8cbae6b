"""What a run directory names beyond data: it is known, allowed by the viewer, or refused before anything is done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.config import LLMConfig
from cosignal.config.run_config import RunConfig
from cosignal.errors import TrustError
from cosignal.rl.branches.config import BranchConfig
from cosignal.rl.envs.config import TaskConfig
from cosignal.runs.trust import (
    Trust,
    Wish,
    cluster_wishes,
    hidden_names,
    model_wishes,
    task_wishes,
)

RUN = Path("/runs/one")
EVIL = TaskConfig(env="subprocess:getoutput", env_args={"cmd": "true"})


def environment(task: TaskConfig) -> list[Wish]:
    return list(task_wishes(RUN, task))


def model(given: tuple[str, ...] = (), **settings: Any) -> list[Wish]:
    return list(model_wishes(RUN, LLMConfig.model_validate({"default": settings}), "critic", given))


def test_shipped_tasks_are_known_and_any_other_environment_is_asked_for() -> None:
    assert environment(TaskConfig(name="two_switch")) == environment(TaskConfig(name="lbf", env_args={"size": 5})) == []
    [wish] = environment(EVIL)
    assert (wish.name, wish.arguments) == ("subprocess:getoutput", '{"cmd": "true"}')
    assert "subprocess.py" in wish.found


def test_where_a_module_would_be_found_is_said_without_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my_env_of_a_stranger", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    [mine] = environment(TaskConfig(env="my_env_of_a_stranger:make"))
    assert mine.found == f"module my_env_of_a_stranger from {tmp_path / 'my_env_of_a_stranger.py'}"
    assert "my_env_of_a_stranger" not in sys.modules
    [own] = environment(TaskConfig(env="json:loads"))  # what lies here stands for no module of Python's
    assert str(tmp_path) not in own.found
    [none] = environment(TaskConfig(env="no_such_module:x"))
    assert "not found" in none.found


def test_a_name_with_letters_that_look_like_others_shows_them() -> None:
    [wish] = environment(TaskConfig(env="\u0455ubprocess:run"))  # a Cyrillic letter
    assert "\\u0455ubprocess:run" in wish.in_words()


def test_arguments_that_are_too_long_to_be_shown_are_refused() -> None:
    with pytest.raises(TrustError, match="short enough to be shown"):
        environment(EVIL.model_copy(update={"env_args": {"cmd": "x" * 20_001}}))


def test_what_the_viewer_has_named_is_allowed() -> None:
    wishes = environment(EVIL)
    with pytest.raises(
        TrustError, match=r"import and call subprocess:getoutput.*--allow-env subprocess:getoutput"
    ) as told:
        Trust().require(wishes)
    assert "\n" not in str(told.value)
    Trust(envs=frozenset({"subprocess:getoutput"})).require(wishes)
    own = RunConfig(task=EVIL)
    Trust(configs=(own,)).require(wishes)
    # The same factory with other arguments is another thing, also after a confirmation.
    other = environment(EVIL.model_copy(update={"env_args": {"cmd": "rm"}}))
    for trust in (Trust(configs=(own,)), Trust(wishes=frozenset(wishes))):
        assert trust.unknown([*wishes, *other, *other]) == other


@pytest.mark.parametrize(
    ("settings", "given", "asks"),
    [
        ({}, (), False),  # rules
        ({"provider": "openai"}, (), False),
        ({"provider": "openai", "api_key_env": "OPENAI_API_KEY"}, (), False),
        ({"provider": "openai", "api_key_env": "AWS_SECRET_ACCESS_KEY"}, (), True),
        ({"provider": "openai", "api_key_env": "MY_KEY"}, ("llm.default.api_key_env",), False),
        ({"provider": "openai", "base_url": "http://h/v1"}, (), True),
        ({"provider": "openai", "base_url": "http://h/v1"}, ("llm.default.base_url",), False),
        ({"provider": "openai", "base_url": "http://h/v1"}, ("llm",), False),
        ({"provider": "openai", "base_url": "http://h/v1"}, ("llm.critic.base_url", "llm.default.model"), True),
        ({"provider": "huggingface", "model": "m"}, ("llm.default.provider",), True),
        ({"provider": "huggingface", "model": "m"}, ("llm.default.provider", "llm.default.model"), False),
        ({"provider": "huggingface"}, (), True),  # it runs what it downloads
        ({"provider": "huggingface", "base_url": "http://h/v1"}, ("llm.default.base_url",), True),
        ({"provider": "rules", "fallback": [{"provider": "openai", "base_url": "http://h/v1"}]}, (), True),
    ],
)
def test_a_model_is_asked_for_unless_its_provider_says_where_which_key_goes(
    settings: dict[str, Any], given: tuple[str, ...], asks: bool
) -> None:
    assert bool(model(given, **settings)) is asks


def test_a_model_is_allowed_with_its_address_and_its_key() -> None:
    wishes = model(provider="openai", base_url="http://h/v1", api_key_env="MY_KEY")
    assert [wish.name for wish in wishes] == ["openai@http://h/v1+MY_KEY"]
    Trust(models=frozenset({"openai@http://h/v1+MY_KEY"})).require(wishes)
    for wrong in ("openai@http://h/v1", "openai@http://h/v2+MY_KEY", "openai"):
        with pytest.raises(TrustError, match="with the key in MY_KEY"):
            Trust(models=frozenset({wrong})).require(wishes)
    own = {"critic": {"provider": "openai", "base_url": "http://h/v1", "api_key_env": "MY_KEY"}}
    Trust(configs=(RunConfig.model_validate({"llm": own}),)).require(wishes)


def test_a_model_that_is_downloaded_and_run_is_allowed_by_its_own_name() -> None:
    [wish] = model(provider="huggingface", model="evil/model", api_key_env="MY_KEY")
    assert wish.name == "huggingface:evil/model+MY_KEY"
    assert "downloaded, and run on this machine" in wish.in_words()
    for wrong in ("huggingface", "huggingface+MY_KEY", "huggingface:my/model+MY_KEY"):
        assert Trust(models=frozenset({wrong})).unknown([wish])
    assert not Trust(models=frozenset({wish.name})).unknown([wish])
    evil = LLMConfig.model_validate({"default": {"provider": "huggingface", "model": "evil/model"}})
    assert [wish.name for wish in model_wishes(RUN, evil, "critic", own="my/model")] == ["huggingface:my/model"]
    own = RunConfig.model_validate({"llm": {"default": {"provider": "huggingface", "model": "my/model"}}})
    assert Trust(configs=(own,)).unknown(model(provider="huggingface", model="evil/model"))
    assert not Trust(configs=(own,)).unknown(model(provider="huggingface", model="my/model"))


def test_a_cluster_is_asked_for() -> None:
    branches = BranchConfig(executor="ray", ray_address="10.0.0.1:6379")
    [wish] = cluster_wishes(RUN, branches)
    with pytest.raises(TrustError, match=r"10\.0\.0\.1:6379"):
        Trust().require([wish])
    assert list(cluster_wishes(RUN, branches, ["branches.ray_address"])) == []


def test_keys_that_any_config_names_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "x")
    damaged = {"llm": {"default": 7, "critic": {"fallback": [{"api_key_env": "THEIRS"}]}}, "x": {"api_key_env": ["no"]}}
    hidden = hidden_names(damaged)
    assert {"THEIRS", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"} <= set(hidden)
    own = RunConfig.model_validate({"llm": {"default": {"provider": "openai", "api_key_env": "MINE"}}})
    assert "MINE" in Trust(configs=(own,)).secrets()
