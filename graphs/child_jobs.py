"""Jobs of the loop that processes of their own do: written to a file, run, and read back from a file."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ..agents.llm.secrets import key_variable_names
from ..errors import CosignalError
from ..rl.envs.step_alarm import STOPPED
from ..rl.ipc.launcher import end_child, last_words, printed_so_far, start_child
from ..rl.job_process import FileJob, result_file
from ..rl.processes import describe_exit, module_command
from .context import Context


async def result_of(ctx: Context, module: str, job: FileJob, error: type[CosignalError]) -> Any:
    """Return the job's result, the JSON of its last file; the job is run only where that file is not there yet.

    Args:
        ctx: what nodes use.
        module: the package that is run, with the file of the job.
        job: what is asked.
        error: what is raised where the process fails; the message ends with what it printed last.
    """
    folder, result = ctx.run_dir / job.out, result_file(job)
    # The result is written last and whole, so that its file says that the job is done.
    if not await asyncio.to_thread(result.exists):
        job_file, output = folder / f"{job.kind}.json", folder / f"{job.kind}.out"
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(job_file.write_text, job.model_dump_json(indent=2))
        command = module_command(module, str(job_file))
        printed_before = await asyncio.to_thread(printed_so_far, output)
        process = await start_child(command, output, key_variable_names(ctx.config.llm))
        try:
            code = await process.wait()
        finally:
            await end_child(process)
        if code != 0:
            words = await asyncio.to_thread(last_words, output, printed_before)
            hint = "; an environment hung: a step took longer than task.step_timeout_s" if code == -STOPPED else ""
            raise error(f"the process of the job {job.kind!r} has ended ({describe_exit(code)}{hint}); {words}")
    return json.loads(await asyncio.to_thread(result.read_text))
