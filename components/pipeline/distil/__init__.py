"""From a release to faster students of it: what is asked for, the students, and the curve of those that were tried."""
