"""Several candidates of one brief, trained under one equal budget until one is left, which goes down the usual road."""
