"""`terraform/` against a stub of the Google provider: offline, with the real provider's schema."""
