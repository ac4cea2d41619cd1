"""A moto S3 server in its own process, with a record of its requests.

moto looks whether a conditional PUT may go on and then stores it, without a lock between the two: with many writers,
sooner or later two win (seen: 2 of 400 contended keys, with threads that switch often). S3 decides each PUT on its own.
So the server handles one request at a time, once its body has arrived whole; what a killed client has half sent is
dropped, as S3 does.
"""

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import requests

from darts_assets.stores.location import StoreLocation

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class S3Server:
    """A running server.

    Args:
        folder: where it keeps its list of requests.
        port: on loopback; any free one by default.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._log = folder / f"requests-{uuid.uuid4().hex[:8]}.txt"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(port), str(self._log)],
            stdin=subprocess.PIPE,  # the server ends when nobody holds it any more
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | CREDENTIALS,
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="key", aws_secret_access_key="secret",
        )  # fmt: skip

    def location(self, *parts: str, bucket: str | None = None) -> StoreLocation:
        """A place in a new bucket."""
        bucket = bucket or f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=bucket)
        return StoreLocation("/".join((f"s3://{bucket}", *parts)), endpoint=self.endpoint, region="us-east-1")

    def require_keys(self, bucket: str, prefix: str) -> tuple[str, str]:
        """From now on, check everybody's keys; returns the key and secret of a user who may read below a prefix."""
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        iam = boto3.client("iam", endpoint_url=self.endpoint, **keys)
        iam.create_user(UserName="reader")
        created = iam.create_access_key(UserName="reader")["AccessKey"]
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/{prefix}/*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data="0", timeout=10)
        return created["AccessKeyId"], created["SecretAccessKey"]

    def requests(self) -> list[str]:
        """What was answered since the last call, in order: `GET /bucket/key 200`, without queries."""
        lines = self._log.read_text().splitlines()
        self._log.write_text("")
        return lines

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve(port: int, log: Path) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    moto = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("wsgi.input_terminated"):  # not sent in pieces
            expected = int(environ.get("CONTENT_LENGTH") or 0)
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(expected))
            if len(environ["wsgi.input"].getbuffer()) != expected:
                raise ConnectionAbortedError("the client is gone")

        def start(status: str, *arguments: Any) -> Any:
            with log.open("a") as lines:
                lines.write(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {status[:3]}\n")
            return start_response(status, *arguments)

        with one_at_a_time:
            return list(moto(environ, start))

    threading.Thread(target=lambda: os._exit(len(sys.stdin.read())), daemon=True).start()
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
