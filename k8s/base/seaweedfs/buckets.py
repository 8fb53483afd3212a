"""Create the buckets named as arguments, unless they exist. Waits for the store to start."""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

TIMEOUT_S = 300
EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def create(names: list[str]) -> None:
    """Create each bucket, retrying until the store answers.

    Args:
        names: Names of the buckets.
    """
    store = boto3.client("s3", config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30))
    deadline = time.monotonic() + TIMEOUT_S
    for name in names:
        while True:
            try:
                store.create_bucket(Bucket=name)
                print(f"{name}: created", flush=True)
                break
            except ClientError as error:
                if error.response["Error"]["Code"] in EXISTS:
                    print(f"{name}: exists", flush=True)
                    break
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    sys.exit(f"{name}: the store rejected it: {error.response['Error']}; check the Secret `seaweedfs`")
                reason = str(error)
            except BotoCoreError as error:  # the store is not up yet
                reason = str(error)
            if time.monotonic() > deadline:
                sys.exit(f"{name}: no answer within {TIMEOUT_S} s: {reason}")
            time.sleep(2)


if __name__ == "__main__":
    create(sys.argv[1:])
