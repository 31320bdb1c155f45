"""The truth: the captions table, its sessions and every statement on it."""
