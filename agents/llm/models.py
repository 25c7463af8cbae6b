"""The models of a run: a chain of endpoints for each role, checked before the run and asked through `ModelCall`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.language_models import BaseChatModel

from ...errors import ConfigError, ModelAnswerError, ProviderError
from ...prompts import SMALL_VERSIONS, Rendered, Template, load_template, render
from ..config import ROLES, LLMConfig, ModelConfig, Role, can_rank_transitions
from .endpoint import Endpoint
from .model_call import Answered, ModelCall, Question, Record, T
from .providers import build_chat_model
from .rate_limits import CallBudget
from .secrets import key_variable_names

TRANSITIONS_VERSION = "transitions-v1"  # of the Ranker's template for its question on single moves
EPISODE_VERSION = "episode-v1"  # of the Critic's for its reading of a failed episode
JUDGE_VERSION = "judge-v1"  # of the same for its questions on short texts
NEEDS_MODEL = (
    "ranking moves needs a language model, got provider 'rules', which is none; name a model by llm.ranker, or set "
    "preferences.ranker to task_heuristic where the task has one, else to none"
)


class RoleModel:
    """One role's chain of models. They are built at the first call.

    Args:
        role: the role that they answer for.
        config: the role's own model, with its fallbacks.
        budget: shared by all roles of the run.
        record: called with the ledger row of every attempt.
        template: the role's prompt; the package's own where none is given.
        chat: a chat model that replaces the role's own one (tests, replays, models that the user has built).
        secrets: environment variables with keys of the other roles, which no text of this one may hold either.
    """

    def __init__(
        self,
        role: Role,
        config: ModelConfig,
        budget: CallBudget,
        record: Record,
        template: Template | None = None,
        chat: BaseChatModel | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self.role: Role = role
        self.config = config
        self.budget = budget
        self.record = record
        self.template = template or load_template(role)
        # Every endpoint redacts the keys of all models of the run.
        names = {*secrets, *key_variable_names(LLMConfig(default=config))}
        fallbacks = [Endpoint(model, i, secrets=names) for i, model in enumerate(config.fallback, start=1)]
        self.endpoints = [Endpoint(config, 0, chat, names), *fallbacks]

    @property
    def chat(self) -> BaseChatModel:
        """The role's own model. Raises ConfigError where package, model or key is missing."""
        return self.endpoints[0].chat

    def prompt(self, variables: dict[str, Any]) -> Rendered:
        """Return the template filled with those of `variables` that it declares.

        Raises:
            ModelAnswerError: the template (one of the user's own) fails on this data, so that nobody is asked.
        """
        return _filled(self.template, variables)

    def prompt_for_rules(self, variables: dict[str, Any]) -> Rendered | None:
        """Return the full prompt for rules in the chain, which cannot read a small one; None where it is not needed."""
        if not self.template.is_small or not any(endpoint.is_rules for endpoint in self.endpoints):
            return None
        return _filled(load_template(self.role), variables)

    async def ask(self, question: Question[T]) -> Answered[T]:
        """Ask, retry what may pass, give an invalid answer one turn to be repaired, then go on to the fallbacks.

        Takes at most `deadline_s` in all. Every attempt is recorded. The error is that of the last model asked.

        Raises:
            InvalidAnswer: also the repaired answer is not of the schema; carries the raw text.
            ProviderError: the provider failed or took too long, or only the embedded rules are there for a question
                that they cannot answer.
            BudgetExhausted: the run's calls, tokens or money are used up.
            ConfigError: the chat model cannot be built.
        """
        # Rules cannot answer every question.
        endpoints = [endpoint for endpoint in self.endpoints if question.by_rules or not endpoint.is_rules]
        if not endpoints:
            raise ProviderError(f"nobody was asked: {NEEDS_MODEL}")
        return await ModelCall(self.role, question, endpoints, self.budget, self.record).run()

    async def aclose(self) -> None:
        """Close the connections of the chain; the next question opens others."""
        for endpoint in self.endpoints:
            await endpoint.aclose()


def _filled(template: Template, variables: dict[str, Any]) -> Rendered:
    """Return the template filled with those of `variables` that it declares. Raises ModelAnswerError where it fails."""
    declared = {name: value for name, value in variables.items() if name in template.front.variables}
    try:
        return render(template, declared)
    except ConfigError as error:
        raise ModelAnswerError(f"nobody was asked: {error}") from error


@dataclass(frozen=True)
class Models:
    """The three roles' models of a run; Critic and Ranker with a template for each of their questions."""

    critic: RoleModel
    generator: RoleModel
    ranker: RoleModel
    transition_ranker: RoleModel
    judge: RoleModel
    episode_reader: RoleModel

    async def aclose(self) -> None:
        """Close the connections of all chains, as the end of a run does."""
        for model in (
            self.critic,
            self.generator,
            self.ranker,
            self.transition_ranker,
            self.judge,
            self.episode_reader,
        ):
            await model.aclose()


def build_models(
    config: LLMConfig, budget: CallBudget, record: Record, chats: Mapping[Role, BaseChatModel] | None = None
) -> Models:
    """Return a chain for each role, all on one budget. Nothing is contacted or imported before the first call.

    Args:
        config: models, limits and templates.
        budget: what the roles share.
        record: called with the ledger row of every attempt.
        chats: chat models that the user has built, for some roles.

    Raises:
        ConfigError: a prompt template is broken.
    """
    prebuilt, secrets = chats or {}, key_variable_names(config)

    def model(role: Role, template: Template) -> RoleModel:
        return RoleModel(role, config.for_role(role), budget, record, template, prebuilt.get(role), secrets)

    # Broken templates are found here, before the run.
    by_role = {role: model(role, role_template(config, role)) for role in ROLES}
    return Models(
        **by_role,
        transition_ranker=model("ranker", load_template("ranker", TRANSITIONS_VERSION)),
        judge=model("ranker", load_template("ranker", JUDGE_VERSION)),
        episode_reader=model("critic", load_template("critic", EPISODE_VERSION)),
    )


def role_template(config: LLMConfig, role: Role) -> Template:
    """Return the role's template: the user's own, else that of the size which the role's model is asked by.

    One of the user's own may leave out what it does not need, but not the evidence.

    Raises:
        ConfigError: it is broken, or declares other variables.
    """
    default, path = load_template(role), config.prompt_path(role)
    if path is None:
        return load_template(role, SMALL_VERSIONS[role]) if config.for_role(role).small_prompts else default
    template = load_template(role, override=path)
    # A variable that this package does not give could never be filled.
    declared, known = set(template.front.variables), set(default.front.variables)
    if not declared <= known or "block" not in declared:
        raise ConfigError(
            f"prompt template {str(path)!r} must declare 'block' and else variables of {sorted(known)!r}, "
            f"got {sorted(declared)!r}; correct its front matter"
        )
    return template


# ---------------------------------------------------------------- checks before a run


def check_models(config: LLMConfig, prebuilt: Collection[Role] = ()) -> None:
    """Build every role's chain and template once, without calling anybody: for the start of a run.

    Roles in `prebuilt` have a chat model that the user has built.

    Raises:
        ConfigError: a package, a model's name or a key is missing, or a template is broken; roles and remedy are named.
    """
    # A problem that several roles share is said once.
    roles: dict[str, list[str]] = {}
    for role, problem in model_problems(config, prebuilt):
        roles.setdefault(problem, []).append(role)
    if roles:
        raise ConfigError("\n".join(f"llm ({', '.join(names)}): {problem}" for problem, names in roles.items()))


def model_problems(config: LLMConfig, prebuilt: Collection[Role] = ()) -> list[tuple[Role, str]]:
    """Return what keeps a role from being asked, each with its remedy; empty where all is well.

    Imports the providers' packages (seconds) and contacts nobody.
    """
    problems: list[tuple[Role, str]] = []
    for role in ROLES:
        head, *fallbacks = config.chain(role)
        # Each is done by building the thing; a fallback is named by its position.
        checks: list[tuple[str, Callable[[], object]]] = [("", partial(role_template, config, role))]
        if role not in prebuilt:
            checks.append(("", partial(build_chat_model, head)))
        for position, fallback in enumerate(fallbacks):
            checks.append((f"fallback {position}: ", partial(build_chat_model, fallback)))
        for prefix, check in checks:
            try:
                check()
            except ConfigError as error:
                problems.append((role, f"{prefix}{error}"))
    return problems


def check_can_rank(config: LLMConfig, prebuilt: Collection[Role] = ()) -> None:
    """Check that there is a model that can rank single agents' moves. Contacts and imports nobody.

    Raises:
        ConfigError: the Ranker's chain has no language model, and none is `prebuilt`.
    """
    is_able = any(can_rank_transitions(model.provider) for model in config.chain("ranker"))
    if not is_able and "ranker" not in prebuilt:
        raise ConfigError(f"llm (ranker): {NEEDS_MODEL}")


def check_can_read(config: LLMConfig, prebuilt: Collection[Role] = ()) -> None:
    """Check that there is a model that can read episodes. Contacts and imports nobody.

    Raises:
        ConfigError: the Critic's chain has no language model, and none is `prebuilt`.
    """
    if all(model.provider == "rules" for model in config.chain("critic")) and "critic" not in prebuilt:
        raise ConfigError(
            "adaptation.read_failures: must be false where the Critic is the embedded rules, which cannot read; set it "
            "to false, or name a model by llm.critic"
        )


def check_can_sample(config: LLMConfig, prebuilt: Collection[Role] = ()) -> None:
    """Check that several samples of the Generator can differ. Contacts and imports nobody.

    Raises:
        ConfigError: the Generator is the embedded rules, and no model is `prebuilt`.
    """
    if config.samples > 1 and config.for_role("generator").provider == "rules" and "generator" not in prebuilt:
        raise ConfigError(
            f"llm.samples: must be 1 for the provider 'rules', which always gives the same answer, got "
            f"{config.samples}; set it to 1, or name a model by llm.generator"
        )


def check_chat_models(chats: Mapping[Role, BaseChatModel]) -> None:
    """Check that chat models which the user has built leave retries to this package.

    Raises:
        ConfigError: one of them retries by itself; None means its client's own number.
    """
    for role, chat in chats.items():
        if (retries := getattr(chat, "max_retries", 0)) != 0:
            raise ConfigError(
                f"chat_models[{role!r}] retries by itself (max_retries {retries!r}), unseen by limits and ledger; "
                "build it with max_retries=0"
            )
