"""Networks that were trained elsewhere, by which proofs judge images besides."""
