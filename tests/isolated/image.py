"""The delivered images, built and run with podman: `python -m tests.isolated image`.

Needs root, podman, runc and debootstrap. No container registry is reachable here, so the base image of the Dockerfiles
is made from Debian's packages under the name that they ask for. Everything else is the delivered system's own:
`deploy/image.sh`, and the script of the pipeline's CronJob, run in the training image with data that are mounted.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.delivered import PLAIN, lay_out
from tests.isolated.saying import say

BASE: Final = "localhost/python:3.11-slim-bookworm"
_PACKAGES: Final = "python3,python3-pip,python3-venv,ca-certificates"
_SERVING_MB: Final = 190.0
"""What the serving image may add to its base."""
_TRAINED: Final = {**PLAIN, "search": {"budget": "2s", "families": ["lightgbm"]}}
"""LightGBM, since that is what needs a library of the system."""
_HELD: Final = (
    "from importlib.util import find_spec as find; "
    "print(*filter(find, ('pandas', 'sklearn', 'lightgbm', 'duckdb', 'onnx', 'pytest', 'pip')))"
)
"""A program that names what the serving image should not hold."""
HERE: Final = ("--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""What podman needs where there is no systemd and no right to raise limits."""

_LIMITS: Final = ("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", *HERE)
"""What the manifests allow a pod."""


def run(_arguments: Sequence[str]) -> int:
    """Build and ask the images; return 0 if everything was as it should be."""
    missing = [program for program in ("podman", "runc", "debootstrap") if shutil.which(program) is None]
    if missing:
        say(f"not to be had here: {', '.join(missing)}")
        return 1
    with tempfile.TemporaryDirectory(prefix="mlsystem-image-") as scratch:
        root = Path(scratch)
        directory = standing(root, {"api_keys": "env:SHOP_KEYS"})
        flags = build_flags(root)
        try:
            _serving(directory, flags)
            _monitor(directory)
            _training(directory, flags)
        finally:
            removed("customers-binary", "customers-binary-train")
    return 0


def removed(*images: str) -> None:
    """Remove images, whether they were made or not; the base stays for the next time."""
    subprocess.run(["podman", "image", "rm", "--force", *images], capture_output=True, check=False)


def standing(root: Path, serving: Mapping[str, Any]) -> Path:
    """Make the base image and a system whose first version is live; return the system's directory."""
    _base(root)
    directory = lay_out(root / "repository", spec={**_TRAINED, "serving": dict(serving)})
    do(["make", "pipeline", "promote", f"PYTHON={sys.executable}"], directory)
    return directory


def built(directory: Path, flags: Sequence[str]) -> str:
    """Run `deploy/image.sh` as an owner does; return what it said."""
    return do(["sh", "deploy/image.sh"], directory, {"BUILD_FLAGS": shlex.join(flags), "RUN_FLAGS": shlex.join(HERE)})


def _base(root: Path) -> None:
    """Make the base image unless there is one."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode == 0:
        return
    tree = root / "base"
    do(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(tree)], root)
    (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    archive = root / "base.tar"
    left = ("--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists")
    do(["tar", "--create", "--file", str(archive), *left, "--directory", str(tree), "."], root)
    do(["podman", "import", str(archive), BASE], root)


def _serving(directory: Path, flags: Sequence[str]) -> None:
    """What `deploy/image.sh` says of the answers and of the size."""
    started = time.monotonic()
    told = built(directory, flags)
    answer = json.loads(next(line for line in told.splitlines() if line.startswith('{"ok"')))
    base_mb, image_mb = _size_mb(BASE), _size_mb("customers-binary")
    say(f"serving image: {image_mb:.0f} MB, {image_mb - base_mb:.0f} MB more than its base")
    say(f"version {answer['version']} answered {answer['prediction']!r}, stopped in order")
    say(f"built and asked in {time.monotonic() - started:.0f} s")
    held = do(
        ["podman", "run", "--rm", *HERE, "--entrypoint=python", "customers-binary", "-c", _HELD], directory
    ).strip()
    say(f"of what trains and installs it holds: {held or 'nothing'}")
    if held or image_mb - base_mb > _SERVING_MB:
        raise SystemExit(f"the image holds {held or f'more than {_SERVING_MB:.0f} MB'} too much")


def _training(directory: Path, flags: Sequence[str]) -> None:
    """The pipeline of the CronJob in its image: read-only, no rights, the data mounted as the manifest says."""
    build = ("--file", "deploy/Dockerfile.train", "--tag", "customers-binary-train", ".")
    ignored = ("--ignorefile", "deploy/Dockerfile.train.dockerignore")
    do(["podman", "build", "--format", "docker", *ignored, *flags, *build], directory)
    container = _container(directory, "pipeline")
    work = directory.parents[2] / "work"
    work.mkdir()
    os.chown(work, 10001, 10001)
    mounts = [f"--volume={work}:/workspace", "--tmpfs=/tmp"]
    data = [mount for mount in container["volumeMounts"] if mount["name"] == "data"]
    mounts += [f"--volume={directory.parents[1] / one['subPath']}:{one['mountPath']}:ro" for one in data]
    entry = (f"--workdir={container['workingDir']}", f"--entrypoint={json.dumps(container['command'])}")
    for attempt in ("first", "second"):
        started = time.monotonic()
        script = ["customers-binary-train", *container["args"]]
        told = do(["podman", "run", "--rm", *_LIMITS, *mounts, *entry, *script], directory)
        done = len(re.findall(r"already done", told))
        say(f"pipeline in the training image, {attempt} time: {time.monotonic() - started:.0f} s, {done} stages kept")
    if done == 0:
        raise SystemExit("the second run of the pipeline kept no stage of the first")
    say(f"training image: {_size_mb('customers-binary-train'):.0f} MB")


def _monitor(directory: Path) -> None:
    """The look at what was served, by its CronJob: with the serving image alone, and nothing served yet."""
    container = _container(directory, "monitor")
    writable = [f"--volume={mount['mountPath']}" for mount in container["volumeMounts"]]
    given = ("--volume=/system/state", "--env=SHOP_KEYS=")
    do(["podman", "run", "--rm", *_LIMITS, *writable, *given, "customers-binary", *container["args"]], directory)
    say("the monitor's CronJob ended well")


def _container(directory: Path, name: str) -> Any:
    """The container of a CronJob."""
    text = (directory / f"deploy/kubernetes/components/{name}.yml").read_text(encoding="utf-8")
    job = next(content for content in yaml.safe_load_all(text) if content["kind"] == "CronJob")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return container


def build_flags(root: Path) -> list[str]:
    """Let pip in the build ask whom pip here asks: settings are mounted, so no layer holds them."""
    settings = dict(_settings())
    file = root / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    local = {_place(word) for value in settings.values() for word in value.split() if "/" in word}
    volumes = [f"--volume={path}:{path}:ro" for path in sorted(local) if path.is_absolute() and path.exists()]
    volumes.append(f"--volume={file}:/etc/pip.conf:ro")
    return ["--isolation=chroot", "--layers=false", *volumes]


def _place(word: str) -> Path:
    """What of this machine a setting names: a file or folder, or the folder above an index, where its files lie."""
    return Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)


def _settings() -> Iterator[tuple[str, str]]:
    """Name and value of every setting of pip, by its files and its environment."""
    told = subprocess.run([_python(), "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        name, _, value = line.partition("=")
        yield name.rsplit(".", 1)[-1], " ".join(value.strip("'").replace("\\n", " ").split())


def _python() -> str:
    """An interpreter that has pip: the environment's own, or the one that it was made from."""
    own = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return sys.executable if own.returncode == 0 else str(Path(sys.base_prefix) / "bin" / "python3")


def _size_mb(image: str) -> float:
    told = do(["podman", "image", "inspect", "--format", "{{.Size}}", image], Path.cwd())
    return int(told.strip()) / 1e6


def do(command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; return both of its outputs."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)[:200]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout
