"""`make bench`: what the system costs, each figure beside its limit or peer, measured in the same run."""
