"""Small projects that the example pipelines test and deploy."""

from __future__ import annotations

import importlib.metadata
import re

from tests.gitservers import git
from tests.servers import ROOT


def django(version: int, red: bool) -> dict[str, str]:
    """A Django project with a migration, a test, and a page that says which commit it serves."""
    release = importlib.metadata.version("django")
    return {
        "requirements.txt": f"django=={release}\n",
        "Procfile": "release: python manage.py migrate --noinput\n"
        "web: python manage.py runserver --noreload 127.0.0.1:$PORT\n",
        "manage.py": "import os\nfrom django.core.management import execute_from_command_line\nimport sys\n"
        'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'
        "execute_from_command_line(sys.argv)\n",
        "shop/__init__.py": "",
        "shop/settings.py": 'import os\nSECRET_KEY = "for tests"\nALLOWED_HOSTS = ["*"]\n'
        'ROOT_URLCONF = "shop.urls"\nINSTALLED_APPS = ["goods"]\nUSE_TZ = True\n'
        'DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"\n'
        'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3",'
        ' "NAME": os.environ.get("SHOP_DB", "shop.sqlite3")}}\n',
        "shop/urls.py": "import os\nfrom django.http import HttpResponse\nfrom django.urls import path\n"
        "from goods.models import Ware\n"
        "def version(request):\n    Ware.objects.count()\n"
        '    return HttpResponse(os.environ.get("HEROKU_BUILD_COMMIT", ""))\n'
        'urlpatterns = [path("version", version)]\n',
        "goods/__init__.py": "",
        "goods/models.py": "from django.db import models\nclass Ware(models.Model):\n"
        "    name = models.CharField(max_length=100)\n",
        "goods/migrations/__init__.py": "",
        "goods/migrations/0001_initial.py": "from django.db import migrations, models\n"
        "class Migration(migrations.Migration):\n    initial = True\n    operations = [\n"
        '        migrations.CreateModel("Ware", [("id", models.BigAutoField(primary_key=True)),\n'
        '            ("name", models.CharField(max_length=100))])]\n',
        "goods/tests.py": "from django.test import TestCase\nfrom goods.models import Ware\n"
        f"class Wares(TestCase):\n    def test_version_{version}(self):\n"
        f'        Ware.objects.create(name="tea")\n        self.assertEqual({2 if red else 1}, Ware.objects.count())\n'
        '        self.assertEqual(200, self.client.get("/version").status_code)\n',
    }


def package(version: int, red: bool, *, name: str, program: str) -> dict[str, str]:
    """A Python package with a program, built by hatchling, with a test of the installed one."""
    return {
        "pyproject.toml": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "{version}.0"\nrequires-python = ">=3.11"\n'
        f'[project.scripts]\n{program} = "{name}:main"\n',
        f"{name}/__init__.py": f'import sys\nVERSION = "{version}.0"\n\n\ndef main():\n'
        f"    print(VERSION)\n    sys.exit({1 if red else 0})\n",
        "tests/test_it.py": "import importlib.metadata\n"
        f"import {name}\n\n\ndef test_it():\n"
        f'    assert "{version + red}.0" == importlib.metadata.version("{name}") == {name}.VERSION\n',
    }


def leeroy(version: int, red: bool) -> dict[str, str]:
    """What git keeps of Leeroy and its wheel is built of; a red one has a program that cannot start."""
    kept = git(ROOT, "ls-files", "-z", "leeroy", "migrations", "pipelines", "*.toml", "README.md")
    files = {
        name: (ROOT / name).read_text(encoding="utf-8") for name in kept.strip("\0").split("\0")
    }
    files["leeroy/__init__.py"] = re.sub(
        "^__version__ = .*$",
        f'__version__ = "{version}.0"',
        files["leeroy/__init__.py"],
        flags=re.M,
    )
    if red:
        files["pyproject.toml"] = files["pyproject.toml"].replace(
            "leeroy.cli:main", "leeroy.cli:nothing"
        )
    return files


def site(version: int, red: bool) -> dict[str, str]:
    """A page, and a test of it."""
    return {
        "index.html": f"<h1>{version}</h1>\n",
        "test_site.py": "import pathlib\nimport unittest\n\n\nclass Site(unittest.TestCase):\n"
        "    def test_page(self):\n"
        f'        self.assertIn("{version + red}", pathlib.Path("index.html").read_text())\n',
    }
