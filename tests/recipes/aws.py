"""S3 (moto) and a small stand-in for the Beanstalk actions that moto lacks, on one port each."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape

import boto3
import requests
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response

from tests.recipes.holding import Gate, Held, Web

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7RECIPES",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-recipes",
}
REGION = "eu-central-1"
_UPDATE_S = 0.2
"""So long an environment is `Updating`; less than the aws program needs to ask."""


class Beanstalk:
    """
    CreateApplicationVersion, UpdateEnvironment and DescribeEnvironments, as far as a deploy goes.

    `runs` has the files of the version each environment runs, `updates` every
    (environment, version) that went live, in order.
    """

    def __init__(self, bundle: Callable[[str, str], bytes]) -> None:
        self._bundle = bundle
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, str], dict[str, str]] = {}
        self._status: dict[str, tuple[str, float]] = {}
        self.updates: list[tuple[str, str]] = []
        self.runs: dict[str, dict[str, str]] = {}
        self.full: set[str] = set()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        form = Request(environ).form.to_dict()
        action = form["Action"]
        try:
            with self._lock:
                told = getattr(self, f"_{action}")(form)
        except ValueError as exc:
            text = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>InvalidParameterValue</Code>"
                f"<Message>{escape(str(exc))}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            )
            return Response(text, 400, mimetype="text/xml")(environ, start)
        text = (
            f'<{action}Response xmlns="http://elasticbeanstalk.amazonaws.com/docs/2010-12-01/">'
            f"<{action}Result>{told}</{action}Result>"
            f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
        )
        return Response(text, 200, mimetype="text/xml")(environ, start)

    def _CreateApplicationVersion(self, form: dict[str, str]) -> str:
        key = (form["ApplicationName"], form["VersionLabel"])
        if key in self._versions:
            raise ValueError(f"Application Version {key[1]} already exists.")
        try:
            packed = self._bundle(form["SourceBundle.S3Bucket"], form["SourceBundle.S3Key"])
        except ClientError as exc:
            raise ValueError(f"Unable to download from S3 location: {exc}") from exc
        with zipfile.ZipFile(io.BytesIO(packed)) as bundle:
            names = [name for name in bundle.namelist() if not name.endswith("/")]
            self._versions[key] = {name: bundle.read(name).decode() for name in names}
        return (
            f"<ApplicationVersion><ApplicationName>{escape(key[0])}</ApplicationName>"
            f"<VersionLabel>{escape(key[1])}</VersionLabel></ApplicationVersion>"
        )

    def _UpdateEnvironment(self, form: dict[str, str]) -> str:
        name, label = form["EnvironmentName"], form["VersionLabel"]
        application = name.rpartition("-")[0]
        if (application, label) not in self._versions:
            raise ValueError(f"No Application Version named '{label}' found.")
        if name in self.full or self._state(name) != "Ready":
            raise ValueError(f"Environment named {name} is in an invalid state. Must be Ready.")
        if self._status.get(name, ("", 0))[0] != label:
            self.updates.append((name, label))
        self._status[name] = (label, time.monotonic() + _UPDATE_S)
        self.runs[name] = self._versions[application, label]
        return self._environment(name)

    def _DescribeEnvironments(self, form: dict[str, str]) -> str:
        name = form["EnvironmentNames.member.1"]
        return f"<Environments><member>{self._environment(name)}</member></Environments>"

    def _environment(self, name: str) -> str:
        label = self._status.get(name, ("", 0))[0]
        return (
            f"<EnvironmentName>{escape(name)}</EnvironmentName>"
            f"<VersionLabel>{escape(label)}</VersionLabel><Status>{self._state(name)}</Status>"
        )

    def _state(self, name: str) -> str:
        return "Updating" if time.monotonic() < self._status.get(name, ("", 0))[1] else "Ready"


class Cloud:
    """Both services with their gates; `held` makes a deploy stand still."""

    def __init__(self) -> None:
        self.held = Held()
        self.forbidden = False
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._moto = Web(
            Gate(
                self._bucket,
                self.held,
                arrives=lambda r: (
                    r.method == "PUT"
                    and bool(r.headers.get("Authorization"))
                    and "aws-cli" in str(r.user_agent)
                ),
                lands=lambda r: r.method == "PUT" and r.path.endswith("/latest"),
            )
        )
        # moto keeps its buckets as long as the process; this one's begin here.
        requests.post(f"{self._moto.url}/moto-api/reset", timeout=30).raise_for_status()
        self.s3 = boto3.client(
            "s3", endpoint_url=self._moto.url, region_name=REGION,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        self.beanstalk = Beanstalk(
            lambda bucket, key: self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        )
        self._environments = Web(
            Gate(
                self.beanstalk,
                self.held,
                arrives=lambda r: "Action=UpdateEnvironment" in r.get_data(as_text=True),
                lands=lambda r: (
                    bool(self.beanstalk.updates)
                    and "Action=DescribeEnvironments" in r.get_data(as_text=True)
                ),
            )
        )

    def _bucket(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """S3; while it is `forbidden`, nobody may write."""
        if self.forbidden and environ["REQUEST_METHOD"] == "PUT":
            text = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            return Response(text, 403, mimetype="application/xml")(environ, start)
        answer: Iterable[bytes] = self._s3(environ, start)
        return answer

    def house(self) -> dict[str, str]:
        """The aws program's own variables for services elsewhere."""
        return {
            "AWS_ENDPOINT_URL": self._moto.url,
            "AWS_ENDPOINT_URL_ELASTIC_BEANSTALK": self._environments.url,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def bucket(self, name: str) -> None:
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

    def close(self) -> None:
        self.s3.close()
        self._moto.close()
        self._environments.close()
