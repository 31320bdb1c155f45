"""Errors of Redis in words: the answer on one line, and what to do. Without Celery, for the command line."""

from dropline.loopback import local_stack_advice

#: Parts of an answer of Redis or of its client library, in lower case, and the remedy. The first match counts.
_REMEDIES = (
    (("misconf",), "Redis cannot save its data: free disk space on its server, or look at its log"),
    (
        ("readonly", "read only replica"),
        "Redis is a replica, perhaps until its promotion: the primary takes writes",
    ),
    (("oom", "maxmemory"), "Redis is full: raise its maxmemory, or remove the keys of other programs"),
    (("loading",), "Redis loads its data: try again in a moment"),
    (("masterdown",), "the replica has lost its primary: use the primary's address"),
    (("clusterdown", "moved", "crossslot", "cluster"), "Dropline needs a Redis without cluster mode"),
    (("noauth", "wrongpass", "auth"), "correct the user and the password in DROPLINE_BROKER__URL"),
    (("noperm", "permission"), "give the user of DROPLINE_BROKER__URL the right to this command and key"),
    (("wrongtype",), "another program wrote a value under this key: delete the key"),
    (("max number of clients", "maxclients"), "raise Redis' maxclients, or start fewer processes"),
    (("denied", "protected"), "set a password for Redis, or bind it to a private address (protected mode)"),
)
_UNREACHABLE = "check DROPLINE_BROKER__URL and that Redis runs"


def explained(error: Exception) -> str:
    """The message of an error on one line, with what to do; the class where the message is empty."""
    text = " ".join(str(error).split()) or type(error).__name__
    # The class too: an AuthenticationError need not say `auth`.
    searched = f"{type(error).__name__} {text}".lower()
    return f"{text}; {_remedy(searched)}{local_stack_advice(text)}"


def _remedy(searched: str) -> str:
    return next((remedy for words, remedy in _REMEDIES if any(word in searched for word in words)), _UNREACHABLE)
