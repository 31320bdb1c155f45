"""What a project in Google Cloud lacks before Dropline is deployed; every request only reads.

- `findings`: what is reported.
- `api`: requests to Google's REST APIs, and their errors.
- `needs`: what a deployment needs: services, permissions, constraints, regions.
- `project`, `quota`, `names`, `policies`: the parts of the check.
- `run`: all of them in order.
"""
