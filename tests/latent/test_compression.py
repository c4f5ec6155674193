"""Bytes become the images again, at the rate that the tables promise; coarser steps cost less and keep less."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.errors import DataError, InputError
from components.latent.compression import HEADER, Codec, Point, curve, psnr_db
from components.latent.picture_codecs import PicturePoint, beside, picture_points
from components.latent.rate_plot import rate_plot
from components.latent.space import Items, LatentSpace

STEPS = (2.0, 1.0, 0.5, 0.25, 0.1)


@pytest.fixture(scope="module")
def rivals(held_out: Items) -> list[PicturePoint]:
    return picture_points(held_out.images[:100])


@pytest.fixture(scope="module")
def codes(autoencoder: LatentSpace, train: Items) -> torch.Tensor:
    return autoencoder.encode(train)


def test_bytes_become_the_images_of_the_rounded_codes(autoencoder: LatentSpace, codes: torch.Tensor, held_out: Items) -> None:
    codec = Codec.fit(autoencoder, codes, step=0.5)
    back = codec.decompress(codec.compress(held_out))
    deviation = (codes - codes.mean(0)).square().mean().sqrt()
    k_NU = ((autoencoder.encode(held_out) - codes.mean(0)) / (0.5 * deviation)).round()
    expected = autoencoder.decode(codes.mean(0) + 0.5 * deviation * k_NU, None)
    assert np.abs(back.astype(int) - expected).max() <= 1


def test_coarser_steps_cost_less_and_keep_less(autoencoder: LatentSpace, codes: torch.Tensor, held_out: Items) -> None:
    measured = curve(autoencoder, codes, held_out, steps=STEPS)
    points = [point for _, point in measured]
    assert [point.step for point in points] == list(STEPS)
    rates, errors = [point.bits_per_dim for point in points], [point.mse for point in points]
    assert rates == sorted(rates)
    assert errors == sorted(errors, reverse=True)
    for (back, point), step in zip(measured, STEPS, strict=True):
        data = Codec.fit(autoencoder, codes, step=step).compress(held_out)
        assert (point.size_bytes, point.bits_per_dim) == (len(data), 8 * len(data) / held_out.images.size)
        overhead_bits = 8 * len(data) - point.bits_per_dim_ideal * held_out.images.size
        assert 8 * HEADER.size <= overhead_bits <= 8 * HEADER.size + 64 + 0.002 * 8 * len(data)
        error = ((back.astype(float) - held_out.images) ** 2).mean()
        assert (point.mse, point.psnr_db) == (error, psnr_db(error))
    rebuilt = ((autoencoder.rebuild(held_out).astype(float) - held_out.images) ** 2).mean()
    assert errors[-1] == pytest.approx(rebuilt, rel=0.05)


def test_the_tables_are_worth_more_than_the_width_of_the_codes(
    autoencoder: LatentSpace, codes: torch.Tensor, held_out: Items
) -> None:
    """Fewer bits than places of equal length need, and hardly more than the held-out codes' own histograms would."""
    codec = Codec.fit(autoencoder, codes, step=0.5)
    k_NU = ((autoencoder.encode(held_out) - codec.mean_U) / codec.width).round().long().numpy()
    shares = [np.unique(column, return_counts=True)[1] / len(column) for column in k_NU.T]
    own_bits = sum(-(p * np.log2(p)).sum() for p in shares)
    bits = codec.bits(held_out) / len(held_out)
    assert bits < 0.8 * 8 * np.log2(codec.tables_UK.shape[1] - 1)
    assert own_bits < bits < own_bits + 8 * 0.3


def test_images_unlike_any_in_training_are_compressed_too(autoencoder: LatentSpace, codes: torch.Tensor, held_out: Items) -> None:
    few = Codec.fit(autoencoder, codes[:3], step=0.2)
    k_NU = ((autoencoder.encode(held_out) - few.mean_U).double() / few.width).round()
    outside = ((k_NU < few.low) | (k_NU > few.low + few.tables_UK.shape[1] - 2)).sum()
    assert outside > 100
    expected = autoencoder.decode((few.mean_U + few.width * k_NU).float(), None)
    assert np.abs(few.decompress(few.compress(held_out)).astype(int) - expected).max() <= 1
    assert few.bits(held_out) > 32 * int(outside)


def test_every_family_with_a_latent_space_compresses(
    build: Any, any_kind: tuple[str, bool], train: Items, held_out: Items
) -> None:
    space = LatentSpace(build(any_kind[0], conditional=any_kind[1]))
    z_NU = space.encode(Items(train.images[:100], train.labels[:100]))
    some = Items(held_out.images[:20], held_out.labels[:20])
    ((back, point),) = curve(space, z_NU, some, steps=[0.05])
    off = np.abs(back.astype(int) - space.rebuild(some))
    assert off.mean() < 1
    assert (point.step is None) == (z_NU.dtype == torch.int64)
    assert point.step or off.max() == 0  # integers lose nothing
    assert point.size_bytes > HEADER.size + (40 if any_kind[1] else 0)


def test_bytes_that_a_codec_did_not_write_are_refused(autoencoder: LatentSpace, codes: torch.Tensor, held_out: Items) -> None:
    codec = Codec.fit(autoencoder, codes, step=0.5)
    data = codec.compress(held_out)
    other = Codec.fit(autoencoder, codes, step=0.7)
    flipped = bytes([*data[:-9], data[-9] ^ 1, *data[-8:]])
    more = bytes([*data[:4], data[4] ^ 1, *data[5:]])  # another number of images
    damaged = (data[:-4], data[:-1], data + b"\0", flipped, more)
    for bad, reader in (*((bad, codec) for bad in damaged), (data, other)):
        with pytest.raises(DataError, match="these bytes are damaged"):
            reader.decompress(bad)
    for bad in (b"", b"GWL", b"PNG1" + data[4:]):
        with pytest.raises(DataError, match="no compressed images"):
            codec.decompress(bad)


def test_a_step_that_is_no_step_is_refused(autoencoder: LatentSpace, codes: torch.Tensor, held_out: Items) -> None:
    with pytest.raises(InputError, match="a step of 0; allowed: numbers above 0"):
        curve(autoencoder, codes, held_out, steps=[1.0, 0.0])
    with pytest.raises(InputError, match="divides the codes into"):
        Codec.fit(autoencoder, codes, step=1e-4)


def test_picture_codecs_are_measured_on_the_same_images(rivals: list[PicturePoint], held_out: Items) -> None:
    (png,) = [point for point in rivals if point.codec == "png"]
    assert (png.quality, png.psnr_db) == (None, None)
    assert 0 < png.bits_per_dim < 8
    for codec in ("jpeg", "webp"):
        curve_of = [point for point in rivals if point.codec == codec]
        assert len(curve_of) > 8
        assert curve_of[0].bits_per_dim < curve_of[-1].bits_per_dim
        assert curve_of[0].psnr_db < curve_of[-1].psnr_db
    colour = np.repeat(held_out.images[:9], 3, axis=3)
    assert {point.codec for point in picture_points(colour)} == {"png", "jpeg", "webp"}
    assert picture_points(np.repeat(held_out.images[:9], 2, axis=3)) == []


def test_a_point_stands_beside_codecs_of_its_rate_and_of_its_quality(rivals: list[PicturePoint]) -> None:
    told = {"step": 1.0, "size_bytes": 1, "bits_per_dim_ideal": 1.0, "mse": 1.0}
    middle = beside(Point(bits_per_dim=2.5, psnr_db=20.0, **told), rivals)
    assert set(middle) == {"jpeg", "webp"}
    for codec, found in middle.items():
        own = [each for each in rivals if each.codec == codec]
        assert found.psnr_db == max(each.psnr_db for each in own if each.bits_per_dim <= 2.5)
        assert found.bits_per_dim == min(each.bits_per_dim for each in own if each.psnr_db >= 20)
    none = beside(Point(bits_per_dim=1e-6, psnr_db=None, **told), rivals)
    assert {(found.psnr_db, found.bits_per_dim) for found in none.values()} == {(None, None)}


def test_the_plot_is_a_picture(rivals: list[PicturePoint]) -> None:
    told = {"size_bytes": 1, "bits_per_dim_ideal": 1.0, "mse": 1.0}
    points = [Point(step=step, bits_per_dim=1 / step, psnr_db=psnr, **told) for step, psnr in ((2.0, 15.0), (1.0, None))]
    with Image.open(io.BytesIO(rate_plot(points, rivals, name="toy"))) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(1 << 20)) > 4
