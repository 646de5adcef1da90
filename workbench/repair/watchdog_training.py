"""Train the watchdog on made-up messages, and test it on held-out ones.

    workbench watchdog train
    workbench watchdog test

About an hour of one core. Names are never among the words it knows, and known words are dropped at
random, so that it goes by what stands around them and by what other words mean.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workbench.errors import WorkbenchError
from workbench.measure.statistics import Score, score
from workbench.progress import SILENT, Progress
from workbench.repair.chat_watchdog import Hears
from workbench.repair.intent import Turn
from workbench.repair.labelling import LABELS, Committee, Known, Net, NetConfig, encoded
from workbench.repair.meanings import Meanings
from workbench.repair.message import Asked, Message
from workbench.repair.messages import messages
from workbench.repair.watchdog import Watchdog
from workbench.repair.words import Word, words

Row = tuple[Int[Tensor, "pos 5"], Int[Tensor, " pos"]]  # a message's tokens, and their labels
_IGNORED = -100
_SORTED = 50  # batches among whose messages those of similar length are found
_FEWEST = 3  # messages that a known word stands in


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training.

    Attributes:
        members: networks that learn apart, from the same messages.
        count: messages made up.
        epochs: passes over them.
        batch: messages a step.
        lr: largest learning rate; it falls to 0.
        average: how slowly the mean over steps that is kept follows the weights.
        forgotten: share of known words that a pass hides, on average; from none to twice as many.
        meaningless: share of words whose meaning it hides, likewise.
        seed: of every draw.
    """

    members: int = 2
    count: int = 480_000
    epochs: int = 2
    batch: int = 64
    lr: float = 4e-3
    average: float = 0.999
    forgotten: float = 0.2
    meaningless: float = 0.1
    seed: int = 0


def train(
    config: TrainConfig | None = None,
    meanings: Meanings | None = None,
    *,
    progress: Progress = SILENT,
) -> Watchdog:
    """Train a watchdog.

    Args:
        config: settings.
        meanings: what words mean; by default it is told of none.
        progress: where to report.

    Raises:
        Cancelled: the progress asked to stop.
    """
    config, meanings = config or TrainConfig(), meanings or Meanings.none()
    known, rows = _rows(config, meanings)
    seeds = range(config.seed, config.seed + config.members)
    nets = [_trained(rows, known, meanings, replace(config, seed=s), progress) for s in seeds]
    return Watchdog(Committee(nets, meanings.vectors).eval(), known)


def _rows(config: TrainConfig, meanings: Meanings) -> tuple[Known, list[Row]]:
    """Make messages up; return the words to know, and the messages' tokens and labels."""
    made = [(words(m.text), m) for m in messages("train", config.count, seed=config.seed)]
    known = Known(_vocabulary(made), meanings.numbers)
    rows = [
        (torch.tensor(encoded(tokens, known)), torch.tensor(token_labels(tokens, message)))
        for tokens, message in made
        if tokens
    ]
    return known, rows


def _trained(
    rows: Sequence[Row], known: Known, meanings: Meanings, config: TrainConfig, progress: Progress
) -> Net:
    """Train one network."""
    torch.manual_seed(config.seed)
    net = Net(len(known.words), NetConfig(meaning=meanings.vectors.shape[1])).train()
    vectors = torch.cat([torch.zeros(1, meanings.vectors.shape[1]), meanings.vectors])
    steps = config.epochs * -(-len(rows) // config.batch)
    mean = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(config.average))
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps)
    batches = _batches(rows, config)
    for _ in progress.track(range(steps), "training the watchdog"):
        ids, labels = next(batches)
        ids[..., 0] = torch.where(_some(ids, config.forgotten) & (ids[..., 0] > 0), 1, ids[..., 0])
        ids[..., 4] = torch.where(_some(ids, config.meaningless), 0, ids[..., 4])
        logits = net(ids, vectors[ids[..., 4]])
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(net)
    trained = cast(Net, mean.module)
    _settle_endings(trained, {int(i) for ids, _ in rows for i in ids[:, 1]})
    return trained


def _some(ids: Int[Tensor, "batch pos 5"], share: float) -> Bool[Tensor, "batch pos"]:
    """Draw tokens: of each message another share, from none to twice as many as given."""
    return torch.rand(ids.shape[:2]) < torch.rand(len(ids), 1) * 2 * share


@torch.no_grad()
def _settle_endings(net: Net, seen: set[int]) -> None:
    """Give each ending that was never read the mean of those that were.

    Else what a made-up word's ending says is as it was drawn before the training.
    """
    read = torch.zeros(len(net.suffixes.weight), dtype=torch.bool)
    read[list(seen)] = True
    unread = ~read
    unread[0] = False  # padding
    net.suffixes.weight[unread] = net.suffixes.weight[read].mean(0)


def _vocabulary(made: Sequence[tuple[Sequence[Word], Message]]) -> dict[str, int]:
    """Return the words of the templates: those outside subjects, objects and replacements."""
    count: Counter[str] = Counter()
    for _, message in made:
        said = " ".join(p.text for p in message.pieces if p.label not in ("subject", "replacement"))
        count.update({w.text.lower() for w in words(said)})
    return {w: i for i, w in enumerate(sorted(w for w, n in count.items() if n >= _FEWEST))}


def token_labels(tokens: Sequence[Word], message: Message) -> list[int]:
    """Return each token's label: that of the piece in which it begins."""
    numbers = {label: i for i, label in enumerate(LABELS)}
    ends, at = [], 0
    for piece in message.pieces:
        at += len(piece.text)
        ends.append((at, numbers.get(f"{piece.request} {piece.label}", 0) if piece.label else 0))
    return [next(label for end, label in ends if token.start < end) for token in tokens]


def _batches(
    rows: Sequence[Row], config: TrainConfig
) -> Iterator[tuple[Int[Tensor, "batch pos 5"], Int[Tensor, "batch pos"]]]:
    """Yield batches for ever, each pass in a new order, messages of similar length together."""
    rng = random.Random(config.seed)
    while True:
        order = rng.sample(range(len(rows)), len(rows))
        starts = []
        for some in range(0, len(rows), _SORTED * config.batch):
            part = slice(some, some + _SORTED * config.batch)
            order[part] = sorted(order[part], key=lambda i: len(rows[i][1]))
            ends = min(part.stop, len(rows))
            starts += rng.sample(range(some, ends, config.batch), -(-(ends - some) // config.batch))
        for start in starts:
            yield _padded([rows[i] for i in order[start : start + config.batch]])


def _padded(
    rows: Sequence[Row],
) -> tuple[Int[Tensor, "batch pos 5"], Int[Tensor, "batch pos"]]:
    longest = max(len(labels) for _, labels in rows)
    ids = torch.zeros(len(rows), longest, 5, dtype=torch.long)
    out = torch.full((len(rows), longest), _IGNORED)
    for i, (row, labels) in enumerate(rows):
        ids[i, : len(row)] = row
        out[i, : len(labels)] = labels
    return ids, out


@dataclass(frozen=True)
class WatchdogReport:
    """How a watchdog does on held-out messages.

    Attributes:
        detection: share of requests to forget or to correct whose message is taken as one.
        exact: share of them whose every subject, and the words about it, are found to the letter.
        false_alarms: share of the other messages that are taken for a request.
        missed: some messages that were not detected.
        inexact: some that were, but whose spans are wrong.
        alarms: some false alarms.
    """

    detection: Score
    exact: Score
    false_alarms: Score
    missed: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


class Example(Protocol):
    """A message and what it asks for."""

    @property
    def text(self) -> str:
        """What is said."""
        ...

    @property
    def asked(self) -> tuple[Asked, ...]:
        """What is asked for."""
        ...


def examine(
    watchdog: Hears, examples: Sequence[Example], *, shown: int = 20, progress: Progress = SILENT
) -> WatchdogReport:
    """Test a watchdog.

    Args:
        watchdog: what to test.
        examples: messages; those of `messages("test", ...)` have frames, forms and subjects that
            no training message had.
        shown: most examples of each kind of error.
        progress: where to report.

    Raises:
        WorkbenchError: not both some that ask and some that ask for nothing are among them.
    """
    detected, exact, alarms = [], [], []
    missed, inexact, alarming = [], [], []
    for message in progress.track(examples, "reading"):
        found = watchdog.read([Turn("user", message.text)])
        if not message.asked:
            alarms.append(float(bool(found)))
            alarming += [message.text] * bool(found)
            continue
        detected.append(float({i.action for i in found} == {a.request for a in message.asked}))
        missed += [message.text] * (not detected[-1])
        said = {(i.action, i.subject, i.about, i.replacement) for i in found}
        wanted = {(a.request, a.subject, a.about, a.replacement) for a in message.asked}
        exact.append(float(said == wanted))
        inexact += [message.text] * bool(detected[-1] and not exact[-1])
    detection, right, false = (score(v, proportion=True) for v in (detected, exact, alarms))
    if detection is None or right is None or false is None:
        raise WorkbenchError(
            "Too few messages to test with; take some that ask for something and some that do not, "
            "a hundred made-up ones at least."
        )
    errors = (tuple(texts[:shown]) for texts in (missed, inexact, alarming))
    return WatchdogReport(detection, right, false, *errors)
