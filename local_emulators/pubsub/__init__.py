"""A Pub/Sub emulator: gRPC, push with backoff, acknowledgement deadlines, dead letters, filters. State is in memory."""
