"""Exports: rows of `captions` as a file, as a stream, or as a text beside each image."""
