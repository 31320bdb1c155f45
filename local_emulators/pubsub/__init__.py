"""A Pub/Sub emulator in memory: gRPC, push with backoff, acknowledgement deadlines, dead letters, filters."""
