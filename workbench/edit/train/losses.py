"""The losses of unlearning, as functions of the logits at answer tokens.

Each takes flat logits (one row an answer token) and returns a scalar to descend. Log-probabilities
are natural; sums and means are over the tokens named in each docstring.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import Answers, Examples, reference
from workbench.models.model import Model


def label_log_probs(said: Answers) -> Float[Tensor, " token"]:
    """Return log p of each answer token."""
    return -F.cross_entropy(said.logits, said.labels, reduction="none")


def sums(values: Float[Tensor, " token"], said: Answers) -> Float[Tensor, " row"]:
    """Sum over the tokens of each answer."""
    return values.new_zeros(said.rows).index_add_(0, said.row, values)


def means(values: Float[Tensor, " token"], said: Answers) -> Float[Tensor, " row"]:
    """Average over the tokens of each answer."""
    return sums(values, said) / sums(torch.ones_like(values), said)


def answer_log_probs(said: Answers) -> Float[Tensor, " row"]:
    """Return log p of each whole answer."""
    return sums(label_log_probs(said), said)


def reference_log_probs(model: Model, every: Examples) -> Float[Tensor, " row"]:
    """Return log p of each whole answer under a model that is not trained."""
    tokens = reference(model, every, label_log_probs)
    return torch.stack(
        [tokens[every.tokens_of([i]).to(tokens.device)].sum() for i in range(len(every))]
    )


def nll(said: Answers) -> Float[Tensor, ""]:
    """Negative log-likelihood, averaged over all answer tokens."""
    return F.cross_entropy(said.logits, said.labels)


def kl(said: Answers, reference: Float[Tensor, "token vocab"]) -> Float[Tensor, ""]:
    """KL(reference || model), averaged over answer tokens.

    Args:
        said: the model's answers.
        reference: logits (or log-probabilities) of the reference at the same tokens.
    """
    own, other = said.logits.log_softmax(-1), reference.log_softmax(-1)
    return F.kl_div(own, other, reduction="batchmean", log_target=True)


def log_one_minus_p(said: Answers) -> Float[Tensor, " token"]:
    """Return log(1 - p) of each answer token, from logits.

    log(1 - p) = logsumexp(logits without the label) - logsumexp(logits)  (Mazeika et al. 2024,
    HarmBench, arXiv 2402.04249). In this form nothing overflows where p rounds to 1, and the
    gradient on the label's logit is -p, so it is bounded too.
    """
    logits = said.logits
    others = logits.scatter(1, said.labels[:, None], -torch.inf)
    return others.logsumexp(-1) - logits.logsumexp(-1)


def preference(margin: Float[Tensor, " row"], beta: float) -> Float[Tensor, ""]:
    """-(2 / beta) log sigma(beta margin), averaged over answers.

    The margin says by how much, in nats, an answer is preferred to the one to forget. As beta goes
    to 0 it descends -margin; at larger beta answers whose margin is large weigh little (Zhang et
    al. 2024, NPO, arXiv 2404.05868, eq. 3 and section 3).
    """
    return -2 / beta * F.logsigmoid(beta * margin).mean()
