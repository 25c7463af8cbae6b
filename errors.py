"""Every error that cosignal raises on purpose.

CosignalError
├── ConfigError              a config that cannot be used: rule, value, remedy (exit code 2)
│   └── TaskImportError      the task's environment cannot be imported or built
│       └── MissingGuard     importing it starts a run, for want of `if __name__ == "__main__":`
├── NotARunError             a path that holds no run (exit code 2)
│   └── DamagedRunError      a run directory of which something cannot be read
├── TrustError               a run directory names code or addresses that nobody has allowed (exit code 2)
├── ResumeError              a run that cannot be continued as it was asked for (exit code 2)
├── StorageError             a file of a run cannot be written: no room, no permission
├── NotInRunError            a run has no such call, proposal, node or replay
├── EpisodeError             an episode that was to be shown cannot be played
├── RunLockedError           another process is writing this run
├── ApprovalError            an answer to a promotion that does not wait for it (exit code 2)
├── ReplayError              a call that cannot be asked again (exit code 2)
├── ExportError              a run that cannot be exported so, or an export that cannot be used (exit code 2)
├── SignalError              a signal that cannot be executed
│   └── ExpressionError      a term expression outside the whitelist
├── SeamError                the other process cannot be understood or reached
│   ├── ProtocolError        a message that is not of this protocol
│   ├── TrainerGone          the trainer does not answer any more
│   └── VersionConflict      compare-and-set failed: another signal is in force
├── BranchError              a branch could not be run
│   └── ReplayDiffers        the episodes of a fork cannot be played again, so that all its arms must begin fresh ones
├── SnapshotError            a snapshot is missing or does not fit
│   └── SnapshotDamaged      its files are not those that were written
├── TrainingDiverged         losses, gradients or weights are not finite any more
├── EnvironmentLost          an environment crashes or hangs again and again
├── PreferenceError          pairs that cannot be collected, ranked, read or fitted to
└── ModelAnswerError         a model's answer that is no schema object (data: routed by the graph)
    ├── InvalidAnswer        not JSON, or JSON of the wrong shape
    │   └── AnswerCut        the provider ended it at its length, before it was whole
    ├── ProviderError        the provider did not answer
    ├── PromptTooLong        the evidence does not fit into a prompt, so nobody was asked
    └── BudgetExhausted      the run's limit on calls, tokens or money is reached
"""


class CosignalError(Exception):
    """Base of every error below; catching it catches nothing else."""


class ConfigError(CosignalError):
    """A config cannot be used. The message names the rule, the value and the remedy."""


class TaskImportError(ConfigError):
    """The environment that `task` names cannot be imported or built."""


class MissingGuard(TaskImportError, SystemExit):
    """A script that starts a run holds the environment too, and starts another run wherever that is imported.

    As a SystemExit it ends such a script with its message alone: the lines of the script need not be shown.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = f"cosignal: {message}"


class NotARunError(CosignalError):
    """The path is not a run directory."""


class ResumeError(CosignalError):
    """No run can be continued with this config, or what its directory holds does not belong together."""


class StorageError(CosignalError):
    """A file of a run cannot be written. What was written before is whole, so that the run can be resumed."""


class DamagedRunError(NotARunError):
    """A run directory is there, but something in it cannot be read."""


class TrustError(CosignalError):
    """A run directory names code to import, or an address to send to, that its viewer has not allowed."""


class NotInRunError(CosignalError):
    """The run is there, but not what was asked for in it."""


class EpisodeError(CosignalError):
    """An episode of a recorded policy cannot be played."""


class RunLockedError(CosignalError):
    """Another process holds the run directory's lock."""


class ApprovalError(CosignalError):
    """No promotion of the run waits for this answer, or it contradicts the one that was given."""


class ReplayError(CosignalError):
    """The run did not make this call, or it cannot be asked again from what was recorded."""


class ExportError(CosignalError):
    """A run cannot be exported as it was asked for, or the files of an export do not fit."""


class SignalError(CosignalError):
    """A signal does not fit its task: unknown feature, unknown event, bounds."""


class ExpressionError(SignalError):
    """A term expression is outside the whitelist, or too long."""


class SeamError(CosignalError):
    """Trainer, workers and loop do not understand or reach each other."""


class ProtocolError(SeamError):
    """A message is not of this protocol version, or answers another request."""


class TrainerGone(SeamError):
    """The trainer process ended or stopped answering."""


class VersionConflict(SeamError):
    """A promotion named a base version that is not the one in force."""


class BranchError(CosignalError):
    """A branch could not be run; the message has what the worker said.

    Attributes:
        steps: environment steps that were spent on it.
    """

    def __init__(self, message: str, steps: int = 0) -> None:
        super().__init__(message)
        self.steps = steps


class ReplayDiffers(BranchError):
    """Seed and actions of an episode that ran at the fork do not lead to where it stood."""


class SnapshotError(CosignalError):
    """A snapshot is missing, incomplete, or of another task or network."""


class SnapshotDamaged(SnapshotError):
    """The files of a snapshot are not those that were written: a digest differs, or one is missing or unreadable."""


class TrainingDiverged(CosignalError):
    """Losses, gradients, weights or returns are not finite any more, so that nothing can be learned from here on."""


class EnvironmentLost(CosignalError):
    """An environment was restarted again and again and never finished a step, or a process that hosts some is gone."""


class PreferenceError(CosignalError):
    """Pairs of states cannot be collected, ranked, read or fitted to."""


class FitError(CosignalError):
    """A process that fits signals to experience has failed."""


class ModelAnswerError(CosignalError):
    """A model's answer did not become a schema object. The error is kept as data and routed by the graph."""


class InvalidAnswer(ModelAnswerError):
    """The raw text is not JSON, or JSON of the wrong shape, also after the repair turn.

    Attributes:
        raw: the answer as the model gave it.
    """

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class AnswerCut(InvalidAnswer):
    """The provider ended the answer at its length, before it was whole. Nobody is asked to repair it."""


class ProviderError(ModelAnswerError):
    """The provider failed or did not answer in time."""


class PromptTooLong(ModelAnswerError):
    """The content that a prompt must carry is larger than it may be, so that nobody was asked."""


class BudgetExhausted(ModelAnswerError):
    """The run's limit on calls, tokens or money is reached: adaptation stops, training goes on."""
