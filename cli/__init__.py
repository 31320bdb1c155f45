"""The command line of Dropline, for people and their scripts."""
