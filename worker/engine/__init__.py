"""The engine: one process per GPU that turns pixels into captions for all children of a worker.

    child (client.py) ── Unix-domain socket ──▶ server.py ─▶ batcher.py ─▶ florence.py
          └── pixels: a slot of shared memory ──────▲

The worker's parent starts and ends it (process.py). Only the process itself imports torch.
"""
