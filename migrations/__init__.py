"""The database schema, as Alembic migrations: no other code creates or changes the schema."""
