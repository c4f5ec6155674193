"""Every error of boto3 as one line that says what to do. Nothing outside this folder sees a botocore exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from components.core.errors import GenwrightError, StorageError

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
WHAT_TO_DO = {  # error code -> what happened, what to do
    "NoSuchBucket": ("no such bucket", "create it, or correct the store's URI"),
    "InvalidAccessKeyId": ("the access key is unknown there", f"set {KEYS}, or AWS_PROFILE"),
    "SignatureDoesNotMatch": ("the secret key does not match", f"correct {KEYS}"),
    "ExpiredToken": ("the credentials have expired", "sign in again"),
    "InvalidToken": ("the session token is not valid", "correct AWS_SESSION_TOKEN, or sign in again"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "AccessDenied": ("access denied", "allow s3:GetObject, s3:PutObject and s3:ListBucket"),
    "403": ("access denied", f"check {KEYS}; allow s3:GetObject, s3:PutObject and s3:ListBucket"),
    "PermanentRedirect": ("the bucket is in another region", "set the region"),
    "301": ("the bucket is in another region", "set the region"),
    "AuthorizationHeaderMalformed": ("the request was signed for another region", "set the region"),
    "SlowDown": ("it is overloaded", "try again later"),
    "503": ("it is overloaded", "try again later"),
}


def code_of(error: BaseException) -> str:
    """S3's error code, or the HTTP status where a reply has no body, or '' for an error of another kind."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


@contextmanager
def translated(uri: str, endpoint: str | None) -> Iterator[None]:
    """Turn what boto3 raises inside the block into StorageError."""
    try:
        yield
    except GenwrightError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("botocore", "boto3", "s3transfer")):
            raise
        raise explained(error, uri, endpoint) from error


def explained(error: Any, uri: str, endpoint: str | None) -> StorageError:
    """The StorageError for an exception of boto3."""
    from botocore import exceptions as aws

    where = f"{uri} at {endpoint}" if endpoint else uri
    if code := code_of(error):
        what, do = WHAT_TO_DO.get(code, (f"refused: {code}: {error.response['Error'].get('Message', '')}", None))
        return StorageError(f"{where}: {what}", do=do)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return StorageError(f"{where}: no credentials", do=f"set {KEYS}, or AWS_PROFILE")
    if isinstance(error, aws.NoRegionError):
        return StorageError(f"{where}: no region", do="set the region, or AWS_DEFAULT_REGION")
    if isinstance(error, aws.HTTPClientError | aws.ConnectionError):
        return StorageError(f"{where}: cannot be reached", do="check the endpoint's address and that the server runs")
    return StorageError(f"{where}: {str(error).splitlines()[0]}")
