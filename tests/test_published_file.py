"""How every file of the package appears: whole, or not at all."""

import os
import threading

import pytest

from butler_dask.published_file import is_temporary, published, published_name


@pytest.mark.parametrize("durability", ["rename", "fsync"])
def test_file_has_its_name_only_when_it_is_whole(tmp_path, durability):
    path = tmp_path / "file"
    with published(path, durability=durability) as stream:
        stream.write(b"\xff")
        assert [is_temporary(name) for name in os.listdir(tmp_path)] == [True]
    assert path.read_bytes() == b"\xff"
    with published(str(path), "w", durability=durability) as text:
        text.write("Größe")
    assert path.read_text(encoding="utf-8") == "Größe"
    assert os.listdir(tmp_path) == ["file"]


def test_failure_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with published(path, "w") as stream:
            stream.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError), published(tmp_path / "directory"):
        pass
    with pytest.raises(FileNotFoundError), published(tmp_path / "no" / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_threads_that_write_one_file_do_not_mix(tmp_path):
    path, barrier = tmp_path / "file", threading.Barrier(8)

    def write(number):
        with published(path) as stream:
            for _ in range(100):
                stream.write(bytes([number]) * 1000)
                stream.flush()
            barrier.wait()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = path.read_bytes()
    assert (len(data), len(set(data))) == (100_000, 1)
    assert os.listdir(tmp_path) == ["file"]


def test_those_who_open_files_themselves_get_a_name(tmp_path):
    with published_name(tmp_path / "link") as name:
        os.symlink("target", name)
    assert os.readlink(tmp_path / "link") == "target"
