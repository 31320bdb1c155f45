"""Cloud Storage: downloads by generation, object metadata and uploads."""
