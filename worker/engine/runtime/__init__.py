"""The engine's own process: serves a Florence-2 model to the children. Only here is torch imported."""
