"""Stores at an address have the same rows in the same order as a folder, from a real S3 server despite its faults."""

import gzip
import json
import os
import socket
import threading
from pathlib import Path

import fsspec
import pytest
import torch
from torch import nn

from interp import ActivationStore, FeatureStore, TopKConfig, harvest, load_sae, rank_features, scan_features, train_sae
from interp.activations import join_stores, remote_reader, remote_store, remote_writer
from interp.checks.errors import InterpError
from interp.cli import main
from interp.cli.command_arguments import read_table
from interp.codes.code_store import CodeStore
from interp.storage import addresses, remote_folders
from interp.storage.files import digest_json
from interp.storage.manifests import write_manifest
from models.corpus import CorpusConfig, load_documents
from tests.forked import run_python

HOOKS = ["first", "second"]
SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Model(nn.Module):
    """Two linear maps of an embedding, of different widths."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.first, self.second = nn.Embedding(50, 8), nn.Linear(8, 6), nn.Linear(6, 10)

    def forward(self, tokens):
        return self.second(self.first(self.embed(tokens)).relu())


def model():
    made = Model()
    return made, {name: getattr(made, name) for name in HOOKS}


TOKENS = torch.randint(0, 50, (60, 16), generator=torch.Generator().manual_seed(1))
OPTIONS = {"batch_size": 4, "rows_per_shard": 200, "exclude": (7,), "seed": 3}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(remote_writer, "PART_BYTES", 4000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return harvest(model(), TOKENS, HOOKS, tmp_path_factory.mktemp("local") / "store", **OPTIONS)


FEW = TOKENS[:24]
"""What is stored on the real server, which takes a hundredth of a second for each request."""


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return harvest(model(), FEW, HOOKS, tmp_path_factory.mktemp("few") / "store", **OPTIONS)


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


def assert_same_rows(remote: ActivationStore, local: ActivationStore) -> None:
    assert remote.shard_rows == local.shard_rows and remote.hook_names == local.hook_names
    assert remote.tokens.equal(local.tokens) and len(remote) == len(local) and remote.excluded == local.excluded
    for hook in HOOKS:
        for i in range(local.n_shards):
            ours, theirs = remote.shard(i, hook), local.shard(i, hook)
            assert ours.row_ids.equal(theirs.row_ids) and ours.acts.equal(theirs.acts)
        for name, value in vars(local.statistics(hook)).items():
            other = getattr(remote.statistics(hook), name)
            assert other.equal(value) if isinstance(value, torch.Tensor) else other == value
    for hook in ("first", HOOKS):
        pairs = zip(remote.batches(hook, 64, seed=5, epochs=2), local.batches(hook, 64, seed=5, epochs=2), strict=True)
        assert all(ours.equal(theirs) for ours, theirs in pairs)


def test_a_store_at_an_address_is_that_of_a_folder(memory, folder, tmp_path):
    remote = harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    assert len(remote.manifest["parts"]) > 5 and remote.n_shards > 3
    assert_same_rows(remote, folder)
    remote.verify()
    assert not memory.exists("/bucket/store/begun.json")
    assert "folder" in remote._repr_html_() and remote.location == "memory://bucket/store"


def test_files_beside_the_parts_are_never_whole_in_memory(memory, monkeypatch):
    """The tokens of a long text may be larger than the memory."""
    read = []
    monkeypatch.setattr(Path, "read_bytes", read.append)
    store = harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    assert store.tokens.equal(TOKENS.int()) and not read


def test_stores_at_addresses_are_joined(memory, tmp_path):
    options = {**OPTIONS, "max_norm": None}
    remote = harvest(model(), TOKENS, ["first"], "memory://bucket/first", **options)
    also_remote = harvest(model(), TOKENS, ["second"], "memory://bucket/second", **options)
    local = harvest(model(), TOKENS, ["second"], tmp_path / "second", **options)
    for second in (also_remote, local):
        batches = join_stores({"a": remote, "b": second}).batches(["a/first", "b/second"], 64)
        assert torch.cat(list(batches))[:, 6:].equal(torch.cat(list(local.batches("second", 64))))
    places = [(0, "memory://bucket/third"), (1, tmp_path / "other")]
    third, other = (harvest(model(), TOKENS, HOOKS, out, exclude_positions=[place]) for place, out in places)
    with pytest.raises(ValueError, match="their shards hold other rows"):
        join_stores({"a": third, "b": other})


def test_training_and_scan_read_an_address(memory, folder, tmp_path):
    remote = harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    config = TopKConfig(d_sae=12, k=2, tokens=2000, batch_size=64)
    ours, theirs = (train_sae(store, "second", config) for store in (remote, folder))
    assert ours.W_dec.equal(theirs.W_dec)
    outs = {tmp_path / "of-address": remote, tmp_path / "of-folder": folder}
    tables = [scan_features(ours, store, "second", out).table() for out, store in outs.items()]
    assert tables[0].equals(tables[1])


def test_the_same_harvest_opens_and_another_is_refused(memory, folder):
    address = "memory://bucket/store"
    first = harvest(model(), TOKENS, HOOKS, address, **OPTIONS)
    stamp = memory.info("/bucket/store/manifest.json")["created"]
    assert harvest(model(), TOKENS, HOOKS, address, **OPTIONS).digest == first.digest
    assert memory.info("/bucket/store/manifest.json")["created"] == stamp
    with pytest.raises(ValueError, match="memory://bucket/store holds other work: batch_size is 4, not 8"):
        harvest(model(), TOKENS, HOOKS, address, **{**OPTIONS, "batch_size": 8})
    again = harvest(model(), TOKENS[:30], HOOKS, address, **OPTIONS, overwrite=True)
    assert len(again) < len(first) and ActivationStore.open(address).digest == again.digest
    again.verify()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"made_of": {"a": 1', "it is not valid JSON"),
        (b"\xff", "it is not valid JSON"),
        (b"[]", "it is not a JSON object"),
    ],
)
def test_a_broken_note_of_an_unfinished_store_is_named_and_can_be_replaced(memory, folder, content, says):
    memory.pipe("/bucket/store/begun.json", content)
    message = rf"store/begun.json is damaged: {says}[^\n]*overwrite=True"
    with pytest.raises(ValueError, match=message):
        harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    assert_same_rows(harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS, overwrite=True), folder)


@pytest.mark.parametrize("n_parts", [0, 1, 4])
def test_harvest_to_an_address_resumes_on_another_machine(memory, folder, monkeypatch, n_parts):
    write, parts = remote_writer.write_object, []

    def lost(address, data):
        if "part-" in address:
            if len(parts) == n_parts:
                raise KeyboardInterrupt
            parts.append(address)
        write(address, data)

    monkeypatch.setattr(remote_writer, "write_object", lost)
    with pytest.raises(KeyboardInterrupt):
        harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    with pytest.raises(ValueError, match="holds a store that was cut off"):
        ActivationStore.open("memory://bucket/store")
    with pytest.raises(ValueError, match="was begun as other work: hook_names"):
        harvest(model(), TOKENS, ["first"], "memory://bucket/store", **OPTIONS)
    monkeypatch.setattr(remote_writer, "write_object", write)
    before = {name: memory.info(name)["created"] for name in memory.glob("/bucket/store/part-*")}
    assert len(before) == n_parts
    assert_same_rows(harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS), folder)
    assert before == {name: memory.info(name)["created"] for name in before}


def test_input_that_is_refused_leaves_nothing(memory):
    made, hooks = model()
    with torch.no_grad():
        made.second.weight[0] = float("nan")
    with pytest.raises(ValueError, match="hook 'second': activation nan"):
        harvest((made, hooks), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    assert not memory.glob("/bucket/store/*")


def test_a_changed_manifest_at_an_address_is_refused(memory):
    address, file = "memory://bucket/store", "/bucket/store/manifest.json"
    harvest(model(), TOKENS, HOOKS, address, **OPTIONS)
    manifest = json.loads(memory.cat_file(file))
    memory.pipe_file(file, json.dumps(manifest | {"norm_limits": {"first": 2.0}}).encode())
    with pytest.raises(ValueError, match=f"{address}/manifest.json is altered"):
        ActivationStore.open(address)


@pytest.mark.parametrize("where", ["head", "rows", "tokens", "manifest"])
def test_a_byte_that_changed_is_named(memory, where):
    harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    file = {"tokens": "tokens.safetensors", "manifest": "manifest.json"}.get(where, "part-00002.safetensors")
    data = bytearray(memory.cat_file(f"/bucket/store/{file}"))
    data[{"head": 300, "rows": len(data) - 5, "tokens": len(data) - 5, "manifest": 4}[where]] ^= 1
    memory.pipe_file(f"/bucket/store/{file}", bytes(data))
    with pytest.raises(ValueError, match=f"memory://bucket/store/{file} is (altered|damaged)"):
        ActivationStore.open("memory://bucket/store").verify()


def test_the_cache_is_bounded_and_spares_a_second_reading(memory, folder, monkeypatch):
    harvest(model(), TOKENS, HOOKS, "memory://bucket/store", **OPTIONS)
    fetched, read = [], remote_reader.read_ranges
    monkeypatch.setattr(remote_reader, "read_ranges", lambda *a: fetched.append(a) or read(*a))
    size = max(folder.shard_rows) * 10 * 2
    for limit, again in ((1e9, 0), (size, folder.n_shards), (10, folder.n_shards)):
        monkeypatch.setenv("INTERP_CACHE_GB", str(limit / 1e9))
        store = ActivationStore.open("memory://bucket/store")
        for i in range(store.n_shards):
            store._files.column(i, name="second")
        fetched.clear()
        for i in range(store.n_shards):
            assert store._files.column(i, name="second").equal(folder._files.column(i, name="second"))
            assert sum(file.stat().st_size for file in Path(store._files._cache._folder).iterdir()) <= limit
        assert len(fetched) == again
    place = Path(store._files._cache._folder)
    del store
    assert not place.exists()
    for limit in ("much", "inf"):
        monkeypatch.setenv("INTERP_CACHE_GB", limit)
        with pytest.raises(InterpError, match=f"INTERP_CACHE_GB='{limit}' must be a number"):
            ActivationStore.open("memory://bucket/store")


@pytest.fixture
def copied(memory, folder, tmp_path, monkeypatch):
    """Copies a folder to memory://bucket/NAME, as any tool would; and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def copy(local: Path, name: str) -> str:
        for file in local.rglob("*"):
            if file.is_file():
                memory.pipe_file(f"/bucket/{name}/{file.relative_to(local).as_posix()}", file.read_bytes())
        return f"memory://bucket/{name}"

    return copy


def test_a_folder_that_was_copied_to_an_address_is_read_there(memory, folder, copied):
    address = copied(folder.path, "copy")
    assert_same_rows(remote := ActivationStore.open(address), folder)
    remote.verify()
    data = bytearray(memory.cat_file("/bucket/copy/shard-00001.safetensors"))
    data[-3] ^= 1
    memory.pipe_file("/bucket/copy/shard-00001.safetensors", bytes(data))
    with pytest.raises(ValueError, match="memory://bucket/copy/shard-00001.safetensors is altered"):
        ActivationStore.open(address).verify()
    address = copied(folder.path, "copy")
    memory.rm("/bucket/copy/shard-00002.safetensors")
    with pytest.raises(FileNotFoundError, match="shard-00002.safetensors does not exist"):
        ActivationStore.open(address).verify()


def test_features_and_a_dictionary_are_read_at_an_address(memory, folder, copied, tmp_path, monkeypatch):
    sae = train_sae(folder, "second", TopKConfig(d_sae=12, k=2, tokens=2000, batch_size=64), out=tmp_path / "sae")
    features = scan_features(sae, folder, "second", tmp_path / "features")
    remote = FeatureStore.open(copied(features.path, "features"))
    assert remote.table().equals(features.table()) and len(remote.codes) == len(features.codes)
    assert load_sae(copied(tmp_path / "sae", "sae")).W_dec.equal(sae.W_dec)
    cache = tmp_path / "cache" / "interp"
    assert len(list(cache.iterdir())) == 2
    read = []
    monkeypatch.setattr(remote_folders, "fetch_file", lambda *a: read.append(a))
    FeatureStore.open("memory://bucket/features")
    assert not read, "it is here already"


def test_a_cache_that_is_named_by_an_empty_variable_is_the_usual_one(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert addresses.cache_folder() == Path.home() / ".cache" / "interp", "not the folder interp of a checkout"


def test_half_a_copy_is_refused_and_kept_from_the_cache(memory, folder, copied, tmp_path):
    sae = train_sae(folder, "second", TopKConfig(d_sae=12, k=2, tokens=500, batch_size=64))
    local = scan_features(sae, folder, "second", tmp_path / "features").path
    address = copied(local, "half")
    memory.rm("/bucket/half/codes/codes.json")
    with pytest.raises(ValueError, match="memory://bucket/half/codes/codes.json is missing"):
        FeatureStore.open(address)
    memory.pipe_file("/bucket/half/codes/codes.json", (local / "codes" / "codes.json").read_bytes()[:-1] + b" ")
    with pytest.raises(ValueError, match="codes.json is altered"):
        FeatureStore.open(address)
    memory.rm("/bucket/half/manifest.json")
    with pytest.raises(ValueError, match="memory://bucket/half holds no finished folder"):
        FeatureStore.open(address)
    manifest = json.loads((local / "manifest.json").read_bytes())
    manifest["files"]["../../stray"] = {"bytes": 1}
    manifest.pop("sha256")
    manifest["sha256"] = digest_json(manifest)
    memory.pipe_file("/bucket/half/manifest.json", json.dumps(manifest).encode())
    memory.pipe_file("/stray", b"x")
    with pytest.raises(ValueError, match="lies outside the folder"):
        FeatureStore.open(address)
    assert not list((tmp_path / "cache" / "interp").iterdir())


# Finished folders are written at an address too.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "interp"


TOPK = TopKConfig(d_sae=12, k=2, tokens=500, batch_size=64)


@pytest.fixture(scope="module")
def scanned(few, tmp_path_factory):
    """Return a dictionary and its scan, on this machine."""
    place = tmp_path_factory.mktemp("scanned")
    sae = train_sae(few, "second", TOPK, out=place / "sae")
    return sae, scan_features(sae, few, "second", place / "features")


def test_a_folder_is_written_at_an_address_with_its_manifest_last(memory, scanned, cache, monkeypatch):
    sae, _ = scanned
    order, write = [], memory.put_file
    monkeypatch.setattr(type(memory), "put_file", lambda self, *a: order.append(a[1]) or write(*a))
    sae.save(Path("memory://bucket/sae"), format="interp")
    assert order[-1] == "/bucket/sae/manifest.json" and len(order) == 3
    assert load_sae("memory://bucket/sae").W_dec.equal(sae.W_dec)
    assert not memory.exists("/bucket/sae/begun.json")
    assert [path.suffix for path in cache.iterdir()] == [""], "nothing unfinished stays"
    with pytest.raises(ValueError, match="memory://bucket/sae holds other work: not the same cfg"):
        sae.save("memory://bucket/sae", format="saelens")


def test_scan_to_an_address_resumes_when_killed_at_its_last_step(memory, few, scanned, cache, monkeypatch):
    sae, local = scanned
    write, written = remote_folders.write_file, []

    def killed(address, file):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(address)
        write(address, file)

    monkeypatch.setattr(remote_folders, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        scan_features(sae, few, "second", "memory://bucket/features")
    with pytest.raises(ValueError, match="memory://bucket/features holds a folder that is not finished"):
        FeatureStore.open("memory://bucket/features")
    monkeypatch.setattr(remote_folders, "write_file", write)
    with pytest.raises(ValueError, match="memory://bucket/features was begun as other work: kind"):
        sae.save("memory://bucket/features")
    features = scan_features(sae, few, "second", "memory://bucket/features")
    assert features.table().equals(local.table())
    monkeypatch.setattr(remote_folders, "write_file", killed)
    assert scan_features(sae, few, "second", "memory://bucket/features").table().equals(local.table())


def test_an_upload_after_interrupted_ones_leaves_only_its_own_files(memory, tmp_path, monkeypatch):
    address = addresses.address_of("memory://bucket/folder")

    def upload(*names):
        folder = tmp_path / "-".join(names)
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).touch()
        write_manifest(folder, {"kind": "files"})
        remote_folders.upload(folder, address)

    upload("first", "shared")
    write = remote_folders.write_file
    for killed_at in ("shared", "manifest.json"):

        def killed(address, file, killed_at=killed_at):
            if file.name == killed_at:
                raise KeyboardInterrupt
            write(address, file)

        monkeypatch.setattr(remote_folders, "write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            upload("second", "shared")
    monkeypatch.setattr(remote_folders, "write_file", write)
    upload("shared", "third")
    names = {path.removeprefix("/bucket/folder/") for path in memory.find("/bucket/folder")}
    assert names == {"shared", "third", "manifest.json"}


def test_rows_of_ones_own_are_stored_at_an_address(memory, cache):
    rows = torch.randn(300, 5)
    ours = ActivationStore.from_batches(rows, "memory://bucket/rows", dtype="float32", rows_per_shard=100)
    seen = torch.cat([shard.acts for shard in map(lambda i: ours.shard(i, "activations"), range(ours.n_shards))])
    assert seen.sort(0).values.equal(rows.sort(0).values) and ours.n_shards == 3


def test_leftovers_of_another_store_are_not_used(memory, folder, monkeypatch):
    """Leftovers are parts whose removal was cut off, and a harvest that is killed where they begin."""
    address = "memory://bucket/store"
    other = {**OPTIONS, "seed": 4}
    harvest(model(), TOKENS, HOOKS, address, **other)
    memory.rm("/bucket/store/manifest.json")
    memory.rm("/bucket/store/part-00000.safetensors")
    write = remote_writer.write_object

    def killed(at, data):
        if at.endswith("part-00001.safetensors"):
            raise KeyboardInterrupt
        write(at, data)

    monkeypatch.setattr(remote_writer, "write_object", killed)
    with pytest.raises(KeyboardInterrupt):
        harvest(model(), TOKENS, HOOKS, address, **OPTIONS)
    monkeypatch.setattr(remote_writer, "write_object", write)
    assert_same_rows(harvest(model(), TOKENS, HOOKS, address, **OPTIONS), folder)


# A real server, behind a door that drops and throttles.


class Door:
    """Passes connections on to a server. `faults` holds what befalls the next requests: "drop" ends the connection
    within the answer, "slow down" answers as S3 does when it throttles. With `is_stale` each listing is the first one
    that was asked for in its place, however old."""

    def __init__(self, port: int):
        self.behind, self.faults, self.befallen = port, list[str](), list[str]()
        self.is_stale, self.listings, self.n_stale = False, dict[bytes, bytes](), 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.behind)) as server:
            while data := self._request(client):
                fault = self.faults.pop(0) if self.faults else ""
                self.befallen += [fault] * bool(fault)
                if fault == "slow down":
                    return client.sendall(SLOW_DOWN)
                server.sendall(data)
                answer = self._message(server)
                if b"list-type=2" in (line := data.partition(b"\r\n")[0]):
                    self.n_stale += self.is_stale and self.listings.get(line, answer) != answer
                    answer = self.listings.setdefault(line, answer) if self.is_stale else answer
                if fault == "drop":
                    return client.sendall(answer[: len(answer) // 2])
                client.sendall(answer)

    def _request(self, client) -> bytes:
        try:
            return self._message(client, client)
        except OSError:
            return b""

    def _message(self, source, client=None) -> bytes:
        """Read one message by its length; answer a client that waits for "100 Continue"."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := source.recv(1 << 16)):
                return data
            data += more
        head = data.partition(b"\r\n\r\n")[0].lower()
        fields = dict(line.split(b":", 1) for line in head.split(b"\r\n")[1:])
        if client is not None and b"100-continue" in fields.get(b"expect", b""):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = 0 if client is None and self._head else int(fields.get(b"content-length", 0))
        while len(data) < len(head) + 4 + length:
            if not (more := source.recv(1 << 16)):
                break
            data += more
        if client is not None:
            self._head = head.startswith(b"head ")
            data = data.replace(b"Expect: 100-continue\r\n", b"")
        return data

    @property
    def _head(self) -> bool:
        return getattr(self._local, "head", False)

    @_head.setter
    def _head(self, is_head: bool) -> None:
        self._local.head = is_head

    _local = threading.local()


@pytest.fixture(scope="module")
def server():
    moto_server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    started = moto_server.ThreadedMotoServer(port=0, ip_address="127.0.0.1", verbose=False)
    started.start()
    port = started._server.server_port
    yield port
    started.stop()


@pytest.fixture
def door(server, monkeypatch):
    import s3fs

    door = Door(server)
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{door.port}", "AWS_ACCESS_KEY_ID": "key"}
    settings |= {"AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda **_: 0.0)  # it asks again at once
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if not system.exists("bucket"):
        system.mkdir("bucket")
    yield door
    s3fs.S3FileSystem.clear_instance_cache()
    door.listening.close()


def test_remote_reads_repeat_dropped_and_throttled_requests(door, few):
    address = "s3://bucket/faults"
    door.faults += ["", "slow down", "", "drop", "", "", "drop", "slow down", "slow down"] + 3 * ["", "drop"]
    remote = harvest(model(), FEW, HOOKS, address, **OPTIONS)
    assert not door.faults and {"drop", "slow down"} == set(door.befallen)
    door.faults += ["drop", "", "slow down", "", "drop", "drop"]
    assert_same_rows(remote, few)
    assert not door.faults


def test_a_corpus_is_read_through_faults(door):
    texts = [f"text {i}" for i in range(200)]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    fsspec.filesystem("s3").pipe("bucket/texts/a.jsonl.gz", gzip.compress(rows))
    named, opened, read = ["slow down", ""], ["drop", ""], ["drop"]
    for pattern, faults in (("texts/a.jsonl.gz", named + opened + read), ("texts/*", named + read)):
        door.faults += faults
        documents = load_documents(CorpusConfig(source="jsonl", paths=(f"s3://bucket/{pattern}",)))
        assert [document.text for document in documents] == texts and not door.faults
    with pytest.raises(OSError, match="s3://no-such-bucket/a.jsonl does not exist, or its bucket does not"):
        load_documents(CorpusConfig(source="jsonl", paths=("s3://no-such-bucket/a.jsonl",)))


def test_a_store_does_not_believe_a_stale_listing(door, few):
    """A stale listing lacks objects that exist, or still shows removed ones."""
    system = fsspec.filesystem("s3")
    door.is_stale = True
    assert not system.exists("bucket/stale") and system.find("bucket/stale") == []
    remote = harvest(model(), FEW, HOOKS, "s3://bucket/stale", **OPTIONS)
    assert_same_rows(remote, few)
    system.invalidate_cache()
    assert system.find("bucket/stale") == [] and door.n_stale, "it is listed as it was before"
    assert_same_rows(harvest(model(), FEW, HOOKS, "s3://bucket/stale", **OPTIONS), few)
    door.listings.clear()
    assert len(system.find("bucket/stale/")) > 4
    again = harvest(model(), FEW[:8], HOOKS, "s3://bucket/stale", **OPTIONS, overwrite=True)
    n_stale = door.n_stale
    system.invalidate_cache()
    assert len(system.find("bucket/stale/")) > 4 and door.n_stale > n_stale, "it is listed as it was"
    again.verify()
    assert len(ActivationStore.open("s3://bucket/stale")) == len(again) < len(few)
    for name in ("manifest.json", "begun.json"):
        remote_store.remove_object(addresses.RemoteAddress(f"s3://bucket/stale/{name}"))
    with pytest.raises(ValueError, match="holds no activation store"):
        ActivationStore.open("s3://bucket/stale")


def test_all_commands_work_at_addresses_through_faults(door, scanned, cache, capsys):
    sae, local = scanned
    harvest(model(), FEW, HOOKS, "s3://bucket/all/store", **OPTIONS)

    def run(*arguments: str) -> str:
        door.faults += ["", "drop", "", "slow down", "", "drop"]
        assert main([*arguments]) == 0, capsys.readouterr().err
        assert not door.faults
        return capsys.readouterr().out

    fields = ["--d-sae", "12", "--k", "2", "--tokens", "500", "--batch-size", "64", "--hook", "second"]
    assert "in s3://bucket/all/sae:" in run(
        "train-sae", "s3://bucket/all/store", *fields, "--out", "s3://bucket/all/sae"
    )
    assert load_sae("s3://bucket/all/sae").W_dec.equal(sae.W_dec)
    scan = ["scan", "s3://bucket/all/sae", "s3://bucket/all/store", "--out", "s3://bucket/all/features"]
    assert "12 features in s3://bucket/all/features" in run(*scan)
    features = FeatureStore.open("s3://bucket/all/features")
    assert features.table().equals(local.table())
    codes = CodeStore("s3://bucket/all/features/codes")
    assert codes.nnz and codes[:].values.equal(local.codes[:].values)
    out = "s3://bucket/all/ranking.parquet"
    assert out in run("rank", "s3://bucket/all/features", "--out", out)
    ranking = read_table("--ranking", Path(out), [], features)
    columns = ["latent", "verdict", "monosemanticity", "explanation"]
    assert ranking[columns].equals(rank_features(local)[columns])
    run("export", "s3://bucket/all/sae", "--out", "s3://bucket/all/saelens")
    assert load_sae("s3://bucket/all/saelens").W_enc.equal(sae.W_enc)
    assert main(["rank", "s3://bucket/all/features", "--out", out]) == 2
    assert "s3://bucket/all/ranking.parquet already exists" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["s3://no-such-bucket/out", "s3://no-such-bucket/out.parquet"])
def test_commands_name_a_missing_bucket_before_the_work(door, scanned, few, cache, capsys, out):
    sae, local = scanned
    if out.endswith(".parquet"):
        arguments = ["rank", str(local.path), "--out", out]
    else:
        arguments = ["scan", str(local.path.parent / "sae"), str(few.path), "--out", out]
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert "s3://no-such-bucket/out" in line and "or its bucket does not" in line and line.count("\n") == 1
    assert not cache.exists() or not list(cache.iterdir())


def test_what_stays_away_is_one_line(door, capsys, tmp_path, monkeypatch):
    arguments = ["train-sae", "s3://bucket/none", "--d-sae", "8", "--k", "2", "--out", str(tmp_path / "sae")]

    def refused() -> str:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return error

    assert "s3://bucket/none holds no activation store" in refused()
    arguments[1] = "s3://no-such-bucket/none"
    assert "s3://no-such-bucket/none" in refused()
    arguments[1] = "s3://bucket/none"
    door.faults += 100 * ["slow down"]
    assert "cannot be reached" in refused() and len(door.faults) < 100
    door.faults.clear()
    arguments[1] = "nothing://bucket/none"
    assert "nothing://bucket/none/manifest.json cannot be reached: Protocol not known" in refused()
    assert not list(tmp_path.iterdir())


def test_missing_credentials_are_one_line(server, tmp_path):
    code = "from interp import ActivationStore\nActivationStore.open('s3://bucket/store')"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server}", "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= {"HOME": str(tmp_path)}
    run = run_python(code, environment=environment)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: s3://bucket/store/manifest.json cannot be reached (NoCredentialsError"), last


KILLED = """
import os, sys
from interp import harvest
from interp.activations import remote_writer
from tests.activations.test_remote_store import FEW, HOOKS, OPTIONS, model

remote_writer.PART_BYTES = 4000
write, number = remote_writer.write_object, 0

def killed(address, data):
    global number
    number += "part-" in address
    if number == 3:
        os._exit(9)
    write(address, data)

remote_writer.write_object = killed
harvest(model(), FEW, HOOKS, "s3://bucket/killed", **OPTIONS)
"""


def test_harvest_to_an_address_resumes_after_a_killed_process(door, few):
    run = run_python(KILLED)
    assert run.returncode == 9, run.stderr
    with pytest.raises(ValueError, match="s3://bucket/killed holds a store that was cut off"):
        ActivationStore.open("s3://bucket/killed")
    system = fsspec.filesystem("s3")
    assert len(system.glob("bucket/killed/part-*")) == 2  # and the listing is remembered: it must not be believed
    remote = harvest(model(), FEW, HOOKS, "s3://bucket/killed", **OPTIONS)
    assert_same_rows(remote, few)
    written = json.loads(system.cat_file("bucket/killed/manifest.json"))
    assert written["format"].endswith("/parts") and len(written["parts"]) > 2
