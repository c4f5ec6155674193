"""From Facts to one Decision by tables that cite their sources: pure, deterministic, no torch."""
