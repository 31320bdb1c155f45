"""The command line: what people and their scripts do with Dropline."""
