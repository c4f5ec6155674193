"""Tools over the latent space of a trained family. What a code is (real or integer, a vector or a map) is read off the code."""
