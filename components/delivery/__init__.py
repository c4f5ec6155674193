"""Bundles and channels in an object store: a local folder or S3. boto3 is imported here alone, and only when S3 is used."""
