"""What a run directory would make its viewer do beyond reading: import a module, send to an address, join a cluster.

A run directory is data to look at, and may be a stranger's. Shipped tasks, the embedded rules, and hosted providers at
their own address under their own key are known; anything else that it names must be allowed by the viewer: in a config
of his own, by an option, or on a page that shows exactly what would be done.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ..agents.config import ROLES, LLMConfig, ModelConfig, Role
from ..agents.llm.hosted_tracing import hidden_from_children
from ..agents.llm.secrets import PROVIDER_VARIABLES
from ..config.run_config import RunConfig
from ..errors import DamagedRunError, TrustError
from ..files import file_inside
from ..rl.branches.config import BranchConfig
from ..rl.envs.config import TaskConfig
from ..rl.processes import child_environment
from ..rl.training.config import TrainingConfig
from ..text import cut, one_line
from .run_files import LONGEST_JSON

LONGEST_ARGUMENTS = 20_000  # characters; what is longer cannot be shown, so nobody can allow it
SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL")
DOWNLOADS = frozenset({"huggingface"})  # providers whose package downloads a model and runs it here
# Providers that are known by name alone: their package asks their own address.
HOSTED = PROVIDER_VARIABLES.keys() - DOWNLOADS - {"langsmith"}


@dataclass(frozen=True)
class Wish:
    """One thing that a run directory names and its viewer has not.

    Attributes:
        kind: "environment", "model" or "cluster".
        run: the run directory.
        name: the import path `module:attribute`, or the address.
        arguments: what it would be called with, as JSON; empty where there is nothing.
        found: where it would be found.
        remedy: what allows it on the command line.
    """

    kind: str
    run: str
    name: str
    arguments: str
    found: str
    remedy: str

    def in_words(self) -> str:
        """Return what would be done, on one line."""
        done = {"environment": "import and call", "model": "ask the model", "cluster": "join the Ray cluster"}
        arguments = f" with {cut(self.arguments, 300)}" if self.arguments else ""
        return one_line(f"{done[self.kind]} {plain(self.name)}{arguments} ({self.found})")


@dataclass(frozen=True)
class Trust:
    """What the viewer allows.

    Attributes:
        configs: his own; their environment with its arguments, their models and their cluster are his.
        envs: import paths of environments, with any arguments.
        models: as `model_name` writes them.
        wishes: those that he was shown and has allowed.
    """

    configs: tuple[RunConfig, ...] = ()
    envs: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    wishes: frozenset[Wish] = frozenset()

    def unknown(self, wishes: Sequence[Wish]) -> list[Wish]:
        """Return those that are not allowed yet, each once."""
        return [wish for wish in dict.fromkeys(wishes) if wish not in self.wishes and not self._allows(wish)]

    def require(self, wishes: Sequence[Wish]) -> None:
        """Check that all are allowed.

        Raises:
            TrustError: one is not; it says what would be done, and what allows it.
        """
        unknown = self.unknown(wishes)
        if unknown:
            told = "; ".join(wish.in_words() for wish in unknown)
            remedies = " ".join(dict.fromkeys(wish.remedy for wish in unknown))
            raise TrustError(
                f"the run directory {unknown[0].run!r} must name nothing to act on that you have not allowed, it "
                f"would: {told}; where that is meant, add {remedies}, or --config with a config of yours that names it"
            )

    def secrets(self) -> list[str]:
        """Return the variables with keys that the viewer's configs name, which no process for a run may see."""
        return [name for config in self.configs for name in hidden_from_children(config.llm)]

    def _allows(self, wish: Wish) -> bool:
        match wish.kind:
            case "environment":
                own = [(config.task.env, arguments_of(config.task)) for config in self.configs]
                return wish.name in self.envs or (wish.name, wish.arguments) in own
            case "model":
                own_models = {model_name(model) for config in self.configs for _, model in _models(config.llm)}
                return wish.name in self.models | own_models
            case _:
                return wish.name in {config.branches.ray_address for config in self.configs}


SHIPPED_ONLY = Trust()  # of a viewer who has named nothing


# ---------------------------------------------------------------- what is wished for


def task_wishes(run_dir: Path, task: TaskConfig) -> Iterator[Wish]:
    """Yield the environment of a task, where it is none of the shipped ones."""
    if task.env is None:
        return
    arguments = arguments_of(task)
    if len(arguments) > LONGEST_ARGUMENTS:
        raise TrustError(
            f"task.env_args of {str(run_dir)!r} must be short enough to be shown, got {len(arguments)} characters; "
            "nobody could see what is loaded"
        )
    yield Wish("environment", str(run_dir), task.env, arguments, _where(task.env), f"--allow-env {plain(task.env)}")


def model_wishes(
    run_dir: Path, llm: LLMConfig, role: Role, given: Sequence[str] = (), own: str | None = None
) -> Iterator[Wish]:
    """Yield the models of a role that are not known by their provider's name alone.

    Args:
        run_dir: the run.
        llm: the models to ask, by the run's config.
        role: who is asked.
        given: dotted keys that the viewer has set himself.
        own: the name of a model that he asks at the role's provider.
    """
    section = "default" if getattr(llm, role) is None else role
    for place, model in enumerate(llm.chain(role)):

        def is_given(field: str, place: int = place) -> bool:
            key = f"llm.{section}.{'fallback' if place else field}"
            return any(key == set_key or key.startswith(f"{set_key}.") for set_key in given)

        # Whoever names the address himself may send what he likes there.
        own_key = model.api_key_env is None or model.api_key_env in PROVIDER_VARIABLES.get(model.provider, ())
        if own is not None and place == 0:
            model = model.model_copy(update={"model": own})
        names_model = model.provider not in DOWNLOADS or is_given("model") or (own is not None and place == 0)
        knows_provider = model.provider in HOSTED or (is_given("provider") and names_model)
        goes_home = model.base_url is None and (own_key or is_given("api_key_env"))
        if model.provider != "rules" and not (knows_provider and (goes_home or is_given("base_url"))):
            where = model.base_url or f"the address of {model.provider}"
            if model.provider in DOWNLOADS:
                where = f"{where}: this model is downloaded, and run on this machine"
            key = f"with the key in {model.api_key_env}" if model.api_key_env else "without a key of yours"
            name = model_name(model)
            yield Wish("model", str(run_dir), name, "", f"{where}, {key}", f"--allow-model {name}")


def cluster_wishes(run_dir: Path, branches: BranchConfig, given: Sequence[str] = ()) -> Iterator[Wish]:
    """Yield the Ray cluster that branches would run on: whoever joins one runs what it sends."""
    if branches.ray_address is not None and not {"branches", "branches.ray_address"} & set(given):
        address = branches.ray_address
        remedy = f"--set branches.ray_address={address}"
        yield Wish("cluster", str(run_dir), address, "", "whoever joins a cluster runs what it sends", remedy)


def replay_wishes(
    run_dir: Path,
    config: RunConfig,
    role: Role | None,
    training: TrainingConfig | None,
    given: Sequence[str] = (),
    own: str | None = None,
) -> list[Wish]:
    """Return what asking a recorded call again would take from a run directory.

    Args:
        run_dir: the run.
        config: the one to ask and to branch by.
        role: who is asked; None where the viewer has built the model himself.
        training: what branches are trained by; None where none are run.
        given: dotted keys of the config that the viewer has set himself.
        own: the name of a model that he asks at the role's provider.
    """
    wishes = [] if role is None else [*model_wishes(run_dir, config.llm, role, given, own)]
    if training is not None:
        for task in (config.task, training.task):
            wishes += task_wishes(run_dir, task)
        wishes += cluster_wishes(run_dir, config.branches, given)
    return wishes


def arguments_of(task: TaskConfig) -> str:
    """Return `task.env_args` as JSON, the same for the same arguments."""
    return json.dumps(task.env_args, sort_keys=True) if task.env_args else ""


def model_name(model: ModelConfig) -> str:
    """Name a model by all that decides where which key is sent: `openai@http://127.0.0.1:8000/v1+MY_KEY`.

    One that is downloaded and run has its own name, too: `huggingface:owner/model`.
    """
    downloaded = f":{model.model}" if model.provider in DOWNLOADS else ""
    address = f"@{model.base_url}" if model.base_url else ""
    return f"{model.provider}{downloaded}{address}" + (f"+{model.api_key_env}" if model.api_key_env else "")


def plain(text: str) -> str:
    """Return the text in ASCII, so that no letter looks like another one."""
    return text.encode("ascii", "backslashreplace").decode()


def _models(llm: LLMConfig) -> Iterator[tuple[Role, ModelConfig]]:
    for role in ROLES:
        for model in llm.chain(role):
            yield role, model


def _where(env: str) -> str:
    """Say where the module of an import path would be found, without importing anything."""
    top = env.partition(":")[0].partition(".")[0]
    if top in sys.builtin_module_names:
        return f"module {plain(top)}, built into Python"
    here = str(Path.cwd())
    # As a process for the run looks: Python's own modules and packages, then the current directory.
    paths = [*child_environment(here_last=True)["PYTHONPATH"].split(os.pathsep), here]
    try:
        spec = PathFinder.find_spec(top, paths)
    except (ImportError, ValueError, OSError):
        spec = None
    if spec is None:
        return f"module {plain(top)}, which is not found from {here}"
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return f"module {plain(top)} from {', '.join(str(place) for place in places)}"


# ---------------------------------------------------------------- what stands in the files


def read_training(run_dir: Path) -> TrainingConfig:
    """Read `training.json` of a run that may be anybody's.

    Raises:
        DamagedRunError: it is missing, or no config of this version.
    """
    try:
        file_inside(run_dir, "training.json", LONGEST_JSON)
        return TrainingConfig.of_run(run_dir)
    except (OSError, ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        raise DamagedRunError(
            f"{str(run_dir / 'training.json')!r} must be the config of a trainer of this version, got "
            f"{one_line(str(error)):.300}; restore the file, or use the version that has made it"
        ) from error


def hidden_names(config: Any) -> list[str]:
    """Return the variables that no process for a run may see, by its config as plain data, which may be damaged.

    They are those that it names, those of all providers, and whatever is called like a secret.
    """
    called_so = (name for name in os.environ if SECRET.search(name.upper()))
    return [*hidden_from_children(LLMConfig()), *sorted(_named_keys(config)), *called_so]


def _named_keys(data: Any) -> set[str]:
    """Return every variable that is named by `api_key_env`, wherever it stands."""
    if isinstance(data, dict):
        own = {value for key, value in data.items() if key == "api_key_env" and isinstance(value, str)}
        return own.union(*map(_named_keys, data.values()))
    return set().union(*map(_named_keys, data)) if isinstance(data, list) else set()
