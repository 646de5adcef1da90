"""Where the tasks of a study run side by side: processes of this machine, or a Ray cluster.

A pool is a context that provides a function; it makes the workers, anew each time it is called, and
returns what gives them work. Leaving the context ends all workers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

import torch

from workbench.errors import WorkbenchError

Submit = Callable[..., "Future[Any]"]  # called with a function and its arguments
Pool = AbstractContextManager[Callable[[], Submit]]


@contextmanager
def processes(workers: int) -> Iterator[Callable[[], Submit]]:
    """Provide processes that share this machine's cores; made anew after one was killed."""
    pools: list[ProcessPoolExecutor] = []
    threads = max((os.cpu_count() or 1) // workers, 1)

    def start() -> Submit:
        if pools:
            pools[-1].shutdown(wait=False, cancel_futures=True)
        pools.append(
            ProcessPoolExecutor(
                workers,
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(threads,),
            )
        )
        return pools[-1].submit

    try:
        yield start
    finally:
        for pool in pools:
            for process in list((pool._processes or {}).values()):
                process.kill()  # a task may take minutes; its cell is done again next time
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process is interrupted, and ends all
    torch.set_num_threads(threads)
    parent = parent_process()
    if parent is not None:  # one that was killed could not end its workers
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def ray_cluster() -> Iterator[Callable[[], Submit]]:
    """Provide the Ray cluster that this machine belongs to.

    Raises:
        WorkbenchError: Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise WorkbenchError(
            "Ray is not installed; install the extra: pip install 'edit-workbench[cluster]'."
        ) from error
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    remote = cache(ray.remote(num_cpus=1, max_retries=0))

    def submit(run: Callable[..., Any], *given: Any) -> Future[Any]:
        return remote(run).remote(*given).future()

    try:
        yield lambda: submit
    finally:
        ray.shutdown()
