"""An S3-compatible server on loopback in a process of its own that loses requests on demand."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectStore:
    """How tests talk to it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def lose(self, share: float) -> None:
        """From now on this share of the requests is lost: every other one is cut off, the others get a 503."""
        urlopen(f"{self.address}/-/lose/{share}").close()

    def requests(self) -> int:
        """Requests so far, lost ones included."""
        with urlopen(f"{self.address}/-/requests") as answer:
            return int(answer.read())

    def upload(self, folder: Path, bucket: str) -> str:
        """Copy a folder into a new bucket that everybody may read; returns its s3:// address."""
        import boto3

        client = boto3.client("s3", endpoint_url=self.address)
        client.create_bucket(Bucket=bucket)
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), bucket, str(path.relative_to(folder)), ExtraArgs={"ACL": "public-read"})
        return f"s3://{bucket}"


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """The server, and the environment in which clients find it."""
    before = dict(os.environ)
    os.environ.update(CREDENTIALS)
    server = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        os.environ["AWS_ENDPOINT_URL"] = address
        yield ObjectStore(address)
    finally:
        server.kill()
        server.wait()
        os.environ.clear()
        os.environ.update(before)


def serve() -> None:
    import logging
    import socket

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)
    chance = random.Random(0)
    state = {"share": 0.0, "requests": 0, "lost": 0}

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/-/"):
            if path.startswith("/-/lose/"):
                state["share"] = float(path.rpartition("/")[2])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(state["requests"]).encode()]
        state["requests"] += 1
        if chance.random() < state["share"]:
            state["lost"] += 1
            if state["lost"] % 2:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                return []
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
