"""Errors of Redis as sentences that say what to do."""

from __future__ import annotations

import socket
import ssl

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from appliance.errors import BackendError
from appliance.redis.url import RedisUrl, example
from appliance.text import counted

_PASSWORD_MISSING = "wants a password; write it into {section}.url: {example}."
_PASSWORD_WRONG = "refuses the user or the password; check both in {section}.url."
_FULL = "has reached its maxmemory and takes no more; raise maxmemory, or give other programs a server of their own."
_REPLICA = "is a read-only replica; let {section}.url name its master, or its sentinels with redis+sentinel://."
_LOADING = "is still reading its data from the disk; it is tried again."
_DOWN = "is down: slots of the cluster are served by nobody; bring its nodes back."
_NO_CLUSTER = "is no cluster; write redis:// in its place."
_PROTECTED = "is in protected mode and lets nobody in from outside; give it a password."
_FOREIGN_KEY = "has a key of another program where ours should be; choose another prefix: ?prefix=NAME."

_ANSWERS = {
    "Authentication required": _PASSWORD_MISSING,
    "Protocol error: unauthenticated": _PASSWORD_MISSING,
    "NOAUTH": _PASSWORD_MISSING,
    "invalid username-password": _PASSWORD_WRONG,
    "WRONGPASS": _PASSWORD_WRONG,
    "invalid password": "refuses the password; check it in {section}.url.",
    "called without any password configured": "has no password, but {section}.url gives one; take it out of the URL, "
    "or set one on the server.",
    "OOM ": _FULL,
    "used memory >": _FULL,
    "READONLY": _REPLICA,
    "read only replica": _REPLICA,
    "previous master is now a slave": "is a replica by now; the new master is looked for.",
    "is loading the dataset": _LOADING,
    "LOADING": _LOADING,
    "MISCONF": "cannot save to its disk and so takes no more; read its log and free its disk.",
    "NOREPLICAS": "has too few replicas and so takes no more; bring its replicas back.",
    "MASTERDOWN": "is a replica whose master is away; bring the master back.",
    "CLUSTERDOWN": _DOWN,
    "Hash slot not served": _DOWN,
    "not covered": "does not serve all slots; bring the cluster's nodes back.",
    "DB index is out of range": "has no database {database}; choose another number, or raise 'databases' on it.",
    "SELECT is not allowed in cluster": "is a node of a Redis Cluster; write redis+cluster:// and no database number.",
    "Cluster mode is not enabled": _NO_CLUSTER,
    "cluster support disabled": _NO_CLUSTER,
    "MOVED": "is a node of a Redis Cluster; write redis+cluster:// in its place.",
    "max number of clients": "has no room for one more client; raise maxclients on the server.",
    "Protected mode": _PROTECTED,
    "DENIED": _PROTECTED,
    "WRONGTYPE": _FOREIGN_KEY,
    "Wrong kind of value": _FOREIGN_KEY,
    "BUSY": "is busy with a script of another program; end that with SCRIPT KILL.",
}
"""Parts of what a server answers, and what they mean; the first that is found counts."""
_FORBIDDEN = ("NOPERM", "ACL failure in script", "The user executing the script can't")


def explained(error: BaseException, url: RedisUrl) -> BackendError:
    """An error of redis-py as a sentence with what to do. It quotes no key, since keys name students."""
    where = f"{url.where[0].upper()}{url.where[1:]}"
    for cause in _causes(error):
        if reason := _of_answer(cause, url) or _of_connection(cause, url):
            return BackendError(f"{where} {reason}")
    return BackendError(f"{where} fails ({type(error).__name__}); read its log.")


def _causes(error: BaseException) -> list[BaseException]:
    """An error, and the errors that led to it."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _of_answer(error: BaseException, url: RedisUrl) -> str | None:
    """The meaning of an error that a server answered; None for another error."""
    text = str(error)
    if isinstance(error, exceptions.MovedError):
        text = "MOVED"
    if isinstance(error, exceptions.ClusterDownError):
        text = "CLUSTERDOWN"
    if isinstance(error, exceptions.NoPermissionError) or any(mark in text for mark in _FORBIDDEN):
        return _of_permission(text, url)
    if "unknown command" in text:
        command = text.partition("unknown command")[2].strip(" '`\"").partition("'")[0].partition("`")[0]
        return f"does not know the command {command[:30].upper()}; it is too old, or the command was taken away."
    if isinstance(error, MasterNotFoundError):
        return (
            f"is not known: no sentinel that answers has a master {url.service} that is up; check the name in "
            f"{url.section}.url and the sentinels."
        )
    if isinstance(error, exceptions.RedisError | exceptions.RedisClusterException):
        for mark, sentence in _ANSWERS.items():
            if mark in text:
                return sentence.format(section=url.section, database=url.database, example=example(url.form))
    return None


def _of_permission(text: str, url: RedisUrl) -> str:
    who = f"its user {url.user}" if url.user else "its user default"
    if "can't run this command" in text:
        return f"does not let {who} run a command that the store needs; 'classroom-observer check' names it."
    lowered = text.lower()
    if "command" in lowered and "'" in text:
        command = text.partition("'")[2].partition("'")[0]
        if "|" not in command:
            command = command.split()[0] if command else ""
        return f"does not let {who} run {command.upper()}; allow it on the server: ACL SETUSER ... +{command.lower()}"
    if "channel" in lowered:
        return f"does not let {who} use our channels; allow them on the server: ACL SETUSER ... &{url.prefix}:*"
    if "key" in lowered:
        return f"does not let {who} use our keys; allow them on the server: ACL SETUSER ... ~{url.prefix}:*"
    return f"does not let {who} do this; docs/redis.md lists the rights that are needed."


def _of_connection(error: BaseException, url: RedisUrl) -> str | None:
    """The meaning of an error before an answer came; None for another error."""
    check = f"check that it runs, and {url.section}.url"
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, check)
    if isinstance(error, socket.gaierror):
        return f"cannot be found: the host's name is not known; check {url.section}.url."
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        tls = " (a server without TLS wants redis://)" if url.tls else ""
        return f"did not answer within {counted(url.timeout, 'second')}; {check}{tls}."
    if isinstance(error, ConnectionRefusedError):
        return f"cannot be reached: nothing listens there; {check}."
    if isinstance(error, exceptions.MaxConnectionsError):
        return "has too many connections of this program open; raise ?connections=N."
    if isinstance(error, exceptions.InvalidResponse):
        return f"does not speak Redis's protocol; {check}."
    if isinstance(error, exceptions.ConnectionError):
        text = str(error)
        if "Connection closed by server" in text or "Connection reset" in text or "104" in text:
            tls = "" if url.tls else " (a server that speaks TLS wants rediss://)"
            return f"closed the connection; {check}{tls}."
        return None
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be reached ({error.strerror}); {check}."
    return None


def _of_tls(error: ssl.SSLError, check: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        advice = "name its authority's file with ?ca=FILE" if "issuer" in reason or "signed" in reason else "renew it"
        if "match" in reason:
            advice = "let the URL name the host as the certificate does"
        return f"shows a certificate that is not trusted ({reason}); {advice}."
    if "CERTIFICATE_REQUIRED" in str(error) or "ALERT" in str(error).upper():
        return "ended the TLS handshake; it may want a client certificate: ?certificate=FILE&key=FILE."
    return f"does not speak TLS there; write redis:// for it, or {check}."
