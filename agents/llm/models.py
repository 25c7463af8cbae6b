"""The only door to a provider: one model a role, checked before a run, asked through `inquiry`.

=============  ========================================================================================================
`door`         pace, concurrency, hard budgets
`inquiry`      one question: attempts, retries, the repair turn, fallbacks, a deadline over all; a ledger row an attempt
`link`         one model of a chain, one request
`retry`        which failures may pass, and the wait
`structured`   how the schema is sent
`answers`      the raw text is validated here, whatever the provider promises
`tool_calls`   calls of tools as the graph can take them
`keys`         names of keys, texts without them
=============  ========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.language_models import BaseChatModel

from ...errors import ConfigError, ModelAnswerError, ProviderError
from ...prompts import Rendered, Template, load_template, render
from ..config import ROLES, LLMConfig, ModelConfig, Role, can_rank_transitions
from .endpoint import Endpoint
from .model_call import Answered, ModelCall, Question, Record, T
from .providers import build_chat_model
from .rate_limits import CallBudget
from .secrets import key_variable_names

TRANSITIONS = "transitions-v1"  # version of the Ranker's template for its question on single moves
NEEDS_MODEL = (
    "ranking moves needs a language model, got provider 'rules', which is none; name a model by llm.ranker, or set "
    "preferences.ranker to task_heuristic where the task has one, else to none"
)


class RoleModel:
    """One role's chain of models. They are built at the first call; `chat` replaces the first (tests, replays).

    `secrets`: environment variables with keys of the other roles, which no text of this one may hold either.
    """

    def __init__(
        self,
        role: Role,
        config: ModelConfig,
        door: CallBudget,
        record: Record,
        template: Template | None = None,
        chat: BaseChatModel | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self.role: Role = role
        self.config = config
        self.door = door
        self.record = record
        self.template = template or load_template(role)
        names = {*secrets, *key_variable_names(LLMConfig(default=config))}
        further = (Endpoint(link, i, secrets=names) for i, link in enumerate(config.fallback, start=1))
        self._links = [Endpoint(config, 0, chat, names), *further]

    @property
    def chat(self) -> BaseChatModel:
        """The role's own model. Raises ConfigError where package, model or key is missing."""
        return self._links[0].chat

    def prompt(self, variables: dict[str, Any]) -> Rendered:
        """The template filled with those of `variables` that it declares.

        Raises:
            ModelAnswerError: the template (one of the user's own) fails on this data, so that nobody is asked.
        """
        declared = {name: value for name, value in variables.items() if name in self.template.front.variables}
        try:
            return render(self.template, declared)
        except ConfigError as error:
            raise ModelAnswerError(f"nobody was asked: {error}") from error

    async def ask(self, question: Question[T]) -> Answered[T]:
        """Ask, retry what may pass, give an invalid answer one turn to be repaired, then go on to the fallbacks.

        Takes at most `deadline_s` in all. Every attempt is recorded. What is raised is of the last model asked.

        Raises:
            InvalidAnswer: also the repaired answer is not of the schema; carries the raw text.
            ProviderError: the provider failed or took too long, or only the embedded rules are there for a question
                that they cannot answer.
            BudgetExhausted: the run's calls, tokens or money are used up.
            ConfigError: the chat model cannot be built.
        """
        links = [link for link in self._links if question.by_rules or not link.is_rules]
        if not links:
            raise ProviderError(f"nobody was asked: {NEEDS_MODEL}")
        return await ModelCall(self.role, question, links, self.door, self.record).run()


@dataclass(frozen=True)
class Models:
    """The three roles' models of a run; the Ranker's with a template for each of its two questions."""

    critic: RoleModel
    generator: RoleModel
    ranker: RoleModel
    transition_ranker: RoleModel


def build_models(
    config: LLMConfig, door: CallBudget, record: Record, chats: Mapping[Role, BaseChatModel] | None = None
) -> Models:
    """One chain a role behind one door. Nothing is contacted or imported before the first call. `chats`: chat models
    that somebody else has built, for some roles.

    Raises:
        ConfigError: a prompt template is broken.
    """
    given, secrets = chats or {}, key_variable_names(config)

    def model(role: Role, template: Template) -> RoleModel:
        return RoleModel(role, config.for_role(role), door, record, template, given.get(role), secrets)

    own = {role: model(role, role_template(config, role)) for role in ROLES}
    return Models(**own, transition_ranker=model("ranker", load_template("ranker", TRANSITIONS)))


def check_models(config: LLMConfig, given: Collection[Role] = ()) -> None:
    """Build every role's chain and template once, without calling anybody: for the start of a run. Roles in `given`
    have a model already.

    Raises:
        ConfigError: a package, a model's name or a key is missing, or a template is broken; roles and remedy are named.
    """
    roles: dict[str, list[str]] = {}
    for role, problem in model_problems(config, given):
        roles.setdefault(problem, []).append(role)
    if roles:
        raise ConfigError("\n".join(f"llm ({', '.join(names)}): {problem}" for problem, names in roles.items()))


def check_can_rank(config: LLMConfig, given: Collection[Role] = ()) -> None:
    """What must hold where a model is to rank single agents' moves. Contacts and imports nobody.

    Raises:
        ConfigError: the Ranker's chain has no language model, and none is `given`.
    """
    able = any(can_rank_transitions(link.provider) for link in config.chain("ranker"))
    if not able and "ranker" not in given:
        raise ConfigError(f"llm (ranker): {NEEDS_MODEL}")


def check_given(chats: Mapping[Role, BaseChatModel]) -> None:
    """What must hold for chat models that the user has built.

    Raises:
        ConfigError: one of them retries by itself; None means its client's own number.
    """
    for role, chat in chats.items():
        if (retries := getattr(chat, "max_retries", 0)) != 0:
            raise ConfigError(
                f"chat_models[{role!r}] retries by itself (max_retries {retries!r}), unseen by limits and ledger; "
                "build it with max_retries=0"
            )


def model_problems(config: LLMConfig, given: Collection[Role] = ()) -> list[tuple[Role, str]]:
    """What keeps a role from being asked, each with its remedy; empty where all is well. Imports the providers'
    packages (seconds) and contacts nobody."""
    return [(role, problem) for role in ROLES for problem in _problems(config, role, role in given)]


def _problems(config: LLMConfig, role: Role, has_model: bool) -> list[str]:
    head, *fallbacks = config.chain(role)
    checks: list[tuple[str, Callable[[], object]]] = [("", partial(role_template, config, role))]
    if not has_model:
        checks.append(("", partial(build_chat_model, head)))
    for position, link in enumerate(fallbacks):
        checks.append((f"fallback {position}: ", partial(build_chat_model, link)))
    return [name + problem for name, check in checks for problem in _said(check)]


def _said(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except ConfigError as error:
        return [str(error)]
    return []


def role_template(config: LLMConfig, role: Role) -> Template:
    """The role's template. One of the user's own may leave out what it does not need, but not the evidence.

    Raises:
        ConfigError: it is broken, or declares other variables.
    """
    own, path = load_template(role), config.prompt_path(role)
    if path is None:
        return own
    template = load_template(role, override=path)
    declared, given = set(template.front.variables), set(own.front.variables)
    if not declared <= given or "block" not in declared:
        raise ConfigError(
            f"prompt template {str(path)!r} must declare 'block' and else variables of {sorted(given)!r}, "
            f"got {sorted(declared)!r}; correct its front matter"
        )
    return template
