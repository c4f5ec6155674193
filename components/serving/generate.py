"""POST /v1/generate: items for people.

The body is JSON, every key optional: `count` items, from `seed` (then seed, seed + 1, ...) or from the list `seeds`, asked for
by `condition` (a class by name or id, an embedding as lists of numbers, an item as its file in base64; or a list with one an
item) or in words by `prompt` and `negative` (a text, or a list with one an item), as `format`: one of the modality (of images:
png), npy or grid, by `model` where several are served; with `toward` and `mix`, each on the way to another seed's item, by that
share of it. A reply is

format   content type
png      image/png for one image; application/zip of PNGs for several; application/json where Accept names it first
grid     image/png: one picture of all, small images magnified
npy      application/x-npy: the stored items, of images uint8 [N, H, W, C]

and X-Seed says which seeds made it ('7', '7..10' or '7,99'), X-Class which classes (ids), X-Bundle-Sha256 which bundle, and
X-Prompt-Cut how many tokens of a prompt were not read. Without a seed, one is drawn. Without a condition, a model with classes
gives item k the class seed_k modulo their number, one that reads prompts asks for nothing in particular, and one of another
condition refuses.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, StrictInt, StrictStr, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from components.core.errors import InputError
from components.core.modality import find_modality
from components.core.noise import SEED_LIMIT, draw
from components.core.record import Record, first_complaint
from components.core.records import Bundle, Condition, ItemSpec
from components.core.units import to_stored
from components.runtime.contract import Feeds
from components.serving import pictures
from components.serving.body import read_body, unless_left, worked
from components.serving.limits import Limits
from components.serving.refusal import Refusal
from components.serving.routes import asks_first_for
from components.serving.served import Models, Served
from components.serving.walk import walked
from components.serving.words import effort as reading
from components.serving.words import text_or_list, words_of

RANDOM_LIMIT = 2**32  # a drawn seed stays short enough to be typed
Seed = Annotated[StrictInt, Field(ge=0, lt=SEED_LIMIT)]
Text = Annotated[StrictStr | tuple[StrictStr, ...], BeforeValidator(text_or_list)]


class GenerateRequest(Record):
    """The body of a request."""

    count: Annotated[StrictInt, Field(ge=1)] | None = None
    seed: Seed | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    condition: Any = None  # its form is the model's: core/records/condition.py
    prompt: Text | None = None
    negative: Text | None = None
    format: StrictStr | None = None
    model: StrictStr | None = None
    toward: Seed | None = None
    mix: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None


class Generate:
    """The handler."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models = models
        self.limits = limits

    async def __call__(self, request: Request) -> Response:
        with self.models.arriving():
            body = await read_body(request, self.limits, most=asked_bytes(self.models, self.limits))
            asked = await worked(len(body), parse, body)
        with self.models.get(asked.model) as served:
            return await self.answer(request, asked, served)

    async def answer(self, request: Request, asked: GenerateRequest, served: Served) -> Response:
        bundle = served.engine.bundle
        with served.batcher.arriving():
            seeds = seeds_of(asked, bundle.spec.condition, served.limits.count)
            form = format_of(asked.format, bundle)
            said = {name: text for name, text in (("prompt", asked.prompt), ("negative", asked.negative)) if text is not None}
            read = partial(words_of, served, said, embedded=asked.condition is not None)
            words = await worked(reading(said), read) if said or served.texts else None
            rows = await unless_left(request, words.rows(len(seeds))) if words else None
            make = partial(feeds_of, served, seeds, asked.condition, walk_of(asked), rows)
            feeds = await worked(len(seeds) * served.engine.input_bytes, make)
            labels = labels_of(bundle, feeds)
        x = await unless_left(request, served.batcher.submit(feeds))
        accept = request.headers.get("accept", "")
        show = partial(rendered, spec=bundle.spec.item, form=form, accept=accept, stem=served.model)
        told = [{"class": labels[k] if labels else None} | (words.told(k) if words else {}) for k in range(len(x))]
        with served.watch.encode.time():
            body, media_type = await worked(effort(x, bundle.spec.item, form), show, x, seeds, told)
        headers = {**served.headers(), "X-Seed": shown(seeds), **(words.headers() if words else {})}
        if labels is not None:
            headers["X-Class"] = ",".join(map(str, labels))
        return Response(body, headers=headers, media_type=media_type)


def parse(body: bytes) -> GenerateRequest:
    """The request in the body; an empty body asks for the defaults. Raises Refusal: 400 not JSON, 422 not a request."""
    try:
        document = json.loads(body or b"{}", parse_float=number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the request is not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise Refusal(422, f"a {type(document).__name__} given; allowed: an object with the keys {keys()}")
    if unknown := sorted(document.keys() - GenerateRequest.model_fields.keys()):
        raise Refusal(422, f"{unknown[0][:80]!a}: unknown key; allowed: {keys()}")
    if empty := sorted(name for name, value in document.items() if value is None):
        raise Refusal(422, f"{empty[0]}: null given; leave it out for its default")
    try:
        return GenerateRequest.model_validate(document)
    except ValidationError as error:
        raise Refusal(422, first_complaint(error)) from None


def asked_bytes(models: Models, limits: Limits) -> int:
    """How large a request may be: words and seeds are short; an embedding or an item may be as long as what /v2 takes."""
    conditions = (served.engine.bundle.spec.condition for served in models)
    return limits.body_bytes if any(each is not None and each.required for each in conditions) else limits.asked_bytes


def number(text: str) -> float | int:
    """1.0 is a whole number in JSON."""
    value = float(text)
    return int(value) if value.is_integer() else value


def keys() -> str:
    return ", ".join(GenerateRequest.model_fields)


def seeds_of(asked: GenerateRequest, condition: Condition | None, count_max: int) -> list[int]:
    """One seed an item. Raises Refusal 422 when the request contradicts itself or asks for too many."""
    if asked.seed is not None and asked.seeds is not None:
        raise Refusal(422, "both seed and seeds given; send one of them")
    texts = {"prompt": asked.prompt, "negative": asked.negative}
    lists: dict[str, Sequence[Any] | None] = {
        "seeds": asked.seeds,
        "condition": condition.listed(asked.condition) if condition else None,
        **{name: None if isinstance(given, str) else given for name, given in texts.items()},
    }
    told = {"count": asked.count} | {name: None if each is None else len(each) for name, each in lists.items()}
    counts = {name: count for name, count in told.items() if count is not None}
    if len(set(counts.values())) > 1:
        raise Refusal(422, f"the numbers of items differ: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    count = next(iter(counts.values()), 1)
    if not 1 <= count <= count_max:
        raise Refusal(422, f"count: {count} given; allowed: 1 to {count_max}")
    if asked.seeds is not None:
        return list(asked.seeds)
    first = secrets.randbelow(RANDOM_LIMIT) if asked.seed is None else asked.seed
    if first > SEED_LIMIT - count_max:
        raise Refusal(422, f"seed: {first} given; allowed: 0 to {SEED_LIMIT - count_max}, so that any count fits")
    return list(range(first, first + count))


def rows_of(asked: Any, seeds: Sequence[int], condition: Condition) -> npt.NDArray[np.generic]:
    """What each item is asked for by, [N, *shape]. Raises Refusal 422 for what the condition cannot be."""
    try:
        if asked is None:
            return condition.unasked(seeds)
        several = condition.listed(asked)
        if several is None:
            return np.stack([condition.row(asked)] * len(seeds))
        return np.stack([condition.row(each) for each in several])
    except InputError as error:
        raise Refusal(422, f"condition: {error}") from None


def labels_of(bundle: Bundle, feeds: Feeds) -> list[int] | None:
    """The class id of each item; None of a model that is not asked by class."""
    return feeds[bundle.condition].tolist() if bundle.condition is not None and bundle.spec.classes else None


def walk_of(asked: GenerateRequest) -> tuple[int, float] | None:
    """Towards which seed, and how far; None where no walk is asked for. Raises Refusal 422 for half of a walk."""
    if (asked.toward is None) != (asked.mix is None):
        raise Refusal(422, "toward and mix go together: a seed, and the share of the way to it")
    return None if asked.toward is None or asked.mix is None else (asked.toward, asked.mix)


def feeds_of(
    served: Served,
    seeds: Sequence[int],
    asked: Any,
    walk: tuple[int, float] | None = None,
    rows: npt.NDArray[np.generic] | None = None,
) -> Feeds:
    """The graph's inputs for these seeds and a request's condition, or the `rows` that its words are, moved along the walk where
    there is one.

    Raises Refusal 422 for a condition that the model does not take, and for one that is missing.
    """
    bundle, condition = served.engine.bundle, served.engine.bundle.spec.condition
    if condition is None and asked is not None:
        raise Refusal(422, "condition: this model takes none; leave it out")
    noise = walked(bundle.noise, seeds, toward=walk[0], mix=walk[1]) if walk else draw(bundle.noise, seeds)
    feeds: dict[str, npt.NDArray[np.generic]] = dict(noise)
    if bundle.condition is not None:
        assert condition is not None  # checked when it was loaded
        feeds[bundle.condition] = rows_of(asked, seeds, condition) if rows is None else rows
    return feeds


def format_of(wanted: str | None, bundle: Bundle) -> str:
    """The format of a reply; by default the first of the modality. Raises Refusal 422 for one that it has not."""
    formats = formats_of(bundle)
    if wanted is not None and wanted not in formats:
        raise Refusal(422, f"format: {wanted[:80]!r} given; allowed: {', '.join(formats)}")
    return wanted or next(iter(formats))


def formats_of(bundle: Bundle) -> dict[str, str]:
    """What its items are delivered as, each with the content type of one item; the default first."""
    encodings = find_modality(bundle.spec.item.modality).encodings
    own = {name: encoding.media_type for name, encoding in encodings.items()}
    return own | {"npy": "application/x-npy", "grid": "image/png"}


def effort(x: npt.NDArray[np.generic], spec: ItemSpec, form: str) -> int:
    """How many bytes could be copied in about the time that it takes to encode items x [N, *shape]."""
    modality = find_modality(spec.modality)
    encoding = modality.encodings.get(form) or next(iter(modality.encodings.values()))
    if form == "npy":
        return 4 * x.size
    zoom = pictures.zoom_of(spec.side or pictures.TILE_PIXELS) if form == "grid" else 1
    return len(x) * encoding.effort_least + encoding.effort * x.size * zoom**2


def rendered(
    x: npt.NDArray[np.generic],
    seeds: Sequence[int],
    told: Sequence[Mapping[str, Any]],
    *,
    spec: ItemSpec,
    form: str,
    accept: str,
    stem: str,
) -> tuple[bytes, str]:
    """The reply's body and content type, of items x [N, *shape], each with what JSON tells of it. Raises Refusal 500 where the
    model made none."""
    if not np.isfinite(x).all():
        wrong = [seed for seed, one in zip(seeds, x, strict=True) if not np.isfinite(one).all()]
        raise Refusal(500, f"the model makes values that are NaN or infinite of seed {wrong[0]}; ask for other seeds")
    items, modality = to_stored(x, spec), find_modality(spec.modality)
    if form == "grid":
        return pictures.grid(modality.pictures(items, spec)), "image/png"
    if form == "npy":
        return pictures.npy(items), "application/x-npy"
    encoding = modality.encodings[form]
    files = [encoding.encode(item, spec) for item in items]
    if asks_first_for("application/json", accept):
        return pictures.as_json(files, seeds, told, plural=modality.plural, form=form), "application/json"
    if len(items) == 1:
        return files[0], encoding.media_type
    names = [f"{stem}-{k:03d}-seed{seed}{encoding.suffix}" for k, seed in enumerate(seeds)]
    return pictures.zipped(files, names), "application/zip"


def shown(seeds: Sequence[int]) -> str:
    """'7' for one seed, '7..10' for consecutive ones, else '7,99'."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}..{seeds[-1]}"
    return ",".join(map(str, seeds))
