"""Files and folders that are complete or absent, their manifests and locks, local or at addresses."""
