"""An export killed at any moment leaves the old folder or the new one, whole.

The killing is done by this very file as a program of its own: it loads the libraries once, and
forks a child for every kill. `random` kills after a random time; `steps` makes the child kill
itself before its first, second, ... step that touches the disk, until one gets through.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()


def run(how: str, swap: str, place: Path) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE), how, swap, str(place)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("swap", ["exchange", "aside"])
def test_killed_at_random_moments(swap, tmp_path):
    states = run("random", swap, tmp_path / "out")
    assert len(states) == 24
    assert {"old", "new"} >= {s.split()[0] for s in states}
    assert sum("leftover" in s for s in states) >= 5  # the kills did fall inside exports
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("swap", ["exchange", "aside"])
def test_killed_before_every_step(swap, tmp_path):
    states = run("steps", swap, tmp_path / "out")
    kinds = [s.split()[0] for s in states]
    assert len(kinds) > 10 and kinds[0] == "old" and kinds[-1] == "new"
    assert kinds == sorted(kinds, reverse=True)  # once it is the new one it stays so
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_killed_before_there_was_anything(tmp_path):
    states = run("fresh", "exchange", tmp_path / "out")
    kinds = [s.split()[0] for s in states]
    assert len(kinds) > 10 and kinds[0] == "nothing" and kinds[-1] == "new"
    assert set(kinds) == {"nothing", "new"}


def state(target: Path, names: dict[str, str]) -> str:
    """Return which model lies at `target`; fail if it is not whole."""
    if not target.exists():
        return "nothing"
    record = json.loads((target / "edit.json").read_text())
    files = {p.relative_to(target).as_posix(): p for p in target.rglob("*") if p.is_file()}
    del files["edit.json"]
    assert set(files) == set(record["files"]), sorted(files)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["files"][name], name
    return names[record["edited"]["fingerprint"]]


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def die_before(step: int) -> None:
    """Let this process kill itself before its `step`-th operation on the disk."""
    from workbench.models import atomic

    count = 0

    def counted(operation):
        def wrapper(*args, **kwargs):
            nonlocal count
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return operation(*args, **kwargs)

        return wrapper

    for owner, names in (
        (Path, ("mkdir", "rename", "chmod", "replace", "write_text")),
        (shutil, ("rmtree",)),
        (atomic, ("exchange", "_sync")),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))


def main(how: str, swap: str, target: Path) -> None:
    sys.path.insert(0, str(HERE.parent.parent))
    import torch
    from conftest import make_model

    from workbench.models import atomic
    from workbench.models.export import export

    torch.set_num_threads(1)
    if swap == "aside":
        atomic.exchange = lambda a, b: False
    old, new = make_model("qwen2", seed=0), make_model("qwen2", seed=1)
    names = {old.fingerprint: "old", new.fingerprint: "new"}

    def write(model, overwrite=True) -> None:
        export(model, target, overwrite=overwrite, verified=False)

    write(old)  # warm
    started = time.monotonic()
    write(old)
    duration = time.monotonic() - started
    rng = random.Random(0)
    states: list[str] = []

    def judge(child: int) -> str:
        code = os.waitpid(child, 0)[1]
        assert code in (0, signal.SIGKILL), code
        leftover = any(p.name.startswith(".") for p in target.parent.iterdir())
        atomic.recover(target.parent)
        assert not any(p.name.startswith(".") for p in target.parent.iterdir())
        found = state(target, names)
        states.append(found + (" leftover" if leftover else "") + (" done" if code == 0 else ""))
        return states[-1]

    def alternate() -> None:
        while True:
            write(new)
            write(old)

    def step(number: int) -> None:
        die_before(number)
        write(new, overwrite=how == "steps")

    if how == "random":
        for _ in range(24):
            child = forked(alternate)
            time.sleep(rng.uniform(0, 3 * duration))
            os.kill(child, signal.SIGKILL)
            judge(child)
    else:
        for number in range(1000):
            if how == "fresh":
                shutil.rmtree(target, ignore_errors=True)
            else:
                write(old)
            if judge(forked(lambda n=number: step(n))).endswith("done"):
                break
    print(json.dumps(states))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
