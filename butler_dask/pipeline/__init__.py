"""What a task author imports, pipelines in YAML, and the graph of tasks and dataset types."""
