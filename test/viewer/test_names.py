"""Names of objects and merging, without a browser: on a scene's file, as the page does both."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from test.viewer.conftest import KNOWN
from wildseg3d_ros.core.types import Prompt
from wildseg3d_ros.viewer.file_source import FileSource
from wildseg3d_ros.viewer.names import LONGEST, Names


@pytest.fixture
def source(scene_file):
    return FileSource(scene_file)


def renumbered(shown, ids):
    """The scene as another build may number it: ``ids`` by those before."""
    cameras = tuple(
        replace(c, labels=np.vectorize(lambda i: ids.get(i, 0))(c.labels).astype(np.int32))
        for c in shown.cameras
    )
    objects = tuple(replace(o, object_id=ids[o.object_id]) for o in shown.objects)
    return replace(shown, scene_id="other", cameras=cameras, objects=objects)


def test_names_are_said_where_they_are_given(source):
    names = Names()
    names.follow(source.shown)
    names.rename(1, "  the   mug ")
    assert names.of(1) == "the mug"
    assert names.of(1, 3) == "the mug, Object 3"
    assert names.of() == "A part that is no object"
    assert [names.title(each) for each in source.shown.objects] == ["the mug", "Object 3"]
    names.rename(3, "x" * 1000)
    assert names.of(3) == "x" * LONGEST
    names.rename(1, " ")
    assert names.of(1) == "Object 1"
    assert names.version == 3


def test_names_follow_their_objects_into_another_build(source):
    names = Names()
    names.follow(source.shown)
    names.rename(1, "mug")
    names.rename(3, "bowl")
    names.follow(renumbered(source.shown, {1: 3, 3: 7}))
    assert (names.of(3), names.of(7), names.of(1)) == ("mug", "bowl", "Object 1")
    names.follow(renumbered(source.shown, {1: 3, 3: 0}))
    assert names.of(3) == "mug"
    assert names.given(7) == "", "what the build did not find has no name any more"


def test_merged_objects_are_one_and_are_taken_apart_again(source):
    pytest.importorskip("nicegui", reason="EXTRA ABSENT: make setup EXTRAS=viewer")
    from wildseg3d_ros.viewer.control import Control
    from wildseg3d_ros.viewer.session import Sessions

    before = {i: len(source.ask(Prompt(object_ids=(i,))).cloud) for i in KNOWN}
    session, names = Sessions().of_tab("tab"), Names()

    async def refresh():
        pass

    async def merge():
        control = Control(source, session, names, refresh)
        control.shown = source.shown
        await control.select(KNOWN)
        await control.merge()

    asyncio.run(merge())
    assert session.cloud.object_ids == KNOWN[:1]
    assert len(session.cloud) == sum(before.values())
    assert [each.object_id for each in source.shown.objects] == [KNOWN[0]]
    source.undo()
    after = {i: len(source.ask(Prompt(object_ids=(i,))).cloud) for i in KNOWN}
    assert after == before


def test_exported_boxes_have_names(source):
    from wildseg3d_ros.viewer.export import all_exported

    names = Names()
    names.rename(3, "bowl")
    answers = {i: source.ask(Prompt(object_ids=(i,))) for i in KNOWN}
    data = json.loads(all_exported(answers, source.shown, ".box.json", names.given))
    assert [each["names"] for each in data["objects"]] == [[""], ["bowl"]]
