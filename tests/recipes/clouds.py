"""The targets on AWS: a bucket of downloads, and two environments of Beanstalk."""

from __future__ import annotations

from pathlib import Path

from tests.recipes import projects
from tests.recipes.aws import KEYS, Cloud
from tests.recipes.target import Target


class _OnAws(Target):
    """A target with a bucket of its own."""

    programs = ("pip", "aws")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cloud = Cloud()
        self.cloud.bucket(BUCKET)

    def house(self) -> dict[str, str]:
        return self.cloud.house()

    def secrets(self) -> dict[str, str]:
        return KEYS

    def hold(self, point: str) -> None:
        self.cloud.held.hold(point)

    def wait(self) -> None:
        self.cloud.held.wait()

    def release(self) -> None:
        self.cloud.held.release()

    def quiet(self) -> None:
        self.cloud.held.quiet()

    def close(self) -> None:
        self.cloud.held.release()
        self.cloud.close()


BUCKET = "recipes-bucket"


class Downloads(_OnAws):
    """binaries-s3: a bucket with versions, so that every move of `latest` is known."""

    example = "binaries-s3"
    place = "downloads"
    project = "leeroy"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cloud.s3.put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
        )

    def env(self) -> dict[str, str]:
        return {"BUCKET": BUCKET}

    def files(self, version: int, red: bool) -> dict[str, str]:
        return projects.leeroy(version, red)

    def changes(self) -> list[str]:
        """What `latest` has named, oldest first; the same name again is no move."""
        found = self.cloud.s3.list_object_versions(Bucket=BUCKET, Prefix="latest")
        versions = sorted(found.get("Versions", []), key=lambda v: v["LastModified"])
        named = [self._read("latest", v["VersionId"]).strip() for v in versions]
        return [name for i, name in enumerate(named) if i == 0 or named[i - 1] != name]

    def _read(self, key: str, version: str) -> str:
        got = self.cloud.s3.get_object(Bucket=BUCKET, Key=key, VersionId=version)
        return str(got["Body"].read().decode())

    def live(self) -> str | None:
        changes = self.changes()
        return changes[-1] if changes else None

    def refuse(self) -> None:
        self.cloud.forbidden = True

    def check(self, first: str, second: str) -> None:
        """Each commit has its own folder, with its own files."""
        super().check(first, second)
        for version, commit in ((1, first), (2, second)):
            found = self.cloud.s3.list_objects_v2(Bucket=BUCKET, Prefix=commit)
            names = {o["Key"].partition("/")[2] for o in found["Contents"]}
            assert {"SHA256SUMS", "source.tar.gz", f"leeroy-{version}.0-py3-none-any.whl"} == names


class Beanstalks(_OnAws):
    """django-elastic-beanstalk: staging counts; production needs a person."""

    example = "django-elastic-beanstalk"
    place = "staging"

    def env(self) -> dict[str, str]:
        return {"BUCKET": BUCKET, "APPLICATION": "shop"}

    def files(self, version: int, red: bool) -> dict[str, str]:
        return projects.django(version, red)

    def changes(self) -> list[str]:
        return self.updates(self.place)

    def updates(self, environment: str) -> list[str]:
        """The versions that went live there."""
        return [v for e, v in self.cloud.beanstalk.updates if e == f"shop-{environment}"]

    def live(self) -> str | None:
        changes = self.changes()
        return changes[-1] if changes else None

    def check(self, first: str, second: str) -> None:
        """Production had both as well; the bundle is what git keeps of the commit."""
        super().check(first, second)
        assert [first, second] == self.updates("production")
        runs = self.cloud.beanstalk.runs["shop-staging"]
        assert {*self.files(2, False), "README", "src/shop.py"} == {*runs}

    def refuse(self) -> None:
        self.cloud.beanstalk.full.add("shop-staging")
