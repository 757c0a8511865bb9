"""Relevo: failover runbooks and the record of every run."""
