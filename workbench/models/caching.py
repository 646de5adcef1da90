"""What a model keeps of tokens it has read: handed to its forward and taken from what it returns.

From transformers 5.24 on both are called `cache`, before `past_key_values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

_RENAMED = any(field.name == "cache" for field in fields(BaseModelOutputWithPast))
_NAME = "cache" if _RENAMED else "past_key_values"


def as_cache(cache: Any) -> dict[str, Any]:
    """Return the keyword by which a model's forward takes a cache."""
    return {_NAME: cache}


def cache_in(kwargs: Mapping[str, Any]) -> Any:
    """Return the cache that a model's forward is called with, None without one."""
    return kwargs.get(_NAME)


def cache_of(output: Any) -> Any:
    """Return the cache that a model's forward returned."""
    return getattr(output, _NAME)


def is_plain(cache: Any) -> bool:
    """Whether a cache keeps every key and value of every row, and nothing else."""
    return type(cache) is DynamicCache and all(type(la) is DynamicLayer for la in cache.layers)
