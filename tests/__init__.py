"""Tests: `unit` touches no socket, `integration` runs real services, `acceptance` the whole stack."""
