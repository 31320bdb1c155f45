"""The function: receives an HTTP request per storage event; first the row, then the message to the worker."""
