"""Make the buckets named as arguments, unless they are there. Waits for the store."""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_S = 300
OURS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def make(names: list[str]) -> None:
    """Try until the store has answered for each bucket.

    Args:
        names: The buckets.
    """
    store = boto3.client("s3", config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30))
    deadline = time.monotonic() + PATIENCE_S
    for name in names:
        while True:
            try:
                store.create_bucket(Bucket=name)
                print(f"{name}: made", flush=True)
                break
            except ClientError as error:
                if error.response["Error"]["Code"] in OURS:
                    print(f"{name}: is there", flush=True)
                    break
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    sys.exit(f"{name}: the store refuses: {error.response['Error']}; look at the Secret `seaweedfs`")
                reason = str(error)
            except BotoCoreError as error:  # it is not up yet
                reason = str(error)
            if time.monotonic() > deadline:
                sys.exit(f"{name}: no answer within {PATIENCE_S} s: {reason}")
            time.sleep(2)


if __name__ == "__main__":
    make(sys.argv[1:])
