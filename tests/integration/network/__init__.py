"""The engine's own network beside transformers' classes."""
