"""Fixtures of the tests of the core."""

from __future__ import annotations

import pytest

from wildseg3d_testing.recording_folder import RecordingFolder


@pytest.fixture
def folder(tmp_path):
    return RecordingFolder(tmp_path)
