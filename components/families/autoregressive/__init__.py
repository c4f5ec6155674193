"""Autoregressive families: the probability of an image as the product of the probabilities of its values, one after another."""
