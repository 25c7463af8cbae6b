"""A process that plays somebody else's environment for the doctor: `python -m cosignal.doctor.task_process`."""

from __future__ import annotations

from pydantic import BaseModel

from ..errors import ConfigError
from ..rl.child import START_S, Parent
from ..rl.envs.config import TaskConfig
from ..rl.envs.factory import closing_task
from ..rl.envs.load_env import task_factory
from ..rl.envs.probe import say_calls
from .check import Check, problem, problems_from
from .play import ENVS, Say, check_play
from .repeat import check_repeats, play_digests

MODULE = "cosignal.doctor.task_process"


class PlayRequest(BaseModel):
    """What to do: look at a task, or play the steps again that another process has played."""

    task: TaskConfig
    repeat_steps: int | None = None


class PlayAnswer(BaseModel):
    """What came of it.

    Attributes:
        checks: in their order.
        digests: of steps, for other processes to compare; none where there is nothing to compare.
    """

    checks: list[Check] = []
    digests: list[str] = []


def look_at(config: TaskConfig, say: Say) -> PlayAnswer:
    """Play the task at random, and see whether it repeats itself. Raises nothing that a task can cause."""
    checks: list[Check] = []
    try:
        checks += check_play(config, say)
        check, digests = check_repeats(config, say)
        return PlayAnswer(checks=[*checks, check], digests=digests)
    except ConfigError as error:
        return PlayAnswer(checks=[*checks, *problems_from("task.play", error)])
    except Exception as error:  # noqa: BLE001 somebody else's code may raise anything
        rule = f"the environment must survive random play, it raised {type(error).__name__}: {error}"
        remedy = "mend it; a run would restart it and lose the episode each time"
        return PlayAnswer(checks=[*checks, problem("task.play", rule, remedy)])


def main() -> None:
    """Answer a `PlayRequest` with a `PlayAnswer`."""
    parent = Parent()
    request = PlayRequest.model_validate_json(parent.request)
    config = request.task
    build_s = START_S + ENVS * config.step_timeout_s

    def say(place: str) -> None:
        parent.at(place, build_s)

    with parent.hears_errors():
        # Each reset and step says that the environment lives, whoever calls it.
        say("building it")
        with closing_task(config, task_factory(config)()) as task:
            say_calls(task.env, lambda _: parent.at(parent.place, config.step_timeout_s))
        if request.repeat_steps is None:
            answer = look_at(config, say)
        else:
            answer = PlayAnswer(digests=play_digests(config, request.repeat_steps, say))
        parent.answer(answer.model_dump())


if __name__ == "__main__":
    main()
