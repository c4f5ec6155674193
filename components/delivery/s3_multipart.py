"""A large file to S3 in parts, still whole or not at all, and still only when the key is absent.

boto3's own `upload_file` takes no condition, so the parts are sent here: the condition stands on the completing request.
"""

from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

PART_BYTES = 8 << 20
PARTS_MAX = 10_000  # S3's own limit
WORKERS = 4


def upload_parts(client: Any, bucket: str, name: str, path: Path) -> None:
    """Upload the file at `path` as `name` when that is absent, else raise the client's error (412). Leaves no part behind."""
    size_bytes = path.stat().st_size
    part_bytes = max(PART_BYTES, -(-size_bytes // PARTS_MAX))
    upload = {"Bucket": bucket, "Key": name}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]

    def send(number: int) -> dict[str, Any]:
        with path.open("rb") as file:
            file.seek((number - 1) * part_bytes)
            reply = client.upload_part(**upload, PartNumber=number, Body=file.read(part_bytes))
        # The checksum that boto3 put on the part; S3 compares it with the part it holds.
        sums = {key: value for key, value in reply.items() if key.startswith("Checksum") and key != "ChecksumType"}
        return {"PartNumber": number, "ETag": reply["ETag"], **sums}

    pool = ThreadPool(WORKERS)  # of daemons: a process whose upload nobody waits for any more ends without it
    try:
        parts = list(pool.imap(send, range(1, -(-size_bytes // part_bytes) + 1)))
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
    except BaseException:
        pool.terminate()
        pool.join()  # no part is on its way any more
        with suppress(Exception):  # the first error is the one to tell
            client.abort_multipart_upload(**upload)
        raise
    pool.terminate()
