"""Commands side by side in parts of limited time, each of which goes on where the last one stopped.

What `real_trainings.py` and `gpu_cells.py` have in common. As a program it runs a command of zenopt that ends when the
one that started it does, however that ends: an orphan would keep the next part from its folder.

    python benchmarks/parts.py PARENT supernet train ...
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Exit code of a part after which another one is needed.
UNFINISHED = 3
#: Seconds before the end of a part at which nothing further begins, and at which what runs is interrupted. At most
#: these shares of a part, for short ones.
LAST_START_S, LAST_END_S = 60.0, 12.0
_START_SHARE, _END_SHARE = 0.2, 0.1
#: Seconds after its end at which a part kills what has not ended.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Command:
    """A program with its arguments.

    Attributes:
        words: The program and its arguments.
        result: What it prints becomes this file once it has ended well; otherwise it goes into the log.
    """

    words: Sequence[str]
    result: Path | None = None


def zenopt_command(*words: object, result: Path | None = None) -> Command:
    """Return a command of zenopt that ends with this process."""
    start = (sys.executable, str(Path(__file__).resolve()), str(os.getpid()))
    return Command((*start, *map(str, words)), result)


def watch_parent(parent: int) -> None:
    """End this process at once when its parent is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Chain:
    """Commands that follow each other, the first of which runs."""

    def __init__(self, commands: Sequence[Command], log: Path, variables: Mapping[str, str]) -> None:
        self._commands, self._log, self._variables = list(commands), log, variables
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = self._commands[0]
        with contextlib.ExitStack() as files:
            errors = files.enter_context(self._log.open("ab"))
            output = files.enter_context(_partial(command.result).open("wb")) if command.result else errors
            self.process = subprocess.Popen(command.words, stdout=output, stderr=errors, env=self._variables)

    def ended(self) -> int | None:
        """Return the exit code of the command that ran, whose result is kept if it ended well; none while it runs."""
        assert self.process is not None
        code = self.process.poll()
        if code == 0:
            result = self._commands.pop(0).result
            if result is not None:
                os.replace(_partial(result), result)
        return code

    @property
    def is_done(self) -> bool:
        return not self._commands

    def interrupt(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def _partial(result: Path) -> Path:
    return result.with_name(f".{result.name}")


def side_by_side(
    chains: Mapping[str, Sequence[Command]],
    logs: Path,
    *,
    jobs: int,
    until: float | None = None,
    has_clocks: bool = False,
    threads: int | None = None,
    told: Callable[[str, int], None] = lambda name, code: None,
) -> dict[str, int]:
    """Run chains of commands, so many at a time, until all are done or the part is over.

    Args:
        chains:
            By name; a command begins when the one before it has ended well.
        logs:
            Folder of ``NAME.log``, to which what the commands say is added.
        jobs:
            How many run at a time.
        until:
            When the part is over, seconds since 1970. Commands are interrupted shortly before, as by Ctrl-C.
        has_clocks:
            The commands know when the part is over, and need no interruption.
        threads:
            Of each command, unless OMP_NUM_THREADS says otherwise.
        told:
            Called with the name of a chain that is done or has failed, and the exit code.

    Returns:
        Exit codes of the chains that failed before the part was over, by name.
    """
    logs.mkdir(parents=True, exist_ok=True)
    variables = {**({"OMP_NUM_THREADS": str(threads)} if threads else {}), **os.environ}
    waiting = {
        name: _Chain(commands, logs / f"{name}.log", variables)
        for name, commands in chains.items()
        if commands
    }
    running: dict[str, _Chain] = {}
    failed: dict[str, int] = {}
    last_start, last_end, end = _limits(until)
    is_interrupted = False
    try:
        while running or (waiting and time.time() < last_start):
            for name, chain in list(running.items()):
                code = chain.ended()
                if code is None:
                    continue
                del running[name]
                if code == 0 and not chain.is_done:
                    waiting = {name: chain, **waiting}  # what has begun goes on first
                elif code == 0 or (code != UNFINISHED and not is_interrupted):
                    told(name, code)
                    failed.update({name: code} if code else {})
            while waiting and len(running) < jobs and time.time() < last_start:
                name = next(iter(waiting))
                running[name] = waiting.pop(name)
                running[name].start()
            if time.time() >= last_end and not is_interrupted:
                is_interrupted = True
                for chain in running.values() if not has_clocks else ():
                    chain.interrupt()
            if time.time() >= end + _PATIENCE_S:
                break
            time.sleep(0.1)
    finally:
        for chain in running.values():
            chain.kill()
    return failed


def _limits(until: float | None) -> tuple[float, float, float]:
    """Return when nothing further begins, when what runs is interrupted, and the end."""
    if until is None:
        return (float("inf"),) * 3
    length = max(0.0, until - time.time())
    last_start = until - min(LAST_START_S, _START_SHARE * length)
    return last_start, until - min(LAST_END_S, _END_SHARE * length), until


def write_json(path: Path, content: Any) -> None:
    """Replace a file in one go: whoever cuts the run off leaves whole files."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def environment(device: str) -> dict[str, Any]:
    """Return on what something was measured: the machine and versions."""
    import torch

    facts: dict[str, Any] = {"device": f"CPU ({platform.machine()})", "memory_gib": None}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        facts = {"device": properties.name, "memory_gib": round(properties.total_memory / 2**30)}
    return {
        **facts,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": datetime.date.today().isoformat(),
    }


def main() -> None:
    watch_parent(int(sys.argv[1]))
    from zenopt.cli import main as zenopt

    zenopt(sys.argv[2:])


if __name__ == "__main__":
    main()
