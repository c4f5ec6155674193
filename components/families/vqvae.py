"""VQ-VAE with its prior (van den Oord et al. 2017, arXiv:1711.00937): an autoencoder with a codebook, then a model of its codes.

    p(k) = prod_i p(k_i | k_1 .. k_{i-1}, class),  i in raster order over the grid                            (section 3.3)

The paper's prior is a gated PixelCNN, so this is the same pair of models as autoregressive/vq-pixelcnn: listed here too, as a
brief that asks for codes or compression looks for it among the autoencoders.
"""

from components.core.card import Card
from components.families.autoregressive.vq_priors import VQPixelCNN


class VQVAE(VQPixelCNN):
    """Sharp discrete compression of larger images with a prior to sample them; two models to train in one budget."""

    card = Card(
        family="vae",
        variant="vq",
        title="VQ-VAE: codes of a learned codebook on a grid, with a gated PixelCNN over them",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=64,
        side_max=256,
        data_appetite=1_000,
        discrete=True,
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1711.00937", "arXiv:1606.05328", "arXiv:2005.00341", "arXiv:2012.09841"),
    )
