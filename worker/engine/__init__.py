"""The engine: one process per device that turns pixels into captions for all children of a worker.

    child (client.py) ── Unix-domain socket ──▶ runtime/server.py ─▶ runtime/batcher.py ─▶ runtime/florence.py
          └── pixels: a slot of shared memory ──────▲

A child gives each image to one of the engines (spread.py, board.py). The worker's parent starts and stops them
(process.py). The modules of this package run in children and parent and import no torch; the package `runtime`
runs in the engine's process.
"""
