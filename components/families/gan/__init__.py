"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661): one file a variant, and what they share.

adversarial: the game of two players; augmentation: what both real and generated images pass before D sees them;
layers: pieces of networks; penalties: norms of D's gradient; residual: the residual networks of SNGAN and WGAN-GP;
style_networks: the networks of StyleGAN2, which style.py trains.
"""
