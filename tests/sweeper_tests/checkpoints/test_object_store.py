"""Checkpoints in a store, against a real S3-compatible server: complete or absent, whatever breaks."""

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, KEY_ID, SECRET, S3Server, s3_server

from sweeper.checkpoints.object_store import CheckpointMissing, ObjectStore, StoreUnavailable

URL = f"s3://{BUCKET}/team/toy-1a2b3c4d"
KEY = "trials/0001/epoch_001"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    ObjectStore(URL).delete(KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "written"
    (made / "more").mkdir(parents=True)
    (made / "weights.safetensors").write_bytes(bytes(range(256)) * 1000)
    (made / "more" / "state.bin").write_bytes(b"state")
    (made / "empty").write_bytes(b"")
    (made / "predictions.jpg").write_bytes(b"picture")
    return made


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_fetched_is_what_was_put(folder: Path, tmp_path: Path) -> None:
    store = ObjectStore(URL)
    store.check()
    store.put(folder, KEY)
    store.fetch(KEY, tmp_path / "fetched")
    assert content(tmp_path / "fetched") == content(folder)
    assert store.sizes() == {KEY: {name: len(bytes_) for name, bytes_ in content(folder).items()}}
    store.delete(KEY)
    assert store.sizes() == {}
    with pytest.raises(CheckpointMissing, match="is not in the store"):
        store.fetch(KEY, tmp_path / "again")
    store.delete(KEY)


def test_selected_files_are_fetched_into_an_existing_folder(folder: Path, tmp_path: Path) -> None:
    store, there = ObjectStore(URL), tmp_path / "there"
    there.mkdir()
    (there / "manifest.json").write_text("{}")
    store.put(folder, KEY)
    store.fetch(KEY, there, lambda name: name.endswith(".jpg"))
    assert sorted(content(there)) == ["manifest.json", "predictions.jpg"]


def test_an_upload_that_is_cut_off_leaves_no_checkpoint_even_over_an_older_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(URL)
    store.put(folder, KEY)
    (folder / "weights.safetensors").write_bytes(b"newer")
    uploads = 0

    def cut_off(*_args: object) -> None:
        nonlocal uploads
        uploads += 1
        if uploads == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "_upload", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.put(folder, KEY)
    with pytest.raises(CheckpointMissing):
        store.fetch(KEY, tmp_path / "fetched")
    assert store.sizes() == {}
    store.put(folder, KEY)
    store.fetch(KEY, tmp_path / "fetched")
    assert content(tmp_path / "fetched") == content(folder)


def test_a_flipped_bit_is_reported_and_nothing_is_left_behind(server: S3Server, folder: Path, tmp_path: Path) -> None:
    store = ObjectStore(URL)
    store.put(folder, KEY)
    weights = (folder / "weights.safetensors").read_bytes()
    place = {"Bucket": BUCKET, "Key": f"team/toy-1a2b3c4d/{KEY}/weights.safetensors"}
    server.client.put_object(**place, Body=bytes([weights[0] ^ 1]) + weights[1:])
    with pytest.raises(CheckpointMissing, match=r"weights\.safetensors in the store is not what was written"):
        store.fetch(KEY, tmp_path / "fetched")
    server.client.delete_object(**place)
    with pytest.raises(CheckpointMissing, match=r"weights\.safetensors is gone"):
        store.fetch(KEY, tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_list_of_files_cannot_escape_the_folder(server: S3Server, folder: Path, tmp_path: Path) -> None:
    store = ObjectStore(URL)
    store.put(folder, KEY)
    listing = b'{"files": {"../escaped": {"bytes": 1, "sha256": "00"}}}'
    server.client.put_object(Bucket=BUCKET, Key=f"team/toy-1a2b3c4d/{KEY}.files.json", Body=listing)
    with pytest.raises(CheckpointMissing, match="cannot be read"):
        store.fetch(KEY, tmp_path / "fetched")


def test_a_store_that_is_down_for_a_while_is_waited_for(server: S3Server, folder: Path, tmp_path: Path) -> None:
    store = ObjectStore(URL, patience_s=60)
    server.stop()
    back = threading.Timer(1.0, server.start)
    back.start()
    store.put(folder, KEY)
    back.join()
    store.fetch(KEY, tmp_path / "fetched")
    assert content(tmp_path / "fetched") == content(folder)


def test_a_full_local_disk_is_not_blamed_on_the_store(folder: Path, tmp_path: Path) -> None:
    store = ObjectStore(URL, patience_s=60.0)
    store.put(folder, KEY)

    def full(source: str, target: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    store._download = full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space left") as raised:
        store.fetch(KEY, tmp_path / "fetched")
    assert not isinstance(raised.value, StoreUnavailable)


def test_a_store_that_stays_down_is_reported_within_a_bounded_time(
    server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"the checkpoint store {URL} does not answer") as lost:
        ObjectStore(URL, patience_s=1).put(folder, KEY)
    assert time.monotonic() - began_s < 30
    assert "AWS_ENDPOINT_URL" in lost.value.render()


@pytest.mark.parametrize("refusal", ["credentials", "bucket"])
def test_a_refusal_is_reported_at_once_without_the_secret(server: S3Server, folder: Path, refusal: str) -> None:
    url = URL if refusal == "credentials" else URL.replace(BUCKET, "no-such-bucket")
    server.demand_credentials(refusal == "credentials")
    try:
        with pytest.raises(StoreUnavailable, match=f"the checkpoint store {url} refuses") as refused:
            ObjectStore(url, patience_s=1e6).check()
        with pytest.raises(StoreUnavailable):
            ObjectStore(url, patience_s=1e6).put(folder, KEY)
    finally:
        server.demand_credentials(False)
    said = refused.value.render()
    assert ("AWS_ACCESS_KEY_ID" if refusal == "credentials" else "create the bucket") in said
    assert SECRET not in said
    assert KEY_ID not in said
