"""Clients of Cloud Storage: credentials or emulator, session and proxy settings."""

import google.auth
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from requests.adapters import HTTPAdapter

#: The narrowest scope with which Cloud Storage takes `objects.patch`: it refuses read_write with 403.
_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"


def make_client(project: str, emulator: str, adapter: HTTPAdapter | None = None) -> Client:
    """Return a client with the environment's credentials, or without credentials for an emulator.

    Call in the process that uses the client: connections do not survive a fork.

    Args:
        project: id of the project; empty: none.
        emulator: `host:port` or URL; empty: Cloud Storage.
        adapter: transport of all requests; None: the transport of the library, with client certificates.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: no credentials were found.
    """
    credentials = AnonymousCredentials() if emulator else google.auth.default(scopes=[_SCOPE])[0]
    session = AuthorizedSession(credentials)
    options = None
    if emulator:
        # Ignore proxy settings: the emulator runs on this machine.
        session.trust_env = False
        options = {"api_endpoint": emulator if "://" in emulator else f"http://{emulator}"}
    if adapter is not None:
        session.mount("https://", adapter)
        session.mount("http://", adapter)
    elif not emulator:
        session.configure_mtls_channel()
    client = Client(project or None, credentials, _http=session, client_options=options)
    # The cache reads each bucket in a thread of its own, for trace attributes, with a permission that Dropline's
    # roles lack.
    client._bucket_metadata_cache = None  # noqa: SLF001 - the only other switch is an environment variable
    return client
