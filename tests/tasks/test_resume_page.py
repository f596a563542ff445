"""The examples of docs/resume.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.checkpoint.store import CheckpointStore
from tasks.pipeline_worker import Worker
from tasks.spec import JobSpec
from tasks.worker_config import WorkerConfig

PAGE = (Path(__file__).parents[2] / "docs" / "resume.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_plan_of_the_page_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"folder": tmp_path, "jobs": [JobSpec(id="one", command="true").record()]}
    exec(BLOCKS[0], names)
    assert capsys.readouterr().out == "run  one: no earlier run\n"


def test_the_pipeline_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a word and another one")
    module: dict = {}
    exec(BLOCKS[1], module)
    with CheckpointStore(tmp_path / "checkpoint") as store:
        generation = store.begin("page", base=0)
        config = WorkerConfig(
            "", checkpoint=str(store.directory), generation=generation.number, base=0
        )
        counts = Worker(module["pipeline"], config).run()
        assert counts.is_complete
        store.refresh()
        assert store.lookup("a.txt") is not None
    (file,) = (tmp_path / "out").rglob("*.jsonl")
    assert file.read_text() == '{"word": "word"}\n{"word": "another"}\n'


def test_the_pages_that_it_links_to_are_there():
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / link).exists(), link
