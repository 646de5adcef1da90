"""A cache goes by the name that this transformers uses, and nothing is deprecated."""

import warnings

import torch
from transformers import DynamicCache

from workbench.models.caching import as_cache, cache_in, cache_of
from workbench.models.model import Model


def test_a_text_in_two_parts_is_the_whole_text(family_model: Model):
    """The second part sees the first through the cache alone."""
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        whole = family_model.hf(input_ids=ids, use_cache=False).logits
        given = as_cache(DynamicCache(config=family_model.hf.config))
        first = family_model.hf(input_ids=ids[:, :3], use_cache=True, **given)
        second = family_model.hf(input_ids=ids[:, 3:], use_cache=True, **as_cache(cache_of(first)))
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole)
    assert cache_of(second).get_seq_length() == 5
    assert cache_in(given) is cache_of(first)
    assert cache_in({"input_ids": ids}) is None
