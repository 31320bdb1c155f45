"""Backfills of buckets in the emulator."""
