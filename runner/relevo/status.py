"""The state of a cluster, from what was just observed."""
