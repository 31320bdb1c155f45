"""Redis as Celery's broker: every Redis command of the queue, for all rooms."""
