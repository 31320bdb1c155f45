"""Redis as Celery's broker: every command that function, worker, operations and command line send to it."""
