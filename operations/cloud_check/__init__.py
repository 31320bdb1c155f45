"""The check of a project in Google Cloud before a deployment; every request only reads.

- `findings`: the results.
- `api`: requests to Google's REST APIs, and the errors.
- `needs`: the needs of a deployment: services, permissions, regions.
- `project`, `quota`, `tasks`, `names`, `policies`: the parts of the check.
- `run`: all parts in order.
"""
