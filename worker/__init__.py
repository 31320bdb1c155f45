"""The worker: a Celery parent, children that do the I/O, and one engine process that runs the model."""
