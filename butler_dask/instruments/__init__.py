"""Cameras from their YAML files, raw headers, ingest and visit definition."""
