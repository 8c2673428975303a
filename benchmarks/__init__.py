"""Measurements against time, memory and the peers; each module runs as one command."""
