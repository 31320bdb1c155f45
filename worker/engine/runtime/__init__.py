"""The engine's own process: a Florence-2 model behind a socket. Only modules of this package import torch."""
