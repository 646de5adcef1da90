"""STAMP-LR against the full solve, and memory against the number of retain tokens.

One matrix of Llama-3-8B's down projection (4096 x 14336), synthetic keys, one thread, CPU time.
Streaming the retain keys is the same work for both and is not in the ratio.

    python tests/benchmarks/stamp.py [--d-in 14336 --d-out 4096 --rank 128]
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from workbench.edit.solvers import Moments, solve


def stream(d_in: int, tokens: int, batch: int, seed: int) -> Moments:
    """Sum the second moment of `tokens` synthetic keys."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, d_in)
    moments = Moments.zeros(d_in)
    for _ in range(tokens // batch):
        moments = moments.add(torch.randn(batch, d_in, generator=generator) * scale)
    return moments


def peak_gib() -> float:
    """Return the process's largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d-in", type=int, default=14336)
    parser.add_argument("--d-out", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--forget", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    batch = 256
    moments = stream(given.d_in, 2 * batch, batch, 0)
    print(f"peak memory after {2 * batch:6d} retain tokens: {peak_gib():.2f} GiB")
    for k in range(6):
        more = stream_into(moments, given.d_in, batch, k)
    print(f"peak memory after {8 * batch:6d} retain tokens: {peak_gib():.2f} GiB")
    generator = torch.Generator().manual_seed(9)
    keys = torch.randn(given.forget, given.d_in, generator=generator)
    change = torch.randn(given.forget, given.d_out, generator=generator)
    times = {}
    for label, rank in (("low rank", given.rank), ("full", None)):
        start = time.process_time()
        found = solve(keys, change, more, rank=rank)
        times[label] = time.process_time() - start
        print(f"{label:9s} {times[label]:8.2f} CPU s   residual {found.residual:.4f}")
    print(f"ratio: {times['full'] / times['low rank']:.2f}")


def stream_into(moments: Moments, d_in: int, batch: int, seed: int) -> Moments:
    """Add one more batch of synthetic keys."""
    generator = torch.Generator().manual_seed(100 + seed)
    return moments.add(torch.randn(batch, d_in, generator=generator))


if __name__ == "__main__":
    main()
