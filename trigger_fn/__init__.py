"""The function: one HTTP request per storage event; the row first, then the message to the worker."""
