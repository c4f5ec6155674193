"""Networks trained elsewhere, by which proofs judge images: from packages, and from files that a brief pins."""

from pathlib import Path

import numpy as np
import pytest
import torch
from specs import ArraySplit, image_item

from components.core.brief import Brief, ProofBrief
from components.core.errors import BriefError, DataError
from components.core.features import features_of
from components.core.files import sha256_of
from components.core.modality import find_modality
from components.core.records import Dataset
from components.evaluation.evaluated import Evaluated
from components.evaluation.metrics import published
from components.evaluation.samples import Drawn
from components.evaluation.unseen import Unseen, UnseenSide
from components.evaluation.yardstick import make_yardstick
from components.modalities.image.networks import given
from components.pipeline.proof_network import check_network

IMAGES = features_of("image")
NAMES = {  # of transformers, and as published
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm": "norm",
}


def pictures(n: int, side: int, channels: int, *, seed: int = 0) -> np.ndarray:
    """Smooth ones: a coarse grid of colours made larger."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 256, (n, channels, 4, 4))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


class Inception(torch.nn.Module):
    """As the published one is called, and nothing else of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 3 * 6).reshape(3, 6))

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert img.dtype == torch.uint8
        features = img.float().mean(dim=(2, 3)) @ self.weight + img.float().std(dim=(2, 3)) @ self.weight
        return features if return_features else features[:, :2]


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "inception.pt"
    torch.jit.script(Inception()).save(str(path))
    return path


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory) -> tuple[Path, torch.nn.Module]:
    """A small one by transformers, its weights written by the names that they are published under."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=56, patch_size=14)
    network = Dinov2Model(config).eval()
    own, published_as = network.state_dict(), {}
    for name in own:
        if any(f".attention.{part}_proj." in name for part in "qkv"):
            continue
        renamed = name
        for ours, theirs in NAMES.items():
            renamed = renamed.replace(ours, theirs)
        published_as[renamed] = own[name]
    for block in range(2):
        for kind in ("weight", "bias"):
            parts = [own[f"encoder.layer.{block}.attention.{part}_proj.{kind}"] for part in "qkv"]
            published_as[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    path = tmp_path_factory.mktemp("dinov2") / "dinov2.pth"
    torch.save(published_as, path)
    return path, network


def test_images_of_32_pixels_and_more_have_a_network_of_a_package() -> None:
    assert IMAGES.pretrained(image_item(28, 28, 1)) is None
    assert IMAGES.pretrained(image_item(31, 64, 3)) is None
    small, large = (IMAGES.pretrained(image_item(side, side, 3)) for side in (32, 128))
    assert small is not None
    assert large is not None
    assert (small.name, large.name) == ("efficientnet-lite0-64", "efficientnet-lite0-128")
    for side, network in ((32, small), (128, large)):
        told = find_modality("image").asked_of_unseen(side, given=False)
        assert (told.real, told.samples) == (network.real_most, network.samples_most), "a plan says it without torch"
    assert (small.samples_most, large.samples_most) == (4000, 2000)
    assert small.frechet is None, "no published name"


def test_efficientnet_tells_blur_and_noise_from_pictures_and_grey_ones_are_taken() -> None:
    network = IMAGES.pretrained(image_item(32, 32, 1))
    assert network is not None
    grey, others = pictures(24, 32, 1), pictures(24, 32, 1, seed=1)
    noise = np.random.default_rng(0).integers(0, 256, grey.shape, dtype=np.uint8)
    real, again, far = (network.features(each).mean(axis=0) for each in (grey, others, noise))
    assert network.features(grey).shape == (24, 1280)
    assert np.linalg.norm(real - far) > 3 * np.linalg.norm(real - again)
    np.testing.assert_allclose(network.features(grey[:5]), network.features(grey)[:5], atol=1e-4)


def test_torchscript_is_asked_for_features(inception) -> None:
    network = IMAGES.given(inception, sha256_of(inception))
    images = pictures(70, 16, 3)
    expected = Inception()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), True).detach().numpy()
    np.testing.assert_allclose(network.features(images), expected, rtol=1e-4, atol=1e-3)
    assert network.features(pictures(3, 8, 1)).shape == (3, 6), "grey ones in three channels"
    assert (network.name, network.frechet) == ("inception", None)


def test_published_weights_of_a_dinov2_are_read_as_transformers_has_them(dinov2) -> None:
    path, reference = dinov2
    network = IMAGES.given(path, sha256_of(path))
    images = pictures(3, 224, 3)  # of its own size, so that nothing is resized
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 255
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = reference((x - mean) / std).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(network.features(images), expected, atol=1e-4)


def test_only_known_weights_have_a_published_name(inception, monkeypatch) -> None:
    """A distance is called FID by the digest of its network's file alone, and measured as such."""
    item, digest = image_item(16, 16, 3), sha256_of(inception)
    train, reference = (ArraySplit(pictures(80, 16, 3, seed=seed), None) for seed in (1, 2))
    dataset = Dataset(
        name="pictures", repo=".", rev="HEAD", md5="0" * 32, item=item, count=160, classes=(), mean=(0.0,) * 3, std=(1.0,) * 3,
        splits={"train": 80, "validation": 80},
    )  # fmt: skip

    class Plain:
        name, sha256, resizer = "plain", "b" * 64, "none"

        def features(self, items):
            return items.reshape(len(items), -1)[:, ::64].astype(np.float32)

    def measured() -> dict:
        unseen = Unseen.pretrained(IMAGES.given(inception, digest))
        side = UnseenSide.of(unseen, train, reference, seed=0)
        yardstick = make_yardstick(
            dataset=dataset, train=train, reference=reference, extractor=Plain(), seed=0, samples=80, unseen=side  # type: ignore[arg-type]
        )  # fmt: skip
        assert yardstick.protocol.heldout == unseen.name
        return published.compute(Evaluated(Drawn("torch:a", pictures(80, 16, 3, seed=3), None, np.ones(1)), yardstick))

    assert measured() == {}
    monkeypatch.setitem(given.PUBLISHED, digest, ("inception-2015-12-05", "FID"))
    (fid,) = measured().values()
    assert fid.low <= fid.value <= fid.high
    assert list(measured()) == ["fid"]
    assert set(published.NAMED) == {name for digest, (_, name) in given.PUBLISHED.items()}


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"not an archive", "cannot be read"), ({"weight": torch.zeros(2)}, "is no DINOv2"), ({"a": Path}, "is no DINOv2")],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, says) -> None:
    path = tmp_path / "network.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match=says) as caught:
        IMAGES.given(path, "0" * 64).features(pictures(2, 16, 3))
    assert "\n" not in str(caught.value)


def test_a_brief_pins_the_file_by_its_digest(inception) -> None:
    def brief(**proof: str) -> Brief:
        return Brief(name="a", modality="image", data={"path": "data"}, proof=ProofBrief(**proof))

    folder, digest = inception.parent, sha256_of(inception)
    check_network(brief(network="inception.pt", sha256=digest), folder=folder)
    with pytest.raises(BriefError, match=f"proof.sha256: 000000000000... given, and inception.pt is {digest}"):
        check_network(brief(network="inception.pt", sha256="0" * 64), folder=folder)
    check_network(brief(network="inception.pt", sha256="0" * 64), folder=folder, digest=False)  # a plan
    with pytest.raises(BriefError, match=r"proof.network: gone.pt given, and there is no file"):
        check_network(brief(network="gone.pt", sha256=digest), folder=folder)
