"""The judge of texts: a dual encoder trained on a dataset's items and captions, apart from any generator, pinned by its weights.

N items, L tokens, D features of a text's embedding, E of the space that both share. One tower is the trunk that judges items of
the modality (core/features.py); the other reads the mean of a caption's tokens, as the pinned encoder of texts gives them. Both
are trained to find each other in a batch (Radford 2021, arXiv 2103.00020, section 2.3); captions that a batch holds twice are
each other's right answer (Yang 2022, arXiv 2204.03610). Small sets are learnt by heart soon: a tenth of the captions is kept
aside from the training split, and the weights that find those best are kept.

A folder holds `weights.safetensors` and `judge.json`, which names their digest and is written last.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional

from components.core.arrays import Stored
from components.core.errors import DataError, RunError
from components.core.features import FEATURES, Features, Trunk, features_of
from components.core.files import sha256_of, write_whole
from components.core.item import AnyItem, ItemSpec
from components.core.protocols import CaptionedSplit
from components.core.record import Record
from components.core.records import EmbeddingCondition

VERSION = 1
WEIGHTS, RECORD = "weights.safetensors", "judge.json"
SHARED = 64  # E
BATCH, INFER_BATCH = 128, 256
EPOCHS, STEPS_LEAST = 40, 200
LR_PEAK, DECAY = 2e-3, 0.1
DROPPED = 0.2  # of a text's numbers, in training
NOISE = 0.1  # added to items in training, in data units
SCALE, SCALE_MOST = math.log(1 / 0.07), math.log(100)  # of similarities, as a logarithm
ASIDE = 10  # of so many captions one is kept aside
ASIDE_MOST = 512
LOOKS = 12  # at what is kept aside

Progress = Callable[[str, int, int], None]  # stage, done, total
Floats = npt.NDArray[np.float32]


class JudgeRecord(Record):
    """judge.json."""

    version: int
    dataset_md5: str
    encoder: str
    seed: int
    item: AnyItem
    length: int
    features: int
    steps: int
    kept_step: int
    weights_sha256: str


class DualEncoder(nn.Module):
    """Items and the means of captions' tokens [N, D] as unit vectors [N, E]."""

    def __init__(self, trunk: Trunk, features: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.of_item = nn.Linear(FEATURES, SHARED)
        self.of_text = nn.Sequential(
            nn.LayerNorm(features, elementwise_affine=False), nn.Dropout(DROPPED), nn.Linear(features, 2 * SHARED), nn.SiLU(),
            nn.Linear(2 * SHARED, SHARED),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.tensor(SCALE))

    def items(self, x: Tensor) -> Tensor:
        found: Tensor = functional.normalize(self.of_item(functional.silu(self.trunk(x))), dim=1)
        return found

    def texts(self, mean_ND: Tensor) -> Tensor:
        found: Tensor = functional.normalize(self.of_text(mean_ND), dim=1)
        return found

    def loss(self, x: Tensor, mean_ND: Tensor, same_NN: Tensor) -> Tensor:
        """Of finding the text of each item and the item of each text among all; `same`: which texts are one."""
        logits_NN = self.scale.clamp(max=SCALE_MOST).exp() * self.items(x) @ self.texts(mean_ND).T
        wanted_NN = same_NN / same_NN.sum(1, keepdim=True)
        return (functional.cross_entropy(logits_NN, wanted_NN) + functional.cross_entropy(logits_NN.T, wanted_NN)) / 2


class Judge:
    """How well items and captions belong together."""

    def __init__(self, record: JudgeRecord, network: DualEncoder, *, device: str = "cpu") -> None:
        self.record = record
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> "Judge":
        """Read a judge. Raises RunError when it is missing, incomplete or its weights are not those it names."""
        record, path = JudgeRecord.read(folder / RECORD), folder / WEIGHTS
        if not path.is_file() or sha256_of(path) != record.weights_sha256:
            raise RunError(f"{path}: missing or not the weights that {RECORD} names", do="delete the folder and run again")
        network = _network(record.item, record.features, record.seed)
        network.load_state_dict(load_tensors(path.read_bytes()))
        return cls(record, network, device=device)

    @property
    def sha256(self) -> str:
        return self.record.weights_sha256

    def of_items(self, items: Stored) -> Floats:
        """Unit vectors of stored items, float32 [N, E]."""
        to_tensor, spec = features_of(self.record.item.modality).to_tensor, self.record.item
        return self._run(items, lambda part: self.network.items(to_tensor(part, spec).to(self.device)))

    def of_texts(self, rows_NLD: Floats) -> Floats:
        """Unit vectors of captions' embeddings, float32 [N, E]. Raises RunError for those of another encoder."""
        if rows_NLD.shape[1:] != (self.record.length, self.record.features):
            raise RunError(
                f"embeddings of {list(rows_NLD.shape[1:])} given to a judge of texts by {self.record.encoder}",
                allowed=f"{[self.record.length, self.record.features]}",
            )
        return self._run(rows_NLD, lambda part: self.network.texts(torch.from_numpy(mean_of_tokens(part)).to(self.device)))

    def _run(self, rows: npt.NDArray[np.generic], compute: Callable[[npt.NDArray[np.generic]], Tensor]) -> Floats:
        with torch.inference_mode():
            parts = [compute(rows[at : at + INFER_BATCH]).float().cpu().numpy() for at in range(0, len(rows), INFER_BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, SHARED), np.float32)


def mean_of_tokens(rows_NLD: npt.NDArray[np.generic]) -> Floats:
    """The mean of the rows that are not zero, float32 [N, D]; of none zeros."""
    rows = rows_NLD.astype(np.float32)
    counts_N = np.maximum(1, rows.any(axis=2).sum(axis=1))
    found: Floats = rows.sum(axis=1) / counts_N[:, None].astype(np.float32)
    return found


def train_judge(
    train: CaptionedSplit,
    condition: EmbeddingCondition,
    *,
    dest: Path,
    dataset_md5: str,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Judge:
    """Train the judge of a dataset's captions and write it to `dest`, or read it where it stands there already.

    `train`: the training split, opened with the embeddings of the condition's encoder. Raises DataError for data without captions
    and for a split that is too small.
    """
    if (found := _reusable(dest, condition, dataset_md5=dataset_md5, seed=seed, device=device)) is not None:
        return found
    learnt, aside = kept_aside(train)
    if len(learnt) < 2:
        raise DataError(f"the train split holds {len(learnt)} captioned items to learn from", allowed="2 or more", do="add data")
    steps = int(np.clip(EPOCHS * len(learnt) // BATCH, STEPS_LEAST, _most_steps(train.item)))
    network = _network(train.item, condition.features, seed).to(device)
    fit = _Fit(network, train, learnt, aside, steps=steps, seed=seed, device=device)
    kept = fit.run(progress)
    write_whole(dest / WEIGHTS, save_tensors({name: each.cpu().contiguous() for name, each in network.state_dict().items()}))
    record = JudgeRecord(
        version=VERSION,
        dataset_md5=dataset_md5,
        encoder=condition.encoder,
        seed=seed,
        item=train.item,
        length=condition.length,
        features=condition.features,
        steps=steps,
        kept_step=kept,
        weights_sha256=sha256_of(dest / WEIGHTS),
    )
    record.write(dest / RECORD)
    return Judge(record, network, device=device)


def kept_aside(train: CaptionedSplit) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The training items that are learnt from, and those that are not: of each caption (an item's first) all or none.

    Raises DataError for data without captions.
    """
    if train.captions is None:
        raise DataError("data without captions has no judge of texts", do="prepare it with captions (docs/data.md)")
    digests = [hashlib.blake2b(said[0].encode(), digest_size=8).digest() for said in train.captions]
    apart_N = np.array([int.from_bytes(digest, "little") % ASIDE == 0 for digest in digests], bool)
    return np.flatnonzero(~apart_N), np.flatnonzero(apart_N)[:ASIDE_MOST]


class _Fit:
    """One training; the weights that find the captions kept aside best are left in the network."""

    def __init__(
        self,
        network: DualEncoder,
        train: CaptionedSplit,
        learnt: npt.NDArray[np.int64],
        aside: npt.NDArray[np.int64],
        *,
        steps: int,
        seed: int,
        device: str,
    ) -> None:
        self.network, self.train, self.learnt, self.aside = network, train, learnt, aside
        self.steps, self.device = steps, device
        self.rng = np.random.default_rng([seed, 6])
        self.networks: Features = features_of(train.item.modality)

    def run(self, progress: Progress | None) -> int:
        """AdamW with a one-cycle rate (Smith 2018, arXiv 1803.09820); returns the step whose weights are kept."""
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=LR_PEAK, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        best, kept, weights = math.inf, self.steps, self._weights()
        order, epoch, size = np.empty(0, np.int64), -1, min(BATCH, len(self.learnt))
        self.network.train()
        for step in range(1, self.steps + 1):
            if len(order) < size:
                order, epoch = self.rng.permutation(self.learnt), epoch + 1
            picked, order = np.sort(order[:size]), order[size:]
            with torch.random.fork_rng(devices=[]):  # dropout draws from torch's own state
                torch.manual_seed(int(self.rng.integers(2**31)))
                loss = self.network.loss(*self._batch(picked, epoch=epoch, moved=True))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if len(self.aside) > 1 and (step % -(-self.steps // LOOKS) == 0 or step == self.steps):
                seen = self._loss_aside()
                if seen < best:
                    best, kept, weights = seen, step, self._weights()
            if progress is not None:
                progress("judge of texts", step, self.steps)
        if math.isfinite(best):
            self.network.load_state_dict(weights)
        return kept

    def _batch(self, picked: npt.NDArray[np.int64], *, epoch: int, moved: bool) -> tuple[Tensor, Tensor, Tensor]:
        x = self.networks.to_tensor(self.train.take(picked), self.train.item)
        if moved:
            x = self.networks.moved(x, self.rng)
            x = x + NOISE * torch.from_numpy(self.rng.standard_normal(tuple(x.shape), dtype=np.float32))
        rows = self.train.take_condition(picked, epoch=epoch)
        ids = np.unique([hash(row.tobytes()) for row in rows], return_inverse=True)[1]
        same = torch.from_numpy((ids[:, None] == ids[None]).astype(np.float32))
        return x.to(self.device), torch.from_numpy(mean_of_tokens(rows)).to(self.device), same.to(self.device)

    def _loss_aside(self) -> float:
        self.network.eval()
        with torch.no_grad():
            found = float(self.network.loss(*self._batch(self.aside, epoch=0, moved=False)))
        self.network.train()
        return found

    def _weights(self) -> dict[str, Tensor]:
        return {name: each.detach().clone() for name, each in self.network.state_dict().items()}

    def _rate(self, step: int) -> float:
        warm = max(1, self.steps // 10)
        return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))


def _most_steps(item: ItemSpec) -> int:
    return max(STEPS_LEAST, features_of(item.modality).most_steps(item))


def _network(item: ItemSpec, features: int, seed: int) -> DualEncoder:
    """A network with weights drawn from `seed`, without touching the process's own random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DualEncoder(features_of(item.modality).trunk(item), features)


def _reusable(dest: Path, condition: EmbeddingCondition, *, dataset_md5: str, seed: int, device: str) -> Judge | None:
    """The judge in `dest` if it is the one wanted and whole."""
    try:
        found = Judge.load(dest, device=device)
    except RunError:
        return None
    record = found.record
    have = (record.version, record.dataset_md5, record.encoder, record.length, record.features, record.seed)
    return found if have == (VERSION, dataset_md5, condition.encoder, condition.length, condition.features, seed) else None
