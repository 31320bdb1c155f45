"""The worker: a Celery parent, children for the I/O, and an engine process with the model."""
