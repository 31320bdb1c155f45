"""The only way the schema comes to be."""
