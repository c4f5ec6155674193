"""An object store in S3 or anything that speaks it, by boto3 and conditional writes (If-None-Match: *, If-Match).

Credentials come from boto3's own chain (AWS_* variables, profile, instance role). Needed: s3:GetObject, s3:PutObject,
s3:ListBucket and s3:AbortMultipartUpload; s3:DeleteObject to remove the state of a training that has ended. An upload
killed half-way leaves parts that no key shows; a lifecycle rule (AbortIncompleteMultipartUpload) removes them.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from components.core.errors import Conflict, StorageError, disk_error
from components.core.files import writing
from components.core.stores import StoredObject
from components.delivery.keys import checked_key, checked_prefix
from components.delivery.s3_errors import code_of, translated
from components.delivery.s3_multipart import PART_BYTES, upload_parts

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
YOUNG_S = 60.0  # since when an object need not be renewed
ATTEMPTS = 4  # botocore's standard mode: exponential backoff with jitter


class S3Store:
    """Implements core.protocols.ObjectStore. The tag of an object is its ETag."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        keys: tuple[str, str] | None = None,  # id and secret; None: those of boto3's own chain
    ) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix else ""
        self.endpoint = endpoint
        self.region = region
        self.keys = keys or (None, None)
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def path_of(self, key: str) -> Path | None:
        """None: no object is a file of this machine."""
        checked_key(key)
        return None

    def put_if_absent(self, key: str, data: bytes | Path, *, final: bool = False) -> bool:
        """Store whole or not at all; False, and nothing changed, when the key is taken. Raises StorageError."""
        name = self._name(key)
        with translated(self.uri, self.endpoint):
            if self._exists(name) and (not final or self._renewed(name)):  # saves the upload; the condition below decides
                return False
            try:
                _insisting(lambda: self._put_new(name, data))
            except OSError as error:
                raise disk_error(error, error.filename or name) from error
            except self._refusal as error:
                if code_of(error) in ("PreconditionFailed", "412"):
                    return False
                raise
        return True

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The bytes and their ETag, or None."""
        with translated(self.uri, self.endpoint):
            try:
                reply = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
                return reply["Body"].read(), str(reply["ETag"])
            except self._refusal as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare-and-swap. Raises Conflict when the current ETag is not `expected` (None: absent)."""
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with translated(self.uri, self.endpoint):
            try:
                reply = _insisting(
                    lambda: self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data, **condition)
                )
                return str(reply["ETag"])
            except self._refusal as error:
                if code_of(error) not in ("PreconditionFailed", "412", "NoSuchKey", "404"):
                    raise
                # When botocore had to ask twice, the first answer may have been lost after it took effect.
                asked_again = error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
                if asked_again and (current := self.get(key)) and current[0] == data:
                    return current[1]
                raise Conflict(f"{self.uri}/{key}: another writer was first", do="read it again and decide anew") from error

    def fetch(self, key: str, to: Path) -> None:
        """Download an object to a file, whole or not at all, in parallel ranges. Raises StorageError when there is none."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
        with translated(self.uri, self.endpoint):
            try:
                with writing(to) as file:
                    self.client.download_fileobj(self.bucket, self._name(key), file, Config=config)
            except self._refusal as error:
                if code_of(error) in ("NoSuchKey", "404"):
                    raise StorageError(f"{self.uri}/{key}: no such object") from error
                raise

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return [each.key for each in self.objects(prefix)]

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """Keys that begin with `prefix`, sorted, with size and time."""
        with translated(self.uri, self.endpoint):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + checked_prefix(prefix)
            )
            found = [item for page in pages for item in page.get("Contents", ())]
        return sorted((self._object(each) for each in found), key=lambda each: each.key)

    def _object(self, item: dict[str, Any]) -> StoredObject:
        return StoredObject(item["Key"].removeprefix(self.prefix), item["Size"], item["LastModified"].timestamp())

    def touch(self, key: str) -> None:
        """Let an object count as put now. Raises StorageError."""
        with translated(self.uri, self.endpoint):
            self._renewed(self._name(key))

    def delete_if_older(self, key: str, before_s: float) -> bool:
        """Remove it unless it was put since: S3 has no condition on a time, so between look and removal are milliseconds."""
        with translated(self.uri, self.endpoint):
            try:
                found = self.client.head_object(Bucket=self.bucket, Key=self._name(key))
            except self._refusal as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return False
                raise
        if found["LastModified"].timestamp() >= before_s:
            return False
        self.delete(key)
        return True

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none. Raises StorageError."""
        with translated(self.uri, self.endpoint):
            self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    @cached_property
    def client(self) -> Any:
        """The boto3 client, made when first needed; safe between threads."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            s3={"addressing_style": "path" if self.endpoint else "auto"},
        )
        # Another server needs no region, but the signature does.
        region = self.region or ("us-east-1" if self.endpoint else None)
        return boto3.session.Session(*self.keys).client("s3", endpoint_url=self.endpoint, region_name=region, config=config)

    @property
    def _refusal(self) -> type[Any]:
        refusal: type[Any] = self.client.exceptions.ClientError
        return refusal

    def _name(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def _exists(self, name: str) -> bool:
        try:
            self.client.head_object(Bucket=self.bucket, Key=name)
        except self._refusal as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            raise
        return True

    def _renewed(self, name: str) -> bool:
        """Whether the object is there still; it counts as put now: it is copied onto itself where it is not young."""
        try:
            put_s = self.client.head_object(Bucket=self.bucket, Key=name)["LastModified"].timestamp()
            if time.time() - put_s > YOUNG_S:
                source = {"Bucket": self.bucket, "Key": name}
                self.client.copy_object(Bucket=self.bucket, Key=name, CopySource=source, MetadataDirective="REPLACE")
        except self._refusal as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            if code_of(error) != "InvalidRequest":  # one of more than 5 GB is not copied in one request: it stays as old as it is
                raise
        return True

    def _put_new(self, name: str, data: bytes | Path) -> None:
        if isinstance(data, Path) and data.stat().st_size > PART_BYTES:
            upload_parts(self.client, self.bucket, name, data)
        else:
            body = data if isinstance(data, bytes) else data.read_bytes()
            self.client.put_object(Bucket=self.bucket, Key=name, Body=body, IfNoneMatch="*")


def _insisting(write: Callable[[], Any]) -> Any:
    """Call `write`, again while S3 answers 409: two conditional writes met, and neither was decided."""
    for attempt in range(ATTEMPTS):
        try:
            return write()
        except Exception as error:
            if code_of(error) not in ("ConditionalRequestConflict", "409") or attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 (jitter, not a secret)
    raise AssertionError("unreachable")
