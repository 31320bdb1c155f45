"""The whole cloud on a laptop, from wheels alone."""
