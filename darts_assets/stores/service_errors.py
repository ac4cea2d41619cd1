"""Reasons in words of failures of stores: answers of S3 services, and full or read-only disks."""

import errno
import re

from obstore.exceptions import BaseError

from darts_assets.redaction import shown

_PARTS = {name: re.compile(rf"<{name}>(.*?)</{name}>", re.DOTALL) for name in ("Code", "Message", "Region")}
_REGION = re.compile(r"expecting '([\w-]+)'|^The ([\w-]+) location constraint")
_OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_REDIRECT = "incorrectly configured region"
_NOT_IMPLEMENTED = re.compile(r"\b501 Not Implemented\b|<Code>NotImplemented</Code>")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_DISK = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is exceeded; free some space and run again",
    errno.EROFS: "the file system is read-only; set DARTS_STORE to a writable folder",
    errno.EACCES: "this user has no permission to write there; set DARTS_STORE to a writable folder",
    errno.EPERM: "this user has no permission to write there; set DARTS_STORE to a writable folder",
}


def is_not_implemented(error: Exception) -> bool:
    """Whether a service answered that it does not implement a request, such as a conditional PUT."""
    return bool(_NOT_IMPLEMENTED.search(str(error)))


def known_problem(error: Exception) -> str:
    """The reason of a failure and its remedy; empty if it is of no known kind."""
    text = _text(error)
    number = _OS_ERROR.search(text)
    code = getattr(error, "errno", None) or (int(number[1]) if number else None)
    if code in _DISK:
        place = getattr(error, "filename", None)
        return f"{f'{place}: ' if place else ''}{_DISK[code]} ({text})"
    answer = {name: match[1].strip() for name, part in _PARTS.items() if (match := part.search(text))}
    if answer.get("Code") in _OTHER_REGION or _REDIRECT in text:
        match = _REGION.search(answer.get("Message", ""))
        region = answer.get("Region") or (next(filter(None, match.groups())) if match else "")
        where = f"the region {region}" if region else "another region"
        return f"the bucket is in {where}: set DARTS_STORE_REGION ({answer.get('Message') or text})"
    return ""


def in_words(error: Exception) -> str:
    """The reason of a failure: of a known kind, else the complete answer of the service, without credentials."""
    return shown(known_problem(error) or _text(error))


def _text(error: Exception) -> str:
    text = str(error).partition("\n\nDebug source:")[0] if isinstance(error, BaseError) else str(error)
    return " ".join(text.split())
