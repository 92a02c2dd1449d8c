"""What is written into a person's workspace, how, and which of it is told."""

import hashlib
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from contracts.events import Artifact
from services._runtime.errors import Permanent
from services.ml_engineer import delivery


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty workspace."""
    root = tmp_path.resolve() / "shop"
    root.mkdir()
    return root


def test_files_are_written_by_rename(workspace: Path) -> None:
    """Who has the old file open keeps reading the old bytes; no draft is left."""
    delivery.write(workspace, {"a/b.txt": "old"})
    with (workspace / "a" / "b.txt").open() as reader:
        delivery.write(workspace, {"a/b.txt": "new"})
        assert reader.read() == "old"
    assert (workspace / "a" / "b.txt").read_text() == "new"
    assert [path.name for path in (workspace / "a").iterdir()] == ["b.txt"]


def test_a_file_that_would_not_change_is_not_touched(workspace: Path) -> None:
    """Editors, builds and git see nothing where nothing is new."""
    delivery.write(workspace, {"a.txt": "same", "b.txt": "old"})
    for name in ("a.txt", "b.txt"):
        os.utime(workspace / name, ns=(1, 1))
    before = (workspace / "a.txt").stat()
    delivery.write(workspace, {"a.txt": "same", "b.txt": "new"})
    after = (workspace / "a.txt").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert (workspace / "b.txt").stat().st_mtime_ns > 1


def test_a_foreign_directory_is_never_built_over(workspace: Path) -> None:
    """Somebody's own `ml/churn` stays as it is; an empty one, ours, and one that was begun are taken."""
    (workspace / "ml" / "churn").mkdir(parents=True)
    (workspace / "ml" / "churn" / "notes.txt").write_text("mine")
    with pytest.raises(Permanent, match="exists and is no system of ours: move it away"):
        delivery.claim_directory(workspace, "churn")
    (workspace / "ml" / "empty").mkdir()
    (workspace / "ml" / "begun").mkdir()
    (workspace / "ml" / "begun" / ".system.toml.new").write_text("form")
    (workspace / "ml" / "ours").mkdir()
    delivery.write(workspace / "ml" / "ours", {"system.toml": "format = 1\n", "notes.txt": "mine"})
    for name in ("empty", "begun", "ours", "new-one"):
        assert delivery.claim_directory(workspace, name) == workspace / "ml" / name.replace("-", "_")


@pytest.mark.parametrize("link", ["ml", "ml/churn"])
def test_a_link_never_leads_the_build_out_of_the_workspace(workspace: Path, link: str) -> None:
    """Roots are a promise to whoever runs the service."""
    outside = workspace.parent / "outside"
    outside.mkdir()
    (workspace / link).parent.mkdir(exist_ok=True)
    (workspace / link).symlink_to(outside)
    with pytest.raises(Permanent, match="leads out of the workspace"):
        delivery.claim_directory(workspace, "churn")
    assert list(outside.iterdir()) == []


def test_a_link_below_the_directory_is_not_written_through(workspace: Path) -> None:
    """Neither a linked folder, nor a linked file, nor a link where a draft would stand."""
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "theirs.txt").write_text("theirs")
    (workspace / ".github").symlink_to(outside)
    with pytest.raises(Permanent, match="leads out of the workspace"):
        delivery.write(workspace, {".github/workflows/ml-x.yml": "on: push"})
    (workspace / "linked.txt").symlink_to(outside / "theirs.txt")
    (workspace / ".draft.txt.new").symlink_to(outside / "theirs.txt")
    delivery.write(workspace, {"linked.txt": "ours", "draft.txt": "ours"})
    assert (outside / "theirs.txt").read_text() == "theirs"
    assert [path.name for path in outside.iterdir()] == ["theirs.txt"]
    assert (workspace / "linked.txt").read_text() == (workspace / "draft.txt").read_text() == "ours"


@pytest.mark.parametrize("where", ["ml", "ml/churn", "ml/churn/system.toml/x"])
def test_a_file_where_a_directory_should_be_is_told(workspace: Path, where: str) -> None:
    """With what to do about it."""
    (workspace / where).parent.mkdir(parents=True, exist_ok=True)
    (workspace / where).write_text("a file")
    with pytest.raises(Permanent, match=r"cannot write .*(Not a directory|Is a directory|File exists)"):
        delivery.write(delivery.claim_directory(workspace, "churn"), {"system.toml": "x"})


REFUSED = """
import os, resource, signal, sys
from pathlib import Path
from services._runtime.errors import Permanent
from services.ml_engineer import delivery
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
workspace = Path(sys.argv[1])
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
else:
    os.setuid(65534)
try:
    delivery.write(delivery.claim_directory(workspace, "churn"), {"system.toml": "x" * 100})
except Permanent as error:
    print(error)
"""


@pytest.mark.parametrize(("how", "why"), [("full", "File too large"), ("dropped", "Permission denied")])
def test_a_disk_that_is_full_or_forbidden_is_told_and_leaves_no_half_file(workspace: Path, how: str, why: str) -> None:
    """Root feels both: a size limit, a dropped uid."""
    if how == "dropped" and os.getuid() != 0:
        pytest.skip("only root can drop its uid")
    workspace.chmod(0o755)
    for parent in workspace.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(workspace), how], capture_output=True, text=True, check=True
    )
    assert f"{why}. Grant access or free space, submit again." in done.stdout
    assert [path for path in workspace.rglob("*") if path.is_file()] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from services.ml_engineer import delivery
real = Path.replace
def replace(self, target):
    os.kill(os.getpid(), signal.SIGKILL)
Path.replace = replace
delivery.write(Path(sys.argv[1]), {"system.toml": "new"})
"""


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file_whole(workspace: Path) -> None:
    """Whatever the moment: the draft stands beside it, and the next write takes its place."""
    delivery.write(workspace, {"system.toml": "old"})
    done = subprocess.run([sys.executable, "-c", KILLED, str(workspace)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (workspace / "system.toml").read_text() == "old"
    delivery.write(workspace, {"system.toml": "new"})
    assert [(path.name, path.read_text()) for path in workspace.iterdir()] == [("system.toml", "new")]


texts = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"))


@given(texts, texts)
def test_what_is_told_as_changed_is_exactly_what_differs(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """New or different, nothing else; a file that is gone cannot be told as one that exists."""
    assert set(delivery.changed(before, after)) == {name for name in after if before.get(name) != after[name]}
    assert delivery.changed(after, after) == ()


def test_the_files_of_a_system_are_all_below_it_and_its_workflow(workspace: Path) -> None:
    """Rooted at the workspace, with their digests; caches of Python are nobody's work."""
    system = workspace / "ml" / "telco_churn"
    delivery.write(system, {"system.toml": "x", "tests/a.py": "y", "work/train/1/model.onnx": "z"})
    delivery.write(system, {"tests/__pycache__/a.pyc": "c", ".pytest_cache/v": "c"})
    delivery.write(workspace, {".github/workflows/ml-telco-churn.yml": "w", "ml/other/a": "o", "README.md": "r"})
    expected = {
        "/.github/workflows/ml-telco-churn.yml": "w",
        "/ml/telco_churn/system.toml": "x",
        "/ml/telco_churn/tests/a.py": "y",
        "/ml/telco_churn/work/train/1/model.onnx": "z",
    }
    assert delivery.digests(workspace, "telco-churn") == {
        path: hashlib.sha256(text.encode()).hexdigest() for path, text in expected.items()
    }


def test_a_workspace_below_a_folder_of_any_name_is_told_of(tmp_path: Path) -> None:
    """What is left out is left out below the system, not above it."""
    workspace = tmp_path.resolve() / "__pycache__" / "work"
    delivery.write(workspace, {"ml/x/system.toml": "x"})
    assert list(delivery.digests(workspace, "x")) == ["/ml/x/system.toml"]


def test_what_is_delivered_leaves_working_directories_out() -> None:
    """Git keeps the list of artifacts; each says what it is for."""
    kinds = {
        "/ml/x/system.toml": "spec",
        "/ml/x/schema.json": "contract",
        "/ml/x/vendor/mlsystem-0.1.0-py3-none-any.whl": "engine",
        "/ml/x/requirements/serve.lock": "lock",
        "/ml/x/tests/test_a.py": "test",
        "/ml/x/deploy/Dockerfile": "deployment",
        "/ml/x/README.md": "document",
        "/ml/x/LICENSE": "document",
        "/ml/x/hooks.py": "code",
        "/.github/workflows/ml-x.yml": "deployment",
    }
    left_out = ("/ml/x/registry/history/000001.json", "/ml/x/work/train/1/model.onnx", "/ml/x/data/snapshots/1/a.csv")
    told = delivery.artifacts(dict.fromkeys((*kinds, *left_out), "d"), "x")
    assert told == tuple(Artifact.model_validate({"path": p, "digest": "d", "kind": k}) for p, k in kinds.items())


def test_systems_of_a_workspace_are_known_by_their_directories(workspace: Path) -> None:
    """One that cannot be read is nobody else's trouble; it is refused when it is the one to be built."""
    spec: dict[str, JsonValue] = {"name": "renamed", "task": {"target": "Churn"}}
    delivery.write(workspace, {"ml/telco_churn/system.toml": delivery.toml(spec), "ml/broken/system.toml": "= no"})
    assert delivery.systems(workspace) == {"telco-churn": spec}
    with pytest.raises(Permanent, match=r"broken/system\.toml cannot be read.*Repair it, or move the directory away"):
        delivery.read_spec(workspace / "ml" / "broken")


@pytest.mark.parametrize("text", ["format = ", "\x00", "a = nan", "[x]\n[x]"])
def test_a_spec_that_is_none_is_refused(workspace: Path, text: str) -> None:
    """Also a number that JSON, and so the journal, cannot hold."""
    (workspace / "system.toml").write_text(text)
    with pytest.raises(Permanent, match="cannot be read"):
        delivery.read_spec(workspace)


def test_a_date_in_a_spec_is_read_as_its_text(workspace: Path) -> None:
    """No key takes a date: the engine then names the key, instead of a crash of ours."""
    (workspace / "system.toml").write_text("owner = 2024-01-01\n")
    assert delivery.read_spec(workspace) == {"owner": "2024-01-01"}
    assert delivery.read_spec(workspace / "nowhere") == {}


OWNERS = """# Ours, since 2024.
format = 1
name = "churn"  # do not rename

[task]  # what we predict
kind = "binary"
target = "churned"

# Measured in March.
[objectives]
rate_rps = 500.0
latency_ms_p99 = 5.0  # agreed with sales

[columns."a.b"]
role = "ignore"
"""


def test_an_owners_comments_and_order_survive_a_second_request(workspace: Path) -> None:
    """Only what differs is touched."""
    delivery.write(workspace, {"system.toml": OWNERS})
    spec = delivery.read_spec(workspace)
    delivery.put_spec(workspace, spec)
    assert (workspace / "system.toml").read_text() == OWNERS
    objectives: dict[str, JsonValue] = {"rate_rps": 500.0, "latency_ms_p99": 20.0}
    delivery.put_spec(workspace, {**spec, "goal": "Keep them", "objectives": objectives})
    written = (workspace / "system.toml").read_text()
    assert [line for line in written.splitlines() if line not in OWNERS.splitlines()] == [
        'goal = "Keep them"',
        "latency_ms_p99 = 20.0  # agreed with sales",
    ]
    assert delivery.read_spec(workspace) == {**spec, "goal": "Keep them", "objectives": objectives}


keys = st.sampled_from(["a", "b.c", "d", 'e"f', "g"])
specs = st.dictionaries(
    keys,
    st.recursive(
        st.integers(0, 9) | st.text(max_size=3) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(specs, specs)
def test_a_spec_laid_over_another_says_exactly_the_new_one(
    standing: dict[str, JsonValue], spec: dict[str, JsonValue]
) -> None:
    """Whatever stood there: tables that go, tables that become values, keys that are new."""
    text = delivery.toml(spec, "# a comment\n" + delivery.toml(standing))
    assert tomllib.loads(text) == spec


def test_the_wheel_stands_alone_in_vendor(workspace: Path) -> None:
    """An older engine goes when the newer one is there; other wheels are the owner's."""
    for name in ("mlsystem-0.0.9-py3-none-any.whl", "theirs-1.0-py3-none-any.whl"):
        delivery.write(workspace, {f"vendor/{name}": "old"})
    wheel = workspace.parent / "mlsystem-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"engine")
    assert delivery.put_wheel(wheel, workspace) == hashlib.sha256(b"engine").hexdigest()
    assert sorted(path.name for path in (workspace / "vendor").iterdir()) == [wheel.name, "theirs-1.0-py3-none-any.whl"]
