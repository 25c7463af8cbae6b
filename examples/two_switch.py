"""Train Two-Switch with the adaptation loop from Python: `python examples/two_switch.py`."""

import asyncio
from pathlib import Path

import cosignal


async def main() -> None:
    config = cosignal.RunConfig.load(Path(__file__).with_name("two_switch.yaml"))
    async with cosignal.start(config) as run:
        async for event in run.events():
            print(event)
        print(await run.result())


if __name__ == "__main__":
    asyncio.run(main())
