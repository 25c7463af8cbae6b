"""Loading a config: what is read, and how wrong ones are told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cosignal.config.load import config_keys
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.rl.branches.config import GateConfig
from pydantic import ValidationError


def load(tmp_path: Path, text: str, *overrides: str) -> RunConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return RunConfig.load(path, overrides)


def complaint(tmp_path: Path, text: str, *overrides: str) -> str:
    """The message of the ConfigError, without file and line."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return re.sub(
        rf"^{re.escape(str(tmp_path / 'config.yaml'))}(, line \d+)?: ", "", str(caught.value), flags=re.MULTILINE
    )


def test_an_empty_file_is_the_default_config(tmp_path: Path) -> None:
    assert load(tmp_path, "") == RunConfig()


def test_overrides_are_yaml_and_the_last_one_wins(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "trainer: {steps: 1_000_000}",
        "trainer.steps=2_000_000",
        "gate.looks=[2, 4]",
        "llm.generator={provider: openai, model: m}",
        "trainer.ippo.lr=6e-4",
        "seed=7",
        "seed=8",
    )
    assert config.trainer.steps == 2_000_000
    assert config.gate.looks == (2, 4)
    assert config.llm.for_role("generator").model == "m"
    assert config.trainer.ippo.lr == pytest.approx(6e-4)
    assert config.seed == 8


def test_the_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    term = "{name: near, kind: potential, expression: -x / 12}"
    config = load(tmp_path, f"signal: {{terms: [{term}]}}\nseed: 3")
    path = tmp_path / "config.json"
    path.write_text(config.resolved_json(), encoding="utf-8")
    assert RunConfig.load(path) == config
    assert json.loads(config.resolved_json())["trainer"]["ippo"]["gamma"] == 0.99


def test_the_hash_is_of_what_can_change_a_run(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert config.config_hash() == load(tmp_path, "run_dir: elsewhere").config_hash()
    assert config.config_hash() == load(tmp_path, "otel: {enabled: true, content: false}").config_hash()
    assert config.config_hash() != load(tmp_path, "seed: 2").config_hash()
    assert config.config_hash() != load(tmp_path, "trainer: {ippo: {lr: 1e-3}}").config_hash()
    assert len(config.config_hash()) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {stepz: 5}", "trainer.stepz: unknown key, got value 5; did you mean 'trainer.steps'?"),
        ("steps: 5", "steps: unknown key, got value 5; did you mean 'trainer.steps'?"),
        (
            "trainer: {steps: many}",
            "trainer.steps: must be a valid integer, got 'many'; correct it, or remove it for the default 1_500_000",
        ),
        (
            "branches: {horizon: soon}",
            "branches.horizon: must be 'auto' or be a valid integer, got 'soon'; "
            "correct it, or remove it for the default 'auto'",
        ),
        ("trainer: 5", "trainer: must hold keys and values, got 5; write keys below it or remove it"),
        ("trainer:\nseed: 2", "trainer: must hold keys and values, got None; write keys below it or remove it"),
        ("llm: {default: {model: 4}}", "llm.default.model: must be a valid string, got 4; put text in quotes"),
        ("run_dir: 2024", "run_dir: must be a path, got 2024; put text in quotes"),
        (
            "trainer: {steps: 1e30}",
            "trainer.steps: must be a whole number of 64 bits, got 1e+30; correct it, or remove it for the default "
            "1_500_000",
        ),
        ("seed: true", "seed: must be a number, got True; write one"),
        ("trainer: {ippo: {hidden: [64, true]}}", "trainer.ippo.hidden.1: must be a number, got True; write one"),
        (
            "signal: {terms: [{name: a, kind: potential, expression: x, weight: false}]}",
            "signal.terms.0.weight: must be a number, got False; write one",
        ),
        (
            "task: {env: 'a:b', env_args: {maps: [{render: no}]}}",
            "task.env_args.maps.0.render: must be what every reader takes for the same, got 'no'; write false, or put "
            "text in quotes",
        ),
        ("seed: -1", "seed: must be greater than or equal to 0, got -1; correct it, or remove it for the default 1"),
        (
            "signal: {terms: [{name: a, kind: event}]}",
            "signal.terms.0.event: must be given; add it",
        ),
        (
            "signal: {terms: [{name: a, kind: learnt, event: b}]}",
            "signal.terms.0.kind: must be one of 'potential', 'event', 'learned', 'decomposition', 'step_reward', "
            "'table', 'similarity', 'subgoals', 'message', 'progress', got 'learnt'; correct it",
        ),
        (
            "task: {name: two_switch, env: 'a:b'}",
            "task: set exactly one of task.name (a shipped task) and task.env ('package.module:factory')",
        ),
        (
            "task: {name: two_switch, env_args: {size: 8}}",
            "task.env_args go with task.env or one of lbf, rware, lbf_original, rware_original, mpe_spread, "
            "mpe_speaker_listener, pistonball, got {'size': 8} with task.name 'two_switch'; drop them",
        ),
        (
            "trainer: {ippo: {hidden: [64, -5]}}",
            "trainer.ippo.hidden.1: must be greater than or equal to 1, got -5; correct it",
        ),
        (
            "clock: 5",
            "clock: must be 'lockstep' or 'overlap', got 5; correct it, or remove it for the default 'lockstep'",
        ),
        (
            "gate: {looks: [5, 3]}",
            "gate.looks: must be increasing numbers of seeds from 2 on, since one seed has no spread, got [5, 3]; "
            "write for example [4, 6]",
        ),
        (
            "gate: {looks: [1, 3]}",
            "gate.looks: must be increasing numbers of seeds from 2 on, since one seed has no spread, got [1, 3]; "
            "write for example [4, 6]",
        ),
        (
            "branches: {screen_seeds: 4}\ngate: {looks: [3, 5]}",
            "branches.screen_seeds: must be at most gate.looks[0] = 3, since screened branches are continued, got 4; "
            "lower it",
        ),
        (
            "trainer: {steps: 2047}",
            "trainer.steps: must be at least one update, trainer.envs × trainer.rollout = 2_048 steps, got 2047; "
            "raise it",
        ),
        (
            "adaptation: {interval: 2047}",
            "adaptation.interval: must be at least one update, trainer.envs × trainer.rollout = 2_048 steps, got 2047; "
            "raise it",
        ),
        (
            "branches: {horizon: 4095}",
            "branches.horizon: must be at least two updates, 4_096 steps, since screening runs half of it, got 4095; "
            "raise it or set auto",
        ),
        (
            "adaptation: {patience: 1_500_000}",
            "adaptation.patience: must be less than trainer.steps = 1_500_000, or the loop never acts, got 1500000; "
            "lower it or set adaptation.enabled to false",
        ),
    ],
)
def test_a_wrong_config_gets_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    assert complaint(tmp_path, text) == message


def test_each_wrong_key_gets_its_own_line(tmp_path: Path) -> None:
    lines = complaint(tmp_path, "seed: x\ntrainer: {envs: 0, rollouts: 3}").split("\n")
    assert [line.split(":")[0] for line in lines] == ["seed", "trainer.envs", "trainer.rollouts"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", r"config.yaml, line 1, column 6: must be YAML, got expected ',' or ']'.*mend"),
        ("- 1", "must hold `key: value` lines, got list"),
    ],
)
def test_a_file_that_holds_no_config(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    text = "trainer: {steps: 600_000}\nseed: 1\ntrainer: {envs: 32}\n"
    assert complaint(tmp_path, text) == "trainer: must be there once, got it here and in line 1; remove one"


def test_each_line_says_where_the_value_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "seed: 2\ntrainer:\n  envs: many\ngate: {looks: [1]}\n", "clock=soon")
    assert [line.split(": ")[0] for line in str(caught.value).split("\n")] == [
        "--set clock", f"{tmp_path / 'config.yaml'}, line 3",
    ]  # fmt: skip
    assert complaint(tmp_path, "trainer:\n  envs: 4\n", "trainer={envs: many}").startswith(
        "--set trainer.envs: must be"
    )
    with pytest.raises(ConfigError, match=r"config\.yaml, line 2: gate\.looks: must be increasing"):
        load(tmp_path, "seed: 2\ngate: {looks: [1]}\n")


def test_numbers_mean_the_same_everywhere(tmp_path: Path) -> None:
    text = """
        trainer: {steps: 1.5e6, ippo: {lr: 1e-3}}
        llm: {default: {provider: openai, model: 2024-05-13, price: {input: 1e-1, output: .5}}, limits: {usd: 1e1}}
        signal: {terms: [{name: on, kind: potential, expression: x, weight: 1e-1}]}
        adaptation: {enabled: on, gated: no}
        task: {env: "a:b", env_args: {lr: 1e-3, sizes: [1e6, 0x10], at: 12:30:45, day: 2020-01-01, "on": 'on'}}
    """
    config = load(tmp_path, text, "task.env_args.more={eps: 1e-8}")
    assert (config.trainer.steps, config.trainer.ippo.lr) == (1_500_000, 0.001)
    model = config.llm.default
    assert (model.model, model.price and (model.price.input, model.price.output)) == ("2024-05-13", (0.1, 0.5))
    assert (config.llm.limits.usd, config.signal.terms[0].name, config.signal.terms[0].weight) == (10.0, "on", 0.1)
    assert (config.adaptation.enabled, config.adaptation.gated) == (True, False)
    assert config.task.env_args == {
        "lr": 0.001, "sizes": [1_000_000.0, 16], "at": "12:30:45", "day": "2020-01-01", "on": "on",
        "more": {"eps": 1e-8},
    }  # fmt: skip
    # the trainer's process reads the same from JSON, and so does a run that is resumed
    assert RunConfig.model_validate_json(config.resolved_json()) == config
    (tmp_path / "config.json").write_text(config.resolved_json(), encoding="utf-8")
    assert RunConfig.load(tmp_path / "config.json") == config


def test_setting_a_key_changes_no_other_that_shares_its_anchor(tmp_path: Path) -> None:
    text = "llm: {critic: &m {provider: openai, model: a}, generator: *m}"
    config = load(tmp_path, text, "llm.critic.model=b")
    assert (config.llm.for_role("critic").model, config.llm.for_role("generator").model) == ("b", "a")


def test_paths_are_as_a_person_means_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = "run_dir: ~/runs\nllm: {prompts: {critic: ~/c.md}}\nsignal: {scorers: ../a b/scorers}"
    config = load(tmp_path, text)
    assert (config.run_dir, config.llm.prompts.critic) == (Path("/home/somebody/runs"), Path("/home/somebody/c.md"))
    assert config.signal.scorers == Path("../a b/scorers")
    assert RunConfig.model_validate_json(config.resolved_json()) == config
    assert load(tmp_path, "", "run_dir=.").run_dir == Path()


@pytest.mark.parametrize(
    "path",
    [
        "$HOME/runs",
        "'${HOME}/x'",
        "''",
        "'runs '",
        "' '",
        '"a\\0b"',
        '"a\\nb"',
        "~no_such_user/x",
        "~",
        "5",
        "“runs”",
        "„runs“",
    ],
)
@pytest.mark.parametrize("key", ["run_dir", "signal.scorers", "llm.prompts.critic"])
def test_paths_that_would_name_another_place_are_refused(tmp_path: Path, key: str, path: str) -> None:
    if path == "~" and key != "run_dir":
        return  # no path at all, which these may have
    told = complaint(tmp_path, "", f"{key}={path}")
    assert told.startswith(f"--set {key}: must be a path")
    assert "; " in told


def test_a_file_without_an_end_is_read_no_further() -> None:
    with pytest.raises(ConfigError, match="must have at most 1_000_000 characters"):
        RunConfig.load("/dev/zero")


def test_a_key_with_a_newline_is_told_in_one_line(tmp_path: Path) -> None:
    assert "\n" not in complaint(tmp_path, '"se\\ned": 1')


def test_no_hidden_layer_is_a_linear_network(tmp_path: Path) -> None:
    assert load(tmp_path, "", "trainer.ippo.hidden=[]").trainer.ippo.hidden == ()


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: a config file must exist here"):
        RunConfig.load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="must be a readable text file"):
        RunConfig.load(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set: must look like a.b=value, got 'seed'; for example --set trainer.steps=500_000"),
        (".seed=1", "--set: must look like a.b=value, got '.seed=1'; for example --set trainer.steps=500_000"),
        ("seed.x=1", "--set seed.x: 'seed' must hold keys, got 3; set 'seed' as a whole"),
        ("gate.looks=[1", "--set gate.looks: must be a YAML value, got '[1' ("),
        ("seed=2020-99-99", "--set seed: must be a valid integer, got '2020-99-99'"),
        ("seed=!!bool maybe", "--set seed: must be plain data, got !!bool"),
        ("seed=!!timestamp soon", "--set seed: must be plain data, got !!timestamp"),
        ("trainer={envs: many}", "--set trainer.envs: must be a valid integer, got 'many'"),
        ("task={env: 'a:b', env_args: {a: on}}", "--set task.env_args.a: must be what every reader takes for"),
        ("llm.default.model=#x", "--set llm.default.model: must hold no comment"),
        ("trainer.step=1", "--set trainer.step: unknown key, got value 1; did you mean 'trainer.steps'?"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, message: str) -> None:
    assert complaint(tmp_path, "seed: 3", override).startswith(message)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("llm.critc.model=q", "llm.critc: unknown key"),
        ("llm.default.extra_body.x=1", "llm.default.extra_body: unknown key"),
        ("llm.default.price.input=1e-6", "llm.default.price.output: must be given"),
        ("trainer.steps.x=4", "trainer.steps: must be a valid integer"),
        ("task.env_args.size=4", "task.env_args go with task.env"),
    ],
)
def test_sections_that_an_override_begins_are_its_own(tmp_path: Path, override: str, told: str) -> None:
    text = "llm: {default: {provider: rules}}\ntrainer: {envs: 8}\ntask: {name: two_switch}"
    assert complaint(tmp_path, text, override).startswith(f"--set {told}")


@pytest.mark.parametrize(
    ("text", "override", "told"),
    [
        ("", "llm.default.model=4.10", "got 4.10; for text write --set 'llm.default.model=\"4.10\"'"),
        ("", "llm.default.model=010", "or for text write --set 'llm.default.model=\"010\"'"),
        ("", "llm.default.model=true", "--set 'llm.default.model=\"true\"'"),
        ("", "run_dir=2024", "got 2024; for text write --set 'run_dir=\"2024\"'"),
        ("task: {env: 'a:b'}", "task.env_args.s=on", "for text write --set 'task.env_args.s=\"on\"'"),
        ("", "llm.default={model: 4.10}", "got 4.10; put text in \"...\" and all that follows --set in '...'"),
        ("llm: {default: {model: 4.10}}", "seed=1", "got 4.10; put text in quotes"),
    ],
)
def test_how_to_quote_is_told_for_where_it_is_written(tmp_path: Path, text: str, override: str, told: str) -> None:
    assert told in complaint(tmp_path, text, override)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("trainer.steps: 5000", "trainer: {steps: ...}"),
        ("llm: {limits.calls: 5}", "limits: {calls: ...}"),
        ("trainer.ippo.lr: 1e-3", "trainer: {ippo: {lr: ...}}"),
    ],
)
def test_a_key_with_dots_in_a_file_is_told_as_sections(tmp_path: Path, text: str, sections: str) -> None:
    assert complaint(tmp_path, text).endswith(f"write it as sections, {sections}")


@pytest.mark.parametrize(
    "override",
    [
        "llm.default.api-key=sk-S3", "OPENAI_API_KEY=sk-S3", "llm.default.openai_api_key=sk-S3", "llm.apiKey=sk-S3",
        "otel.headers.authorization=Bearer S3", "llm.defalt={api_key: sk-S3}", "llm.default={api_key: sk-S3",
        "llm.default.hf-token=[S3", "llm.api_key.x=S3 #", "api_key:sk-S3", "seed={password: S3}", "x.key=S3",
        "task.env_args.api_key=S3", "llm=api_key S3", "signal.terms=[{kind: {token: S3}}]",
    ],
)  # fmt: skip
def test_no_message_repeats_what_stands_under_the_name_of_a_secret(tmp_path: Path, override: str) -> None:
    assert "S3" not in complaint(tmp_path, "task: {name: two_switch}", override)


def test_limits_of_tokens_are_no_secrets(tmp_path: Path) -> None:
    for key in ("llm.limits.tokens", "llm.limits.tokens_per_minute", "llm.default.max_output_tokens"):
        assert "got 'many'" in complaint(tmp_path, "", f"{key}=many")


def test_the_config_imports_neither_torch_nor_langchain() -> None:
    code = "import sys, cosignal.config.run_config; print(*sorted(m.split('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "langchain", "langchain_core", "langgraph", "numba", "scipy", "zmq", "pettingzoo", "gymnasium"}
    assert heavy.isdisjoint(loaded)


# ---------------------------------------------------------------- what an intervention costs

THREE_OR_FIVE = (
    "gate: {claim: signal, looks: [3, 5]}\nadaptation: {patience: 100_000, rounds: %d}\ntrainer: {steps: %d}"
)


def test_a_run_that_affords_no_intervention_is_told_the_arithmetic(tmp_path: Path) -> None:
    assert complaint(tmp_path, THREE_OR_FIVE % (2, 500_000)) == (
        "adaptation.max_share: must afford at least one intervention, but one costs 2_600_000 branch steps (screening "
        "1_000_000 + finalists 1_600_000 at horizon 200_000) and max_share 0.75 of 500_000 main steps pays 1_500_000; "
        "raise trainer.steps to 866_667, lower branches.horizon or adaptation.candidates, "
        "or set adaptation.enabled to false"
    )
    assert load(tmp_path, THREE_OR_FIVE % (2, 866_667)).trainer.steps == 866_667
    assert not load(tmp_path, "trainer: {steps: 500_000}\nadaptation: {enabled: false}").adaptation.enabled


def test_an_intervention_is_paid_up_to_the_first_look_that_can_decide(tmp_path: Path) -> None:
    """With one round three seeds keep their share of the level, with two rounds it takes five."""
    assert load(tmp_path, THREE_OR_FIVE % (1, 600_000)).adaptation.rounds == 1
    assert "one costs 2_600_000" in complaint(tmp_path, THREE_OR_FIVE % (2, 600_000))


@pytest.mark.parametrize("claim", ["auto", "signal", "policy"])
def test_looks_that_can_decide_nothing_are_refused_since_shaping_that_may_leave_is_judged_by_them(
    tmp_path: Path, claim: str
) -> None:
    gate = "gate: {claim: %s, looks: [3], level: 0.01}"
    assert complaint(tmp_path, gate % claim).startswith("gate.looks must have a look whose level")


@pytest.mark.parametrize("claim", ["auto", "policy"])
def test_a_short_run_affords_a_race_where_it_affords_no_signal(tmp_path: Path, claim: str) -> None:
    """Six arms race four rungs of 16 384 steps: 393 216 steps, a third of them main steps at a share of three quarters.

    The first of them begins no earlier than 150 000 steps into the run.
    """
    text = "race: {arms: 9}\ngate: {claim: %s}\ntrainer: {steps: %d}\nadaptation: {patience: %d}"
    assert load(tmp_path, text % (claim, 150_000 + 65_536, 150_000)).trainer.steps == 215_536
    assert complaint(tmp_path, text % (claim, 215_535, 150_000)) == (
        "adaptation.patience: must leave 4 rungs of adaptation.interval 16_384 before trainer.steps = 215_535, got "
        "150000; lower it to 149_999, raise trainer.steps, or set adaptation.enabled to false"
    )
    assert load(tmp_path, text % (claim, 131_072, 0)).trainer.steps == 131_072
    assert complaint(tmp_path, text % (claim, 131_071, 0)) == (
        "adaptation.max_share: must afford the first 4 rungs of a race, but 6 arms × 4 × adaptation.interval 16_384 "
        "cost 393_216 steps and max_share 0.75 of 131_071 main steps pays 393_213; raise trainer.steps to 131_072, "
        "lower race.arms or adaptation.interval, or set adaptation.enabled to false"
    )
    assert "raise trainer.steps to 733_334" in complaint(tmp_path, text % ("signal", 733_333, 150_000))


def test_the_rules_of_a_race_are_the_config_s(tmp_path: Path) -> None:
    text = (
        "race: {arms: 2, rungs: 7, kick: 0.1, kick_alone: false, fresh_start: false}\n"
        "adaptation: {interval: 32_768}\ngate: {claim: %s}"
    )
    rules = load(tmp_path, text % "policy").race_rules()
    assert rules is not None
    assert (rules.arms, rules.rungs, rules.rung_steps, rules.kick) == (2, 7, 32_768, 0.1)
    assert (rules.kick_alone, rules.fresh_start) == (False, False)
    assert load(tmp_path, text % "signal").race_rules() is None


def test_a_run_without_a_gate_pays_for_no_race(tmp_path: Path) -> None:
    text = "trainer: {steps: 40_000}\nadaptation: {gated: %s, patience: 0}"
    assert load(tmp_path, text % "false").race_rules() is None
    assert "must leave 4 rungs" in complaint(tmp_path, text % "true")


def test_under_the_overlap_clock_the_control_has_to_be_paid(tmp_path: Path) -> None:
    text = "race: {arms: 9}\nclock: %s\ntrainer: {steps: 131_072}\nadaptation: {patience: 0}"
    assert load(tmp_path, text % "lockstep").clock == "lockstep"
    assert "7 arms × 4 × adaptation.interval 16_384 cost 458_752" in complaint(tmp_path, text % "overlap")


def test_a_config_made_in_python_follows_the_same_rules() -> None:
    with pytest.raises(ValidationError, match=r"gate\.looks"):
        RunConfig(gate=GateConfig(looks=()))


def test_the_documentation_names_every_key_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    told = {key for row in rows for key in re.findall(r"`([a-z_.]+)`", row)}
    sections = {key for key in config_keys(RunConfig) if any(k.startswith(f"{key}.") for k in config_keys(RunConfig))}
    roles = tuple(f"llm.{role}." for role in ("critic", "generator", "ranker"))  # like llm.default
    keys = {key for key in config_keys(RunConfig) if not key.startswith(roles)}
    assert told - keys == set()
    assert keys - told - sections == set()
