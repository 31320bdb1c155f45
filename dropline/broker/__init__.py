"""Redis as Celery's broker: every Redis command that function, worker, operations and command line send to the queue."""
