"""The configuration of a run: `RunConfig` is the sum of the configs that sit beside their owners.

`adaptation`   settings of the loop, and of the spans that it sends
`budget`       what an intervention costs in environment steps, and how many a run can pay
`identity`     which keys decide a run's results, and which a resumed run may change
`run_config`   `RunConfig`: all sections, and the rules that span several of them
`load`         YAML and `--set` in, one clear line for each thing that is wrong out

`RunConfig.load` reads the file, sets the overrides, validates, and explains what is wrong; a run saves the result as
resolved JSON.
"""

from .run_config import RunConfig

__all__ = ["RunConfig"]
