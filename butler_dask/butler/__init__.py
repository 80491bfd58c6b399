"""Butler: datasets of a repository, by name: registry and datastore together."""
