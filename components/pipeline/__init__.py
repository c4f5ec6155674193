"""From a brief to a release: a brief is resolved to a run, whose stages stand in one order; each hands the next a record."""
