"""What the folder of a model made elsewhere holds: a pipeline of diffusers, of one of the kinds in layouts.py.

    FOLDER/model_index.json                      the class of the pipeline and those of its parts
    FOLDER/unet/config.json                      the network; of a DiTPipeline FOLDER/transformer
    FOLDER/vqvae/config.json                     the autoencoder, where it draws codes; also FOLDER/vae
    FOLDER/PART/diffusion_pytorch_model.safetensors
    FOLDER/scheduler/scheduler_config.json       betas, and what the network predicts
    FOLDER/text_encoder/ FOLDER/tokenizer/       where a text steers it: read as components/encoders does, and kept as they are

It becomes a `diffusion/ddpm`, `ldm` or `dit`, whose network it is (components/families/diffusion/given.py). Nothing here imports
torch.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from components.core.errors import DataError, NotBuilt
from components.core.files import sha256_of
from components.core.item import spec_of
from components.core.records import Artifact, EmbeddingCondition, Foreign
from components.training.foreign.joined import joined_artifact
from components.training.foreign.layouts import (
    ALLOWED,
    FLOW_TRANSFORMER,
    RENAMED,
    SCHEDULER,
    TEXT_ENCODER,
    TEXT_U_NET,
    TOKENIZER,
    TRANSFORMER,
    Found,
    find_layout,
)
from components.training.foreign.licence import CARD, FILES, read_licence
from components.training.foreign.names import NONE
from components.training.foreign.scheduler import of_flow, of_scheduler
from components.training.foreign.weights import Files, find_weights, shapes_of, weights_artifact

MULTIPLE = 16  # of the width of every network here, so that narrower students can be made of it
RATE = 1e-4  # the peak of diffusers' own training script (examples/unconditional_image_generation)
GUIDANCE = 4.0  # with which a DiTPipeline draws where it is not told
TEXT_GUIDANCE = {TEXT_U_NET: 7.5, FLOW_TRANSFORMER: 3.5}  # likewise a StableDiffusionPipeline, and an AuraFlowPipeline
ROWS = {  # where the config of a network that a text steers says how many numbers of a token it takes
    TEXT_U_NET: ("unet", "cross_attention_dim", 1280),
    FLOW_TRANSFORMER: ("transformer", "joint_attention_dim", 2048),
}
READS_TEXT = ("model.safetensors", "model.fp16.safetensors")  # the weights of what reads texts, as transformers writes them

ReadsText = Callable[[Path, str], EmbeddingCondition]  # what a pipeline is asked by, of its folder and its name


def read_folder(
    folder: Path,
    *,
    name: str,
    revision: str | None = None,
    weights: bool,
    reads_text: ReadsText | None = None,
    none: Path | None = None,
) -> Foreign:
    """The model in a folder; `weights`: they are here, and read too. `name`: hf:ORG/NAME, or what a brief calls it.

    `reads_text`: tells what a text becomes; `none`: the file that holds what "" becomes (none.py). The weights of a model that is
    asked by a text are whole with that alone.

    Raises NotBuilt for a model of another kind, DataError for a folder that is not whole.
    """
    where = f"pretrained.model: {name}"
    found = _layout(folder, where)
    network = _network(folder, found, where)
    scheduler = document(folder / SCHEDULER / "scheduler_config.json", where)
    codec = _autoencoder(folder, found, where)
    channels, height, width = _shape(network, where, part=found.network)
    process = of_flow(scheduler, where) if found.kind == FLOW_TRANSFORMER else of_scheduler(scheduler, where)
    config = {**process, **_of_network(network, where, found=found, channels=channels)}
    if codec:
        config["autoencoder"] = codec
        channels, height, width = _decoded(codec, (channels, height, width), where, part=str(found.autoencoder))
    text = _text(folder, network, name, where, reads=reads_text) if found.text else None
    files, artifact, published, beside = _digests(folder, found), None, None, {}
    if weights:
        own = _weights_of(folder, found, where, none=none)
        shapes_of(own, where=where)  # that they are whole is said before anything else is asked of them
        beside = _reads_text(folder, where) if found.text else {}
        files |= {path: each.sha256 for path, each in beside.items()}
        artifact = weights_artifact(own) if none or not found.text else None
        published = artifact if not found.text else joined_artifact({part: own[part] for part in found.weighted})
    licence, tags = read_licence(folder)
    return Foreign(
        name=f"{name}@{revision}" if revision else f"{name}@{_digest_of(files, published.sha256 if published else None)[:12]}",
        revision=revision,
        made_as=found.made_as,
        family="diffusion",
        variant=found.variant,
        config=config,
        item=spec_of("image").model_validate({"channels": channels, "height": height, "width": width}),
        classes=_classes(network, where, part=found.network),
        text=text,
        weights=artifact,
        files=files,
        beside=beside,
        licence=licence,
        tags=tags,
    )


def weights_of(folder: Path, *, where: str, none: Path | None = None) -> Files:
    """The files of its weights, by the part that each is of. Raises DataError, and NotBuilt as `read_folder`."""
    return _weights_of(folder, _layout(folder, where), where, none=none)


def _weights_of(folder: Path, found: Found, where: str, *, none: Path | None) -> Files:
    beside = {NONE: none} if none and found.text else {}
    return {part: find_weights(folder / part, where=where) for part in found.weighted} | beside


def _text(folder: Path, network: Mapping[str, Any], name: str, where: str, *, reads: ReadsText | None) -> EmbeddingCondition:
    """What a text becomes before it meets the network. Raises DataError where both do not fit."""
    if lacking := [part for part in (TEXT_ENCODER, TOKENIZER) if not (folder / part).is_dir()]:
        raise DataError(
            f"{where} has no {lacking[0]} in it, and its network is asked by what that makes of a text",
            do="save it whole with diffusers: pipeline.save_pretrained(FOLDER)",
        )
    assert reads is not None, "a model that is asked by a text is read with what reads texts"
    part, key, default = ROWS[network["_class_name"]]
    text, wide = reads(folder, name), network.get(key, default)
    if wide != text.features:
        what = f"{where}: {part}/config.json has {key}: {json.dumps(wide)}"
        raise DataError(
            f"{what}, and its text_encoder makes {text.features} numbers of a token", do="take both from one training"
        )
    return text


def _reads_text(folder: Path, where: str) -> dict[str, Artifact]:
    """The published files of what reads texts, by their paths in the folder."""
    weights = find_weights(folder / TEXT_ENCODER, where=where, names=READS_TEXT)
    told = [each for each in sorted((folder / TOKENIZER).iterdir()) if each.suffix in (".json", ".txt")]
    return {
        f"{path.parent.name}/{path.name}": Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
        for path in (folder / TEXT_ENCODER / "config.json", weights, *told)
    }


def _layout(folder: Path, where: str) -> Found:
    if not (folder / "model_index.json").is_file():
        told = document(folder / "config.json", where) if (folder / "config.json").is_file() else {}
        what = (
            f"{where} is a {told.get('_class_name', 'folder')} without a scheduler"
            if told
            else f"{where} has no model_index.json"
        )
        raise NotBuilt(f"{what}, so how noise was added in its training is not known", allowed=ALLOWED)
    return find_layout(document(folder / "model_index.json", where), where)


def _network(folder: Path, found: Found, where: str) -> dict[str, Any]:
    """The config of the network, with the name that its class has today."""
    network = document(folder / found.network / "config.json", where)
    named = RENAMED.get(network.get("_class_name", found.kind), network.get("_class_name", found.kind))
    if named != found.kind:
        raise NotBuilt(f"{where}: {found.network}/config.json is of a {named}", allowed=ALLOWED)
    return network | {"_class_name": named}


def _autoencoder(folder: Path, found: Found, where: str) -> dict[str, Any]:
    """The config of the autoencoder; empty where it draws pixels."""
    if found.autoencoder is None:
        return {}
    codec = document(folder / found.autoencoder / "config.json", where)
    return {name: value for name, value in codec.items() if not name.startswith("_") or name == "_class_name"}


def _classes(network: Mapping[str, Any], where: str, *, part: str) -> int:
    if network["_class_name"] in ROWS:
        return 0
    key, default = ("num_embeds_ada_norm", 1000) if network["_class_name"] == TRANSFORMER else ("num_class_embeds", 0)
    classes = network.get(key, default) or 0
    if not isinstance(classes, int) or classes < 0:
        raise DataError(f"{where}: {part}/config.json has {key}: {classes}", allowed="a whole number, or null")
    return classes


def _shape(network: Mapping[str, Any], where: str, *, part: str) -> tuple[int, int, int]:
    """Channels, height and width of what the network sees."""
    four = network["_class_name"] in (TRANSFORMER, TEXT_U_NET, FLOW_TRANSFORMER)  # channels by default
    side = network.get("sample_size", {TRANSFORMER: 32, FLOW_TRANSFORMER: 64}.get(network["_class_name"]))
    sides = [side, side] if isinstance(side, int) else side
    if not (isinstance(sides, list) and len(sides) == 2 and all(isinstance(each, int) and each > 0 for each in sides)):
        raise DataError(
            f"{where}: {part}/config.json has sample_size: {json.dumps(side)}",
            allowed="pixels a side, or codes",
            do="write those it was trained on",
        )
    channels = network.get("in_channels", 4 if four else 3)
    if not isinstance(channels, int) or channels < 1:
        raise DataError(f"{where}: {part}/config.json has in_channels: {channels}", allowed="a whole number of at least 1")
    return channels, sides[0], sides[1]


def _decoded(codec: Mapping[str, Any], codes: tuple[int, int, int], where: str, *, part: str) -> tuple[int, int, int]:
    """The shape of the images that codes of such a shape stand for."""
    blocks, file = codec.get("block_out_channels", [64]), f"{where}: {part}/config.json"
    own = codec.get("vq_embed_dim") or codec.get("latent_channels", 3 if codec.get("_class_name") == "VQModel" else 4)
    if own != codes[0]:
        raise DataError(
            f"{file} makes codes of {own} channels, and its network takes {codes[0]}", do="take both from one training"
        )
    if not isinstance(blocks, list) or not blocks:
        raise DataError(f"{file} has block_out_channels: {json.dumps(blocks)}", allowed="a list of widths")
    channels, out = codec.get("in_channels", 3), codec.get("out_channels", 3)
    if channels != out or not isinstance(out, int):
        raise DataError(f"{file} makes images of {out} channels of those of {channels}", allowed="as many")
    each = 2 ** (len(blocks) - 1)
    return out, codes[1] * each, codes[2] * each


def _of_network(network: Mapping[str, Any], where: str, *, found: Found, channels: int) -> dict[str, Any]:
    """What a config here has of the network."""
    given = {name: value for name, value in network.items() if not name.startswith("_") or name == "_class_name"}
    out = given.get("out_channels") or (channels if found.network == "transformer" else 4 if found.text else 3)
    if found.kind == FLOW_TRANSFORMER:
        if out != channels:
            raise NotBuilt(f"{where}: {found.network}/config.json makes {out} channels of {channels}", allowed=f"{channels}")
        sized = _wide(given, f"{where}: transformer/config.json", heads=12, each=256)
        return {"network": given, "width": sized, "guidance": TEXT_GUIDANCE[found.kind], "lr_peak": RATE}
    if out not in (channels, 2 * channels):
        what = f"{where}: {found.network}/config.json makes {out} channels of {channels}"
        raise NotBuilt(what, allowed=f"{channels}, or {2 * channels}")
    return {
        "network": given,
        **(_of_transformer(given, where) if found.network == "transformer" else _of_u_net(given, where)),
        **({"guidance": TEXT_GUIDANCE[found.kind]} if found.text else {}),
        "dropout": given.get("dropout", 0.0),
        "learned_variance": out == 2 * channels,
        "lr_peak": RATE,
    }


def _of_u_net(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    widths = given.get("block_out_channels")
    width = widths[0] if isinstance(widths, list) and widths else None
    if not isinstance(width, int) or width < MULTIPLE or width % MULTIPLE:
        allowed = f"a list whose first is a multiple of {MULTIPLE}"
        raise DataError(f"{where}: unet/config.json has block_out_channels: {json.dumps(widths)}", allowed=allowed)
    return {"width": width}


def _of_transformer(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """It draws as its pipeline does by itself: with guidance."""
    file = f"{where}: transformer/config.json"
    if (norm := given.get("norm_type", "ada_norm_zero")) != "ada_norm_zero":
        raise NotBuilt(
            f"{file} has norm_type: {norm}, as transformers have that a text steers", allowed="ada_norm_zero: by class"
        )
    wide = _wide(given, file, heads=16, each=72)
    if not given.get("num_embeds_ada_norm", 1000):
        raise DataError(f"{file} has num_embeds_ada_norm: {given['num_embeds_ada_norm']}", allowed="the number of its classes")
    return {"width": wide, "guidance": GUIDANCE}


def _wide(given: Mapping[str, Any], file: str, *, heads: int, each: int) -> int:
    """The features of a transformer's token."""
    heads, each = given.get("num_attention_heads", heads), given.get("attention_head_dim", each)
    if not (isinstance(heads, int) and isinstance(each, int)) or heads * each < MULTIPLE or heads * each % MULTIPLE:
        raise DataError(f"{file} has {heads} heads of {each} features", allowed=f"a multiple of {MULTIPLE} in all")
    return heads * each


def _digests(folder: Path, found: Found) -> dict[str, str]:
    """Of what is read besides the weights."""
    configs = [f"{part}/config.json" for part in found.weighted]
    names = ("model_index.json", *configs, "scheduler/scheduler_config.json", CARD, *FILES)
    return {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}


def _digest_of(files: Mapping[str, str], weights: str | None) -> str:
    return sha256(json.dumps([dict(files), weights], sort_keys=True).encode()).hexdigest()


def document(path: Path, where: str) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    short = "/".join(path.parts[-2:])
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{where}: no {short} in it", allowed=ALLOWED) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: {short} cannot be read: {error}", do="fetch it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: {short} holds no object", do="fetch it again")
    return found
