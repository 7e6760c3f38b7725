"""Random requests: every one gets a reply with a code and a text, and the node answers the next.

Most are given to the node's own handler, in this process; some go over DDS and to the build
process.
"""

from __future__ import annotations

import array
import time

import pytest
import table
from geometry_msgs.msg import Point, PointStamped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from wildseg3d_msgs.action import EditObject
from wildseg3d_msgs.msg import Box, CameraMask, Click, Prompt
from wildseg3d_msgs.srv import DescribeObject, ListObjects, LoadScene, SaveScene, Segment
from wildseg3d_ros.core.errors import ErrorCode
from wildseg3d_ros.ros.messages.conversions import header, image_from_array

VIEWS = table.make_views()
RED = table.pixel_on(VIEWS[0], table.RED)
MASK = (table.trace(VIEWS[0].world_from_cam_prior)[2] == table.RED).astype("u1")

settings.register_profile(
    "service",
    deadline=None,
    derandomize=True,  # what fails once fails always
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("service")

cameras = st.sampled_from(["front", "left", "right"] * 3 + ["", "back", "fr\N{SNOWMAN}nt"])
floats = st.floats(width=32)
pixels = st.one_of(st.integers(-5, 165).map(float), st.integers(-5, 165).map(float), floats)
coordinates = st.one_of(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats())
sizes = st.one_of(st.just(0.0), st.sampled_from([0.001, 0.005, 0.02, 0.3]), st.just(0.004), floats)
frames = st.sampled_from(["", "world", "/world", "front_color_optical_frame", "nowhere", "/"])
flags = st.booleans()


@st.composite
def images(draw) -> Image:
    if draw(st.booleans()):
        return image_from_array(MASK, "mono8")
    return Image(
        height=draw(st.sampled_from([0, 1, 120, 2**32 - 1])),
        width=draw(st.sampled_from([0, 1, 160, 2**32 - 1])),
        step=draw(st.sampled_from([0, 1, 160, 2**32 - 1])),
        encoding=draw(st.sampled_from(["mono8", "mono16", "rgb8", "", "mono 8"])),
        is_bigendian=draw(st.integers(0, 1)),
        data=array.array("B", bytes(draw(st.sampled_from([0, 1, 19200, 38400])))),
    )


stamps = st.sampled_from([0, 1, 2**31 * 10**9 - 1])
clicks = st.builds(Click, camera=cameras, u=pixels, v=pixels, label=st.integers(-2, 2))
boxes = st.builds(Box, camera=cameras, u0=pixels, v0=pixels, u1=pixels, v1=pixels)
masks = st.builds(CameraMask, camera=cameras, mask=images())
points = st.builds(
    PointStamped,
    header=st.builds(header, frames, stamps),
    point=st.builds(Point, x=coordinates, y=coordinates, z=coordinates),
)
ids = st.one_of(st.integers(0, 3), st.integers(-(2**31), 2**31 - 1))


good_click = st.just({"clicks": [Click(camera="front", u=float(RED[0]), v=float(RED[1]))]})
one_kind = st.one_of(
    st.fixed_dictionaries({"clicks": st.lists(clicks, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"boxes": st.lists(boxes, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"masks": st.lists(masks, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"points": st.lists(points, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"object_ids": st.lists(ids, min_size=1, max_size=2)}),
)
all_kinds = st.fixed_dictionaries(
    {
        "clicks": st.lists(clicks, max_size=2),
        "boxes": st.lists(boxes, max_size=1),
        "masks": st.lists(masks, max_size=1),
        "points": st.lists(points, max_size=1),
        "object_ids": st.lists(ids, max_size=1),
    }
)
parts = st.fixed_dictionaries(
    {f"include_{part}": flags for part in ("surface", "context", "surroundings", "masks")}
)
settings_of_segment = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "target_frame": frames,
            "target_now": flags,
            "voxel_size": sizes,
            "include_alternative_clouds": flags,
            "publish": flags,
        }
    ),
)
settings_of_description = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "target_frame": frames,
            "voxel_size": sizes,
            "normal_radius": sizes,
            "context_size": sizes,
            "surroundings_voxel_size": sizes,
            "organized_cameras": st.lists(cameras, max_size=2),
        }
    ),
)
levels = st.sampled_from([0, 0, 0, 1, 2, 3, 255])
any_prompt = st.one_of(one_kind, all_kinds, good_click)


def prompts(kinds):
    return st.builds(lambda given, level: Prompt(**given, level=level), kinds, levels)


def look_ups(kinds):
    return st.builds(
        lambda prompt, options: Segment.Request(prompt=prompt, **options),
        prompts(kinds),
        settings_of_segment,
    )


def descriptions(kinds):
    return st.builds(
        lambda prompt, some, options: DescribeObject.Request(prompt=prompt, **some, **options),
        prompts(kinds),
        parts,
        settings_of_description,
    )


def check(reply) -> bool:
    """Whether the reply is a good one; an error has a text, and no reply is a defect."""
    assert reply.status.code != ErrorCode.INTERNAL, reply.status.message
    if reply.status.code == ErrorCode.OK:
        assert reply.object_ids
        assert reply.cloud.width > 0
        return True
    assert len(reply.status.message) > 10
    assert not reply.cloud.data
    return False


def test_segment_random_requests(live):
    """Random requests are answered."""
    _, node, client = live
    answered = []

    @given(look_ups(any_prompt))
    @settings(max_examples=300)
    def ask(request):
        answered.append(check(node._on_segment(request)))

    ask()
    assert sum(answered) > 10  # some are good ones, or this would test the checks alone
    assert sum(answered) < 250
    assert client.segment([("front", *RED)]).object_ids == (1,)


def test_describe_object_random_requests(live):
    """Good prompts with random options are answered."""
    _, _, client = live
    answered = []

    @given(descriptions(good_click))
    @settings(max_examples=60)
    def ask(request):
        answered.append(check(client._call(client._describe, request)))

    ask()
    assert sum(answered) > 10
    assert client.segment([("front", *RED)]).object_ids == (1,)


def test_edit_object_random_goals(live):
    """Random goals, over DDS and to the build process."""
    _, _, client = live

    @given(prompts(one_kind), st.integers(0, 2))
    @settings(max_examples=40)
    def ask(prompt, edit):
        goal = EditObject.Goal(prompt=prompt, edit=edit)
        result = client._reach(client._edit, goal, None, None)
        assert result.status.code != ErrorCode.INTERNAL, result.status.message
        assert bool(result.object_ids) == (result.status.code == ErrorCode.OK)

    ask()
    client.build()
    assert client.segment([("front", *RED)]).object_ids == (1,)


@pytest.mark.parametrize(
    ("field", "entry"),
    [
        ("clicks", Click(camera="front", u=1.0, v=1.0, label=1)),
        ("boxes", Box(camera="front", u1=9.0, v1=9.0)),
        ("points", PointStamped()),
        ("object_ids", 1),
    ],
)
def test_segment_long_lists(live, field, entry):
    """Lists that would keep all others waiting are refused at once."""
    _, node, _ = live
    request = Segment.Request(prompt=Prompt(**{field: [entry] * 40_000}))
    start = time.monotonic()
    reply = node._on_segment(request)
    assert time.monotonic() - start < 10  # looked up, they would take forty
    assert reply.status.code == ErrorCode.BAD_REQUEST
    assert f"'{field}' has 40000 entries; at most 1000 are taken" in reply.status.message


def test_object_services_random_paths_and_frames(live, tmp_path):
    """Random paths and frames."""
    _, _, client = live
    (tmp_path / "file").touch()
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)

    @given(texts, texts)
    @settings(max_examples=40)
    def ask(name, frame):
        path = f"{tmp_path}/file/x{name}"  # below a file: whatever comes, nothing is written
        for client_of, request in (
            (client._save, SaveScene.Request(path=path)),
            (client._load, LoadScene.Request(path=path)),
            (client._list, ListObjects.Request(target_frame=frame)),
        ):
            status = client._call(client_of, request).status
            assert status.code != ErrorCode.INTERNAL, status.message
            assert bool(status.message) == (status.code != ErrorCode.OK)

    ask()
    assert client.segment([("front", *RED)]).object_ids == (1,)
