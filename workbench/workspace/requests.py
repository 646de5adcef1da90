"""Requests that a user put together, kept as files by their content."""

from __future__ import annotations

from workbench.facts.fact import Request
from workbench.facts.request_files import write_request
from workbench.models.paths import cache_dir


def keep_request(request: Request) -> str:
    """Write a request to the cache and return its file's path; the same request is written once.

    Raises:
        WorkbenchError: the cache cannot be written to.
    """
    folder = cache_dir() / "requests" / request.fingerprint[:16]
    file = next(iter(sorted(folder.glob("*.json"))), None) if folder.is_dir() else None
    return str(file or write_request(request, folder))
