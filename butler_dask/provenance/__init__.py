"""Records of what was run with which inputs."""
