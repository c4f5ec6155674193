"""The Brief: the user's YAML as one frozen record. Secrets never stand in it."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from components.core.addresses import has_password
from components.core.cron import check_cron, check_timezone
from components.core.errors import BriefError
from components.core.plain_yaml import read_plain
from components.core.record import Record, first_complaint, shortened
from components.core.yaml_values import NotPlain

Modality = str  # found by name: what a family here can draw; see pipeline/briefs.py
Goal = Literal["balanced", "quality", "speed", "stability", "latent", "likelihood", "diversity", "reconstruction"]
Conditioning = Literal["none", "class", "text"]
FamilyName = str  # found by name: the families' cards and the policy's tables; see pipeline/briefs.py
Mode = Literal["scratch", "finetune", "lora"]  # the starts that the policy chooses among
RELEASE, HUB = "models:/", "hf:"  # what pretrained.model begins with, where it is no folder
UNCHANGED, COMBINE = "unchanged", "combine"  # the starts of what is not trained: a base as it is, and one with adapters
Delivery = Literal["one_pass", "few_step", "many_step"]
Use = Literal["commercial", "research"]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]  # a limit far from what overflows in seconds
Share = Annotated[float, Field(ge=0, le=1)]
ADAPTERS_MAX, SHARE_MAX = 16, 2.0  # of adapters that are combined: how many, and the weight of one
BYTES_MAX = 100_000  # of a brief
TextPrecision = Literal["fp32", "int8"]
LENGTH, LENGTH_MAX = 32, 512  # tokens of a text
OF_ASSETS = "prefect.asset."  # of Prefect's own events those that no run of a brief emits
EXAMPLE = "name a brief, for example briefs/digits.yaml"


class DataBrief(Record):
    """Where the data stands: a folder of a DVC repo at a revision. `items` and `side` may be declared to plan before fetching."""

    path: str = Field(min_length=1)
    repo: str = Field(default=".", min_length=1)
    rev: str = "HEAD"
    items: int | None = Field(default=None, gt=0, le=10**12)
    side: int | None = Field(default=None, gt=0, le=10**6, description="pixels of the longer edge of one image")

    @field_validator("repo")
    @classmethod
    def _repo_holds_no_secret(cls, repo: str) -> str:
        if has_password(repo):
            raise ValueError("an address with a password in it; allowed: one without, git asks its credential helper")
        return repo

    def relative_to(self, base: Path) -> Self:
        """The same as a record has it: a repository that is a folder, by its way from `base`, the folder that the brief's paths
        are relative to, and the data by its way from that repository. An address stays.

        >>> data = DataBrief(path="/srv/team/data/digits", repo="/srv/team/data").relative_to(Path("/srv/team/models"))
        >>> data.repo, data.path
        ('../data', 'digits')
        """
        repo, path = Path(os.path.normpath(Path(base, self.repo))), Path(os.path.normpath(self.path))
        ways = {"repo": _way(repo, base) if Path(self.repo).is_absolute() else self.repo, "path": self.path}
        if path.is_absolute():  # by its name where it lies there, as a folder of data may be a link to a larger disk
            ways["path"] = path.relative_to(repo).as_posix() if path.is_relative_to(repo) else _way(path, repo)
        return self.model_copy(update=ways)


def _way(to: Path, begin: Path) -> str:
    return Path(os.path.relpath(os.path.realpath(to), os.path.realpath(begin))).as_posix()


class LoraBrief(Record):
    """Low-rank matrices beside layers of a base that rests (Hu et al. 2021, arXiv:2106.09685): W + s B A, s = alpha / rank."""

    rank: int = Field(default=8, ge=1, le=1024, description="of each pair of matrices")
    alpha: Positive | None = Field(default=None, description="over the rank it is the scale s; by default the rank, so s is 1")
    targets: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        default=None, min_length=1, description="names of layers, or ends of names; by default all that the rank fits"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the layers' inputs that the matrices do not see")
    rslora: bool = Field(default=False, description="s = alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732)")
    dora: bool = Field(default=False, description="length and direction of the weights apart (Liu et al. 2024, arXiv:2402.09353)")


class PretrainedBrief(Record):
    """A model to start from: models:/NAME@ALIAS, hf:ORG/NAME, or a diffusers folder."""

    model: str = Field(min_length=1)
    family: FamilyName | None = Field(default=None, description="read from the release or folder, else diffusion is assumed")
    in_domain: bool | None = Field(default=None, description="whether it knows data like this; not stated: a general model")
    prior_preservation: float = Field(
        default=0.0, ge=0, le=0.9, description="share of what is learnt from that the base drew, lest it forgets what it knew"
    )
    freeze: bool | None = Field(
        default=None, description="of a GAN that is fine-tuned: whether the lower half of the discriminator's layers rests"
    )
    lora: LoraBrief | None = Field(default=None, description="how it is adapted, where the start is lora")
    adapters: dict[str, Annotated[float, Field(ge=-SHARE_MAX, le=SHARE_MAX, allow_inf_nan=False)]] | None = Field(
        default=None, min_length=1, max_length=ADAPTERS_MAX, description="releases by LoRA of this base, with the weight of each"
    )

    @field_validator("adapters")
    @classmethod
    def _adapters_are_releases(cls, adapters: dict[str, float] | None) -> dict[str, float] | None:
        for name in adapters or ():
            if not name.startswith(RELEASE):
                raise ValueError(f"{shortened(name, most=80)} given; allowed: models:/NAME@ALIAS or models:/NAME/VERSION")
        return adapters

    @property
    def from_hub(self) -> bool:
        """Whether it is a hub id."""
        return self.model.startswith(HUB)


class ComputeBrief(Record):
    """The budget of one training run: work, and ceilings on its time (docs/briefs.md).

    `items_seen` ends training; the same brief then gives the same model on a slow and on a fast machine. `minutes`, `gpu_hours`
    and `usd` are ceilings: training ends at the lowest. Without `items_seen` a probe on the device turns them into items seen.
    For the tier `usd` outranks `gpu_hours`, both outrank the device.
    """

    items_seen: int | None = Field(default=None, gt=0, le=10**12, description="items that training sees, repeats counted")
    usd: Positive | None = None
    gpu_hours: Positive | None = None
    minutes: Positive | None = None
    spend: Literal["enough", "all"] = Field(
        default="enough", description="of the ceilings: what the policy holds to be enough, or all of it"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(default=1, ge=1, le=1024)
    threads: int | None = Field(
        default=None, ge=1, le=256, description="CPU threads of a training process; by default its share of the cores, at most 4"
    )

    memory_gb: Positive | None = Field(
        default=None, description="10^9 bytes that a step of each training process may take; by default what is free"
    )

    @model_validator(mode="after")
    def _has_something_to_spend(self) -> Self:
        ceilings = (self.usd, self.gpu_hours, self.minutes)
        if self.spend == "all" and (self.items_seen is not None or not any(ceilings)):
            raise ValueError("spend: all needs usd, gpu_hours or minutes, and no items_seen; add one, or leave spend out")
        return self


class TextBrief(Record):
    """The text encoder by whose embeddings items are asked for (docs/text.md)."""

    encoder: str | None = Field(
        default=None, min_length=1, description="minilm, a folder, or hf:ORG/NAME@REVISION; by default minilm, or the base's own"
    )
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of that encoder: another one is refused")
    length: int | None = Field(
        default=None, ge=2, le=LENGTH_MAX, description=f"tokens that are read of a text; by default {LENGTH}, and of CLIP all"
    )
    precision: TextPrecision | None = Field(default=None, description="of its products; by default fp32, and int8 of minilm")


Precision = Literal["fp32", "fp16", "int8"]


class ServingBrief(Record):
    """The limits of serving: p95 milliseconds for one item on the serving device, and the largest batch."""

    latency_ms: Positive | None = None
    batch: int = Field(default=16, ge=1, le=1024)
    output: Literal["float32", "uint8"] = Field(
        default="float32", description="what the graph makes: [-1, 1], or the 256 levels, which are a quarter of the bytes"
    )
    precision: Precision = Field(
        default="fp32", description="of the graph's products: fp16 is made for GPUs, int8 for CPUs and large networks"
    )


class OverrideBrief(Record):
    """A forced choice. The policy still says what it would have chosen, and warns."""

    family: FamilyName | None = None
    variant: str | None = None
    mode: str | None = Field(default=None, min_length=1, description="where the weights begin: a file of training/start")
    delivery: Delivery | None = None
    config: dict[str, Any] = Field(default_factory=dict, description="values of the family's Config")


class ScheduleBrief(Record):
    """When to retrain."""

    cron: str | None = None
    timezone: str = Field(default="UTC", description="of the cron line, as Europe/Berlin")
    on_new_data: bool = False
    on_new_base: bool = Field(default=False, description="when pretrained.model, an alias, names another release than before")
    on_event: str | None = Field(default=None, description="the name of an event of the Prefect server")
    poll_minutes: int = Field(default=10, ge=1, le=1440, description="between two looks for new data, or a new base")

    @field_validator("cron")
    @classmethod
    def _cron_is_one(cls, cron: str | None) -> str | None:
        if cron is not None:
            check_cron(cron)
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone_is_one(cls, timezone: str) -> str:
        check_timezone(timezone)
        return timezone

    @field_validator("on_event")
    @classmethod
    def _event_is_one(cls, event: str | None) -> str | None:
        if event is None:
            return None
        given = f"{shortened(event, most=80)} given; allowed: "
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", event):
            raise ValueError(f"{given}the name of an event: letters, digits, '.', '-' and '_', at most 100 of them")
        if event.startswith("prefect.") and not event.startswith(OF_ASSETS):
            raise ValueError(f"{given}of Prefect's own events those of {OF_ASSETS}; what a run emits would start it without end")
        return event


LOOKS_MAX = 6


class ProofBrief(Record):
    """How far a proof goes before it says 'undecided' (docs/decisions/0003-gates.md), and what it judges by besides, in place of
    the network that the modality names (docs/metrics.md)."""

    looks: int | None = Field(
        default=None, ge=1, le=LOOKS_MAX, description="times that samples are judged, doubled from one to the next; by default 3"
    )
    network: str | None = Field(
        default=None,
        min_length=1,
        description="a file: TorchScript, as Inception's for FID, or the published weights of a DINOv2",
    )
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of that file: another one is refused")

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        if (self.network is None) != (self.sha256 is None):
            given, other = ("network", "sha256") if self.sha256 is None else ("sha256", "network")
            raise ValueError(f"proof.{given}: given alone; allowed: with proof.{other}, which pins it")
        return self


class Brief(Record):
    """What to generate, on which data, within which budget and latency."""

    name: str = Field(description="the registered model's name")
    modality: Modality
    goal: Goal = "balanced"
    conditioning: Conditioning = "none"
    text: TextBrief | None = None
    require: tuple[Literal["invertibility", "likelihood"], ...] = ()
    accept: tuple[Literal["instability"], ...] = ()
    data: DataBrief
    pretrained: PretrainedBrief | None = None
    compute: ComputeBrief = ComputeBrief()
    serving: ServingBrief = ServingBrief()
    gates: dict[str, Any] = Field(
        default_factory=dict,
        description="thresholds of gates in place of their own; null turns one off; evaluation/gates knows which",
    )
    proof: ProofBrief = ProofBrief()
    override: OverrideBrief | None = None
    schedule: ScheduleBrief | None = None
    evidence: str | None = Field(
        default=None,
        pattern=r"^(none|[0-9a-f]{64})$",
        description="what was measured that the policy looks at: none, or the digest that a plan names; by default all of now",
    )
    use: Use | None = Field(default=None, description="what it is made for: a base whose licence forbids that is refused")
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("name")
    @classmethod
    def _name_is_portable(cls, name: str) -> str:
        # The name becomes a folder, an object key, a URL segment and a registered model.
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
            raise ValueError(
                f"{shortened(name, most=80)} given; allowed: lower-case letters, digits, '-' and '_', at most 63 of them"
            )
        return name

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.conditioning == "text" and self.modality == "text":
            raise ValueError("conditioning: text is for images, audio and video; with modality: text leave it out")
        if self.text is not None and self.conditioning != "text":
            raise ValueError(f"text: given with conditioning: {self.conditioning}; write conditioning: text, or leave it out")
        if self.modality == "text" and self.goal in ("latent", "reconstruction"):
            raise ValueError(f"goal: {self.goal} needs a VAE or an autoencoder, which do not fit text; choose another goal")
        if self.goal in ("latent", "reconstruction") and "invertibility" in self.require:
            raise ValueError(f"goal: {self.goal} with require: invertibility; only a flow is invertible: choose goal: likelihood")
        if self.schedule is not None and self.schedule.on_new_base and not self.aliases_begun_with:
            given = (
                f"with pretrained.model: {shortened(self.pretrained.model, most=80)}" if self.pretrained else "without pretrained"
            )
            allowed = "pretrained: {model: models:/NAME@ALIAS}, whose release can be another one later"
            raise ValueError(f"schedule.on_new_base: true {given}; allowed: with {allowed}")
        return self

    @property
    def base_alias(self) -> str | None:
        """NAME@ALIAS, or NAME for its champion, of the release made here that it starts from. None for one version of it, which
        never changes, and for a model made elsewhere."""
        return _alias(self.pretrained.model) if self.pretrained else None

    @property
    def aliases_begun_with(self) -> tuple[str, ...]:
        """That of its base, and those of the adapters that it combines."""
        named = (self.pretrained.model, *sorted(self.pretrained.adapters or ())) if self.pretrained else ()
        return tuple(alias for alias in map(_alias, named) if alias)


def _alias(model: str) -> str | None:
    found = re.fullmatch(r"models:/([^/]+)", model)
    return found[1] if found else None


def parse_brief(text: str, *, where: str = "brief") -> Brief:
    """Turn YAML into a Brief. Raises BriefError with one line that names the field, what was given and what is allowed."""
    try:
        document = read_plain(text)
    except NotPlain as error:
        raise BriefError(f"{where}: {error}") from error
    if not isinstance(document, dict):
        raise BriefError(
            f"{where}: a mapping of keys is needed, a {type(document).__name__} given", do="start from briefs/digits.yaml"
        )
    try:
        # Through JSON, which has no tuples, so that all else can be strict: 'true' is no number and '200' is none either.
        return Brief.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise BriefError(f"{where}: {explain(error)}") from error


def read_brief(path: Path) -> Brief:
    """Read a brief from a YAML file. Raises BriefError."""
    try:
        # Producing reads it again, in other processes: a pipe would be empty by then.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BriefError(f"{path}: cannot be read: not a file{' but a directory' if path.is_dir() else ''}", do=EXAMPLE)
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise BriefError(f"{path}: larger than any brief", allowed=f"{BYTES_MAX:,} bytes", do=EXAMPLE)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise BriefError(f"{path}: no such file", do=EXAMPLE) from None
    except (OSError, ValueError) as error:  # the path itself may hold what no path can
        do = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else EXAMPLE
        raise BriefError(f"{path}: cannot be read: {error}", do=do) from error
    return parse_brief(text, where=str(path))


def base_of(path: Path) -> Path:
    """The folder that the paths in a brief are relative to: the git or DVC repository of the brief's file, else its folder.

    So a brief means the same from every folder that it is used from, and in every clone.
    """
    folder = path.resolve().parent
    roots = (each for each in (folder, *folder.parents) if (each / ".git").exists() or (each / ".dvc" / "config").is_file())
    return next(roots, folder)


def explain(error: ValidationError, model: type[Record] | None = None) -> str:
    """One line for the first thing that is wrong in a record (a brief); for an unknown key it lists the allowed ones."""
    # A misspelt key also leaves its right name missing: the misspelling is what helps.
    first = next((each for each in error.errors(include_url=False) if each["type"] == "extra_forbidden"), None)
    if first is None:
        quotes = "; for text put it in quotes" if error.errors(include_url=False)[0]["type"] == "string_type" else ""
        line = first_complaint(error).removeprefix("the document: ")
        return line.replace("an object", "a mapping of keys").replace("a valid dictionary", "a mapping of keys") + quotes
    model = model or Brief
    for part in first["loc"][:-1]:
        model = _record_in(model.model_fields[str(part)].annotation)
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: unknown key; allowed: {', '.join(model.model_fields)}"


def _record_in(annotation: Any) -> type[Record]:
    """The record class inside `X` or `X | None`."""
    options = getattr(annotation, "__args__", (annotation,))
    return next(option for option in options if isinstance(option, type) and issubclass(option, Record))
